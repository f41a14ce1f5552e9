//! Several messages per call, looks at what is next, and messages written in pieces; as whole as those that come alone.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::{ErrorKind, IoSlice, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nigh_socket::{
    Address, Batch, Cork, Datagram, Outgoing, Peeked, Received, RecvError, SendError, UnixDatagram,
    UnixSeqpacket, blocking,
};
use nigh_testkit::{Child, OpenFds, limit_descriptors};
use rustix::io::{FdFlags, fcntl_getfd};

use crate::packets::packet;

/// One message with that text.
macro_rules! outgoing {
    ($text:expr, $fds:expr) => {
        Outgoing {
            slices: &[IoSlice::new($text)],
            fds: $fds,
        }
    };
}

/// What came: text, or the end, or what is wrong; and how many descriptors, all close-on-exec.
fn taken(batch: &mut Batch<Received>) -> Vec<(String, usize)> {
    batch
        .drain()
        .map(|(message, bytes)| match message {
            Ok(Received::Packet(packet)) => {
                for fd in &packet.fds {
                    assert!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC));
                }
                let text = String::from_utf8_lossy(&bytes[..packet.length]);
                (text.into_owned(), packet.fds.len())
            }
            Ok(Received::End) => ("end".into(), 0),
            Err(error) => (error.to_string(), 0),
        })
        .collect()
}

fn expected(messages: &[(&str, usize)]) -> Vec<(String, usize)> {
    let owned = |(text, fds): &(&str, usize)| ((*text).to_owned(), *fds);
    messages.iter().map(owned).collect()
}

#[tokio::test]
async fn a_batch_is_sent_and_received_whole_with_every_descriptor() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    let fds: [BorrowedFd<'_>; 2] = [a.as_fd(), b.as_fd()];
    let messages = [
        outgoing!(b"one", &fds),
        outgoing!(b"", &[]),
        outgoing!(b"much too long for the room", &fds),
        outgoing!(b"four", &fds[..1]),
    ];
    assert_eq!(a.send_batch(&messages).await.unwrap(), 4);
    assert_eq!(a.send_batch(&[]).await.unwrap(), 0);
    let mut batch = Batch::new(8, 8);
    assert_eq!(b.recv_batch(&mut batch).await.unwrap(), 4);
    // One that does not fit tells its true length, and harms no other.
    let long = "receive: a message of 26 bytes does not fit a buffer of 8";
    let found = taken(&mut batch);
    assert_eq!(
        found,
        expected(&[("one", 2), ("", 0), (long, 0), ("four", 1)])
    );
    assert!(batch.is_empty());
    let nothing = b.try_recv_batch(&mut batch);
    assert!(matches!(nothing, Err(RecvError::WouldBlock)));
}

/// Trap: the kernel counts the end as messages without length, as many as there was room for.
#[tokio::test]
async fn the_end_comes_once_in_a_batch_and_is_no_empty_packet() {
    for stamped in [true, false] {
        let (a, b) = UnixSeqpacket::pair().unwrap();
        b.set_empty_packets(stamped).unwrap();
        let messages = [outgoing!(b"", &[]), outgoing!(b"last", &[])];
        a.send_batch(&messages).await.unwrap();
        drop(a);
        let mut batch = Batch::new(16, 8);
        assert_eq!(b.recv_batch(&mut batch).await.unwrap(), 3);
        assert_eq!(
            taken(&mut batch),
            expected(&[("", 0), ("last", 0), ("end", 0)])
        );
        // Again, as often as it is asked.
        assert_eq!(b.recv_batch(&mut batch).await.unwrap(), 1);
        assert_eq!(taken(&mut batch), expected(&[("end", 0)]));
    }
}

