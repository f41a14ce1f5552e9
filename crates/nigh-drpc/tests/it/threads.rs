//! Connections that have a thread of the server's while their callers are busy, and what ends that.

use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use bytes::Bytes;
use nigh_drpc::wire::Status;
use nigh_drpc::{
    BlockingClient, CallError, ClientOptions, Module, Modules, Request, Server, listener,
};
use nigh_socket::Policy;
use nigh_testkit::TempSocket;

use crate::bytes_of::{body, packets};
use crate::harness::{ECHO, LARGE, PANIC, Raw, TestServer, WAIT, blocking, call};

/// Far more calls than a caller needs to be busy.
const CALLS: i64 = 100_000;

fn with_threads(count: usize) -> TestServer {
    TestServer::with(|server| server.threads(count))
}

/// Makes the caller busy, as far as it can be seen from here.
fn hurry(raw: &Raw) {
    for sequence in 1..200 {
        assert_eq!(raw.call(&call(ECHO, sequence, "x")).body, "x");
    }
}

#[tokio::test]
async fn a_busy_caller_has_a_thread_and_an_idle_one_has_none() {
    let place = TempSocket::private();
    let home = std::thread::current().id();
    let seen: Arc<Mutex<Vec<ThreadId>>> = Arc::default();
    let noted = Arc::clone(&seen);
    let module = Module::new(1, "where").method(1, "am I", move |_: Request| {
        noted.lock().unwrap().push(std::thread::current().id());
        async { Ok(Bytes::new()) }
    });
    let mut modules = Modules::new();
    modules.register(module).unwrap();
    let server = Server::new(modules).policy(Policy::any()).threads(1);
    let running = tokio::spawn(server.serve(listener().bind(place.path()).unwrap()));
    let address = nigh_socket::Address::Path(place.path().to_owned());
    blocking(move || {
        let mut client = BlockingClient::connect(address, ClientOptions::default()).unwrap();
        let mut ask = || {
            client.call(1, 1, Bytes::new()).unwrap();
            *seen.lock().unwrap().last().unwrap()
        };
        assert_eq!(ask(), home, "not before it is busy");
        assert!((0..CALLS).any(|_| ask() != home), "never had a thread");
        // Whoever calls once in a while is served by the runtime again.
        let is_home = |_: u32| {
            let (wake, never) = std::sync::mpsc::channel::<()>();
            assert!(never.recv_timeout(Duration::from_millis(30)).is_err());
            drop(wake);
            ask() == home
        };
        assert!((0..100).any(is_home), "kept its thread");
    })
    .await;
    running.abort();
}

#[tokio::test]
async fn all_that_a_call_can_be_works_on_a_thread() {
    let server = with_threads(1);
    let (raw, gate) = (server.raw(), Arc::clone(&server.gate));
    blocking(move || {
        hurry(&raw);
        let large = body(700_000);
        assert_eq!(raw.call(&call(ECHO, 1, large.clone())).body, large);
        assert_eq!(raw.call(&call(LARGE, 2, "400000")).body.len(), 400_000);
        hurry(&raw);
        assert_eq!(raw.call(&call(PANIC, 3, "")).status, Status::Failure);
        hurry(&raw);
        raw.send_call(&call(WAIT, 4, "later"));
        gate.open.add_permits(1);
        assert_eq!(raw.response().unwrap().body, "later");
        hurry(&raw);
        // Several that wait in the socket.
        for sequence in 1..=5 {
            raw.send_call(&call(ECHO, sequence, "y"));
        }
        for sequence in 1..=5 {
            assert_eq!(raw.response().unwrap().sequence, sequence);
        }
    })
    .await;
    assert_eq!(server.counts().handler_panics, 1);
    server.stop().await;
}

#[tokio::test]
async fn more_busy_callers_than_threads_are_all_served() {
    let server = with_threads(1);
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let raw = server.raw();
            tokio::task::spawn_blocking(move || (0..20).for_each(|_| hurry(&raw)))
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    server.stop().await;
}

#[tokio::test]
async fn a_message_that_stops_or_trickles_on_a_thread_is_cut_off() {
    let server = TestServer::with(|server| {
        let mut limits = nigh_drpc::Limits::default();
        limits.message_time = Duration::from_millis(100);
        server.threads(2).limits(limits)
    });
    let [stalled, trickling] = [server.raw(), server.raw()];
    blocking(move || {
        let message = call(ECHO, 1, body(300_000)).encode();
        hurry(&stalled);
        stalled.send(&packets(&message)[0]);
        assert_eq!(stalled.recv(), None);
        hurry(&trickling);
        // One byte per packet, for as long as it is let.
        let total = u64::MAX >> 40;
        for index in 0_u32.. {
            let mut packet = Vec::new();
            packet.extend(total.to_le_bytes());
            packet.extend(1_u64.to_le_bytes());
            packet.extend(index.to_le_bytes());
            packet.extend(1_000_000_u32.to_le_bytes());
            packet.push(7);
            let sent = trickling
                .socket
                .send(&[std::io::IoSlice::new(&packet)], &[]);
            if sent.is_err() {
                return;
            }
        }
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_drain_finds_callers_on_threads() {
    let server = with_threads(2);
    let [idle, busy] = [server.raw(), server.raw()];
    let (idle, busy) = blocking(move || {
        hurry(&idle);
        hurry(&busy);
        (idle, busy)
    })
    .await;
    let calling = tokio::task::spawn_blocking(move || {
        let mut answers = Vec::new();
        for sequence in 1..CALLS {
            let sent = busy.socket.send(
                &[std::io::IoSlice::new(
                    &packets(&call(ECHO, sequence, "x").encode())[0],
                )],
                &[],
            );
            if sent.is_err() {
                break;
            }
            // What the kernel took is answered.
            answers.push(busy.response().unwrap().status);
        }
        answers
    });
    let drained = server.stop().await;
    assert_eq!(drained.cut_off, 0, "{drained:?}");
    let answers = calling.await.unwrap();
    let is_known = |status: &Status| matches!(status, Status::Success | Status::Failure);
    assert!(answers.iter().all(is_known));
    assert_eq!(blocking(move || idle.recv()).await, None);
}

#[tokio::test]
async fn a_server_that_is_dropped_ends_its_threads() {
    let place = TempSocket::private();
    let module = Module::new(1, "echo").method(1, "echo", async |call: Request| Ok(call.body));
    let mut modules = Modules::new();
    modules.register(module).unwrap();
    let server = Server::new(modules).policy(Policy::any()).threads(1);
    let running = tokio::spawn(server.serve(listener().bind(place.path()).unwrap()));
    let address = nigh_socket::Address::Path(place.path().to_owned());
    let (busy, is_busy) = tokio::sync::oneshot::channel();
    let calling = tokio::task::spawn_blocking(move || {
        let mut client = BlockingClient::connect(address, ClientOptions::default()).unwrap();
        for _ in 0..1000 {
            client.call(1, 1, "x").unwrap();
        }
        busy.send(()).unwrap();
        loop {
            if let Err(error) = client.call(1, 1, "x") {
                return error;
            }
        }
    });
    is_busy.await.unwrap();
    running.abort();
    let error = calling.await.unwrap();
    // The call was on its way, or nobody is there for it.
    let is_lost = matches!(error, CallError::Transport(_) | CallError::Connect(_));
    assert!(is_lost, "{error}");
}
