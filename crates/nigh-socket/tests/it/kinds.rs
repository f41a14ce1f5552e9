//! One function over every kind of stream, and one over every kind of message.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::IoSlice;

use nigh_socket::{
    ByteStream, ConnectOptions, Listener, MessageSocket, Peer, UnixDatagram, UnixSeqpacket,
    UnixStream, blocking, connect,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn bytes_go(mut from: impl ByteStream, mut to: impl ByteStream) -> (bool, Peer) {
    from.write_all(b"hello").await.unwrap();
    let mut buffer = [0; 5];
    to.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"hello");
    (to.as_unix().is_some(), to.peer().unwrap())
}

#[tokio::test]
async fn code_is_written_once_over_streams() {
    let (a, b) = UnixStream::pair().unwrap();
    let (is_unix, peer) = bytes_go(a, b).await;
    assert!(is_unix && peer.as_local().is_some());
    let listener = Listener::options().bind("tcp:127.0.0.1:0").unwrap();
    let (client, _) = connect(listener.address(), &ConnectOptions::default())
        .await
        .unwrap();
    let server = std::net::TcpStream::from(listener.accept().unwrap());
    let server = tokio::net::TcpStream::from_std(server).unwrap();
    let (is_unix, peer) = bytes_go(client, server).await;
    assert!(!is_unix && matches!(peer, Peer::Remote(_)));
}

async fn messages_go((from, to): (impl MessageSocket, impl MessageSocket)) {
    assert!(from.message_bytes_max().unwrap() > 200_000);
    let mut buffer = [0; 16];
    for message in [&b"one"[..], b"", b"three"] {
        let slices = [IoSlice::new(message)];
        from.send_message(&slices, &[to.as_fd()]).await.unwrap();
        let packet = to
            .recv_message(&mut buffer)
            .await
            .unwrap()
            .into_packet()
            .unwrap();
        assert_eq!((&buffer[..packet.length], packet.fds.len()), (message, 1));
    }
}

#[tokio::test]
async fn code_is_written_once_over_messages() {
    messages_go(UnixSeqpacket::pair().unwrap()).await;
    messages_go(UnixDatagram::pair().unwrap()).await;
}

fn blocking_messages_go<S: blocking::MessageSocket>((from, to): (S, S)) {
    assert!(from.message_bytes_max().unwrap() > 200_000);
    from.send_message(&[IoSlice::new(b"x")], &[to.as_fd()])
        .unwrap();
    let packet = to.recv_message(&mut [0; 8]).unwrap().into_packet().unwrap();
    assert_eq!((packet.length, packet.fds.len()), (1, 1));
}

#[test]
fn blocking_code_is_written_once_over_messages() {
    blocking_messages_go(blocking::UnixSeqpacket::pair().unwrap());
    blocking_messages_go(blocking::UnixDatagram::pair().unwrap());
}
