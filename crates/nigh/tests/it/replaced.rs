//! A server that is replaced by another: what callers on old connections see, wire by wire.

use std::sync::Arc;
use std::time::Duration;

use nigh::{
    Address, Channel, Counters, Drained, HandoverOptions, Limits, Listener, Server, ServerError,
    Succession, Wire,
};
use nigh_testkit::TempSocket;
use nigh_testkit::service::TestService;
use nigh_testkit::service::proto::test_client::TestClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Code;

use crate::common::payload;

pub(crate) struct Replaceable {
    service: TestService,
    pub(crate) counters: Arc<Counters>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<Drained, ServerError>>,
}

fn control(place: &TempSocket) -> Address {
    Address::Path(place.path().with_file_name("control"))
}

impl Replaceable {
    /// The first server, or the one that replaces the one before.
    pub(crate) async fn start(place: &TempSocket, drain: Duration) -> Self {
        let options = HandoverOptions::default();
        let mut succession = Succession::begin(control(place), options).await.unwrap();
        let listener = succession.listen(&Listener::options(), place.address().as_str());
        let service = TestService::default();
        let mut limits = Limits::default();
        limits.connections.drain_time = drain;
        let mut server = Server::new()
            .limits(limits)
            .service(service.server())
            .fallback(axum::Router::new().route("/", axum::routing::get(|| async { "here" })))
            .health()
            .listen(listener.unwrap())
            .replaceable(succession);
        let counters = server.counters();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async move { drop(stopped.await) }));
        Self {
            service,
            counters,
            stop,
            running,
        }
    }

    pub(crate) async fn ended(self) -> Drained {
        self.running.await.unwrap().unwrap()
    }

    pub(crate) async fn stopped(self) -> Drained {
        self.stop.send(()).unwrap();
        self.running.await.unwrap().unwrap()
    }
}

pub(crate) const LONG: Duration = Duration::from_secs(60);

async fn client(place: &TempSocket, wire: Wire) -> TestClient<Channel> {
    let options = Channel::options().wire(wire).wait(false);
    TestClient::new(options.connect(place.address().as_str()).await.unwrap())
}

#[tokio::test]
async fn running_calls_end_on_the_old_server_and_new_ones_begin_on_the_new() {
    for wire in [Wire::Http2, Wire::Nigh] {
        let place = TempSocket::private();
        let old = Replaceable::start(&place, LONG).await;
        let mut client = client(&place, wire).await;
        let mut holding = client.clone();
        let held = tokio::spawn(async move { holding.hold(payload("held")).await });
        old.service.started(1).await;
        let (say, words) = tokio::sync::mpsc::channel(1);
        let words = tokio_stream::wrappers::ReceiverStream::new(words);
        let mut chat = client.chat(words).await.unwrap().into_inner();
        let new = Replaceable::start(&place, LONG).await;
        // Calls go on without a failure, and in the end to the successor.
        while new.service.runs().started == 0 {
            client.echo(payload("x")).await.unwrap();
        }
        // A stream that was open goes on to its own end.
        say.send(payload("still")).await.unwrap();
        assert_eq!(chat.message().await.unwrap().unwrap().data, b"still");
        drop(say);
        assert!(chat.message().await.unwrap().is_none());
        old.service.release();
        assert_eq!(held.await.unwrap().unwrap().into_inner().data, b"held");
        assert_eq!(old.counters.read().calls_refused_draining, 0);
        let drained = old.ended().await;
        assert!(drained.is_replaced && drained.cut_off == 0, "{drained:?}");
        assert!(place.path().exists());
        assert!(!new.stopped().await.is_replaced);
        assert!(!place.path().exists());
    }
}

#[tokio::test]
async fn what_outlasts_the_drain_of_a_replaced_server_is_cut_off_and_counted() {
    let place = TempSocket::private();
    let old = Replaceable::start(&place, Duration::from_millis(20)).await;
    let mut client = client(&place, Wire::Http2).await;
    let held = tokio::spawn(async move { client.hold(payload("")).await });
    old.service.started(1).await;
    let new = Replaceable::start(&place, LONG).await;
    assert_eq!(old.ended().await.cut_off, 1);
    assert_eq!(held.await.unwrap().unwrap_err().code(), Code::Unavailable);
    new.stopped().await;
}

#[tokio::test]
async fn health_watchers_are_let_go_without_bad_news() {
    use tonic_health::pb::health_check_response::ServingStatus;
    let place = TempSocket::private();
    let old = Replaceable::start(&place, LONG).await;
    let channel = Channel::connect(place.address().as_str()).await.unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let request = tonic_health::pb::HealthCheckRequest::default();
    let mut watch = health.watch(request).await.unwrap().into_inner();
    let said = watch.message().await.unwrap().unwrap().status();
    assert_eq!(said, ServingStatus::Serving);
    let new = Replaceable::start(&place, LONG).await;
    let status = watch.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(old.ended().await.is_replaced);
    new.stopped().await;
}

#[tokio::test]
async fn a_caller_that_has_not_spoken_yet_goes_to_the_successor() {
    let place = TempSocket::private();
    let old = Replaceable::start(&place, LONG).await;
    let mut silent = tokio::net::UnixStream::connect(place.path()).await.unwrap();
    // The server has taken it from the queue: it has answered one that came later.
    let mut caller = client(&place, Wire::Nigh).await;
    caller.echo(payload("")).await.unwrap();
    drop(caller);
    let new = Replaceable::start(&place, LONG).await;
    // Long before the drain ends.
    let drained = old.ended().await;
    assert!(drained.is_replaced && drained.cut_off == 0, "{drained:?}");
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    silent.write_all(request).await.unwrap();
    let mut answer = String::new();
    silent.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    new.stopped().await;
}
