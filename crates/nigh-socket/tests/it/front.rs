//! One front for packets and streams: admission, refusal, quota and drain, without a second accept loop.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::IoSlice;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use nigh_socket::{
    Acceptor, ConnectOptions, Connection, Drained, Front, FrontError, Limits, Listener,
    ListenerOptions, Policy, Protocol, Received, Refusal, Refused, SendError, Serving, SocketKind,
    Transport, UnixSeqpacket, connect, connect_packet,
};
use nigh_testkit::TempSocket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use crate::packets::packet;

/// Sends back what it gets; tells the refused why in one packet.
#[derive(Debug)]
struct Echo(SocketKind);

impl Protocol for Echo {
    fn kind(&self) -> SocketKind {
        self.0
    }

    fn serve(&self, connection: Connection) -> Serving {
        assert!(connection.peer().as_local().is_some());
        let (transport, _, _, hold) = connection.into_parts();
        assert_eq!(transport.kind(), self.0);
        Box::pin(async move {
            let _hold = hold;
            match transport {
                Transport::Packet(packets) => echo_packets(&packets).await,
                Transport::Stream(mut stream) => {
                    let mut buffer = [0; 4];
                    stream.read_exact(&mut buffer).await.unwrap();
                    stream.write_all(&buffer).await.unwrap();
                }
                other => panic!("{other:?}"),
            }
        })
    }

    fn refuse(&self, refused: Refused) -> Serving {
        let packets = refused.transport.into_packet().unwrap();
        let reason: &[u8] = match refused.refusal {
            Refusal::Policy(_) => b"policy",
            Refusal::Quota(_) => b"quota",
            _ => b"other",
        };
        Box::pin(async move {
            packets.send(&[IoSlice::new(reason)], &[]).await.unwrap();
            packets.recv(&mut [0; 64]).await.unwrap();
        })
    }
}

async fn echo_packets(packets: &UnixSeqpacket) {
    let mut buffer = [0; 64];
    while let Received::Packet(packet) = packets.recv(&mut buffer).await.unwrap() {
        let echo = [IoSlice::new(&buffer[..packet.length])];
        packets.send(&echo, &[]).await.unwrap();
    }
}

/// Says how many descriptors came with the first bytes.
#[derive(Debug)]
struct Counting(Option<bool>);

impl Protocol for Counting {
    fn takes_descriptors(&self) -> Option<bool> {
        self.0
    }

    fn serve(&self, connection: Connection) -> Serving {
        let (transport, _, _, hold) = connection.into_parts();
        Box::pin(async move {
            let _hold = hold;
            let mut stream = transport.into_stream().unwrap();
            let unix = stream.as_unix().unwrap();
            let chunk = unix.recv_with_fds(&mut [0; 4]).await.unwrap();
            let count = u8::try_from(chunk.fds.len()).unwrap();
            stream.write_all(&[count]).await.unwrap();
        })
    }

    fn refuse(&self, _: Refused) -> Serving {
        Box::pin(std::future::ready(()))
    }
}

