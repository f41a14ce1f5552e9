//! A server that is replaced: connections travel between two calls, and their callers, who never connect again, notice
//! nothing. (DAOS's older clients read the end of a connection as a success.)
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::sync::Arc;
use std::time::Duration;

use nigh_drpc::wire::{Call, Response};
use nigh_drpc::{Client, ClientOptions, Server, ServerError, Speaks, listener};
use nigh_socket::handover::{HandoverOptions, Succession};
use nigh_socket::{Address, Counters, Drained};
use nigh_testkit::TempSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::harness::{ECHO, Gate, Raw, WAIT, blocking, call, modules};

struct Replaceable {
    gate: Arc<Gate>,
    counters: Arc<Counters>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<Drained, ServerError>>,
}

impl Replaceable {
    /// The first server, or the one that replaces the one before.
    async fn start(place: &TempSocket) -> Self {
        let control = Address::Path(place.path().with_file_name("control"));
        let options = HandoverOptions::default();
        let mut succession = Succession::begin(control, options).await.unwrap();
        let bound = succession.listen(&listener(), place.path()).unwrap();
        let gate = Arc::new(Gate::default());
        let mut limits = nigh_socket::Limits::default();
        limits.drain_time = Duration::from_secs(60);
        let server = Server::new(modules(&gate))
            .connection_limits(limits)
            .listen(bound)
            .replaceable(succession);
        let counters = server.counters();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async move { drop(stopped.await) }));
        Self {
            gate,
            counters,
            stop,
            running,
        }
    }

    async fn replaced(self) {
        let drained = self.running.await.unwrap().unwrap();
        assert!(drained.is_replaced && drained.cut_off == 0, "{drained:?}");
    }

    async fn stopped(self) -> Drained {
        self.stop.send(()).unwrap();
        self.running.await.unwrap().unwrap()
    }
}

/// A caller by hand, in one framing.
#[derive(Clone)]
struct Caller {
    raw: Arc<Raw>,
    is_chunked: bool,
}

impl Caller {
    fn connect(place: &TempSocket, is_chunked: bool) -> Self {
        let options = nigh_socket::ConnectOptions::default();
        let address = Address::Path(place.path().to_owned());
        let (socket, _) = nigh_socket::blocking::connect_packet(&address, &options).unwrap();
        let raw = Arc::new(Raw::new(socket));
        Self { raw, is_chunked }
    }

    fn send(&self, call: &Call) {
        match self.is_chunked {
            true => self.raw.send_call(call),
            false => self.raw.send(&call.encode()),
        }
    }

    /// The next answer; `None` at the end of the connection.
    fn answer(&self) -> Option<Response> {
        if self.is_chunked {
            return self.raw.response();
        }
        Some(Response::decode(&self.raw.recv()?.into()).unwrap())
    }

    async fn echo(&self, sequence: i64) {
        let this = self.clone();
        let answer = blocking(move || {
            this.send(&call(ECHO, sequence, "x"));
            this.answer()
        });
        let answer = answer.await.unwrap();
        assert_eq!((answer.sequence, &answer.body[..]), (sequence, &b"x"[..]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_travel_and_callers_notice_nothing() {
    let place = TempSocket::private();
    let mut old = Replaceable::start(&place).await;
    let callers = [true, false].map(|is_chunked| Caller::connect(&place, is_chunked));
    // One has never called, and goes all the same.
    let quiet = Caller::connect(&place, true);
    let ours = ClientOptions::default().speaks(Speaks::Probe);
    let ours = Client::connect(Address::Path(place.path().to_owned()), ours)
        .await
        .unwrap();
    for generation in 1..=3 {
        for caller in &callers {
            caller.echo(generation).await;
        }
        assert_eq!(
            ours.call(crate::harness::MODULE, ECHO, "y").await.unwrap(),
            "y"
        );
        let new = Replaceable::start(&place).await;
        // It ends although nobody has hung up: everybody is with the other one.
        old.replaced().await;
        old = new;
        assert_eq!(old.counters.read().connections_admitted, 4);
    }
    quiet.echo(1).await;
    for caller in &callers {
        caller.echo(9).await;
    }
    drop((callers, quiet, ours));
    assert!(!old.stopped().await.is_replaced);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_in_mid_call_stays_until_its_answer_is_out() {
    for is_chunked in [true, false] {
        let place = TempSocket::private();
        let old = Replaceable::start(&place).await;
        let caller = Caller::connect(&place, is_chunked);
        caller.send(&call(WAIT, 1, "w"));
        old.gate.begun.notified().await;
        let new = Replaceable::start(&place).await;
        // Whoever comes now is the successor's, or goes there; the call is at work where it began.
        let late = Caller::connect(&place, is_chunked);
        late.echo(1).await;
        let arrived = async {
            let mut look = tokio::time::interval(Duration::from_millis(1));
            while new.counters.read().connections_admitted == 0 {
                look.tick().await;
            }
        };
        let patience = Duration::from_secs(30);
        tokio::time::timeout(patience, arrived).await.unwrap();
        assert!(!old.running.is_finished());
        late.echo(2).await;
        drop(late);
        old.gate.open.add_permits(1);
        let waiting = caller.clone();
        let answer = blocking(move || waiting.answer()).await.unwrap();
        assert_eq!((answer.sequence, &answer.body[..]), (1, &b"w"[..]));
        old.replaced().await;
        caller.echo(2).await;
        drop(caller);
        new.stopped().await;
    }
}