/// Trap: the kernel tells of the reset before the messages, and in a batch behind the first of them.
#[tokio::test]
async fn messages_before_a_reset_come_in_a_batch_and_then_the_reset() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    b.send(&[IoSlice::new(b"unread")], &[]).await.unwrap();
    a.send_batch(&[outgoing!(b"reply", &[]), outgoing!(b"more", &[])])
        .await
        .unwrap();
    drop(a);
    let mut batch = Batch::new(1, 8);
    let mut found = Vec::new();
    for _ in 0..3 {
        b.recv_batch(&mut batch).await.unwrap();
        found.extend(taken(&mut batch));
    }
    let reset = RecvError::Reset.to_string();
    assert_eq!(found, expected(&[("reply", 0), ("more", 0), (&reset, 0)]));
}

/// Trap: what is wrong behind the first message, only the next call says.
#[tokio::test]
async fn a_batch_stops_in_front_of_what_cannot_be_sent() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    let long = vec![0; a.message_bytes_max().unwrap() + 1];
    let many = vec![a.as_fd(); 254];
    let slices = vec![IoSlice::new(b""); 1025];
    for bad in [
        outgoing!(&long, &[]),
        outgoing!(b"x", &many),
        Outgoing {
            slices: &slices,
            fds: &[],
        },
    ] {
        let messages = [outgoing!(b"good", &[]), bad, outgoing!(b"behind", &[])];
        assert_eq!(a.send_batch(&messages).await.unwrap(), 1);
        let refused = a.send_batch(&messages[1..]).await.unwrap_err();
        let is_told = matches!(
            refused,
            SendError::TooLong {
                length: 212_961,
                ..
            } | SendError::TooManyDescriptors { count: 254 }
                | SendError::TooManySlices { count: 1025 }
        );
        assert!(is_told, "{refused:?}");
        assert_eq!(packet(b.recv(&mut [0; 8]).await.unwrap()).length, 4);
        assert!(matches!(
            b.try_recv(&mut [0; 8]),
            Err(RecvError::WouldBlock)
        ));
    }
}

#[tokio::test]
async fn a_full_queue_takes_the_front_of_a_batch() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    let slices = [IoSlice::new(b"x")];
    let one = Outgoing {
        slices: &slices,
        fds: &[],
    };
    let many = vec![one; 1000];
    let sent = a.send_batch(&many).await.unwrap();
    assert!((1..1000).contains(&sent), "{sent}");
    assert!(matches!(
        a.try_send_batch(&many),
        Err(SendError::WouldBlock)
    ));
    let rest = async {
        let mut rest = &many[sent..];
        while !rest.is_empty() {
            rest = &rest[a.send_batch(rest).await.unwrap()..];
        }
    };
    let receiving = async {
        let (mut batch, mut received) = (Batch::new(64, 1), 0);
        while received < 1000 {
            received += b.recv_batch(&mut batch).await.unwrap();
            assert!(
                batch
                    .drain()
                    .all(|(message, bytes)| message.is_ok() && bytes == b"x")
            );
        }
        received
    };
    assert_eq!(tokio::join!(rest, receiving).1, 1000);
}

#[tokio::test]
async fn datagrams_come_in_batches_with_the_names_of_their_senders() {
    let (server, client) = (
        UnixDatagram::autobound().unwrap(),
        UnixDatagram::autobound().unwrap(),
    );
    let (to, from) = (
        server.local_address().unwrap(),
        client.local_address().unwrap(),
    );
    client.connect(&to.unwrap()).unwrap();
    let fd = [server.as_fd()];
    let messages = [outgoing!(b"one", &fd), outgoing!(b"", &[])];
    assert_eq!(client.send_batch(&messages).await.unwrap(), 2);
    let unnamed = UnixDatagram::unbound().unwrap();
    let to: Address = server.local_address().unwrap().unwrap();
    unnamed
        .send_to(&[IoSlice::new(b"two")], &[], &to)
        .await
        .unwrap();
    let mut batch: Batch<Datagram> = Batch::new(8, 8);
    assert_eq!(server.recv_batch(&mut batch).await.unwrap(), 3);
    let found: Vec<_> = batch
        .drain()
        .map(|(message, bytes)| {
            let datagram = message.unwrap();
            (
                bytes[..datagram.length].to_vec(),
                datagram.fds.len(),
                datagram.from,
            )
        })
        .collect();
    let all = [
        (b"one".to_vec(), 1, from.clone()),
        (Vec::new(), 0, from),
        (b"two".to_vec(), 0, None),
    ];
    assert_eq!(found, all);
}

