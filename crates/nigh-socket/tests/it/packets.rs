//! Packets over a connection, async and blocking: whole or an error, in order, and an end that is no packet.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper's broken precondition is a failed test"
)]

use std::future::poll_fn;
use std::io::{IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use nigh_socket::{
    Blame, ConnectFault, ConnectOptions, InheritedError, Listener, Packet, Policy, Received,
    RecvError, SendError, SocketKind, UnixSeqpacket, blocking, connect_packet,
};
use nigh_testkit::TempSocket;

pub(crate) fn packet(received: Received) -> Packet {
    received.into_packet().unwrap()
}

/// The message, which fits in 1 KiB, as text.
async fn next(socket: &UnixSeqpacket) -> String {
    let mut buffer = [0; 1024];
    let length = packet(socket.recv(&mut buffer).await.unwrap()).length;
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

fn text(bytes: &str) -> [IoSlice<'_>; 1] {
    [IoSlice::new(bytes.as_bytes())]
}

#[tokio::test]
async fn each_send_is_one_packet_in_order() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    for message in ["one", "two", "three"] {
        a.send(&text(message), &[]).await.unwrap();
    }
    let parts = [IoSlice::new(b"fo"), IoSlice::new(b""), IoSlice::new(b"ur")];
    a.send(&parts, &[]).await.unwrap();
    for message in ["one", "two", "three", "four"] {
        assert_eq!(next(&b).await, message);
    }
    a.send(&text("scattered"), &[]).await.unwrap();
    let (mut front, mut back) = ([0; 4], [0; 16]);
    let mut buffers = [IoSliceMut::new(&mut front), IoSliceMut::new(&mut back)];
    let received = packet(b.recv_vectored(&mut buffers).await.unwrap());
    assert_eq!(received.length, 9);
    assert_eq!((&front, &back[..5]), (b"scat", &b"tered"[..]));
}

#[tokio::test]
async fn a_packet_without_room_is_an_error_with_its_true_length() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    a.send(&text("0123456789"), &[a.as_fd()]).await.unwrap();
    a.send(&text("next"), &[]).await.unwrap();
    let error = b.recv(&mut [0; 4]).await.unwrap_err();
    assert!(
        matches!(
            error,
            RecvError::TooLong {
                length: 10,
                room: 4
            }
        ),
        "{error}"
    );
    assert_eq!(error.blame(), Blame::Caller);
    assert!(error.is_survivable());
    assert_eq!(next(&b).await, "next");
    // Neither is an empty buffer a way to look whether something is there.
    a.send(&text("x"), &[]).await.unwrap();
    let error = b.try_recv(&mut []).unwrap_err();
    assert!(matches!(error, RecvError::TooLong { length: 1, room: 0 }));
}

#[tokio::test]
async fn an_empty_packet_is_not_the_end() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    a.send(&text(""), &[]).await.unwrap();
    a.send(&[], &[]).await.unwrap();
    // The trap: from here on poll reports the hang-up with whatever is still queued.
    drop(a);
    for _ in 0..2 {
        let received = packet(b.recv(&mut [0; 8]).await.unwrap());
        assert_eq!(received.length, 0);
    }
    for _ in 0..2 {
        assert!(b.recv(&mut [0; 8]).await.unwrap().is_end());
    }
    let error = b.send(&text("x"), &[]).await.unwrap_err();
    assert!(matches!(error, SendError::Closed), "{error}");
}

#[tokio::test]
async fn where_no_empty_packets_are_expected_they_are_packets_while_the_peer_is_there() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    b.set_empty_packets(false).unwrap();
    a.send(&text(""), &[]).await.unwrap();
    a.send(&text("x"), &[]).await.unwrap();
    assert_eq!(packet(b.recv(&mut [0; 8]).await.unwrap()).length, 0);
    assert_eq!(next(&b).await, "x");
    a.send(&text("last"), &[]).await.unwrap();
    drop(a);
    assert_eq!(next(&b).await, "last");
    assert!(b.recv(&mut [0; 8]).await.unwrap().is_end());
}

