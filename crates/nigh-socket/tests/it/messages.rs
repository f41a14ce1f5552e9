//! What travels beside the bytes: descriptors, each owned or closed, and who wrote the message.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::fs::File;
use std::io::{IoSlice, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nigh_socket::{
    Blame, ConnectOptions, Fact, Listener, Process, RecvError, SendError, SocketKind, Source,
    UnixSeqpacket, Why, connect_packet,
};
use nigh_testkit::{Child, OpenFds, TempSocket, limit_descriptors, require_root};
use rustix::io::{FdFlags, fcntl_getfd};

use crate::packets::packet;

const BYTE: [u8; 1] = [7];

fn byte() -> [IoSlice<'static>; 1] {
    [IoSlice::new(&BYTE)]
}

/// The same descriptor so many times.
fn copies(fd: BorrowedFd<'_>, count: usize) -> Vec<BorrowedFd<'_>> {
    vec![fd; count]
}

#[tokio::test]
async fn descriptors_arrive_in_order_and_close_on_exec() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    let files: Vec<File> = (b'a'..b'f')
        .map(|letter| {
            let mut file = tempfile();
            file.write_all(&[letter]).unwrap();
            file.rewind().unwrap();
            file
        })
        .collect();
    let fds: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    a.send(&byte(), &fds).await.unwrap();
    a.send(&[], &fds[..1]).await.unwrap();
    let received = packet(b.recv(&mut [0; 8]).await.unwrap());
    assert_eq!((received.length, received.fds.len()), (1, 5));
    assert!(received.sender.is_none(), "nobody asked for it");
    let mut letters = String::new();
    for fd in received.fds {
        assert!(fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC));
        File::from(fd).read_to_string(&mut letters).unwrap();
    }
    assert_eq!(letters, "abcde");
    let received = packet(b.recv(&mut [0; 8]).await.unwrap());
    assert_eq!((received.length, received.fds.len()), (0, 1));
}

fn tempfile() -> File {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    File::from(rustix::fs::memfd_create("nigh-test", flags).unwrap())
}

#[tokio::test]
async fn as_many_descriptors_go_as_the_kernel_takes_and_not_one_more() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    let error = a.send(&byte(), &copies(a.as_fd(), 254)).await.unwrap_err();
    assert!(
        matches!(error, SendError::TooManyDescriptors { count: 254 }),
        "{error}"
    );
    assert_eq!(error.blame(), Blame::Caller);
    a.send(&byte(), &copies(a.as_fd(), 253)).await.unwrap();
    let received = packet(b.recv(&mut [0; 8]).await.unwrap());
    assert_eq!(received.fds.len(), 253);
}

#[test]
fn no_message_leaks_a_descriptor() {
    Child::test("messages::leak_child").run().assert_success();
}

#[tokio::test]
#[ignore = "runs as a child of no_message_leaks_a_descriptor"]
async fn leak_child() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    let before = OpenFds::now();
    for count in [1, 2, 3, 253] {
        a.send(&byte(), &copies(a.as_fd(), count)).await.unwrap();
        drop(b.recv(&mut [0; 8]).await.unwrap());
        // Truncated: an error, and closed all the same.
        a.send(&byte(), &copies(a.as_fd(), count)).await.unwrap();
        assert!(matches!(
            b.recv(&mut []).await,
            Err(RecvError::TooLong { .. })
        ));
    }
    before.assert_unchanged();
    // Never received at all.
    let (c, d) = UnixSeqpacket::pair().unwrap();
    c.send(&byte(), &copies(a.as_fd(), 9)).await.unwrap();
    drop((c, d));
    before.assert_unchanged();
    // A wait for room opens a descriptor, and closes it.
    while a.try_send(&byte(), &[]).is_ok() {}
    let slices = byte();
    tokio::join!(async { a.send(&slices, &[]).await.unwrap() }, async {
        for _ in 0..250 {
            b.recv(&mut [0; 8]).await.unwrap();
        }
    });
    before.assert_unchanged();
    with_senders().await;
}

/// A pidfd comes with every message here, and nobody takes it.
async fn with_senders() {
    let place = TempSocket::private();
    let options = Listener::options().kind(SocketKind::Seqpacket);
    let listener = options
        .pass_credentials(true)
        .pass_rights(true)
        .bind(place.path())
        .unwrap();
    let address = listener.address();
    let (client, _) = connect_packet(address, &ConnectOptions::default())
        .await
        .unwrap();
    let server = UnixSeqpacket::new(listener.accept().unwrap()).unwrap();
    let before = OpenFds::now();
    for _ in 0..10 {
        client
            .send(&byte(), &copies(client.as_fd(), 253))
            .await
            .unwrap();
        let received = packet(server.recv(&mut [0; 8]).await.unwrap());
        assert_eq!(received.fds.len(), 253);
        assert!(received.sender.unwrap().process().is_known());
    }
    before.assert_unchanged();
}

#[test]
fn descriptors_that_cannot_be_opened_fail_their_message_and_no_other() {
    Child::test("messages::full_child").run().assert_success();
}

