//! Connections that a server leaves: each call on one is answered, or its send failed for certain, and then our clients
//! make it again elsewhere. Nothing is lost, and nothing is handled twice.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper's broken precondition is a failed test"
)]

use std::collections::HashMap;
use std::io::IoSlice;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nigh_drpc::wire::{Call, Features, Framing, Response, Status};
use nigh_drpc::{
    BlockingClient, Client, ClientOptions, Module, Modules, Request, Server, ServerError, Speaks,
};
use nigh_socket::{
    Address, Drained, Limits, Listener, ListenerOptions, Policy, SendError, SocketKind,
};
use nigh_testkit::inherited;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::bytes_of::packets;
use crate::harness::{ECHO, Gate, MODULE, Raw, TestServer, WAIT, blocking, call, modules};

/// A listener that outlives its servers, as one of a supervisor does.
struct Held(Listener);

/// Without the options that are about a file.
fn packets_listener() -> ListenerOptions {
    Listener::options().kind(SocketKind::Seqpacket)
}

struct Running {
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<Drained, ServerError>>,
}

impl Held {
    fn new() -> Self {
        Self(packets_listener().bind(Address::Autobind).unwrap())
    }

    fn address(&self) -> Address {
        self.0.address().clone()
    }

    fn raw(&self) -> Raw {
        let options = nigh_socket::ConnectOptions::default();
        let connected = nigh_socket::blocking::connect_packet(&self.address(), &options);
        Raw::new(connected.unwrap().0)
    }

    fn serve(&self, modules: Modules, drain_time: Duration) -> Running {
        let copy = self.0.as_fd().try_clone_to_owned().unwrap();
        let bound = packets_listener().bind(format!("fd:{}", inherited(copy)));
        let mut limits = Limits::default();
        limits.drain_time = drain_time;
        let server = Server::new(modules)
            .policy(Policy::any())
            .connection_limits(limits)
            .listen(bound.unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async move { drop(stopped.await) }));
        Running { stop, running }
    }
}

impl Running {
    async fn stop(self) -> Drained {
        drop(self.stop);
        self.running.await.unwrap().unwrap()
    }
}

/// Long enough never to matter.
const LONG: Duration = Duration::from_secs(60);

