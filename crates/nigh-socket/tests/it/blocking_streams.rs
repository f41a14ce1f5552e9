//! Streams and listeners without a runtime: the same names, options and traps as the async ones.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::time::Duration;

use nigh_socket::blocking::{
    Acceptor, ByteStream, Stream, UnixSeqpacket, UnixStream, connect, connect_fd, connect_packet,
};
use nigh_socket::{
    ConnectFault, ConnectOptions, Cork, Listener, MemoryFile, Peer, Policy, RecvError, Refusal,
    SendError, SocketKind, Stop,
};
use nigh_testkit::TempSocket;

const SHORT: Option<Duration> = Some(Duration::from_millis(10));

fn bytes_go(mut from: impl ByteStream, mut to: impl ByteStream) -> (bool, Peer) {
    from.write_all(b"hello").unwrap();
    let mut buffer = [0; 5];
    to.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"hello");
    (to.as_unix().is_some(), to.peer().unwrap())
}

fn accepted(acceptor: &mut Acceptor) -> Stream {
    let connection = acceptor.accept().unwrap().admit(&Policy::any()).unwrap();
    connection.into_parts().0.into_stream().unwrap()
}

#[test]
fn blocking_code_is_written_once_over_streams() {
    let (a, b) = UnixStream::pair().unwrap();
    let (is_unix, peer) = bytes_go(a, b);
    assert!(is_unix && peer.as_local().is_some());
    for address in ["tcp:127.0.0.1:0", "autobind:"] {
        let mut acceptor = Acceptor::new(Listener::options().bind(address).unwrap());
        let address = (**acceptor.address()).clone();
        let (client, _) = connect(&address, &ConnectOptions::default()).unwrap();
        let is_local = matches!(client, Stream::Unix(_));
        let (is_unix, peer) = bytes_go(client, accepted(&mut acceptor));
        assert_eq!((is_unix, peer.as_local().is_some()), (is_local, is_local));
    }
}

