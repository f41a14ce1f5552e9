//! A server with the test service on a private socket, for as long as the test holds it.

use nigh::{Address, Channel, Counts, Drained, Existing, Listener, Policy, Server, ServerError};
use nigh_testkit::TempSocket;
use nigh_testkit::service::TestService;
use nigh_testkit::service::proto::Payload;
use nigh_testkit::service::proto::test_client::TestClient;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) struct Served {
    pub(crate) socket: TempSocket,
    pub(crate) service: TestService,
    counters: Arc<nigh::Counters>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<Drained, ServerError>>,
}

pub(crate) fn bind(socket: &TempSocket, mode: u32) -> Listener {
    let options = Listener::options()
        .mode(mode)
        .existing(Existing::ReplaceStale);
    options.bind(socket.address().as_str()).unwrap()
}

impl Served {
    /// Serves the test service on a private socket, changed by `change`.
    pub(crate) fn with(change: impl FnOnce(Server) -> Server) -> Self {
        let socket = TempSocket::private();
        let listener = bind(&socket, 0o600);
        Self::on(socket, listener, change)
    }

    pub(crate) fn on(
        socket: TempSocket,
        listener: Listener,
        change: impl FnOnce(Server) -> Server,
    ) -> Self {
        let service = TestService::default();
        let shared = service.clone();
        let mut served = Self::of(socket, listener, |server| {
            change(server.service(shared.server()))
        });
        served.service = service;
        served
    }

    /// Serves what `change` adds, and nothing else.
    pub(crate) fn of(
        socket: TempSocket,
        listener: Listener,
        change: impl FnOnce(Server) -> Server,
    ) -> Self {
        Self::by(socket, change(Server::new().listen(listener)))
    }

    /// Runs a server that has its listeners already; the first is on `socket`.
    pub(crate) fn by(socket: TempSocket, mut server: Server) -> Self {
        let service = TestService::default();
        let counters = server.counters();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async move { drop(stopped.await) }));
        Self {
            socket,
            service,
            counters,
            stop: Some(stop),
            running,
        }
    }

    pub(crate) fn plain() -> Self {
        Self::with(|server| server)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counters.read()
    }

    pub(crate) fn address(&self) -> Address {
        self.socket.address().parse().unwrap()
    }

    pub(crate) async fn client(&self) -> TestClient<Channel> {
        TestClient::new(Channel::connect(self.address()).await.unwrap())
    }

    /// A client that does not wait for a server that is missing or refuses.
    pub(crate) async fn impatient_client(&self) -> TestClient<Channel> {
        TestClient::new(
            Channel::options()
                .wait(false)
                .connect(self.address())
                .await
                .unwrap(),
        )
    }

    /// tonic's own client, as people use it today.
    pub(crate) async fn tonic_client(&self) -> TestClient<tonic::transport::Channel> {
        let endpoint = tonic::transport::Endpoint::from_shared(self.socket.address()).unwrap();
        TestClient::new(endpoint.connect().await.unwrap())
    }

    pub(crate) fn begin_stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub(crate) async fn stopped(self) -> Drained {
        self.leave().await.1
    }

    /// Waits for the end and keeps the directory, for a successor.
    pub(crate) async fn leave(self) -> (TempSocket, Drained) {
        let drained = self.running.await.unwrap().unwrap();
        (self.socket, drained)
    }

    pub(crate) async fn stop(mut self) -> Drained {
        self.begin_stop();
        self.stopped().await
    }
}

pub(crate) fn payload(text: &str) -> Payload {
    Payload {
        data: text.as_bytes().to_vec(),
    }
}

pub(crate) fn any() -> Policy {
    Policy::any()
}