/// Calls until the kernel takes no more; each that it took has to be answered. How many there were.
fn call_until_refused(raw: &Raw, is_chunked: bool, status: Status) -> u64 {
    for sequence in 100.. {
        let message = call(ECHO, sequence, "x").encode();
        let packet = match is_chunked {
            true => packets(&message).remove(0).into(),
            false => message,
        };
        match raw.socket.send(&[IoSlice::new(&packet)], &[]) {
            Ok(()) => {}
            Err(SendError::Closed) => return sequence.abs_diff(100),
            Err(error) => panic!("{error}"),
        }
        let answer = match is_chunked {
            true => raw.response().unwrap(),
            false => Response::decode(&raw.recv().unwrap().into()).unwrap(),
        };
        assert_eq!((answer.sequence, answer.status), (sequence, status));
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_the_end_is_answered_and_the_rest_fails_for_certain() {
    for is_chunked in [true, false] {
        let held = Held::new();
        let gate = Arc::new(Gate::default());
        let server = held.serve(modules(&gate), LONG);
        let raw = held.raw();
        let send = |call: &Call| match is_chunked {
            true => raw.send_call(call),
            false => raw.send(&call.encode()),
        };
        send(&call(WAIT, 1, "a"));
        gate.begun.notified().await;
        // Nobody reads this one before the first is answered.
        send(&call(ECHO, 2, "b"));
        drop(server.stop);
        gate.open.add_permits(1);
        let done = blocking(move || {
            for (sequence, expected) in [(1, "a"), (2, "b")] {
                let answer = match is_chunked {
                    true => raw.response().unwrap(),
                    false => Response::decode(&raw.recv().unwrap().into()).unwrap(),
                };
                assert_eq!(
                    (answer.sequence, &*answer.body),
                    (sequence, expected.as_bytes())
                );
            }
            call_until_refused(&raw, is_chunked, Status::Success);
            assert_eq!(raw.recv(), None);
        });
        done.await;
        assert_eq!(server.running.await.unwrap().unwrap().cut_off, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_loses_no_call_of_callers_that_never_pause() {
    let mut server = TestServer::start();
    let callers: Vec<Raw> = (0..4).map(|_| server.raw()).collect();
    let (begun, is_begun) = oneshot::channel();
    let calling = tokio::task::spawn_blocking(move || {
        for raw in &callers {
            assert_eq!(raw.call(&call(ECHO, 1, "x")).status, Status::Success);
        }
        begun.send(()).unwrap();
        for raw in &callers {
            let mut sequence = 1;
            loop {
                sequence += 1;
                let packet = packets(&call(ECHO, sequence, "x").encode()).remove(0);
                match raw.socket.send(&[IoSlice::new(&packet)], &[]) {
                    Ok(()) => assert_eq!(raw.response().unwrap().sequence, sequence),
                    Err(SendError::Closed) => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    });
    is_begun.await.unwrap();
    server.begin_drain();
    calling.await.unwrap();
    assert_eq!(server.stop().await.cut_off, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_connected_when_the_server_is_replaced_may_still_call() {
    let held = Held::new();
    let server = held.serve(modules(&Arc::default()), LONG);
    let [known, quiet, silent] = [held.raw(), held.raw(), held.raw()];
    let known = blocking(move || {
        known.call(&call(ECHO, 1, "x"));
        known
    });
    let known = known.await;
    drop(server.stop);
    let done = blocking(move || {
        // This one is left at once.
        assert_eq!(known.recv(), None);
        assert_eq!(quiet.call(&call(ECHO, 1, "x")).status, Status::Success);
        call_until_refused(&quiet, true, Status::Success);
        assert_eq!(quiet.recv(), None);
        // Nobody waits for this one for ever.
        assert_eq!(silent.recv(), None);
    });
    done.await;
    assert_eq!(server.running.await.unwrap().unwrap().cut_off, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_overlap_without_a_pause_do_not_hold_a_replaced_server() {
    let held = Held::new();
    let gate = Arc::new(Gate::default());
    let server = held.serve(modules(&gate), LONG);
    let raw = held.raw();
    let mut offer = call(ECHO, 1, "x");
    offer.extensions.features = Features::PIPELINING;
    raw.send_call(&offer);
    let raw = blocking(move || {
        let answer = raw.response().unwrap();
        assert_eq!(answer.extensions.features, Features::PIPELINING);
        raw.send_call(&call(WAIT, 2, "w"));
        raw
    });
    let raw = raw.await;
    gate.begun.notified().await;
    drop(server.stop);
    // All that comes while the first is at work is answered, until nothing comes any more.
    let done = blocking(move || {
        assert!(call_until_refused(&raw, true, Status::Success) > 0);
        raw
    });
    let raw = done.await;
    gate.open.add_permits(1);
    let answer = blocking(move || (raw.response(), raw.recv())).await;
    assert_eq!(answer.0.unwrap().body, "w");
    assert_eq!(answer.1, None);
    assert_eq!(server.running.await.unwrap().unwrap().cut_off, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_does_not_read_holds_a_drain_no_longer_than_it_may_last() {
    let held = Held::new();
    let server = held.serve(modules(&Arc::default()), Duration::from_millis(300));
    let raw = held.raw();
    let raw = blocking(move || {
        for sequence in 1..=4 {
            raw.send_call(&call(crate::harness::LARGE, sequence, "900000"));
        }
        // An answer has begun.
        assert!(raw.recv().is_some());
        raw
    });
    let raw = raw.await;
    assert_eq!(server.stop().await.cut_off, 1);
    drop(raw);
}

/// How often each body was handled.
#[derive(Default, Clone)]
struct Tally(Arc<Mutex<HashMap<String, u32>>>);

impl Tally {
    fn modules(&self) -> Modules {
        let tally = self.clone();
        let module = Module::new(MODULE, "tally").method(ECHO, "echo", move |call: Request| {
            let text = String::from_utf8_lossy(&call.body).into_owned();
            *tally.0.lock().unwrap().entry(text).or_default() += 1;
            async move {
                tokio::task::yield_now().await;
                Ok::<_, nigh_drpc::Failure>(call.body)
            }
        });
        let mut modules = Modules::new();
        modules.register(module).unwrap();
        modules
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_clients_lose_nothing_over_replacements_without_a_hand_over() {
    let (held, tally) = (Held::new(), Tally::default());
    let mut server = held.serve(tally.modules(), LONG);
    let (over, made) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut callers = JoinSet::new();
    for (kind, framing) in [Framing::Chunked, Framing::Legacy].into_iter().enumerate() {
        let options = move || ClientOptions::default().speaks(Speaks::Only(framing));
        let shared = Client::lazy(held.address(), options());
        for caller in 0..4 {
            let (client, over, made) = (shared.clone(), Arc::clone(&over), Arc::clone(&made));
            callers.spawn(async move {
                while !over.load(Ordering::Acquire) {
                    let text = format!("{kind} {caller} {}", made.fetch_add(1, Ordering::AcqRel));
                    assert_eq!(client.call(MODULE, ECHO, text.clone()).await.unwrap(), text);
                }
            });
        }
        let (address, over, made) = (held.address(), Arc::clone(&over), Arc::clone(&made));
        callers.spawn_blocking(move || {
            let mut client = BlockingClient::connect(address, options()).unwrap();
            while !over.load(Ordering::Acquire) {
                let text = format!("{kind} blocking {}", made.fetch_add(1, Ordering::AcqRel));
                assert_eq!(client.call(MODULE, ECHO, text.clone()).unwrap(), text);
            }
        });
    }
    for _ in 0..20 {
        let goal = made.load(Ordering::Acquire) + 100;
        let mut look = tokio::time::interval(Duration::from_millis(1));
        while made.load(Ordering::Acquire) < goal && !callers.is_empty() {
            look.tick().await;
        }
        let next = held.serve(tally.modules(), LONG);
        assert_eq!(server.stop().await.cut_off, 0);
        server = next;
    }
    over.store(true, Ordering::Release);
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    server.stop().await;
    let tally = tally.0.lock().unwrap();
    assert_eq!(tally.len() as u64, made.load(Ordering::Acquire));
    assert!(tally.values().all(|times| *times == 1));
}