#[tokio::test]
async fn a_reply_before_a_reset_is_not_lost() {
    let (client, server) = UnixSeqpacket::pair().unwrap();
    for message in ["request", "unread"] {
        client.send(&text(message), &[]).await.unwrap();
    }
    assert_eq!(next(&server).await, "request");
    for message in ["reply", "more"] {
        server.send(&text(message), &[]).await.unwrap();
    }
    drop(server);
    assert_eq!(next(&client).await, "reply");
    assert_eq!(next(&client).await, "more");
    let error = client.recv(&mut [0; 8]).await.unwrap_err();
    assert!(matches!(error, RecvError::Reset), "{error}");
    assert!(!error.is_survivable());
}

#[tokio::test]
async fn a_reset_that_a_send_met_is_not_forgotten() {
    let (client, server) = UnixSeqpacket::pair().unwrap();
    client.send(&text("unread"), &[]).await.unwrap();
    server.send(&text("reply"), &[]).await.unwrap();
    drop(server);
    let error = client.try_send(&text("x"), &[]).unwrap_err();
    assert!(
        matches!(error, SendError::Reset | SendError::Closed),
        "{error}"
    );
    assert_eq!(next(&client).await, "reply");
    let error = client.recv(&mut [0; 8]).await.unwrap_err();
    assert!(matches!(error, RecvError::Reset), "{error}");
}

#[tokio::test]
async fn half_a_connection_can_be_ended() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    a.send(&text("last"), &[]).await.unwrap();
    a.shutdown(Shutdown::Write).unwrap();
    assert_eq!(next(&b).await, "last");
    assert!(b.recv(&mut [0; 8]).await.unwrap().is_end());
    b.send(&text("answer"), &[]).await.unwrap();
    assert_eq!(next(&a).await, "answer");
    drop(b);
    a.shutdown(Shutdown::Both).unwrap();
}

#[tokio::test]
async fn the_longest_message_is_computed_and_holds_exactly() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    let mut buffer = vec![0; 1 << 20];
    for asked in [1, 100_000, 300_000] {
        let set = a.set_send_buffer(asked).unwrap();
        assert!(set >= asked.min(200_000), "{set}");
        assert_eq!(a.send_buffer().unwrap(), set);
        let limit = a.message_bytes_max().unwrap();
        let bytes = vec![7; limit + 1];
        a.send(&[IoSlice::new(&bytes[1..])], &[]).await.unwrap();
        assert_eq!(packet(b.recv(&mut buffer).await.unwrap()).length, limit);
        let error = a.send(&[IoSlice::new(&bytes)], &[]).await.unwrap_err();
        let SendError::TooLong {
            length,
            limit: told,
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!((length, told), (limit + 1, limit));
    }
}

#[tokio::test]
async fn too_many_slices_are_refused_and_1024_are_one_packet() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    let slices = [IoSlice::new(b"x"); 1025];
    let error = a.send(&slices, &[]).await.unwrap_err();
    assert!(matches!(error, SendError::TooManySlices { count: 1025 }));
    a.send(&slices[..1024], &[]).await.unwrap();
    let mut buffer = [0; 2048];
    assert_eq!(packet(b.recv(&mut buffer).await.unwrap()).length, 1024);
}

