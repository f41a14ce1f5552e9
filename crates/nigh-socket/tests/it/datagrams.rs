//! Datagrams, async and blocking: whole, replied to, and never lost in a full queue.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper's broken precondition is a failed test"
)]

use std::future::poll_fn;
use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::task::Poll;
use std::time::{Duration, Instant};

use nigh_socket::{
    Address, Datagram, Listener, RecvError, SendError, SocketKind, UnixDatagram, UnixSeqpacket,
    blocking,
};
use nigh_testkit::{Child, OpenFds, TempSocket};

fn text(text: &str) -> [IoSlice<'_>; 1] {
    [IoSlice::new(text.as_bytes())]
}

fn listener_at(place: &TempSocket) -> Listener {
    let options = Listener::options().kind(SocketKind::Datagram);
    options.bind(place.path()).unwrap()
}

fn server_at(place: &TempSocket) -> UnixDatagram {
    UnixDatagram::bound(listener_at(place)).unwrap()
}

fn at(place: &TempSocket) -> Address {
    Address::Path(place.path().into())
}

async fn recv(socket: &UnixDatagram) -> (String, Datagram) {
    let mut buffer = [0; 1024];
    let datagram = socket.recv(&mut buffer).await.unwrap();
    let bytes = buffer[..datagram.length].to_vec();
    (String::from_utf8(bytes).unwrap(), datagram)
}

#[tokio::test]
async fn a_server_replies_to_a_name_that_the_kernel_chose() {
    let place = TempSocket::private();
    let server = server_at(&place);
    assert_eq!(server.local_address().unwrap(), Some(at(&place)));
    let client = UnixDatagram::autobound().unwrap();
    client
        .send_to(&text("question"), &[client.as_fd()], &at(&place))
        .await
        .unwrap();
    let (question, datagram) = recv(&server).await;
    assert_eq!((&question[..], datagram.fds.len()), ("question", 1));
    let from = datagram.from.unwrap();
    assert!(matches!(&from, Address::Abstract(name) if name.len() == 5));
    assert_eq!(client.local_address().unwrap(), Some(from.clone()));
    server.send_to(&text("answer"), &[], &from).await.unwrap();
    assert_eq!(recv(&client).await.0, "answer");
    // Nobody can reply to a socket without a name, and it says so.
    let nameless = UnixDatagram::unbound().unwrap();
    assert_eq!(nameless.local_address().unwrap(), None);
    nameless.try_send_to(&text("x"), &[], &at(&place)).unwrap();
    assert_eq!(recv(&server).await.1.from, None);
}

#[tokio::test]
async fn a_bound_socket_has_the_life_cycle_of_a_listener() {
    let place = TempSocket::private();
    let server = server_at(&place);
    let mode = std::fs::metadata(place.path())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(server);
    assert!(!place.path().exists());
    let other = Listener::options().kind(SocketKind::Seqpacket);
    assert!(UnixDatagram::bound(other.bind(place.path()).unwrap()).is_err());
}

#[tokio::test]
async fn a_connected_socket_receives_from_its_peer_alone() {
    let (here, there) = (TempSocket::private(), TempSocket::private());
    let (server, client) = (server_at(&here), server_at(&there));
    client.connect(&at(&here)).unwrap();
    client.send(&text("hello"), &[]).await.unwrap();
    assert_eq!(recv(&server).await.0, "hello");
    let stranger = UnixDatagram::unbound().unwrap();
    let error = stranger
        .send_to(&text("x"), &[], &at(&there))
        .await
        .unwrap_err();
    assert!(matches!(error, SendError::NotThePeer), "{error}");
    assert!(matches!(
        stranger.connect(&at(&there)),
        Err(SendError::NotThePeer)
    ));
    server
        .send_to(&text("answer"), &[], &at(&there))
        .await
        .unwrap();
    assert_eq!(recv(&client).await.0, "answer");
}

