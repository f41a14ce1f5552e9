//! Descriptors on a stream: they leave with the first byte, once, and are never lost without a word.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};

use nigh_socket::{
    Chunk, ConnectOptions, Cork, Listener, RecvError, SendError, Stop, Stream, UnixStream, connect,
};
use nigh_testkit::{Child, OpenFds, TempSocket, limit_descriptors};
use rustix::io::{FdFlags, fcntl_getfd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn send(stream: &UnixStream, bytes: &[u8], fds: usize) -> usize {
    let fds = vec![stream.as_fd(); fds];
    let slices = [IoSlice::new(bytes)];
    stream.send_with_fds(&slices, &fds).await.unwrap()
}

async fn recv(stream: &UnixStream, room: usize) -> (Vec<u8>, Chunk) {
    let mut buffer = vec![0; room];
    let chunk = stream.recv_with_fds(&mut buffer).await.unwrap();
    buffer.truncate(chunk.length);
    (buffer, chunk)
}

/// What one receive after the other returns: bytes, and how many descriptors.
async fn chunks(stream: &UnixStream, room: usize, count: usize) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for _ in 0..count {
        let (bytes, chunk) = recv(stream, room).await;
        assert!(!chunk.fds_lost && chunk.sender.is_none());
        for fd in &chunk.fds {
            assert!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC));
        }
        found.push((String::from_utf8(bytes).unwrap(), chunk.fds.len()));
    }
    found
}