/// Sends until the queue is full; returns how many went in.
fn fill(socket: &UnixSeqpacket) -> usize {
    for count in 0.. {
        match socket.try_send(&[IoSlice::new(&[0; 1024])], &[]) {
            Ok(()) => {}
            Err(SendError::WouldBlock) => return count,
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!()
}

#[tokio::test]
async fn a_full_queue_delays_senders_and_loses_nothing() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    let queued = fill(&a);
    assert!(queued > 10);
    let a = Arc::new(a);
    let senders: Vec<_> = (0..3)
        .map(|_| {
            let a = Arc::clone(&a);
            tokio::spawn(async move { a.send(&text("waited"), &[]).await })
        })
        .collect();
    let mut received = Vec::new();
    for _ in 0..queued + 3 {
        received.push(next(&b).await.len());
    }
    for sender in senders {
        sender.await.unwrap().unwrap();
    }
    received.retain(|length| *length == 6);
    assert_eq!(received.len(), 3);
    assert!(matches!(
        b.try_recv(&mut [0; 8]),
        Err(RecvError::WouldBlock)
    ));
}

#[tokio::test]
async fn a_cancelled_send_sent_nothing() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    let queued = fill(&a);
    {
        let slices = text("cancelled");
        let mut sending = pin!(a.send(&slices, &[]));
        let pending = poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx).is_pending()));
        assert!(pending.await);
    }
    for _ in 0..queued {
        assert_eq!(next(&b).await.len(), 1024);
    }
    a.send(&text("later"), &[]).await.unwrap();
    assert_eq!(next(&b).await, "later");
}

#[tokio::test]
async fn a_sender_that_never_waits_lets_other_tasks_run() {
    let (a, _b) = UnixSeqpacket::pair().unwrap();
    let room_for_all = 1 << 20;
    assert!(a.set_send_buffer(room_for_all).unwrap() >= room_for_all);
    let mut sending = pin!(async {
        for _ in 0..1000 {
            a.send(&text("x"), &[]).await.unwrap();
        }
    });
    let pending = poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx).is_pending()));
    assert!(pending.await);
    sending.await;
}

#[tokio::test]
async fn the_poll_forms_wait_and_wake() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    let queued = fill(&a);
    let sending = async {
        poll_fn(|cx| a.poll_send(cx, &text("polled"), &[]))
            .await
            .unwrap();
        // With room again nothing is left of the wait.
        poll_fn(|cx| a.poll_send(cx, &text("again"), &[]))
            .await
            .unwrap();
    };
    let receiving = async {
        let mut buffer = [0; 1024];
        for _ in 0..queued {
            poll_fn(|cx| b.poll_recv(cx, &mut buffer)).await.unwrap();
        }
        assert_eq!(next(&b).await, "polled");
        assert_eq!(next(&b).await, "again");
    };
    tokio::join!(sending, receiving);
}