#[tokio::test]
async fn a_datagram_without_room_is_an_error_with_its_true_length() {
    let (a, b) = UnixDatagram::pair().unwrap();
    a.send(&text("0123456789"), &[a.as_fd()]).await.unwrap();
    a.send(&text(""), &[]).await.unwrap();
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
    // An empty one is one: datagrams have no end.
    assert_eq!(recv(&b).await.0, "");
    assert!(matches!(
        b.try_recv(&mut [0; 4]),
        Err(RecvError::WouldBlock)
    ));
    let limit = a.message_bytes_max().unwrap();
    let bytes = vec![0; limit + 1];
    let error = a.send(&[IoSlice::new(&bytes)], &[]).await.unwrap_err();
    assert!(matches!(error, SendError::TooLong { .. }), "{error}");
    a.send(&[IoSlice::new(&bytes[1..])], &[]).await.unwrap();
    let mut room = vec![0; limit];
    assert_eq!(b.recv(&mut room).await.unwrap().length, limit);
}

#[tokio::test]
async fn what_nobody_receives_is_an_error() {
    let place = TempSocket::private();
    let client = UnixDatagram::unbound().unwrap();
    let error = client
        .send_to(&text("x"), &[], &at(&place))
        .await
        .unwrap_err();
    assert!(matches!(error, SendError::NoReceiver), "{error}");
    let error = client
        .send_to(&text("x"), &[], &Address::Autobind)
        .await
        .unwrap_err();
    assert!(matches!(error, SendError::NotAName), "{error}");
    let error = client.send(&text("x"), &[]).await.unwrap_err();
    assert!(matches!(error, SendError::Closed), "{error}");
    let server = server_at(&place);
    client.connect(&at(&place)).unwrap();
    drop(server);
    let error = client.send(&text("x"), &[]).await.unwrap_err();
    assert!(matches!(error, SendError::NoReceiver), "{error}");
    // A pair shows the death of its other half to a send, and to nothing else.
    let (a, b) = UnixDatagram::pair().unwrap();
    drop(b);
    assert!(matches!(
        a.try_recv(&mut [0; 4]),
        Err(RecvError::WouldBlock)
    ));
    let error = a.send(&text("x"), &[]).await.unwrap_err();
    assert!(matches!(error, SendError::NoReceiver), "{error}");
}

#[tokio::test]
async fn a_path_longer_than_sun_path_is_reached() {
    let place = TempSocket::private();
    let path = place.join("d".repeat(120)).join("s");
    let options = Listener::options()
        .kind(SocketKind::Datagram)
        .create_parent(0o700);
    let server = UnixDatagram::bound(options.bind(&path).unwrap()).unwrap();
    let client = UnixDatagram::unbound().unwrap();
    client
        .send_to(&text("far"), &[], &Address::Path(path.clone()))
        .await
        .unwrap();
    client.connect(&Address::Path(path)).unwrap();
    client.send(&text("away"), &[]).await.unwrap();
    assert_eq!(
        (recv(&server).await.0, recv(&server).await.0),
        ("far".into(), "away".into())
    );
}

/// Sends until the receiver's queue is full; returns how many went in.
fn fill(client: &UnixDatagram, to: &Address) -> usize {
    for count in 0.. {
        match client.try_send_to(&text("queued"), &[], to) {
            Ok(()) => {}
            Err(SendError::WouldBlock) => return count,
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!()
}

#[tokio::test]
async fn a_full_queue_delays_and_loses_nothing() {
    let place = TempSocket::private();
    let server = server_at(&place);
    let (client, connected) = (
        UnixDatagram::unbound().unwrap(),
        UnixDatagram::unbound().unwrap(),
    );
    connected.connect(&at(&place)).unwrap();
    let queued = fill(&client, &at(&place));
    let waiting = 25;
    let address = at(&place);
    let sending = async {
        for _ in 0..waiting {
            client
                .send_to(&text("waited"), &[], &address)
                .await
                .unwrap();
        }
    };
    let sending_connected = async {
        for _ in 0..waiting {
            connected.send(&text("waited"), &[]).await.unwrap();
        }
    };
    let receiving = async {
        let mut waited = 0;
        for _ in 0..queued + 2 * waiting {
            waited += usize::from(recv(&server).await.0 == "waited");
            // Gives both senders the time to find it full again.
            tokio::task::yield_now().await;
        }
        waited
    };
    let ((), (), waited) = tokio::join!(sending, sending_connected, receiving);
    assert_eq!(waited, 2 * waiting);
    assert!(matches!(
        server.try_recv(&mut [0; 8]),
        Err(RecvError::WouldBlock)
    ));
}

#[tokio::test]
async fn a_sender_that_waits_does_not_spin() {
    let place = TempSocket::private();
    let server = server_at(&place);
    let client = UnixDatagram::unbound().unwrap();
    let address = at(&place);
    let queued = fill(&client, &address);
    let slices = text("waited");
    let mut sending = std::pin::pin!(client.send_to(&slices, &[], &address));
    // Told that it may send while the queue is full, it would never come back from the first poll.
    for _ in 0..50 {
        let pending = poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx).is_pending())).await;
        assert!(pending);
        tokio::task::yield_now().await;
    }
    let receiving = async {
        for _ in 0..queued {
            recv(&server).await;
        }
    };
    let (sent, ()) = tokio::join!(sending, receiving);
    sent.unwrap();
    assert_eq!(recv(&server).await.0, "waited");
}

