//! Reaching a server: what is waited for, what is not, and whose server it has to be.
//!
//! The clock is paused: pauses cost no time, and what a test says about them is exact.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper's broken precondition is a failed test"
)]

use std::fs;
use std::future::{poll_fn, ready};
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::pin::{Pin, pin};
use std::time::Duration;

use nigh_socket::{
    Address, Cause, ConnectError, ConnectFault, ConnectOptions, Fact, FileKind, InheritedError,
    Listener, Peer, Policy, SocketKind, Stream, connect, connect_fd,
};
use nigh_testkit::{Child, OpenFds, TempSocket, child_variable, require_root};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::servers;

fn at(path: &Path) -> Address {
    Address::Path(path.into())
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn once() -> ConnectOptions {
    ConnectOptions::default().wait(false)
}

/// Polls once, and checks that it is not done.
async fn assert_waits<F: Future>(mut future: Pin<&mut F>) {
    let pending =
        poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending()));
    assert!(pending.await);
}

fn unavailable(error: &ConnectError) -> (Cause, u32, Duration) {
    assert!(error.hint().is_some(), "{error}");
    match error.fault() {
        ConnectFault::Unavailable {
            cause,
            tries,
            waited,
        } => (*cause, *tries, *waited),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_connection_says_whose_server_it_is_and_carries_bytes() {
    let place = TempSocket::private();
    let listener = Listener::options().bind(place.path()).unwrap();
    let (mut stream, peer) = connect(listener.address(), &once()).await.unwrap();
    let Peer::Local(peer) = peer else { panic!() };
    assert!(matches!(peer.uid(), Fact::Known { value, .. } if *value == me()));
    let flags = rustix::io::fcntl_getfd(&stream).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    let mut accepted = nigh_socket::UnixStream::new(listener.accept().unwrap()).unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut received = [0; 5];
    accepted.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"hello");
}

#[tokio::test(start_paused = true)]
async fn a_missing_server_is_waited_for() {
    let place = TempSocket::private();
    let (address, options) = (at(place.path()), ConnectOptions::default());
    let mut connecting = pin!(connect(&address, &options));
    assert_waits(connecting.as_mut()).await;
    let _listener = Listener::options().bind(place.path()).unwrap();
    connecting.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refusing_server_is_waited_for() {
    let place = TempSocket::private();
    servers::dead(place.path(), SocketKind::Stream);
    let (address, options) = (at(place.path()), ConnectOptions::default());
    let mut connecting = pin!(connect(&address, &options));
    assert_waits(connecting.as_mut()).await;
    let _listener = Listener::options().bind(place.path()).unwrap();
    connecting.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_delays_and_does_not_fail() {
    let place = TempSocket::private();
    let listener = Listener::options().backlog(0).bind(place.path()).unwrap();
    let _queued = UnixStream::connect(place.path()).unwrap();
    // Waiting for missing servers is off, and makes no difference here.
    let (address, options) = (at(place.path()), once());
    let mut connecting = pin!(connect(&address, &options));
    assert_waits(connecting.as_mut()).await;
    listener.accept().unwrap();
    connecting.await.unwrap();
    listener.accept().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_it_and_says_why() {
    let place = TempSocket::private();
    let options = ConnectOptions::default().timeout(Duration::from_secs(1));
    let failing = async |address: &Address| {
        let started = Instant::now();
        let error = connect(address, &options).await.unwrap_err();
        // tokio's clock has a resolution of one millisecond.
        let took = started.elapsed();
        assert!(
            (1000..=1010).contains(&took.as_millis()),
            "{took:?}: {error}"
        );
        let (cause, tries, waited) = unavailable(&error);
        assert!(waited <= took);
        // 1 + 2 + 4 + .. + 64 = 127 ms, then every 100 ms, and once at the end.
        assert!((15..=18).contains(&tries), "{error}");
        assert!(error.to_string().contains(&format!("after {tries} tries")));
        cause
    };
    assert_eq!(failing(&at(place.path())).await, Cause::Missing);
    let nobody = Address::Abstract(format!("nigh-nobody-{}", std::process::id()).into());
    assert_eq!(failing(&nobody).await, Cause::Missing);
    servers::dead(place.path(), SocketKind::Stream);
    assert_eq!(failing(&at(place.path())).await, Cause::Refused);
    let full = place.join("full");
    let _listener = Listener::options().backlog(0).bind(&full).unwrap();
    let _queued = UnixStream::connect(&full).unwrap();
    assert_eq!(failing(&at(&full)).await, Cause::Busy);
}

#[tokio::test(start_paused = true)]
async fn without_waiting_one_try_is_made() {
    let place = TempSocket::private();
    let started = Instant::now();
    let error = connect(&at(place.path()), &once()).await.unwrap_err();
    assert_eq!(unavailable(&error), (Cause::Missing, 1, Duration::ZERO));
    assert!(error.to_string().contains("after 1 try in"), "{error}");
    servers::dead(place.path(), SocketKind::Stream);
    let error = connect(&at(place.path()), &once()).await.unwrap_err();
    assert_eq!(unavailable(&error), (Cause::Refused, 1, Duration::ZERO));
    let none = ConnectOptions::default().timeout(Duration::ZERO);
    let error = connect(&at(place.path()), &none).await.unwrap_err();
    assert_eq!(unavailable(&error), (Cause::Refused, 1, Duration::ZERO));
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_socket_is_not_waited_for() {
    let place = TempSocket::private();
    fs::write(place.path(), "text").unwrap();
    symlink(place.path(), place.join("link")).unwrap();
    let started = Instant::now();
    for (path, kind) in [
        (place.path().to_owned(), FileKind::Regular),
        (place.join("link"), FileKind::Regular),
        (place.directory().to_owned(), FileKind::Directory),
    ] {
        let error = connect(&at(&path), &ConnectOptions::default())
            .await
            .unwrap_err();
        assert!(
            matches!(error.fault(), ConnectFault::NotASocket(found) if *found == kind),
            "{error}"
        );
        assert!(error.hint().is_some());
    }
    let below = connect(&at(&place.path().join("s")), &ConnectOptions::default()).await;
    let below = below.unwrap_err();
    assert!(
        matches!(below.fault(), ConnectFault::System { .. }),
        "{below}"
    );
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_server_of_another_type_is_not_waited_for() {
    let place = TempSocket::private();
    let _server = UnixDatagram::bind(place.path()).unwrap();
    let error = connect(&at(place.path()), &ConnectOptions::default())
        .await
        .unwrap_err();
    assert!(matches!(
        error.fault(),
        ConnectFault::WrongKind(SocketKind::Stream)
    ));
}

#[tokio::test]
async fn the_servers_identity_is_demanded_before_a_byte_is_sent() {
    let place = TempSocket::private();
    let listener = Listener::options().bind(place.path()).unwrap();
    let address = listener.address();
    let ours = once().server(Policy::uid(me()));
    connect(address, &ours).await.unwrap();
    drop(listener.accept().unwrap());
    let theirs = once().server(Policy::uid(4242));
    let error = connect(address, &theirs).await.unwrap_err();
    let ConnectFault::Server(refused) = error.fault() else {
        panic!("{error}");
    };
    assert_eq!(refused.demanded, Policy::uid(4242));
    assert!(matches!(refused.server, Peer::Local(_)));
    assert!(error.to_string().contains("4242"), "{error}");
    assert!(error.hint().is_some());
    let mut accepted = UnixStream::from(listener.accept().unwrap());
    accepted.set_nonblocking(false).unwrap();
    let mut received = Vec::new();
    std::io::Read::read_to_end(&mut accepted, &mut received).unwrap();
    assert!(received.is_empty());
}

#[tokio::test]
async fn a_path_longer_than_sun_path_works() {
    let place = TempSocket::private();
    let mut directory = place.directory().to_owned();
    while directory.as_os_str().len() < 272 {
        directory.push("d".repeat(40));
    }
    fs::create_dir_all(&directory).unwrap();
    for length in [1, 80, 90, 107, 108, 255] {
        let path = directory.join("n".repeat(length));
        let missing = connect(&at(&path), &once()).await.unwrap_err();
        assert_eq!(unavailable(&missing).0, Cause::Missing);
        let listener = Listener::options().bind(&path).unwrap();
        connect(&at(&path), &once()).await.unwrap();
        listener.accept().unwrap();
        drop(listener);
        fs::write(&path, "text").unwrap();
        let file = connect(&at(&path), &once()).await.unwrap_err();
        assert!(
            matches!(file.fault(), ConnectFault::NotASocket(_)),
            "{file}"
        );
    }
    let elsewhere = directory.join("missing").join("s");
    let missing = connect(&at(&elsewhere), &once()).await.unwrap_err();
    assert_eq!(unavailable(&missing).0, Cause::Missing);
}

#[tokio::test]
async fn an_abstract_name_is_reached() {
    let listener = Listener::options().bind("autobind:").unwrap();
    connect(listener.address(), &once()).await.unwrap();
    listener.accept().unwrap();
}

#[tokio::test]
async fn packets_come_as_a_bare_descriptor() {
    for kind in [
        SocketKind::Stream,
        SocketKind::Seqpacket,
        SocketKind::Datagram,
    ] {
        let place = TempSocket::private();
        let listener = Listener::options().kind(kind).bind(place.path()).unwrap();
        let options = once().kind(kind);
        let (fd, peer) = connect_fd(listener.address(), &options).await.unwrap();
        assert!(matches!(peer, Peer::Local(_)));
        rustix::net::send(&fd, b"one", rustix::net::SendFlags::empty()).unwrap();
        if kind == SocketKind::Stream {
            connect(listener.address(), &options).await.unwrap();
        } else {
            let error = connect(listener.address(), &options).await.unwrap_err();
            assert!(matches!(error.fault(), ConnectFault::Kind(k) if *k == kind));
        }
    }
    let tcp = "tcp:localhost:1".parse().unwrap();
    let error = connect_fd(&tcp, &once()).await.unwrap_err();
    assert!(matches!(error.fault(), ConnectFault::NotLocal));
}

/// A descriptor number as exec would leave it, open and not close-on-exec: a child of another test would inherit it.
fn inherited(fd: impl Into<OwnedFd>) -> i32 {
    rustix::io::dup(fd.into()).unwrap().into_raw_fd()
}

#[test]
fn an_inherited_connection_is_taken_over_once() {
    Child::test("connect::inherited_child")
        .run()
        .assert_success();
}

#[tokio::test]
#[ignore = "runs as a child of an_inherited_connection_is_taken_over_once"]
async fn inherited_child() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let address = Address::Fd(inherited(ours));
    let (mut stream, peer) = connect(&address, &once()).await.unwrap();
    assert!(matches!(peer, Peer::Local(_)));
    let again = connect(&address, &once()).await.unwrap_err();
    assert!(matches!(
        again.fault(),
        ConnectFault::Inherited(InheritedError::Owned(_))
    ));
    stream.write_all(b"x").await.unwrap();
    drop(stream);
    let mut received = Vec::new();
    std::io::Read::read_to_end(&mut &theirs, &mut received).unwrap();
    assert_eq!(received, b"x", "and it is closed: no copy is left");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let address = Address::Fd(inherited(client));
    let (stream, peer) = connect(&address, &once()).await.unwrap();
    assert!(matches!((stream, peer), (Stream::Tcp(_), Peer::Remote(_))));

    let unconnected = UnixListener::bind(TempSocket::private().path()).unwrap();
    let error = connect(&Address::Fd(inherited(unconnected)), &once()).await;
    assert!(matches!(
        error.unwrap_err().fault(),
        ConnectFault::Inherited(InheritedError::NotConnected)
    ));
}

#[tokio::test]
async fn tcp_is_connected_and_proves_nothing() {
    let listener = Listener::options().bind("tcp:127.0.0.1:0").unwrap();
    let Address::Tcp { host, port } = listener.address().clone() else {
        panic!()
    };
    let https = Address::Https { host, port };
    for address in [listener.address(), &https] {
        let (stream, peer) = connect(address, &once()).await.unwrap();
        assert!(matches!((stream, peer), (Stream::Tcp(_), Peer::Remote(_))));
        listener.accept().unwrap();
    }
    let demanding = once().server(Policy::uid(me()));
    let error = connect(&https, &demanding).await.unwrap_err();
    assert!(matches!(error.fault(), ConnectFault::Server(_)), "{error}");
    let any = once().server(Policy::any());
    connect(&https, &any).await.unwrap();
    drop(listener);
    servers::until(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    let refused = connect(&https, &once()).await.unwrap_err();
    assert_eq!(unavailable(&refused).0, Cause::Refused);
    let shortly = ConnectOptions::default().timeout(Duration::from_millis(500));
    let refused = connect(&https, &shortly).await.unwrap_err();
    let (cause, ..) = unavailable(&refused);
    assert_eq!(cause, Cause::Refused, "not the silence of a try cut short");
    let unknown = "tcp:no-such-host.invalid:1".parse().unwrap();
    let error = connect(&unknown, &once()).await.unwrap_err();
    assert!(matches!(error.fault(), ConnectFault::Resolve(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_is_given_up_at_the_deadline() {
    let listener = Listener::options()
        .backlog(0)
        .bind("tcp:127.0.0.1:0")
        .unwrap();
    let Address::Tcp { port, .. } = *listener.address() else {
        panic!()
    };
    // A full TCP queue answers nobody. How many it takes is the kernel's affair.
    let queued = (0..16).map_while(|_| {
        let address = ([127, 0, 0, 1], port).into();
        std::net::TcpStream::connect_timeout(&address, Duration::from_millis(50)).ok()
    });
    let queued: Vec<_> = queued.collect();
    assert!(queued.len() < 16);
    let options = ConnectOptions::default().timeout(Duration::from_secs(3));
    let started = Instant::now();
    let error = connect(listener.address(), &options).await.unwrap_err();
    assert_eq!(unavailable(&error).0, Cause::Silent, "{error}");
    assert!((3000..=3010).contains(&started.elapsed().as_millis()));
}

#[tokio::test]
async fn what_is_no_address_to_connect_to_is_refused() {
    let error = connect(&Address::Autobind, &once()).await.unwrap_err();
    assert!(matches!(error.fault(), ConnectFault::NotForConnecting));
    let error = connect(&Address::Abstract(vec![0; 200]), &once()).await;
    assert!(matches!(
        error.unwrap_err().fault(),
        ConnectFault::Malformed(_)
    ));
}

#[tokio::test]
#[ignore = "runs as a child of a_socket_closed_to_this_user_is_not_waited_for"]
async fn denied_child() {
    let address = at(Path::new(&child_variable("SOCKET")));
    let error = connect(&address, &ConnectOptions::default())
        .await
        .unwrap_err();
    assert!(matches!(error.fault(), ConnectFault::Denied(_)), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn a_socket_closed_to_this_user_is_not_waited_for() {
    require_root!();
    let place = TempSocket::shared();
    let _listener = Listener::options().bind(place.path()).unwrap();
    Child::test("connect::denied_child")
        .user(65534, 65534, &[])
        .env("SOCKET", place.path())
        .run()
        .assert_success();
}

#[tokio::test(start_paused = true)]
#[ignore = "runs as a child of no_descriptor_is_left_open"]
async fn descriptors_child() {
    let place = TempSocket::private();
    let listener = Listener::options().backlog(0).bind(place.path()).unwrap();
    let long = place.join("d".repeat(120)).join("s");
    let _long = Listener::options()
        .create_parent(0o700)
        .bind(&long)
        .unwrap();
    let options = once();
    let before = OpenFds::now();
    for _ in 0..10 {
        drop(connect(listener.address(), &once()).await.unwrap());
        let refused = once().server(Policy::uid(4242));
        drop(listener.accept().unwrap());
        connect(listener.address(), &refused).await.unwrap_err();
        // The queue is full now; this one is given up while it waits.
        tokio::select! {
            biased;
            _ = connect(listener.address(), &options) => panic!("the queue is full"),
            () = ready(()) => {}
        }
        drop(listener.accept().unwrap());
        drop(connect(&at(&long), &once()).await.unwrap());
        connect(&at(&place.join("missing")), &once())
            .await
            .unwrap_err();
    }
    before.assert_unchanged();
    assert!(listener.as_fd().try_clone_to_owned().is_ok());
}

#[test]
fn no_descriptor_is_left_open() {
    Child::test("connect::descriptors_child")
        .run()
        .assert_success();
}
