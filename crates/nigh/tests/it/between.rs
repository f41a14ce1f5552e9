//! HTTP/1.1 connections of a server that leaves: between two requests they go to the successor, or end so that no request
//! is lost; one in the middle of a request is answered and told to close.

use std::os::fd::AsFd as _;

use nigh::{
    Address, Drained, HandoverOptions, Limits, Listener, Policy, Server, ServerError, Succession,
};
use nigh_testkit::{TempSocket, inherited};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::replaced::{LONG, Replaceable};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

/// A request and its answer, which ends with its body.
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> String {
    stream.write_all(REQUEST).await.unwrap();
    answer(stream).await
}

async fn answer<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"here") {
        let read = stream.read_buf(&mut answer).await.unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8(answer).unwrap()
}

fn closes(answer: &str) -> bool {
    answer.contains("connection: close")
}

#[tokio::test]
async fn an_idle_http1_connection_goes_to_the_successor_and_its_caller_notices_nothing() {
    let place = TempSocket::private();
    let mut old = Replaceable::start(&place, LONG).await;
    let mut stream = UnixStream::connect(place.path()).await.unwrap();
    for _ in 0..3 {
        assert!(!closes(&ask(&mut stream).await));
        let new = Replaceable::start(&place, LONG).await;
        // It ends although nobody has hung up, long before the drain ends.
        let drained = old.ended().await;
        assert!(drained.is_replaced && drained.cut_off == 0, "{drained:?}");
        old = new;
        assert_eq!(old.counters.read().connections_admitted, 1);
    }
    assert!(!closes(&ask(&mut stream).await));
    drop(stream);
    old.stopped().await;
}

/// A server on TCP that the next one replaces.
async fn replaceable_over_tcp(place: &TempSocket, at: &str) -> (Address, Served) {
    let control = Address::Path(place.path().with_file_name("control"));
    let mut succession = Succession::begin(control, HandoverOptions::default())
        .await
        .unwrap();
    let bound = succession.listen(&Listener::options(), at).unwrap();
    let at = bound.address().clone();
    let server = Server::new()
        .policy(Policy::any())
        .fallback(axum::Router::new().route("/", axum::routing::get(|| async { "here" })))
        .listen(bound)
        .replaceable(succession);
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async move { drop(stopped.await) }));
    (at, Served { stop, running })
}

