//! The server as its callers see it: statuses, both framings, order, panics, guards, refusal, drain.

use nigh_drpc::wire::{Call, CallExtensions, Features, Framing, Reason, Response, Status};
use nigh_drpc::{Accepts, Limits, Module, Modules, Server, ServerError, listener};
use nigh_socket::{Existing, Policy, SocketKind};
use nigh_testkit::TempSocket;

use crate::bytes_of::{body, hex, packets};
use crate::golden::calls;
use crate::harness::{
    ECHO, FAIL, GUARDED, LARGE, MODULE, PANIC, PANIC_LATER, PAYLOAD, TestServer, UNTIL_GONE, WAIT,
    blocking, call,
};

fn answer(sequence: i64, status: Status, body: &'static [u8]) -> Response {
    let mut response = Response::new(sequence, status);
    response.body = bytes::Bytes::from_static(body);
    response
}

#[tokio::test(flavor = "multi_thread")]
async fn each_outcome_has_its_status_in_both_framings() {
    let server = TestServer::with(|server| server.guard(MODULE, GUARDED, Policy::none()));
    let cases = [
        (call(ECHO, 1, "x"), answer(1, Status::Success, b"x")),
        (call(ECHO, 0, "x"), answer(0, Status::Success, b"x")),
        (call(ECHO, -5, "x"), answer(-5, Status::Success, b"x")),
        (
            call(ECHO, i64::MIN, ""),
            answer(i64::MIN, Status::Success, b""),
        ),
        (call(FAIL, 2, ""), answer(2, Status::Failure, b"")),
        (
            call(PAYLOAD, 2, ""),
            answer(2, Status::FailedUnmarshalPayload, b""),
        ),
        (call(PANIC, 3, ""), answer(3, Status::Failure, b"")),
        (call(PANIC_LATER, 3, ""), answer(3, Status::Failure, b"")),
        (call(99, 4, ""), answer(4, Status::UnknownMethod, b"")),
        (call(GUARDED, 5, "x"), answer(5, Status::Failure, b"")),
        (
            Call {
                module: 9,
                ..call(1, 6, "")
            },
            answer(6, Status::UnknownModule, b""),
        ),
        (Call::default(), answer(0, Status::Success, b"")),
    ];
    let (chunked, legacy) = (server.raw(), server.raw());
    blocking(move || {
        for (call, expected) in &cases {
            assert_eq!(&chunked.call(call), expected);
            legacy.send(&call.encode());
            let message = legacy.recv().unwrap();
            assert_eq!(message, expected.encode());
        }
    })
    .await;
    let counts = server.counts();
    assert_eq!(counts.calls_refused_by_guard, 2);
    assert_eq!(counts.handler_panics, 4);
    assert_eq!(counts.calls_handled, 18);
    assert_eq!(counts.connections_admitted, 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_calls_are_answered() {
    let server = TestServer::start();
    for (_, call, message) in calls() {
        let (chunked, legacy) = (server.raw(), server.raw());
        blocking(move || {
            let expected = chunked.call(&call);
            assert_eq!(expected.sequence, call.sequence);
            legacy.send(&message);
            assert_eq!(legacy.recv().unwrap(), expected.encode());
        })
        .await;
    }
    let c15 = hex("08 4d 10 01 18 01 22 05 00 01 02 03 04 a0 06 dc 0b aa 06 05 68 65 6c 6c 6f");
    let legacy = server.raw();
    blocking(move || {
        legacy.send(&c15);
        assert_eq!(legacy.recv().unwrap(), hex("08 01 1a 05 00 01 02 03 04"));
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_every_size_come_back() {
    let server = TestServer::start();
    let raw = server.raw();
    blocking(move || {
        for length in [0, 1, 127, 128, 131_030, 131_049, 262_090, 300_000, 5 << 20] {
            let sent = call(ECHO, 1, body(length));
            let (raw, sent) = (&raw, &sent);
            // An answer may begin only when the whole call was read, so nobody waits for the other here.
            let response = raw.call(sent);
            assert_eq!(response.body, sent.body, "{length}");
        }
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_calls_of_a_plain_caller_are_handled_one_by_one_in_order() {
    let server = TestServer::start();
    server.gate.open.add_permits(20);
    let raw = server.raw();
    blocking(move || {
        for sequence in 1..=20 {
            raw.send_call(&call(
                if sequence % 2 == 0 { WAIT } else { ECHO },
                sequence,
                "x",
            ));
        }
        for sequence in 1..=20 {
            assert_eq!(raw.response().unwrap().sequence, sequence);
        }
    })
    .await;
    assert_eq!(
        server
            .gate
            .waiting_max
            .load(std::sync::atomic::Ordering::SeqCst),
        1
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_come_only_to_those_who_asked() {
    let server = TestServer::start();
    let raw = server.raw();
    blocking(move || {
        let plain = raw.call(&call(FAIL, 1, ""));
        assert_eq!(plain, Response::new(1, Status::Failure));
        // Too late: only the first call of a connection offers.
        let offering = |sequence| Call {
            extensions: CallExtensions {
                features: Features::from_bits(u64::MAX),
                ..CallExtensions::default()
            },
            ..call(FAIL, sequence, "")
        };
        assert_eq!(raw.call(&offering(2)), Response::new(2, Status::Failure));
    })
    .await;
    let raw = server.raw();
    blocking(move || {
        let mut first = call(FAIL, 1, "");
        first.extensions.features = Features::from_bits(u64::MAX);
        let response = raw.call(&first);
        assert_eq!(response.extensions.features, Features::ALL);
        assert_eq!(response.extensions.window, 64);
        assert_eq!(response.extensions.text, "as asked");
        let second = raw.call(&call(PANIC, 2, ""));
        assert_eq!(second.extensions.features, Features::NONE);
        assert_eq!(second.extensions.reason, Some(Reason::Panicked));
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_calls_are_told_so_and_the_connection_goes_on() {
    let server = TestServer::start();
    let (chunked, legacy) = (server.raw(), server.raw());
    blocking(move || {
        let garbage = bytes::Bytes::from_static(&[0xff, 0xff, 0xff]);
        chunked.send(&packets(&garbage)[0]);
        assert_eq!(chunked.response().unwrap(), Response::unreadable());
        assert_eq!(chunked.call(&call(ECHO, 2, "x")).body, "x");
        legacy.send(&call(ECHO, 1, "x").encode());
        assert!(legacy.recv().is_some());
        legacy.send(&garbage);
        assert_eq!(legacy.recv().unwrap(), Response::unreadable().encode());
        legacy.send(&call(ECHO, 2, "x").encode());
        assert!(legacy.recv().is_some());
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_fit_is_failed_marshal() {
    let server = TestServer::with_limits(|limits| limits.message_bytes_max = 1 << 20);
    let (chunked, legacy) = (server.raw(), server.raw());
    blocking(move || {
        let large = call(LARGE, 1, "1048577");
        assert_eq!(
            chunked.call(&large),
            Response::new(1, Status::FailedMarshal)
        );
        assert_eq!(
            chunked.call(&call(LARGE, 2, "1048000")).body.len(),
            1_048_000
        );
        legacy.send(&call(LARGE, 3, "131072").encode());
        let expected = Response::new(3, Status::FailedMarshal).encode();
        assert_eq!(legacy.recv().unwrap(), expected);
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zero_length_packet_is_a_call_and_an_answer_not_the_end() {
    let server = TestServer::start();
    let raw = server.raw();
    blocking(move || {
        raw.send(&[]);
        assert_eq!(raw.recv(), Some(Vec::new()));
        raw.send(&[]);
        assert_eq!(raw.recv(), Some(Vec::new()));
    })
    .await;
    assert_eq!(server.counts().calls_handled, 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_left_is_served_and_its_handler_told() {
    let server = TestServer::start();
    let raw = server.raw();
    blocking(move || {
        for sequence in 1..=20 {
            raw.send_call(&call(ECHO, sequence, "x"));
        }
        raw.send_call(&call(UNTIL_GONE, 21, ""));
    })
    .await;
    server.gate.saw_gone.notified().await;
    assert_eq!(server.counts().calls_handled, 21);
    assert_eq!(server.stop().await.cut_off, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_caller_is_told_in_its_framing_and_no_handler_runs() {
    let server = TestServer::with(|server| server.policy(Policy::none()));
    let raws = [server.raw(), server.raw(), server.raw(), server.raw()];
    blocking(move || {
        let [chunked, legacy, ours, large] = raws;
        let expected = Response::new(7, Status::Failure);
        assert_eq!(chunked.call(&call(ECHO, 7, "x")), expected);
        assert!(chunked.recv().is_none());
        legacy.send(&call(ECHO, 7, "x").encode());
        assert_eq!(legacy.recv().unwrap(), expected.encode());
        assert!(legacy.recv().is_none());
        let mut first = call(ECHO, 7, "x");
        first.extensions.features = Features::ALL;
        let told = ours.call(&first);
        assert_eq!(told.extensions.reason, Some(Reason::Denied));
        assert_eq!(told.extensions.features, Features::TEXT);
        large.send(&packets(&call(ECHO, 7, body(500_000)).encode())[0]);
        assert_eq!(large.response(), Some(expected));
    })
    .await;
    let counts = server.counts();
    assert_eq!(counts.connections_refused_by_policy, 4);
    assert_eq!((counts.calls_handled, counts.connections_admitted), (0, 0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_answers_what_runs_and_refuses_what_comes() {
    let mut server = TestServer::start();
    let raw = server.raw();
    let idle = server.raw();
    raw.send_call(&call(WAIT, 1, "x"));
    server.gate.begun.notified().await;
    server.begin_drain();
    let idle_ended = blocking(move || idle.recv()).await;
    assert_eq!(idle_ended, None);
    raw.send_call(&call(ECHO, 2, "x"));
    server.gate.open.add_permits(1);
    let (first, second, end) = blocking(move || (raw.response(), raw.response(), raw.recv())).await;
    assert_eq!(first.unwrap().body, "x");
    assert_eq!(second.unwrap(), Response::new(2, Status::Failure));
    assert_eq!(end, None);
    let counters = std::sync::Arc::clone(&server.counters);
    assert_eq!(server.stop().await.cut_off, 0);
    let counts = counters.read();
    assert_eq!(
        (counts.calls_handled, counts.calls_refused_draining),
        (1, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_framing_can_be_demanded() {
    let legacy_only = TestServer::with(|server| server.accepts(Accepts::Only(Framing::Legacy)));
    let chunked_only = TestServer::with(|server| server.accepts(Accepts::Only(Framing::Chunked)));
    let (to_legacy, to_chunked) = (legacy_only.raw(), chunked_only.raw());
    blocking(move || {
        to_legacy.send(&packets(&call(ECHO, 1, "x").encode())[0]);
        assert_eq!(to_legacy.recv().unwrap(), Response::unreadable().encode());
        to_chunked.send(&call(ECHO, 1, "x").encode());
        assert_eq!(to_chunked.recv(), None);
    })
    .await;
    legacy_only.stop().await;
    chunked_only.stop().await;
}

#[tokio::test]
async fn slips_in_the_setup_are_errors() {
    let server = || Server::new(Modules::new());
    let run = |server: Server| async { server.run(std::future::pending()).await.unwrap_err() };
    let mut limits = Limits::default();
    limits.message_bytes_max = 134_216_738;
    let error = run(server().limits(limits.clone())).await;
    assert!(
        matches!(error, ServerError::Cap(_)) && error.hint().is_some(),
        "{error}"
    );
    let only = Accepts::Only(Framing::Chunked);
    let error = run(server().limits(limits).accepts(only)).await;
    assert!(matches!(error, ServerError::Front(_)), "{error}");
    let error = run(server().guard(1, 2, Policy::any())).await;
    assert_eq!(
        error.to_string(),
        "serve dRPC: the guard of module 1 method 2 guards nothing: it is not served here"
    );
    let mut modules = Modules::new();
    modules.register(Module::new(1, "one")).unwrap();
    let error = run(Server::new(modules).guard_module(2, Policy::any())).await;
    assert!(matches!(
        error,
        ServerError::GuardsNothing {
            module: 2,
            method: None
        }
    ));
}

#[test]
fn the_default_listener_takes_nothing_that_exists_and_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = TempSocket::private();
    let first = listener().bind(place.path()).unwrap();
    assert_eq!(first.kind(), SocketKind::Seqpacket);
    let mode = std::fs::metadata(place.path())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(listener().bind(place.path()).is_err());
    let second = listener()
        .existing(Existing::TakeOver)
        .bind(place.path())
        .unwrap();
    drop((first, second));
    std::os::unix::net::UnixListener::bind(place.path()).unwrap();
    // Stale, and of whatever type: only on request.
    assert!(listener().bind(place.path()).is_err());
    listener()
        .existing(Existing::ReplaceStale)
        .bind(place.path())
        .unwrap();
}