#[test]
fn no_batch_and_no_look_leaks_a_descriptor() {
    Child::test("batches::leak_child").run().assert_success();
}

#[tokio::test]
#[ignore = "runs as a child of no_batch_and_no_look_leaks_a_descriptor"]
async fn leak_child() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    let (c, d) = UnixDatagram::pair().unwrap();
    for pass in [false, true] {
        b.set_pass_credentials(pass).unwrap();
        d.set_pass_credentials(pass).unwrap();
        let before = OpenFds::now();
        let fds = vec![a.as_fd(); 100];
        let messages = [outgoing!(b"long", &fds), outgoing!(b"x", &fds[..1])];
        a.send_batch(&messages).await.unwrap();
        c.send_batch(&messages).await.unwrap();
        // Each look with room for descriptors would open more of them.
        for stamped in [true, false, true] {
            b.set_empty_packets(stamped).unwrap();
            let mut buffer = [0; 2];
            let seen = b.peek(&mut buffer).await.unwrap();
            assert_eq!((seen, &buffer), (Peeked::Message { length: 4 }, b"lo"));
            assert_eq!(d.peek(&mut buffer).await.unwrap(), 4);
        }
        before.assert_unchanged();
        // Also those of the one that does not fit.
        let mut batch = Batch::new(4, 2);
        assert_eq!(b.recv_batch(&mut batch).await.unwrap(), 2);
        assert_eq!(
            OpenFds::now().count(),
            before.count() + 1 + usize::from(pass)
        );
        drop(batch);
        let mut batch = Batch::new(4, 2);
        assert_eq!(d.recv_batch(&mut batch).await.unwrap(), 2);
        drop(batch);
        before.assert_unchanged();
    }
    // Without a free descriptor, each message says what it lost.
    let copies = [a.as_fd(), a.as_fd()];
    b.set_pass_credentials(false).unwrap();
    a.send_batch(&[outgoing!(b"x", &copies), outgoing!(b"y", &[])])
        .await
        .unwrap();
    limit_descriptors(3);
    let mut batch = Batch::new(4, 2);
    assert_eq!(b.recv_batch(&mut batch).await.unwrap(), 2);
    let found: Vec<_> = batch.drain().map(|(message, _)| message).collect();
    let lost = RecvError::DescriptorsLost {
        length: 1,
        arrived: 0,
    }
    .to_string();
    assert_eq!(found[0].as_ref().unwrap_err().to_string(), lost);
    assert!(found[1].is_ok());
}

#[tokio::test]
async fn a_look_takes_nothing_and_knows_the_end() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    assert!(matches!(
        b.try_peek(&mut [0; 8]),
        Err(RecvError::WouldBlock)
    ));
    a.send(&[IoSlice::new(b"first")], &[a.as_fd()])
        .await
        .unwrap();
    a.send(&[IoSlice::new(b"")], &[]).await.unwrap();
    for _ in 0..3 {
        assert_eq!(
            b.peek(&mut []).await.unwrap(),
            Peeked::Message { length: 5 }
        );
    }
    assert_eq!(packet(b.recv(&mut [0; 8]).await.unwrap()).fds.len(), 1);
    assert_eq!(
        b.peek(&mut [0; 8]).await.unwrap(),
        Peeked::Message { length: 0 }
    );
    b.send(&[IoSlice::new(b"unread")], &[]).await.unwrap();
    drop(a);
    // The reset waits for its turn here, too.
    assert_eq!(
        b.peek(&mut [0; 8]).await.unwrap(),
        Peeked::Message { length: 0 }
    );
    assert_eq!(packet(b.recv(&mut [0; 8]).await.unwrap()).length, 0);
    assert!(matches!(b.peek(&mut [0; 8]).await, Err(RecvError::Reset)));
    assert!(matches!(b.recv(&mut [0; 8]).await, Err(RecvError::Reset)));
    let (c, d) = UnixSeqpacket::pair().unwrap();
    drop(c);
    assert_eq!(d.peek(&mut [0; 8]).await.unwrap(), Peeked::End);
    assert!(d.recv(&mut [0; 8]).await.unwrap().is_end());
}