#[derive(Debug, Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_reader_is_not_woken_by_what_its_peer_reads() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut buffer = [0; 8];
    assert!(
        a.poll_recv(&mut Context::from_waker(&waker), &mut buffer)
            .is_pending()
    );
    for _ in 0..10 {
        a.send(&text("x"), &[]).await.unwrap();
        assert_eq!(next(&b).await, "x");
        tokio::task::yield_now().await;
    }
    assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    b.send(&text("y"), &[]).await.unwrap();
    // The reactor runs when this task waits for it.
    let (c, d) = UnixSeqpacket::pair().unwrap();
    let (_, _) = tokio::join!(next(&d), async { c.send(&text("z"), &[]).await.unwrap() });
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn only_a_connected_packet_socket_is_taken_for_one() {
    let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let error = UnixSeqpacket::new(stream.into()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    let reason = error.get_ref().and_then(|reason| reason.downcast_ref());
    assert!(
        matches!(reason, Some(InheritedError::Kind { .. })),
        "{error}"
    );
    let place = TempSocket::private();
    let options = Listener::options().kind(SocketKind::Seqpacket);
    let listener = options.bind(place.path()).unwrap();
    let copy = listener.as_fd().try_clone_to_owned().unwrap();
    assert!(blocking::UnixSeqpacket::new(copy).is_err());
}

#[tokio::test]
async fn a_packet_server_is_connected_to_and_says_who_it_is() {
    let place = TempSocket::private();
    let options = Listener::options().kind(SocketKind::Seqpacket);
    let listener = options.bind(place.path()).unwrap();
    let demanded = ConnectOptions::default().server(Policy::same_user());
    let (client, peer) = connect_packet(listener.address(), &demanded).await.unwrap();
    assert!(peer.as_local().is_some());
    let server = UnixSeqpacket::new(listener.accept().unwrap()).unwrap();
    client.send(&text("ping"), &[]).await.unwrap();
    assert_eq!(next(&server).await, "ping");
    let flags = rustix::io::fcntl_getfd(&client).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    let nobody = ConnectOptions::default().server(Policy::none());
    let error = connect_packet(listener.address(), &nobody)
        .await
        .unwrap_err();
    assert!(matches!(error.fault(), ConnectFault::Server(_)), "{error}");
}

#[test]
fn blocking_clients_connect_wait_and_give_up() {
    let place = TempSocket::private();
    let address = nigh_socket::Address::Path(place.path().into());
    let once = ConnectOptions::default().wait(false);
    let error = blocking::connect_packet(&address, &once).unwrap_err();
    assert!(
        matches!(error.fault(), ConnectFault::Unavailable { tries: 1, .. }),
        "{error}"
    );
    let (told, tell) = mpsc::channel();
    let connecting = std::thread::spawn({
        let address = address.clone();
        move || {
            told.send(()).unwrap();
            blocking::connect_packet(&address, &ConnectOptions::default())
        }
    });
    tell.recv().unwrap();
    let options = Listener::options().kind(SocketKind::Seqpacket);
    let listener = options.bind(place.path()).unwrap();
    let (client, peer) = connecting.join().unwrap().unwrap();
    assert!(peer.as_local().is_some());
    // What `accept` hands out does not block; the blocking form changes that.
    let server = blocking::UnixSeqpacket::new(listener.accept().unwrap()).unwrap();
    let echo = std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Received::Packet(packet) = server.recv(&mut buffer).unwrap() {
            server
                .send(&[IoSlice::new(&buffer[..packet.length])], &[])
                .unwrap();
        }
    });
    let mut buffer = [0; 64];
    for message in ["one", "", "three"] {
        client.send(&text(message), &[]).unwrap();
        let length = packet(client.recv(&mut buffer).unwrap()).length;
        assert_eq!(&buffer[..length], message.as_bytes());
    }
    drop(client);
    echo.join().unwrap();
}

#[test]
fn blocking_sockets_keep_their_timeouts() {
    let (mut a, b) = blocking::UnixSeqpacket::pair().unwrap();
    let timeout = Duration::from_millis(30);
    assert!(a.set_read_timeout(Some(Duration::ZERO)).is_err());
    a.set_read_timeout(Some(timeout)).unwrap();
    a.set_write_timeout(Some(timeout)).unwrap();
    let began = Instant::now();
    assert!(matches!(a.recv(&mut [0; 8]), Err(RecvError::TimedOut)));
    assert!(began.elapsed() >= timeout);
    assert!(matches!(
        a.try_recv(&mut [0; 8]),
        Err(RecvError::WouldBlock)
    ));
    while a.try_send(&text("x"), &[]).is_ok() {}
    let began = Instant::now();
    let error = a.send(&text("x"), &[]).unwrap_err();
    assert!(matches!(error, SendError::TimedOut), "{error}");
    assert!(began.elapsed() >= timeout);
    b.send(&text("y"), &[]).unwrap();
    assert_eq!(packet(a.recv(&mut [0; 8]).unwrap()).length, 1);
}

#[test]
fn the_blocking_form_knows_the_same_traps() {
    let (client, server) = blocking::UnixSeqpacket::pair().unwrap();
    client.send(&text("unread"), &[]).unwrap();
    server.send(&text("reply"), &[]).unwrap();
    server.send(&[], &[]).unwrap();
    drop(server);
    let mut buffer = [0; 8];
    assert_eq!(packet(client.recv(&mut buffer).unwrap()).length, 5);
    assert_eq!(packet(client.recv(&mut buffer).unwrap()).length, 0);
    assert!(matches!(client.recv(&mut buffer), Err(RecvError::Reset)));
    let socket = OwnedFd::from(client);
    let again = blocking::UnixSeqpacket::new(socket).unwrap();
    assert!(again.recv(&mut buffer).unwrap().is_end());
}
