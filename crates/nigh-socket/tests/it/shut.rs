//! A receiver that is shut: what a send was told to have been taken is received, and what was not is refused for certain.

use std::io::{ErrorKind, IoSlice, Write as _};
use std::net::Shutdown;

use nigh_socket::{Received, SendError, UnixSeqpacket, UnixStream, blocking};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test]
async fn a_sender_that_waits_for_room_is_refused_and_what_it_had_sent_is_received() {
    let (ours, theirs) = UnixSeqpacket::pair().unwrap();
    let packet = [IoSlice::new(&[7; 1000])];
    let mut taken = 0;
    while theirs.try_send(&packet, &[]).is_ok() {
        taken += 1;
    }
    let waiting = tokio::spawn(async move {
        let refused = theirs.send(&[IoSlice::new(b"late")], &[]).await;
        (refused, theirs)
    });
    tokio::task::yield_now().await;
    ours.shutdown(Shutdown::Read).unwrap();
    let mut buffer = [0; 2000];
    for _ in 0..taken {
        let received = ours.recv(&mut buffer).await.unwrap();
        assert!(matches!(received, Received::Packet(packet) if packet.length == 1000));
    }
    let end = ours.recv(&mut buffer).await.unwrap();
    assert!(matches!(end, Received::End), "{end:?}");
    // Nobody wakes it before there is room; a thread that waits in its send is woken at once.
    let (refused, _theirs) = waiting.await.unwrap();
    assert!(matches!(refused, Err(SendError::Closed)), "{refused:?}");
}

#[tokio::test]
async fn answers_go_out_after_the_receiver_was_shut() {
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"asked").await.unwrap();
    ours.shut(Shutdown::Read).unwrap();
    let refused = theirs.write(b"late").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BrokenPipe);
    let mut text = String::new();
    ours.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "asked");
    ours.write_all(b"answered").await.unwrap();
    drop(ours);
    text.clear();
    theirs.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "answered");
}

/// Whenever it happens: the kernel looks at both under one lock.
#[test]
fn no_packet_is_taken_and_not_received_however_they_race() {
    for round in 0..200 {
        let (ours, theirs) = blocking::UnixSeqpacket::pair().unwrap();
        let sender = std::thread::spawn(move || {
            for taken in 0_u32.. {
                match theirs.send(&[IoSlice::new(b"x")], &[]) {
                    Ok(()) => {}
                    Err(SendError::Closed) => return (taken, theirs),
                    Err(error) => panic!("{error}"),
                }
            }
            unreachable!()
        });
        let mut received = 0;
        let mut buffer = [0; 8];
        let mut next = || matches!(ours.recv(&mut buffer).unwrap(), Received::Packet(_));
        while received < round && next() {
            received += 1;
        }
        ours.shutdown(Shutdown::Read).unwrap();
        while next() {
            received += 1;
        }
        // It stays open until the count is known.
        let (taken, _theirs) = sender.join().unwrap();
        assert_eq!(taken, received);
    }
}

#[test]
fn no_byte_is_taken_and_not_received_however_they_race() {
    for round in 0..100 {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let sender = std::thread::spawn(move || {
            let mut taken = 0;
            loop {
                match theirs.write(&[7; 100]) {
                    Ok(count) => taken += count,
                    Err(error) => break (error.kind(), taken, theirs),
                }
            }
        });
        let mut received = 0;
        let mut buffer = [0; 512];
        let mut next = || std::io::Read::read(&mut &ours, &mut buffer).unwrap();
        while received < round * 100 {
            received += next();
        }
        ours.shutdown(Shutdown::Read).unwrap();
        loop {
            match next() {
                0 => break,
                count => received += count,
            }
        }
        let (kind, taken, _theirs) = sender.join().unwrap();
        assert_eq!((kind, taken), (ErrorKind::BrokenPipe, received));
    }
}
