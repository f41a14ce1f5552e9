//! Sockets of messages that take bytes and nothing else: they receive by a plain call, and keep every promise.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::IoSlice;
use std::os::fd::AsFd;

use nigh_socket::{
    Acceptor, ConnectOptions, Listener, Policy, RecvError, SendError, SocketKind, UnixDatagram,
    UnixSeqpacket, blocking, connect_packet,
};
use nigh_testkit::TempSocket;

use crate::packets::packet;

fn text(text: &str) -> [IoSlice<'_>; 1] {
    [IoSlice::new(text.as_bytes())]
}

fn is_told() -> bool {
    let (a, _b) = UnixSeqpacket::pair().unwrap();
    a.set_pass_rights(true).unwrap()
}

#[tokio::test]
async fn packets_of_bytes_are_whole_and_end_and_reset_as_ever() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    b.set_pass_rights(false).unwrap();
    b.set_empty_packets(false).unwrap();
    a.send(&text("twelve bytes"), &[]).await.unwrap();
    a.send(&text("next"), &[]).await.unwrap();
    a.send(&text(""), &[]).await.unwrap();
    let mut buffer = [0; 5];
    let refused = b.recv(&mut buffer).await.unwrap_err();
    assert!(matches!(
        refused,
        RecvError::TooLong {
            length: 12,
            room: 5
        }
    ));
    let found = packet(b.recv(&mut buffer).await.unwrap());
    assert_eq!((found.length, &buffer[..4]), (4, &b"next"[..]));
    assert!(found.fds.is_empty() && found.sender.is_none());
    // Nobody has left yet: it is no end.
    assert_eq!(packet(b.recv(&mut buffer).await.unwrap()).length, 0);
    assert!(matches!(
        b.try_recv(&mut buffer),
        Err(RecvError::WouldBlock)
    ));
    if is_told() {
        let refused = a.send(&text("x"), &[a.as_fd()]).await;
        assert!(matches!(refused, Err(SendError::DescriptorsRefused)));
    }
    b.send(&text("unread"), &[]).await.unwrap();
    a.send(&text("reply"), &[]).await.unwrap();
    drop(a);
    assert_eq!(packet(b.recv(&mut buffer).await.unwrap()).length, 5);
    assert!(matches!(b.recv(&mut buffer).await, Err(RecvError::Reset)));
    let (c, d) = UnixSeqpacket::pair().unwrap();
    d.set_pass_rights(false).unwrap();
    d.set_empty_packets(false).unwrap();
    drop(c);
    assert!(d.recv(&mut buffer).await.unwrap().is_end());
}

#[tokio::test]
async fn a_socket_of_bytes_takes_more_as_soon_as_it_is_told() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    b.set_pass_rights(false).unwrap();
    b.set_empty_packets(false).unwrap();
    b.set_pass_rights(true).unwrap();
    a.send(&text("x"), &[a.as_fd()]).await.unwrap();
    assert_eq!(packet(b.recv(&mut [0; 8]).await.unwrap()).fds.len(), 1);
    b.set_pass_rights(false).unwrap();
    b.set_pass_credentials(true).unwrap();
    a.send(&text("x"), &[]).await.unwrap();
    assert!(packet(b.recv(&mut [0; 8]).await.unwrap()).sender.is_some());
    b.set_pass_credentials(false).unwrap();
    a.send(&text("x"), &[]).await.unwrap();
    assert!(packet(b.recv(&mut [0; 8]).await.unwrap()).sender.is_none());
    let (c, d) = UnixDatagram::pair().unwrap();
    d.set_pass_rights(false).unwrap();
    d.set_pass_credentials(true).unwrap();
    c.send(&text("x"), &[]).await.unwrap();
    assert!(d.recv(&mut [0; 8]).await.unwrap().sender.is_some());
}

