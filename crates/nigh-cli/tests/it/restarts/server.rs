//! The server that is replaced: a process of its own, which notes each call that its handlers see.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::future::{Ready, ready};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use nigh::{HandoverOptions, Limits, Listener, Policy, Server, Succession};
use nigh_drpc::{Module, Modules};
use nigh_socket::{Address, Existing, ListenerOptions, SocketKind};
use nigh_testkit::child_variable;
use nigh_testkit::service::TestService;
use nigh_testkit::service::proto::test_server::TestServer;
use tokio::sync::oneshot;
use tonic::Status;
use tonic::body::Body;

/// The dRPC module and method that answers what it is sent.
pub(super) const MODULE: i32 = 9;
pub(super) const ECHO: i32 = 1;

/// The metadata key of a call's number.
pub(super) const CALL: &str = "call";

/// Where everything of one run is.
#[derive(Debug, Clone)]
pub(super) struct Place(pub(super) PathBuf);

impl Place {
    fn at(&self, name: &str) -> Address {
        Address::Path(self.0.join(name))
    }

    pub(super) fn control(&self) -> Address {
        self.at("control")
    }

    pub(super) fn stream(&self) -> Address {
        self.at("stream")
    }

    pub(super) fn packets(&self) -> Address {
        self.at("packets")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.0.join("calls")
    }
}

/// The calls that handlers saw, over all servers: one line each, appended whole.
pub(super) struct Log(File);

impl Log {
    pub(super) fn open(path: &Path) -> Self {
        let options = OpenOptions::new().create(true).append(true).open(path);
        Self(options.unwrap())
    }

    fn note(&self, number: &str) {
        (&self.0)
            .write_all(format!("{number}\n").as_bytes())
            .unwrap();
    }
}

fn stream() -> ListenerOptions {
    Listener::options().existing(Existing::TakeOver)
}

/// Serves until a successor does, or until standard input ends.
#[test]
#[ignore = "runs as a child of nobody_is_lost_over_replacements_and_crashes"]
fn server_child() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let place = Place(child_variable("PLACE").into());
        let hands_over = child_variable("HANDS_OVER") == "yes";
        let log = Arc::new(Log::open(&place.log()));
        let tcp: Address = child_variable("TCP").parse().unwrap();
        let mut succession = None;
        if hands_over {
            let options = HandoverOptions::default();
            succession = Some(Succession::begin(place.control(), options).await.unwrap());
        }
        let mut listen = |options: ListenerOptions, address: Address| match &mut succession {
            Some(succession) => succession.listen(&options, address).unwrap(),
            None => options.bind(address).unwrap(),
        };
        let listeners = [
            listen(stream(), place.stream()),
            listen(stream().name("tcp"), tcp),
            listen(stream().kind(SocketKind::Seqpacket), place.packets()),
        ];
        println!("prepared {}", listeners[1].address());
        let (told, stop) = oneshot::channel::<()>();
        let (go, gone) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).unwrap();
            let _ = go.send(());
            if !line.is_empty() {
                std::io::stdin().read_line(&mut line).unwrap();
            }
            let _ = told.send(());
        });
        if child_variable("WAITS") == "yes" {
            gone.await.unwrap();
        }
        let mut server = server(&log, listeners);
        if let Some(succession) = succession {
            server = server.replaceable(succession);
        }
        let counters = server.counters();
        let drained = server.run(async move { drop(stop.await) }).await.unwrap();
        println!("ended, {drained:?}, {:?}", counters.read());
    });
}

/// Plain HTTP: answers with the number that is asked with.
#[derive(Clone)]
struct Plain(Arc<Log>);

impl tonic::codegen::Service<Request<Body>> for Plain {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let number = request.uri().query().unwrap_or_default().to_owned();
        self.0.note(&number);
        ready(Ok(Response::new(Body::new(number))))
    }
}

pub(super) fn server(log: &Arc<Log>, listeners: [Listener; 3]) -> Server {
    let [unix, tcp, packets] = listeners;
    let (noted, seen, heard) = (Arc::clone(log), Arc::clone(log), Arc::clone(log));
    let echo =
        TestServer::with_interceptor(TestService::default(), move |request: tonic::Request<()>| {
            let number = request
                .metadata()
                .get(CALL)
                .and_then(|number| number.to_str().ok());
            noted.note(number.ok_or_else(|| Status::invalid_argument("no number"))?);
            Ok(request)
        });
    let mut modules = Modules::new();
    let module =
        Module::new(MODULE, "TEST").method(ECHO, "ECHO", move |request: nigh_drpc::Request| {
            heard.note(&String::from_utf8_lossy(&request.body));
            async move {
                // Some take more than one turn, and are in mid-call when the server is replaced.
                tokio::task::yield_now().await;
                Ok::<_, nigh_drpc::Failure>(request.body)
            }
        });
    modules.register(module).unwrap();
    let mut server = Server::new();
    let counters = server.counters();
    let drpc = nigh_drpc::Server::new(modules)
        .into_protocol(counters, None)
        .unwrap();
    let mut limits = Limits::default();
    limits.connections.drain_time = Duration::from_secs(20);
    server
        .limits(limits)
        .service(echo)
        .fallback(Plain(seen))
        .listen(unix)
        .listen_for(tcp, Policy::any())
        .listen_other(packets, drpc)
}