#[tokio::test]
async fn descriptors_arrive_at_boundaries_with_more_behind_them() {
    type Segments = &'static [(&'static str, usize)];
    let cases: [(Segments, Segments); 3] = [
        (
            &[("aaa", 0), ("bbb", 1), ("ccc", 0)],
            &[("aaabbb", 1), ("ccc", 0)],
        ),
        (
            &[("aaa", 1), ("bbb", 1), ("ccc", 0)],
            &[("aaa", 1), ("bbb", 1), ("ccc", 0)],
        ),
        (
            &[("aaa", 1), ("bbb", 0), ("ccc", 2), ("ddd", 0)],
            &[("aaa", 1), ("bbbccc", 2), ("ddd", 0)],
        ),
    ];
    for (sent, expected) in cases {
        let (a, b) = UnixStream::pair().unwrap();
        for (bytes, fds) in sent {
            send(&a, bytes.as_bytes(), *fds).await;
        }
        // No edge comes in between: a readiness that a short receive took away would hang this.
        let found = chunks(&b, 1000, expected.len()).await;
        let expected: Vec<_> = expected
            .iter()
            .map(|(text, fds)| ((*text).to_owned(), *fds))
            .collect();
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn descriptors_come_with_the_first_byte_of_their_send() {
    let (a, b) = UnixStream::pair().unwrap();
    send(&a, b"0123456789", 1).await;
    let expected = [("0123", 1), ("4567", 0), ("89", 0)];
    let expected = expected.map(|(text, fds)| (text.to_owned(), fds));
    assert_eq!(chunks(&b, 4, 3).await, expected);
}

#[tokio::test]
async fn descriptors_without_a_byte_are_refused() {
    let (a, b) = UnixStream::pair().unwrap();
    for slices in [&[][..], &[IoSlice::new(b""), IoSlice::new(b"")]] {
        let error = a.send_with_fds(slices, &[a.as_fd()]).await.unwrap_err();
        assert!(matches!(error, SendError::NothingToCarry), "{error}");
    }
    assert!(matches!(
        b.try_recv_with_fds(&mut [0; 8]),
        Err(RecvError::WouldBlock)
    ));
}

#[tokio::test]
async fn after_a_partial_send_the_descriptors_are_gone_and_come_once() {
    let (a, b) = UnixStream::pair().unwrap();
    let bytes = vec![7; 1 << 20];
    let sent = send(&a, &bytes, 3).await;
    assert!(sent < bytes.len());
    let rest = async {
        let mut at = sent;
        while at < bytes.len() {
            at += send(&a, &bytes[at..], 0).await;
        }
    };
    let all = async {
        let (mut length, mut fds) = (0, 0);
        while length < bytes.len() {
            let (_, chunk) = recv(&b, 1 << 16).await;
            length += chunk.length;
            fds += chunk.fds.len();
        }
        (length, fds)
    };
    let ((), received) = tokio::join!(rest, all);
    assert_eq!(received, (bytes.len(), 3));
}

#[tokio::test]
async fn the_end_is_an_empty_chunk_after_all_bytes() {
    let (mut a, b) = UnixStream::pair().unwrap();
    a.write_all(b"last").await.unwrap();
    drop(a);
    assert_eq!(recv(&b, 8).await.0, b"last");
    let (_, chunk) = recv(&b, 8).await;
    assert_eq!((chunk.length, chunk.fds.len()), (0, 0));
    let error = b.try_send_with_fds(&[IoSlice::new(b"x")], &[]).unwrap_err();
    assert!(matches!(error, SendError::Closed), "{error}");
}

#[tokio::test]
async fn a_listener_can_refuse_descriptors_and_no_bytes() {
    let place = TempSocket::private();
    let listener = Listener::options()
        .pass_rights(false)
        .bind(place.path())
        .unwrap();
    let (stream, _) = connect(listener.address(), &ConnectOptions::default())
        .await
        .unwrap();
    let client = stream.as_unix().unwrap();
    let server = UnixStream::new(listener.accept().unwrap()).unwrap();
    let can_refuse = server.set_pass_rights(false).unwrap();
    let sent = client
        .send_with_fds(&[IoSlice::new(b"x")], &[client.as_fd()])
        .await;
    assert_eq!(
        matches!(sent, Err(SendError::DescriptorsRefused)),
        can_refuse
    );
    if can_refuse {
        send(client, b"y", 0).await;
        assert_eq!(recv(&server, 8).await.0, b"y");
        // It can be lifted for one connection.
        server.set_pass_rights(true).unwrap();
        send(client, b"z", 1).await;
        assert_eq!(recv(&server, 8).await.1.fds.len(), 1);
    }
}

#[tokio::test]
async fn a_listener_refuses_descriptors_from_before_its_first_caller() {
    let place = TempSocket::private();
    let listener = Listener::options().bind(place.path()).unwrap();
    let (stream, _) = connect(listener.address(), &ConnectOptions::default())
        .await
        .unwrap();
    let early = stream.as_unix().unwrap();
    let sent = early.try_send_with_fds(&[IoSlice::new(b"x")], &[early.as_fd()]);
    if listener.passes_rights().unwrap() {
        nigh_testkit::skip("this kernel has no SO_PASSRIGHTS");
        return;
    }
    assert!(
        matches!(sent, Err(SendError::DescriptorsRefused)),
        "{sent:?}"
    );
    // Who came before the listener was told keeps what it found.
    assert!(listener.set_pass_rights(true).unwrap() && listener.passes_rights().unwrap());
    assert!(
        early
            .try_send_with_fds(&[IoSlice::new(b"x")], &[early.as_fd()])
            .is_err()
    );
    let options = Listener::options().pass_rights(true);
    let open = options.bind("autobind:").unwrap();
    assert!(open.passes_rights().unwrap());
    let tcp = options.bind("tcp:127.0.0.1:0").unwrap();
    assert!(!tcp.passes_rights().unwrap() && !tcp.set_pass_rights(true).unwrap());
}

#[test]
fn no_stream_leaks_a_descriptor() {
    Child::test("stream_descriptors::leak_child")
        .run()
        .assert_success();
}

#[tokio::test]
#[ignore = "runs as a child of no_stream_leaks_a_descriptor"]
async fn leak_child() {
    let (a, mut b) = UnixStream::pair().unwrap();
    let before = OpenFds::now();
    for count in [1, 2, 253] {
        send(&a, b"x", count).await;
        assert_eq!(recv(&b, 1).await.1.fds.len(), count);
        // Read as plain bytes they are closed by the kernel.
        send(&a, b"x", count).await;
        b.read_exact(&mut [0; 1]).await.unwrap();
    }
    before.assert_unchanged();
    limit_descriptors(64);
    let mut kept: Vec<OwnedFd> = Vec::new();
    while let Ok(fd) = a.as_fd().try_clone_to_owned() {
        kept.push(fd);
    }
    kept.truncate(kept.len() - 2);
    send(&a, b"bytes", 9).await;
    send(&a, b"next", 0).await;
    // The bytes are not lost with the descriptors, and neither is what follows.
    let (bytes, short) = recv(&b, 64).await;
    assert_eq!(
        (&bytes[..], short.fds.len(), short.fds_lost),
        (&b"bytes"[..], 2, true)
    );
    let (bytes, chunk) = recv(&b, 64).await;
    assert_eq!((&bytes[..], chunk.fds_lost), (&b"next"[..], false));
    drop((kept, short));
    before.assert_unchanged();
}

#[tokio::test]
async fn a_stream_notices_when_another_process_writes_on_it() {
    let (a, b) = UnixStream::pair().unwrap();
    b.set_pass_credentials(true).unwrap();
    send(&a, b"me", 0).await;
    let copy: BorrowedFd<'_> = a.as_fd();
    let mut child = Command::new("sh")
        .args(["-c", "printf other"])
        .stdout(Stdio::from(copy.try_clone_to_owned().unwrap()))
        .spawn()
        .unwrap();
    child.wait().unwrap();
    send(&a, b"me again", 0).await;
    let mut writers = Vec::new();
    for _ in 0..3 {
        let (bytes, chunk) = recv(&b, 64).await;
        let sender = chunk.sender.unwrap();
        writers.push((
            String::from_utf8(bytes).unwrap(),
            *sender.pid().value().unwrap(),
        ));
    }
    let (me, other) = (std::process::id(), child.id());
    let expected = [("me", me), ("other", other), ("me again", me)];
    assert_eq!(writers, expected.map(|(text, pid)| (text.to_owned(), pid)));
}

#[tokio::test]
async fn a_buffer_is_filled_up_to_descriptors_and_says_so() {
    let (a, b) = UnixStream::pair().unwrap();
    let mut buffer = [0; 6];
    for (bytes, fds) in [("aa", 0), ("bb", 2), ("cc", 0), ("dd", 0), ("ee", 1)] {
        send(&a, bytes.as_bytes(), fds).await;
    }
    // The kernel glues what was before the descriptors to what brought them, and stops behind it.
    let filled = b.recv_exact_with_fds(&mut buffer).await.unwrap();
    let expected = (4, Stop::Descriptors, 2, false);
    assert_eq!(
        (
            filled.length,
            filled.stop,
            filled.fds.len(),
            filled.fds_lost
        ),
        expected
    );
    assert_eq!(&buffer[..4], b"aabb");
    // What came are copies of the sending end.
    drop(filled);
    let filled = b.recv_exact_with_fds(&mut buffer).await.unwrap();
    assert_eq!(
        (filled.length, filled.stop, filled.fds.len()),
        (6, Stop::Full, 1)
    );
    assert_eq!(&buffer, b"ccddee");
    drop(filled);
    // It waits for what is missing.
    let (filled, ()) = tokio::join!(b.recv_exact_with_fds(&mut buffer), async {
        for part in [b"1", b"2", b"3"] {
            send(&a, part, 0).await;
            tokio::task::yield_now().await;
        }
        drop(a);
    });
    let filled = filled.unwrap();
    assert_eq!((filled.length, filled.stop), (3, Stop::End));
    assert_eq!(
        b.recv_exact_with_fds(&mut []).await.unwrap().stop,
        Stop::Full
    );
}

#[tokio::test]
async fn a_look_at_a_stream_takes_nothing_and_opens_nothing() {
    let (a, b) = UnixStream::pair().unwrap();
    assert!(matches!(
        b.try_peek(&mut [0; 8]),
        Err(RecvError::WouldBlock)
    ));
    send(&a, b"bytes", 3).await;
    let mut buffer = [0; 3];
    for _ in 0..3 {
        assert_eq!(b.peek(&mut buffer).await.unwrap(), 3);
        assert_eq!(&buffer, b"byt");
    }
    let (bytes, chunk) = recv(&b, 8).await;
    assert_eq!((&bytes[..], chunk.fds.len()), (&b"bytes"[..], 3));
    drop((a, chunk));
    assert_eq!(b.peek(&mut buffer).await.unwrap(), 0);
}

#[tokio::test]
async fn pieces_in_a_cork_are_one_write_and_what_was_not_sent_stays_in_it() {
    let (a, b) = UnixStream::pair().unwrap();
    let mut cork = Cork::new(1 << 20);
    std::io::Write::write_all(&mut cork, b"head").unwrap();
    std::io::Write::write_all(&mut cork, b"body").unwrap();
    cork.attach(b.as_fd().try_clone_to_owned().unwrap())
        .unwrap();
    a.send_corked(&mut cork).await.unwrap();
    let (bytes, chunk) = recv(&b, 64).await;
    assert_eq!((&bytes[..], chunk.fds.len()), (&b"headbody"[..], 1));
    let long: Vec<u8> = (0..1 << 20).map(|n: u32| n.to_le_bytes()[1]).collect();
    std::io::Write::write_all(&mut cork, &long).unwrap();
    {
        let mut sending = std::pin::pin!(a.send_corked(&mut cork));
        assert!(
            std::future::poll_fn(|cx| std::task::Poll::Ready(
                sending.as_mut().poll(cx).is_pending()
            ))
            .await
        );
    }
    let left = cork.bytes().len();
    assert!(left > 0 && left < long.len(), "{left}");
    let mut got = Vec::new();
    let (sent, ()) = tokio::join!(a.send_corked(&mut cork), async {
        while got.len() < long.len() {
            got.extend(recv(&b, 1 << 16).await.0);
        }
    });
    sent.unwrap();
    assert!(got == long);
    cork.attach(b.as_fd().try_clone_to_owned().unwrap())
        .unwrap();
    let refused = a.send_corked(&mut cork).await;
    assert!(matches!(refused, Err(SendError::NothingToCarry)));
}

/// There is no way to send or receive one; a peer that sends one all the same costs us that byte and nothing else.
#[tokio::test]
async fn an_urgent_byte_is_passed_over() {
    let (a, b) = UnixStream::pair().unwrap();
    send(&a, b"before", 0).await;
    rustix::net::send(&a, b"!", rustix::net::SendFlags::OOB).unwrap();
    send(&a, b"after", 1).await;
    let mut heard = Vec::new();
    let mut fds = 0;
    while heard.len() < 11 {
        let (bytes, chunk) = recv(&b, 64).await;
        heard.extend(bytes);
        fds += chunk.fds.len();
    }
    assert_eq!((&heard[..], fds), (&b"beforeafter"[..], 1));
}

#[tokio::test]
async fn tcp_is_no_unix_stream() {
    let listener = Listener::options().bind("tcp:127.0.0.1:0").unwrap();
    let (stream, _) = connect(listener.address(), &ConnectOptions::default())
        .await
        .unwrap();
    assert!(matches!(stream, Stream::Tcp(_)));
    assert!(stream.as_unix().is_none());
}
