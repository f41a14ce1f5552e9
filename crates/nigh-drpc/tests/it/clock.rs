//! Every time limit, on a clock that stands still until nothing else can happen.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::IoSlice;
use std::time::Duration;

use bytes::Bytes;
use nigh_drpc::wire::{Assembler, Call, CallExtensions, Features, Reason, Response, Violation};
use nigh_drpc::{CallError, Client, ClientOptions, Limits, Speaks, TransportError, listener};
use nigh_socket::{
    Acceptor, Address, ConnectOptions, Policy, Received, SendError, UnixSeqpacket, connect_packet,
};
use nigh_testkit::TempSocket;
use tokio::time::Instant;

use crate::bytes_of::{packet, packets};
use crate::harness::{ECHO, LARGE, MODULE, TestServer, WAIT, call};

const TIME: Duration = Duration::from_secs(1000);

/// How long `work` takes on the clock, in whole seconds.
async fn seconds<T>(work: impl Future<Output = T>) -> (T, u64) {
    let began = Instant::now();
    let done = work.await;
    (done, began.elapsed().as_secs())
}

async fn connected(server: &TestServer) -> UnixSeqpacket {
    let options = ConnectOptions::default();
    connect_packet(&server.address(), &options).await.unwrap().0
}

async fn send(socket: &UnixSeqpacket, packet: &[u8]) {
    socket.send(&[IoSlice::new(packet)], &[]).await.unwrap();
}

/// The next response; `None` at the end.
async fn response(socket: &UnixSeqpacket) -> Option<Response> {
    let mut assembler = Assembler::new(64 << 20);
    let mut buffer = vec![0; 131_072];
    loop {
        let Ok(Received::Packet(packet)) = socket.recv(&mut buffer).await else {
            return None;
        };
        if let Some(message) = assembler.push(&buffer[..packet.length]).unwrap() {
            return Some(Response::decode(&message).unwrap());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_waits_for_a_message_as_long_as_it_says() {
    let server = TestServer::with_limits(|limits| limits.message_time = TIME);
    let socket = connected(&server).await;
    let first = packet(131_049, 131_048, 0, 2, 131_048);
    send(&socket, &first).await;
    let (end, took) = seconds(response(&socket)).await;
    assert_eq!((end, took), (None, 1000));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_waits_for_a_reader_as_long_as_it_says() {
    let server = TestServer::with_limits(|limits| limits.write_time = TIME);
    let socket = connected(&server).await;
    // More than the send buffer takes.
    send(&socket, &packets(&call(LARGE, 1, "2000000").encode())[0]).await;
    let ended = async {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        let is_open = || match socket.try_send(&[IoSlice::new(b"x")], &[]) {
            Ok(()) | Err(SendError::WouldBlock) => true,
            Err(_) => false,
        };
        while is_open() {
            ticks.tick().await;
        }
    };
    let ((), took) = seconds(ended).await;
    assert!((999..=1001).contains(&took), "{took} s");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_drops_the_handler_when_the_callers_time_is_over() {
    let server = TestServer::start();
    let socket = connected(&server).await;
    let features = Features::from_bits(Features::DEADLINE.bits() | Features::TEXT.bits());
    let offer = CallExtensions {
        features,
        ..CallExtensions::default()
    };
    let first = Call {
        extensions: offer,
        ..call(ECHO, 1, "")
    };
    send(&socket, &packets(&first.encode())[0]).await;
    assert_eq!(response(&socket).await.unwrap().sequence, 1);
    let limited = Call {
        extensions: CallExtensions {
            deadline: Some(TIME),
            ..CallExtensions::default()
        },
        ..call(WAIT, 2, "")
    };
    send(&socket, &packets(&limited.encode())[0]).await;
    let (answer, took) = seconds(response(&socket)).await;
    let answer = answer.unwrap();
    assert_eq!((answer.sequence, took), (2, 1000));
    assert_eq!(answer.extensions.reason, Some(Reason::Deadline));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_call_when_it_says_and_not_the_connection() {
    let server = TestServer::start();
    let client = server.client().await;
    client.call(MODULE, ECHO, "").await.unwrap();
    let late = client.request(MODULE, WAIT).deadline(TIME).send();
    let (outcome, took) = seconds(late).await;
    assert!(matches!(outcome, Err(CallError::Deadline)), "{outcome:?}");
    assert_eq!(took, 1000);
    assert_eq!(client.call(MODULE, ECHO, "x").await.unwrap(), "x");
    assert_eq!(server.counts().connections_admitted, 1);
    server.stop().await;
}

/// A server that does `what` with each connection after its first packet, and keeps it.
fn stalling(answer: Vec<u8>, keeps: bool) -> (TempSocket, Address) {
    let place = TempSocket::private();
    let mut acceptor = Acceptor::new(listener().bind(place.path()).unwrap()).unwrap();
    let address = Address::Path(place.path().to_owned());
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok(incoming) = acceptor.accept().await {
            let (transport, ..) = incoming.admit(&Policy::any()).unwrap().into_parts();
            let socket = transport.into_packet().unwrap();
            let mut buffer = vec![0; 131_072];
            let received = socket.recv(&mut buffer).await;
            if received.is_ok() && !answer.is_empty() {
                send(&socket, &answer).await;
            }
            kept.extend(keeps.then_some(socket));
        }
    });
    (place, address)
}

fn limited(change: impl FnOnce(&mut Limits)) -> ClientOptions {
    let mut limits = Limits::default();
    change(&mut limits);
    ClientOptions::default().limits(limits)
}

#[tokio::test(start_paused = true)]
async fn a_client_waits_for_the_rest_of_an_answer_as_long_as_it_says() {
    let (_place, address) = stalling(packet(131_049, 131_048, 0, 2, 131_048), true);
    let options = limited(|limits| limits.message_time = TIME);
    let client = Client::lazy(address, options);
    let (outcome, took) = seconds(client.call(MODULE, ECHO, "")).await;
    assert_eq!(took, 1000);
    let Err(CallError::PeerMisbehaved(violation)) = outcome else {
        panic!("{outcome:?}");
    };
    let (received, waited) = (131_048, TIME);
    assert_eq!(violation, Violation::Stalled { received, waited });
}

#[tokio::test(start_paused = true)]
async fn a_client_waits_for_a_server_that_does_not_read_as_long_as_it_says() {
    let (_place, address) = stalling(Vec::new(), true);
    let options = limited(|limits| limits.write_time = TIME);
    let client = Client::lazy(address, options);
    let body = Bytes::from(vec![7; 4 << 20]);
    let (outcome, took) = seconds(client.call(MODULE, ECHO, body)).await;
    assert_eq!(took, 1000);
    let Err(CallError::Transport(error)) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(matches!(*error, TransportError::NotRead { waited } if waited == TIME));
}

/// Pauses double from the least to the most while the server answers nothing, and end with an answer.
#[tokio::test(start_paused = true)]
async fn a_client_connects_again_after_growing_pauses() {
    let (_place, address) = stalling(Vec::new(), false);
    let seconds_of = Duration::from_secs;
    let options = ClientOptions::default()
        .speaks(Speaks::Only(nigh_drpc::wire::Framing::Chunked))
        .pauses(seconds_of(10), seconds_of(60));
    let client = Client::lazy(address, options);
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let (outcome, took) = seconds(client.call(MODULE, ECHO, "")).await;
        assert!(matches!(outcome, Err(CallError::Transport(_))));
        pauses.push(took);
    }
    assert_eq!(pauses, [0, 10, 20, 40, 60, 60]);
}