#[tokio::test]
async fn pieces_in_a_cork_are_one_message() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    let mut cork = a.cork().unwrap();
    cork.write_all(b"1-").unwrap();
    cork.write_all(b"two").unwrap();
    cork.attach(b.as_fd().try_clone_to_owned().unwrap())
        .unwrap();
    a.send_corked(&mut cork).await.unwrap();
    assert!(cork.bytes().is_empty() && cork.fds().is_empty());
    let mut buffer = [0; 16];
    let received = packet(b.recv(&mut buffer).await.unwrap());
    assert_eq!(
        (&buffer[..received.length], received.fds.len()),
        (&b"1-two"[..], 1)
    );
    // More than the socket takes is refused while it is written, whole.
    let longest = vec![0; a.message_bytes_max().unwrap()];
    cork.write_all(&longest).unwrap();
    let refused = cork.write_all(b"x").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    a.send_corked(&mut cork).await.unwrap();
    for _ in 0..253 {
        cork.attach(b.as_fd().try_clone_to_owned().unwrap())
            .unwrap();
    }
    let refused = cork.attach(b.as_fd().try_clone_to_owned().unwrap());
    assert!(matches!(
        refused,
        Err(SendError::TooManyDescriptors { count: 254 })
    ));
    cork.clear();
    // What could not be sent stays.
    drop((received, b));
    cork.write_all(b"kept").unwrap();
    a.send_corked(&mut cork).await.unwrap_err();
    assert_eq!(cork.bytes(), b"kept");
    let (c, d) = UnixDatagram::pair().unwrap();
    c.send_corked(&mut cork).await.unwrap();
    assert_eq!(d.recv(&mut buffer).await.unwrap().length, 4);
}

#[test]
fn blocking_sockets_have_batches_looks_and_corks_too() {
    let (a, mut b) = blocking::UnixSeqpacket::pair().unwrap();
    b.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let mut batch = Batch::new(4, 8);
    assert!(matches!(b.recv_batch(&mut batch), Err(RecvError::TimedOut)));
    assert!(matches!(b.peek(&mut [0; 8]), Err(RecvError::TimedOut)));
    let mut cork = Cork::new(8);
    cork.write_all(b"three").unwrap();
    assert_eq!(
        a.send_batch(&[outgoing!(b"one", &[]), outgoing!(b"two", &[a.as_fd()])])
            .unwrap(),
        2
    );
    a.send_corked(&mut cork).unwrap();
    assert_eq!(b.peek(&mut [0; 8]).unwrap(), Peeked::Message { length: 3 });
    // It waits for the first message and for no other.
    assert_eq!(b.recv_batch(&mut batch).unwrap(), 3);
    assert_eq!(
        taken(&mut batch),
        expected(&[("one", 0), ("two", 1), ("three", 0)])
    );
    let (c, mut d) = blocking::UnixDatagram::pair().unwrap();
    d.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let mut datagrams = Batch::new(4, 8);
    assert!(matches!(
        d.recv_batch(&mut datagrams),
        Err(RecvError::TimedOut)
    ));
    assert_eq!(
        c.send_batch(&[outgoing!(b"one", &[]), outgoing!(b"", &[])])
            .unwrap(),
        2
    );
    assert_eq!(d.peek(&mut []).unwrap(), 3);
    assert_eq!(d.recv_batch(&mut datagrams).unwrap(), 2);
}