#[tokio::test]
async fn an_idle_http1_connection_over_tcp_goes_to_the_successor_too() {
    let place = TempSocket::private();
    let (at, old) = replaceable_over_tcp(&place, "tcp:127.0.0.1:0").await;
    let text = at.to_string();
    let mut stream = TcpStream::connect(text.trim_start_matches("tcp:"))
        .await
        .unwrap();
    assert!(!closes(&ask(&mut stream).await));
    let (_, new) = replaceable_over_tcp(&place, &text).await;
    let drained = old.running.await.unwrap().unwrap();
    assert!(drained.is_replaced && drained.cut_off == 0, "{drained:?}");
    assert!(!closes(&ask(&mut stream).await));
    drop(stream);
    new.stop.send(()).unwrap();
    new.running.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_http1_caller_in_the_middle_of_a_request_is_answered_and_told_to_close() {
    let place = TempSocket::private();
    let old = Replaceable::start(&place, LONG).await;
    let mut stream = UnixStream::connect(place.path()).await.unwrap();
    ask(&mut stream).await;
    let (begin, rest) = REQUEST.split_at(9);
    stream.write_all(begin).await.unwrap();
    // The server has read it: it has answered one that came later.
    let mut other = UnixStream::connect(place.path()).await.unwrap();
    ask(&mut other).await;
    drop(other);
    let new = Replaceable::start(&place, LONG).await;
    let mut late = UnixStream::connect(place.path()).await.unwrap();
    assert!(!closes(&ask(&mut late).await));
    drop(late);
    stream.write_all(rest).await.unwrap();
    assert!(closes(&answer(&mut stream).await));
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    assert!(old.ended().await.is_replaced);
    new.stopped().await;
}

/// A server on a listener that somebody else holds, too.
struct Served {
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<Drained, ServerError>>,
}

impl Served {
    fn start(held: &Listener) -> Self {
        let copy = held.as_fd().try_clone_to_owned().unwrap();
        let bound = Listener::options().bind(format!("fd:{}", inherited(copy)).as_str());
        Self::on(bound.unwrap())
    }

    fn on(bound: Listener) -> Self {
        let mut limits = Limits::default();
        limits.connections.drain_time = LONG;
        let server = Server::new()
            .limits(limits)
            .policy(Policy::any())
            .fallback(axum::Router::new().route("/", axum::routing::get(|| async { "here" })))
            .listen(bound);
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async move { drop(stopped.await) }));
        Self { stop, running }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_successor_an_idle_http1_caller_has_time_for_one_more_request() {
    let held = Listener::options().bind("autobind:").unwrap();
    let Address::Abstract(name) = held.address() else {
        unreachable!("it has no other name");
    };
    let address = {
        use std::os::linux::net::SocketAddrExt as _;
        std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap()
    };
    let connect = || {
        let stream = std::os::unix::net::UnixStream::connect_addr(&address).unwrap();
        stream.set_nonblocking(true).unwrap();
        UnixStream::from_std(stream).unwrap()
    };
    let served = Served::start(&held);
    let (mut quick, mut idle) = (connect(), connect());
    assert!(!closes(&ask(&mut quick).await));
    assert!(!closes(&ask(&mut idle).await));
    let began = tokio::time::Instant::now();
    served.stop.send(()).unwrap();
    // Before any time has passed, and after the server has heard of its end.
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert!(closes(&ask(&mut quick).await));
    assert_eq!(quick.read(&mut [0]).await.unwrap(), 0);
    // Nobody waits for this one until the drain ends; and what it sends then fails, for certain.
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(began.elapsed().as_secs(), 1);
    let sent = idle.write(REQUEST).await;
    assert_eq!(sent.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    let drained = served.running.await.unwrap().unwrap();
    assert_eq!(drained.cut_off, 0);
}

/// Asks until the connection ends. Each request that the kernel took has to be answered.
fn ask_to_the_end(stream: &std::os::unix::net::UnixStream, begun: oneshot::Sender<()>) {
    use std::io::{Read as _, Write as _};
    let (mut stream, mut begun) = (stream, Some(begun));
    loop {
        match stream.write_all(REQUEST) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return,
            Err(error) => panic!("{error}"),
        }
        let mut answer = Vec::new();
        let is_whole = |answer: &[u8]| answer.ends_with(b"here") || answer.ends_with(b"again\n");
        while !is_whole(&answer) {
            let mut some = [0; 512];
            let read = stream.read(&mut some).unwrap();
            answer.extend_from_slice(&some[..read]);
            assert_ne!(read, 0, "cut off: {:?}", String::from_utf8_lossy(&answer));
        }
        // It is not in a queue any more.
        if let Some(begun) = begun.take() {
            begun.send(()).unwrap();
        }
        if closes(&String::from_utf8_lossy(&answer)) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http1_request_that_the_kernel_took_is_answered_whenever_the_server_leaves() {
    for is_held in [true, false].repeat(10) {
        let bound = Listener::options().bind("autobind:").unwrap();
        let Address::Abstract(name) = bound.address().clone() else {
            unreachable!("it has no other name");
        };
        // One that stops refuses in words what comes late, one that is replaced answers it.
        let (held, served) = match is_held {
            true => {
                let served = Served::start(&bound);
                (Some(bound), served)
            }
            false => (None, Served::on(bound)),
        };
        let (begun, has_begun) = oneshot::channel();
        let asking = tokio::task::spawn_blocking(move || {
            use std::os::linux::net::SocketAddrExt as _;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
            let stream = std::os::unix::net::UnixStream::connect_addr(&address).unwrap();
            ask_to_the_end(&stream, begun);
        });
        has_begun.await.unwrap();
        served.stop.send(()).unwrap();
        asking.await.unwrap();
        assert_eq!(served.running.await.unwrap().unwrap().cut_off, 0);
        drop(held);
    }
}
