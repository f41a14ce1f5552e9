//! The clients against servers that misbehave: each fault has its name, and the end is never a success.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use nigh_drpc::wire::{Call, Features, Response, Status, Violation};
use nigh_drpc::{
    BlockingClient, CallError, Client, ClientOptions, Limits, Speaks, TransportError, listener,
};
use nigh_socket::{Acceptor, Address, Policy, Received, UnixSeqpacket};
use nigh_testkit::TempSocket;

use crate::bytes_of::{body, hex, packet, packets};
use crate::harness::{ECHO, MODULE, blocking};

/// Packets that a server sends in answer to the first packet of each connection, before it closes.
type Script = Arc<Vec<Vec<u8>>>;

/// A server that receives one packet per connection, sends what the script says and closes (after `linger`).
fn scripted(script: Vec<Vec<u8>>, keep_open: bool) -> TempSocket {
    let place = TempSocket::private();
    let mut acceptor = Acceptor::new(listener().bind(place.path()).unwrap()).unwrap();
    let script: Script = Arc::new(script);
    tokio::spawn(async move {
        while let Ok(incoming) = acceptor.accept().await {
            let (transport, ..) = incoming.admit(&Policy::any()).unwrap().into_parts();
            let socket = transport.into_packet().unwrap();
            tokio::spawn(play(socket, Arc::clone(&script), keep_open));
        }
    });
    place
}

async fn play(socket: UnixSeqpacket, script: Script, keep_open: bool) {
    let mut buffer = vec![0; 131_072];
    let Ok(Received::Packet(_)) = socket.recv(&mut buffer).await else {
        return;
    };
    for packet in script.iter() {
        if socket.send(&[IoSlice::new(packet)], &[]).await.is_err() {
            return;
        }
    }
    while keep_open && matches!(socket.recv(&mut buffer).await, Ok(Received::Packet(_))) {}
}

fn address(place: &TempSocket) -> Address {
    Address::Path(place.path().to_owned())
}

fn options() -> ClientOptions {
    let mut limits = Limits::default();
    limits.message_time = Duration::from_millis(50);
    ClientOptions::default().limits(limits)
}

/// What both clients make of a script; they must agree.
async fn outcome(script: Vec<Vec<u8>>, keep_open: bool) -> CallError {
    let place = scripted(script, keep_open);
    let client = Client::connect(address(&place), options()).await.unwrap();
    let ours = client.call(MODULE, ECHO, "x").await.unwrap_err();
    let address = address(&place);
    let theirs = blocking(move || {
        let mut client = BlockingClient::connect(address, options()).unwrap();
        client.call(MODULE, ECHO, "x").unwrap_err()
    });
    assert_eq!(format!("{ours:?}"), format!("{:?}", theirs.await));
    ours
}