/// An accepted socket has its listener's options, and the library knows them.
#[tokio::test]
async fn what_a_listener_takes_its_connections_take() {
    for (rights, credentials) in [(true, false), (false, true), (true, true)] {
        let place = TempSocket::private();
        let options = Listener::options().kind(SocketKind::Seqpacket);
        let options = options.pass_rights(rights).pass_credentials(credentials);
        let mut acceptor = Acceptor::new(options.bind(place.address().as_str()).unwrap()).unwrap();
        let address = (**acceptor.address()).clone();
        let (client, _) = connect_packet(&address, &ConnectOptions::default())
            .await
            .unwrap();
        let connection = acceptor
            .accept()
            .await
            .unwrap()
            .admit(&Policy::any())
            .unwrap();
        let server = connection.into_parts().0.into_packet().unwrap();
        server.set_empty_packets(false).unwrap();
        let fds = [client.as_fd()];
        client
            .send(&text("x"), if rights { &fds } else { &[] })
            .await
            .unwrap();
        let found = packet(server.recv(&mut [0; 8]).await.unwrap());
        assert_eq!(
            (found.fds.len(), found.sender.is_some()),
            (usize::from(rights), credentials)
        );
    }
}

#[test]
fn datagrams_of_bytes_are_whole_and_say_where_they_are_from() {
    let (server, client) = (
        blocking::UnixDatagram::autobound().unwrap(),
        blocking::UnixDatagram::autobound().unwrap(),
    );
    server.set_pass_rights(false).unwrap();
    let to = server.local_address().unwrap().unwrap();
    client.send_to(&text("twelve bytes"), &[], &to).unwrap();
    client.send_to(&text(""), &[], &to).unwrap();
    let unnamed = blocking::UnixDatagram::unbound().unwrap();
    unnamed.send_to(&text("five5"), &[], &to).unwrap();
    let mut buffer = [0; 5];
    let refused = server.recv(&mut buffer).unwrap_err();
    assert!(matches!(
        refused,
        RecvError::TooLong {
            length: 12,
            room: 5
        }
    ));
    let found = server.recv(&mut buffer).unwrap();
    assert_eq!(
        (found.length, found.from),
        (0, client.local_address().unwrap())
    );
    let found = server.recv(&mut buffer).unwrap();
    assert_eq!((found.length, found.from, &buffer), (5, None, b"five5"));
}

#[tokio::test]
async fn a_packet_comes_behind_what_is_there() {
    for is_plain in [false, true] {
        let (a, b) = blocking::UnixSeqpacket::pair().unwrap();
        let (c, d) = UnixSeqpacket::pair().unwrap();
        if is_plain {
            b.set_pass_rights(false).unwrap();
            b.set_empty_packets(false).unwrap();
            d.set_pass_rights(false).unwrap();
            d.set_empty_packets(false).unwrap();
        }
        for packet in ["packet", "", "too long"] {
            a.send(&text(packet), &[]).unwrap();
            c.try_send(&text(packet), &[]).unwrap();
        }
        let mut memory = Vec::with_capacity(8);
        memory.extend_from_slice(b"a ");
        let (mut again, capacity) = (memory.clone(), memory.capacity());
        again.reserve_exact(capacity - again.len());
        let first = std::future::poll_fn(|cx| d.poll_recv_behind(cx, &mut again)).await;
        assert_eq!(packet(first.unwrap()).length, 6);
        assert_eq!(packet(b.recv_behind(&mut memory).unwrap()).length, 6);
        assert_eq!(
            (&memory[..], &again[..]),
            (&b"a packet"[..], &b"a packet"[..])
        );
        memory.truncate(2);
        assert_eq!(packet(b.recv_behind(&mut memory).unwrap()).length, 0);
        let refused = b.recv_behind(&mut memory).unwrap_err();
        assert!(matches!(refused, RecvError::TooLong { length: 8, room: 6 }));
        assert_eq!(memory, b"a ");
        drop(a);
        assert!(b.recv_behind(&mut memory).unwrap().is_end());
    }
}