/// What comes of a descriptor that is sent by a caller who connected before the front ran.
async fn descriptors_of_an_early_caller(takes: Option<bool>, options: ListenerOptions) -> u8 {
    let place = TempSocket::private();
    let listener = options.bind(place.path()).unwrap();
    let (mut stream, _) = connect(listener.address(), &ConnectOptions::default())
        .await
        .unwrap();
    let mut front = Front::new(Limits::default(), Arc::default());
    front.listen(listener, Policy::same_user(), Arc::new(Counting(takes)));
    let running = tokio::spawn(front.run(std::future::pending()));
    let unix = stream.as_unix().unwrap();
    let mut count = [u8::MAX];
    // The front gets round to the caller soon.
    loop {
        match unix
            .send_with_fds(&[IoSlice::new(b"x")], &[unix.as_fd()])
            .await
        {
            Ok(_) => break,
            Err(SendError::DescriptorsRefused) if takes == Some(true) => {
                tokio::task::yield_now().await;
            }
            Err(SendError::DescriptorsRefused) => {
                unix.send_with_fds(&[IoSlice::new(b"x")], &[])
                    .await
                    .unwrap();
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    stream.read_exact(&mut count).await.unwrap();
    running.abort();
    count[0]
}

#[tokio::test]
async fn a_protocol_that_takes_descriptors_opens_its_listener_and_the_queue() {
    let listener = Listener::options().bind("autobind:").unwrap();
    if listener.passes_rights().unwrap() {
        nigh_testkit::skip("this kernel has no SO_PASSRIGHTS");
        return;
    }
    let usual = Listener::options;
    let open = || usual().pass_rights(true);
    assert_eq!(descriptors_of_an_early_caller(Some(true), usual()).await, 1);
    assert_eq!(descriptors_of_an_early_caller(None, usual()).await, 0);
    assert_eq!(descriptors_of_an_early_caller(None, open()).await, 1);
    assert_eq!(descriptors_of_an_early_caller(Some(true), open()).await, 1);
}

fn packets_at(place: &TempSocket) -> Listener {
    let options = Listener::options().kind(SocketKind::Seqpacket);
    options.bind(place.path()).unwrap()
}

/// Runs it until the returned sender is used.
fn run(front: Front) -> (oneshot::Sender<()>, tokio::task::JoinHandle<Drained>) {
    let (stop, stopped) = oneshot::channel();
    let running = tokio::spawn(async move {
        let stopped = async { stopped.await.unwrap() };
        front.run(stopped).await.unwrap()
    });
    (stop, running)
}

async fn answer(client: &UnixSeqpacket, request: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 64];
    client.send(&[IoSlice::new(request)], &[]).await.unwrap();
    let length = packet(client.recv(&mut buffer).await.unwrap()).length;
    buffer[..length].to_vec()
}

#[tokio::test]
async fn packets_and_streams_share_one_front() {
    let (place, streams, closed) = (
        TempSocket::private(),
        TempSocket::private(),
        TempSocket::private(),
    );
    let mut limits = Limits::default();
    limits.connections_max = 2;
    let mut front = Front::new(limits, Arc::default());
    let packets = Arc::new(Echo(SocketKind::Seqpacket));
    front.listen(packets_at(&place), Policy::same_user(), packets.clone());
    front.listen(packets_at(&closed), Policy::none(), packets);
    let listener = Listener::options().bind(streams.path()).unwrap();
    front.listen(
        listener,
        Policy::same_user(),
        Arc::new(Echo(SocketKind::Stream)),
    );
    let counters = front.counters();
    let (stop, running) = run(front);

    let options = ConnectOptions::default();
    let at = |place: &TempSocket| place.address().parse().unwrap();
    let (refused, _) = connect_packet(&at(&closed), &options).await.unwrap();
    assert_eq!(answer(&refused, b"x").await, b"policy");
    let (client, peer) = connect_packet(&at(&place), &options).await.unwrap();
    assert!(peer.as_local().unwrap().uid().is_known());
    assert_eq!(answer(&client, b"ping").await, b"ping");
    assert_eq!(answer(&client, b"").await, b"");
    let (mut stream, _) = connect(&at(&streams), &options).await.unwrap();
    stream.write_all(b"pi").await.unwrap();
    // Both kinds hold the one quota, so a third connection is one too many.
    while counters.read().connections_admitted < 2 {
        tokio::task::yield_now().await;
    }
    let (third, _) = connect_packet(&at(&place), &options).await.unwrap();
    assert_eq!(answer(&third, b"x").await, b"quota");
    stream.write_all(b"ng").await.unwrap();
    let mut buffer = [0; 4];
    stream.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"ping");

    stop.send(()).unwrap();
    drop(client);
    assert_eq!(running.await.unwrap().cut_off, 0);
    let counts = counters.read();
    assert_eq!(counts.connections_admitted, 2);
    assert_eq!(counts.connections_refused_by_policy, 1);
    assert_eq!(counts.connections_refused_by_quota, 1);
    assert!(!place.path().exists() && !closed.path().exists());
}

#[tokio::test]
async fn a_protocol_on_another_kind_of_socket_is_an_error_at_the_start() {
    for (kind, protocol) in [
        (SocketKind::Seqpacket, SocketKind::Stream),
        (SocketKind::Stream, SocketKind::Seqpacket),
        (SocketKind::Datagram, SocketKind::Datagram),
    ] {
        let place = TempSocket::private();
        let listener = Listener::options().kind(kind).bind(place.path()).unwrap();
        let mut front = Front::new(Limits::default(), Arc::default());
        front.listen(listener, Policy::any(), Arc::new(Echo(protocol)));
        let error = front.run(std::future::pending()).await.unwrap_err();
        match error {
            FrontError::Kind { .. } => assert_ne!(kind, protocol),
            FrontError::NoConnections { .. } => assert_eq!(kind, SocketKind::Datagram),
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn an_acceptor_yields_packet_connections() {
    let place = TempSocket::private();
    let mut acceptor = Acceptor::new(packets_at(&place)).unwrap();
    let address = place.address().parse().unwrap();
    let (client, _) = connect_packet(&address, &ConnectOptions::default())
        .await
        .unwrap();
    let connection = acceptor.accept().await.unwrap().admit(&Policy::same_user());
    let (transport, peer, ..) = connection.unwrap().into_parts();
    assert!(peer.as_local().is_some());
    let server = transport.into_packet().unwrap();
    client.send(&[IoSlice::new(b"x")], &[]).await.unwrap();
    assert_eq!(packet(server.recv(&mut [0; 8]).await.unwrap()).length, 1);
}

/// A process may exit before its runtime comes to the tasks that were aborted.
#[tokio::test]
async fn a_server_that_is_dropped_has_no_name_left() {
    let (first, second) = (TempSocket::private(), TempSocket::private());
    let mut front = Front::new(Limits::default(), Arc::default());
    for socket in [&first, &second] {
        let listener = Listener::options().bind(socket.address()).unwrap();
        front.listen(listener, Policy::any(), Arc::new(Echo(SocketKind::Stream)));
    }
    let mut running = Box::pin(front.run(std::future::pending()));
    let mut called = Box::pin(async {
        let mut stream = tokio::net::UnixStream::connect(first.path()).await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
    });
    tokio::select! {
        ended = &mut running => panic!("{ended:?}"),
        () = &mut called => {}
    }
    drop(running);
    assert!(!first.path().exists() && !second.path().exists());
}