fn framed(response: &Response) -> Vec<u8> {
    packets(&response.encode()).remove(0)
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_misbehave_has_its_name() {
    let ok = |sequence| Response::new(sequence, Status::Success);
    let mut granting = ok(1);
    granting.extensions.features = Features::from_bits(1 << 40);
    let garbage = packets(&bytes::Bytes::from_static(&[0xff, 0xff])).remove(0);
    let mut large = ok(1);
    large.body = body(300_000);
    let first_chunk = packets(&large.encode()).remove(0);
    let received = 131_048;
    let stalled = Violation::Stalled {
        received,
        waited: Duration::from_millis(50),
    };
    for (name, packet, keep_open, expected) in [
        (
            "another sequence",
            framed(&ok(2)),
            true,
            Violation::Sequence { sequence: 2 },
        ),
        (
            "sequence 0",
            framed(&ok(0)),
            true,
            Violation::Sequence { sequence: 0 },
        ),
        (
            "unreadable",
            framed(&Response::unreadable()),
            true,
            Violation::CannotReadUs,
        ),
        (
            "legacy",
            Response::unreadable().encode().to_vec(),
            true,
            Violation::LegacyPeer,
        ),
        (
            "unframed",
            ok(1).encode().to_vec(),
            true,
            Violation::PacketTooShort { length: 2 },
        ),
        (
            "an empty packet",
            vec![],
            true,
            Violation::PacketTooShort { length: 0 },
        ),
        (
            "no chunks",
            packet(5, 5, 0, 0, 5),
            true,
            Violation::NoChunks,
        ),
        (
            "index 1",
            packet(5, 5, 1, 2, 5),
            true,
            Violation::Index {
                expected: 0,
                found: 1,
            },
        ),
        ("a grant", framed(&granting), true, Violation::Extension),
        ("a stall", first_chunk.clone(), true, stalled),
        (
            "half a message",
            first_chunk,
            false,
            Violation::EndInMessage { received },
        ),
        (
            "2^40 bytes",
            packet(1 << 40, 0, 0, 1, 0),
            true,
            Violation::MessageTooLarge {
                claimed: 1 << 40,
                max: 64 << 20,
            },
        ),
    ] {
        let error = outcome(vec![packet], keep_open).await;
        let CallError::PeerMisbehaved(violation) = error else {
            panic!("{name}: {error:?}");
        };
        assert_eq!(violation, expected, "{name}");
    }
    let error = outcome(vec![garbage], true).await;
    assert!(
        matches!(error, CallError::PeerMisbehaved(Violation::Response(_))),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_never_a_success() {
    let error = outcome(Vec::new(), false).await;
    let CallError::Transport(source) = &error else {
        panic!("{error:?}");
    };
    assert!(matches!(**source, TransportError::Closed));
    assert!(error.hint().is_some());
    // In the legacy framing the end reads like SUCCESS to a careless client.
    for script in [Vec::new(), vec![Vec::new()]] {
        let is_empty = script.is_empty();
        let place = scripted(script, false);
        let legacy =
            ClientOptions::default().speaks(Speaks::Only(nigh_drpc::wire::Framing::Legacy));
        let client = Client::connect(address(&place), legacy).await.unwrap();
        match client.call(MODULE, ECHO, "x").await.unwrap_err() {
            CallError::Transport(_) => assert!(is_empty),
            CallError::PeerMisbehaved(Violation::Sequence { sequence: 0 }) => assert!(!is_empty),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_statuses_are_passed_on() {
    let error = outcome(vec![packets(&hex("08 01 10 63").into()).remove(0)], true).await;
    assert!(
        matches!(
            error,
            CallError::Status {
                status: Status::Other(99),
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_violation_ends_the_connection_and_the_next_call_makes_another() {
    let place = scripted(vec![packet(5, 5, 0, 0, 5)], true);
    let quick = options().pauses(Duration::from_millis(1), Duration::from_millis(2));
    let client = Client::connect(address(&place), quick).await.unwrap();
    for _ in 0..5 {
        let error = client.call(MODULE, ECHO, "x").await.unwrap_err();
        assert!(
            matches!(error, CallError::PeerMisbehaved(Violation::NoChunks)),
            "{error:?}"
        );
    }
}

async fn old_c_server(socket: UnixSeqpacket) {
    let mut buffer = vec![0; 131_072];
    while let Ok(Received::Packet(packet)) = socket.recv(&mut buffer).await {
        let message = bytes::Bytes::copy_from_slice(&buffer[..packet.length]);
        let answer = Call::decode(&message).map(|call| {
            let mut response = Response::new(call.sequence, Status::Success);
            response.body = call.body;
            response
        });
        let is_unreadable = answer.is_err();
        let answer = answer.unwrap_or_else(|_| Response::unreadable()).encode();
        socket.send(&[IoSlice::new(&answer)], &[]).await.unwrap();
        if is_unreadable {
            return;
        }
    }
}

/// The old C listener answers the probe unframed and closes; the next connection speaks its framing.
#[tokio::test(flavor = "multi_thread")]
async fn a_probe_connects_again_to_an_old_c_server() {
    let place = TempSocket::private();
    let mut acceptor = Acceptor::new(listener().bind(place.path()).unwrap()).unwrap();
    tokio::spawn(async move {
        while let Ok(incoming) = acceptor.accept().await {
            let (transport, ..) = incoming.admit(&Policy::any()).unwrap().into_parts();
            tokio::spawn(old_c_server(transport.into_packet().unwrap()));
        }
    });
    let options = ClientOptions::default().speaks(Speaks::Probe);
    let client = Client::connect(address(&place), options.clone())
        .await
        .unwrap();
    assert_eq!(client.call(MODULE, ECHO, "x").await.unwrap(), "x");
    assert_eq!(client.call(MODULE, ECHO, "y").await.unwrap(), "y");
    let address = address(&place);
    blocking(move || {
        let mut client = BlockingClient::connect(address, options).unwrap();
        assert_eq!(client.call(MODULE, ECHO, "z").unwrap(), "z");
    })
    .await;
}

#[tokio::test]
async fn a_missing_server_is_an_error_with_a_hint() {
    let place = TempSocket::private();
    let options = ClientOptions::default().connect_time(Duration::from_millis(20));
    let error = Client::connect(address(&place), options).await.unwrap_err();
    assert!(
        matches!(error, CallError::Connect(_)) && error.hint().is_some(),
        "{error:?}"
    );
}