#[tokio::test]
async fn a_datagram_says_who_wrote_it() {
    let place = TempSocket::private();
    let options = Listener::options()
        .kind(SocketKind::Datagram)
        .pass_credentials(true);
    let server = UnixDatagram::bound(options.bind(place.path()).unwrap()).unwrap();
    let client = UnixDatagram::unbound().unwrap();
    client.send_to(&text("x"), &[], &at(&place)).await.unwrap();
    let sender = recv(&server).await.1.sender.unwrap();
    assert_eq!(sender.pid().value(), Some(&std::process::id()));
    assert_eq!(
        sender.uid().value(),
        Some(&rustix::process::getuid().as_raw())
    );
    assert!(sender.process().is_known());
}

#[test]
fn blocking_datagrams_wait_in_the_kernel() {
    let place = TempSocket::private();
    let mut server = blocking::UnixDatagram::bound(listener_at(&place)).unwrap();
    server
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    assert!(matches!(server.recv(&mut [0; 8]), Err(RecvError::TimedOut)));
    let mut client = blocking::UnixDatagram::autobound().unwrap();
    let timeout = Duration::from_millis(20);
    client.set_write_timeout(Some(timeout)).unwrap();
    let mut queued = 0;
    while client.try_send_to(&text("x"), &[], &at(&place)).is_ok() {
        queued += 1;
    }
    let began = Instant::now();
    let error = client.send_to(&text("x"), &[], &at(&place)).unwrap_err();
    assert!(matches!(error, SendError::TimedOut), "{error}");
    assert!(began.elapsed() >= timeout);
    for _ in 0..queued {
        let datagram = server.recv(&mut [0; 8]).unwrap();
        assert_eq!(datagram.from, client.local_address().unwrap());
    }
    client.connect(&at(&place)).unwrap();
    client.send(&text("connected"), &[client.as_fd()]).unwrap();
    assert_eq!(server.recv(&mut [0; 16]).unwrap().fds.len(), 1);
    let socket = OwnedFd::from(client);
    blocking::UnixDatagram::new(socket).unwrap();
    let (a, b) = blocking::UnixDatagram::pair().unwrap();
    a.send(&text("pair"), &[]).unwrap();
    assert_eq!(b.recv(&mut [0; 8]).unwrap().length, 4);
}

#[test]
fn no_datagram_leaks_a_descriptor() {
    Child::test("datagrams::leak_child").run().assert_success();
}

#[tokio::test]
#[ignore = "runs as a child of no_datagram_leaks_a_descriptor"]
async fn leak_child() {
    let place = TempSocket::private();
    // What the runtime opens with its first socket stays.
    let (a, b) = UnixSeqpacket::pair().unwrap();
    let before = OpenFds::now();
    let server = server_at(&place);
    let client = UnixDatagram::autobound().unwrap();
    let address = at(&place);
    for count in [1, 253] {
        let fds = vec![a.as_fd(); count];
        client.send_to(&text("x"), &fds, &address).await.unwrap();
        assert_eq!(recv(&server).await.1.fds.len(), count);
        client.send_to(&text("x"), &fds, &address).await.unwrap();
        assert!(server.recv(&mut []).await.is_err());
    }
    // A wait that is given up.
    let _queued = fill(&client, &address);
    {
        let slices = text("x");
        let mut sending = std::pin::pin!(client.send_to(&slices, &[], &address));
        assert!(poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx).is_pending())).await);
    }
    drop((server, client));
    before.assert_unchanged();
    drop((a, b));
}