#[test]
fn blocking_streams_wait_as_long_as_they_are_told() {
    let (mut a, mut b) = UnixStream::pair().unwrap();
    assert_eq!(
        a.set_read_timeout(Some(Duration::ZERO)).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    a.set_read_timeout(SHORT).unwrap();
    a.set_write_timeout(SHORT).unwrap();
    assert_eq!(a.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(matches!(
        a.recv_with_fds(&mut [0; 8]),
        Err(RecvError::TimedOut)
    ));
    assert!(matches!(a.peek(&mut [0; 8]), Err(RecvError::TimedOut)));
    assert!(matches!(
        a.try_recv_with_fds(&mut [0; 8]),
        Err(RecvError::WouldBlock)
    ));
    assert!(matches!(
        a.try_peek(&mut [0; 8]),
        Err(RecvError::WouldBlock)
    ));
    let full = loop {
        if let Err(error) = a.write(&[0; 65_536]) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::TimedOut);
    let slices = [IoSlice::new(b"x")];
    assert!(matches!(
        a.try_send_with_fds(&slices, &[]),
        Err(SendError::WouldBlock)
    ));
    assert!(matches!(
        a.send_with_fds(&slices, &[]),
        Err(SendError::TimedOut)
    ));
    let memory = MemoryFile::create("full").unwrap();
    rustix::fs::ftruncate(&memory, 8).unwrap();
    let refused = a.send_file(&memory, 0, 8).unwrap_err();
    assert_eq!(std::io::Error::from(refused).kind(), ErrorKind::TimedOut);
    drop(a);
    // What was sent before the end is read.
    assert!(std::io::copy(&mut b, &mut std::io::sink()).unwrap() > 65_536);
}

#[test]
fn blocking_streams_carry_descriptors_files_and_ends() {
    let (a, mut b) = UnixStream::pair().unwrap();
    assert_eq!(
        b.set_send_buffer(1 << 16).unwrap(),
        b.send_buffer().unwrap()
    );
    let slices = [IoSlice::new(b"one")];
    assert_eq!(a.send_with_fds(&slices, &[a.as_fd()]).unwrap(), 3);
    let refused = a.send_with_fds(&[], &[a.as_fd()]);
    assert!(matches!(refused, Err(SendError::NothingToCarry)));
    let mut buffer = [0; 8];
    assert_eq!(
        (b.peek(&mut buffer).unwrap(), &buffer[..3]),
        (3, &b"one"[..])
    );
    assert_eq!(b.recv_with_fds(&mut buffer).unwrap().fds.len(), 1);
    let mut memory = MemoryFile::create("file").unwrap();
    memory.write_all(b"0123456789").unwrap();
    assert_eq!(a.send_file_all(&memory, 2, 100).unwrap(), 8);
    b.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"23456789");
    let mut cork = Cork::new(16);
    cork.write_all(b"cork").unwrap();
    cork.write_all(b"ed").unwrap();
    a.send_corked(&mut cork).unwrap();
    a.shutdown(Shutdown::Write).unwrap();
    let filled = b.recv_exact_with_fds(&mut buffer).unwrap();
    assert_eq!((filled.length, filled.stop), (6, Stop::End));
    b.write_all(b"still").unwrap();
    (&a).read_exact(&mut buffer[..5]).unwrap();
    let again = UnixStream::new(a.into()).unwrap();
    drop(b);
    assert_eq!(again.peek(&mut buffer).unwrap(), 0);
}

#[test]
fn only_a_connected_unix_stream_is_taken_for_one() {
    let (packets, _other) = UnixSeqpacket::pair().unwrap();
    let refused = UnixStream::new(packets.into()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    let mut acceptor = Acceptor::new(Listener::options().bind("tcp:127.0.0.1:0").unwrap());
    let address = (**acceptor.address()).clone();
    let (client, _) = connect(&address, &ConnectOptions::default()).unwrap();
    accepted(&mut acceptor);
    let Stream::Tcp(client) = client else {
        panic!("tcp is tcp");
    };
    let refused = UnixStream::new(client.into()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

#[test]
fn blocking_listeners_have_the_same_pipeline() {
    let place = TempSocket::private();
    let options = Listener::options()
        .kind(SocketKind::Seqpacket)
        .pass_credentials(true);
    let listener = options.bind(place.address().as_str()).unwrap();
    let mut acceptor = Acceptor::new(listener);
    assert!(acceptor.accept_within(Duration::ZERO).unwrap().is_none());
    assert!(
        acceptor
            .accept_within(Duration::from_millis(10))
            .unwrap()
            .is_none()
    );
    let address = (**acceptor.address()).clone();
    let options = ConnectOptions::default();
    let (client, _) = connect_packet(&address, &options).unwrap();
    client.send(&[IoSlice::new(b"early")], &[]).unwrap();
    let incoming = acceptor
        .accept_within(Duration::from_secs(9))
        .unwrap()
        .unwrap();
    assert!(incoming.peer().as_local().is_some());
    let refused = incoming.admit(&Policy::none()).unwrap_err();
    assert!(matches!(refused.refusal, Refusal::Policy(_)));
    drop(refused);
    assert!(matches!(client.recv(&mut [0; 8]), Err(RecvError::Reset)));
    let (client, _) = connect_packet(&address, &options).unwrap();
    client.send(&[IoSlice::new(b"early")], &[]).unwrap();
    let connection = acceptor
        .accept()
        .unwrap()
        .admit(&Policy::same_user())
        .unwrap();
    let (transport, _, listener, _) = connection.into_parts();
    assert_eq!(
        (transport.kind(), &*listener),
        (SocketKind::Seqpacket, &address)
    );
    let packets = transport.into_stream().unwrap_err().into_packet().unwrap();
    let packet = packets.recv(&mut [0; 8]).unwrap().into_packet().unwrap();
    // From the first message on.
    assert_eq!(
        *packet.sender.unwrap().pid().value().unwrap(),
        std::process::id()
    );
    drop(acceptor);
    assert!(!place.path().exists());
}

#[test]
fn blocking_clients_have_the_same_options() {
    let gone = "unix:/no/such/socket".parse().unwrap();
    let options = ConnectOptions::default().timeout(Duration::from_millis(20));
    for refused in [
        connect(&gone, &options).unwrap_err(),
        connect_fd(&gone, &options).unwrap_err(),
        connect(&"tcp:127.0.0.1:1".parse().unwrap(), &options).unwrap_err(),
    ] {
        assert!(
            matches!(refused.fault(), ConnectFault::Unavailable { .. }),
            "{refused:?}"
        );
    }
    let listener = Listener::options().bind("autobind:").unwrap();
    let demanding = ConnectOptions::default().server(Policy::none());
    let refused = connect(listener.address(), &demanding).unwrap_err();
    assert!(matches!(refused.fault(), ConnectFault::Server(_)));
    let packets = ConnectOptions::default().kind(SocketKind::Seqpacket);
    let refused = connect(listener.address(), &packets).unwrap_err();
    assert!(matches!(refused.fault(), ConnectFault::Kind(_)));
}

/// The server's first message may be there before the client can ask: so it asks before it connects.
#[test]
fn what_a_server_says_first_says_who_wrote_it() {
    let mut acceptor = Acceptor::new(Listener::options().bind("autobind:").unwrap());
    let address = (**acceptor.address()).clone();
    for (asks, knows) in [(true, true), (false, false)] {
        let options = ConnectOptions::default().pass_credentials(asks);
        let (client, _) = connect(&address, &options).unwrap();
        let mut server = accepted(&mut acceptor);
        server.write_all(b"greeting").unwrap();
        let client = client.as_unix().unwrap();
        client.set_pass_credentials(true).unwrap();
        let sender = client.recv_with_fds(&mut [0; 16]).unwrap().sender.unwrap();
        assert_eq!(sender.uid().value().is_some(), knows);
    }
}