#[tokio::test]
#[ignore = "runs as a child of descriptors_that_cannot_be_opened_fail_their_message_and_no_other"]
async fn full_child() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    for room in [0, 3] {
        // Sent under another limit than received: all senders of this user share what may be in flight.
        limit_descriptors(1024);
        a.send(&[IoSlice::new(b"body")], &copies(a.as_fd(), 10))
            .await
            .unwrap();
        a.send(&[IoSlice::new(b"next")], &[]).await.unwrap();
        let mut kept: Vec<OwnedFd> = Vec::new();
        limit_descriptors(64);
        while let Ok(fd) = a.as_fd().try_clone_to_owned() {
            kept.push(fd);
        }
        kept.truncate(kept.len() - room);
        let mut buffer = [0; 8];
        let error = b.recv(&mut buffer).await.unwrap_err();
        let RecvError::DescriptorsLost { length, arrived } = error else {
            panic!("{error}")
        };
        assert_eq!((length, arrived), (4, room));
        assert_eq!(&buffer[..4], b"body", "it can still be answered");
        assert!(error.is_survivable() && error.hint().is_some());
        assert_eq!(packet(b.recv(&mut buffer).await.unwrap()).length, 4);
        // What came is closed: there is as much room as before.
        kept.extend((0..room).map(|_| a.as_fd().try_clone_to_owned().unwrap()));
    }
}

#[tokio::test]
async fn a_listener_that_takes_no_descriptors_fails_the_send_alone() {
    let place = TempSocket::private();
    let options = Listener::options().kind(SocketKind::Seqpacket);
    let listener = options.pass_rights(false).bind(place.path()).unwrap();
    let address = listener.address();
    let (client, _) = connect_packet(address, &ConnectOptions::default())
        .await
        .unwrap();
    let server = UnixSeqpacket::new(listener.accept().unwrap()).unwrap();
    let sent = client.send(&byte(), &[client.as_fd()]).await;
    // Linux 6.16 has the option; before it the server gets them.
    if kernel_has_pass_rights() {
        let error = sent.unwrap_err();
        assert!(matches!(error, SendError::DescriptorsRefused), "{error}");
        assert_eq!(error.blame(), Blame::Peer);
    } else {
        sent.unwrap();
        assert_eq!(packet(server.recv(&mut [0; 8]).await.unwrap()).fds.len(), 1);
    }
    client.send(&byte(), &[]).await.unwrap();
    assert_eq!(packet(server.recv(&mut [0; 8]).await.unwrap()).length, 1);
}

fn kernel_has_pass_rights() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|number| number.parse().ok());
    (next(), next()) >= (Some(6_u32), Some(16_u32))
}

#[test]
fn descriptors_on_their_way_are_limited_per_user() {
    require_root!();
    Child::test("messages::in_flight_child")
        .user(54321, 54321, &[])
        .run()
        .assert_success();
}

#[tokio::test]
#[ignore = "runs as a child of descriptors_on_their_way_are_limited_per_user"]
async fn in_flight_child() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    limit_descriptors(64);
    let mut error = None;
    for _ in 0..20 {
        if let Err(refused) = a.try_send(&byte(), &copies(a.as_fd(), 20)) {
            error = Some(refused);
            break;
        }
    }
    let error = error.unwrap();
    assert!(matches!(error, SendError::InFlight), "{error}");
    assert!(error.blame() == Blame::System && error.hint().is_some());
    // Messages without descriptors still go, and received ones make room.
    a.try_send(&byte(), &[]).unwrap();
    drop(b.recv(&mut [0; 8]).await.unwrap());
    drop(b.recv(&mut [0; 8]).await.unwrap());
    drop(b.recv(&mut [0; 8]).await.unwrap());
    a.try_send(&byte(), &copies(a.as_fd(), 20)).unwrap();
}

#[tokio::test]
async fn a_message_says_who_wrote_it_from_the_first_on() {
    let place = TempSocket::private();
    let options = Listener::options().kind(SocketKind::Seqpacket);
    let listener = options
        .pass_credentials(true)
        .pass_rights(true)
        .bind(place.path())
        .unwrap();
    let address = listener.address();
    let (client, _) = connect_packet(address, &ConnectOptions::default())
        .await
        .unwrap();
    // Before it is accepted: there is no gap.
    client.send(&byte(), &[]).await.unwrap();
    let server = UnixSeqpacket::new(listener.accept().unwrap()).unwrap();
    let sender = packet(server.recv(&mut [0; 8]).await.unwrap())
        .sender
        .unwrap();
    let me = rustix::process::getuid().as_raw();
    assert_eq!(sender.uid(), &known(me));
    assert_eq!(sender.gid(), &known(rustix::process::getgid().as_raw()));
    assert_eq!(sender.pid(), &known(std::process::id()));
    let process: &Process = sender.process().value().unwrap();
    assert!(process.is_alive().unwrap());
    // The end has no sender, and is the end all the same.
    drop(client);
    assert!(server.recv(&mut [0; 8]).await.unwrap().is_end());
}

fn known(value: u32) -> Fact<u32> {
    let source = Source::MessageCredentials;
    Fact::Known { value, source }
}

#[tokio::test]
async fn a_message_from_before_anybody_asked_has_no_sender() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    a.send(&byte(), &[]).await.unwrap();
    b.set_pass_credentials(true).unwrap();
    let sender = packet(b.recv(&mut [0; 8]).await.unwrap()).sender.unwrap();
    let why = Why::NotGiven;
    let source = Source::MessageCredentials;
    assert_eq!(sender.uid(), &Fact::Unknown { source, why });
    assert_eq!(sender.pid(), &Fact::Unknown { source, why });
    assert!(!sender.process().is_known());
}
