//! The clients against our server: many in flight, deadlines, cancellation, descriptors, framings, reconnecting.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nigh_drpc::wire::{Features, Framing, Reason, Status};
use nigh_drpc::{
    Accepts, BlockingClient, CallError, Client, ClientOptions, Server, Speaks, listener,
};
use nigh_socket::Policy;

use crate::bytes_of::body;
use crate::harness::{
    DESCRIPTORS, ECHO, FAIL, GUARDED, Gate, MODULE, PANIC, TestServer, WAIT, blocking, modules,
};

const SHORT: Duration = Duration::from_millis(30);

/// A server as DAOS has them: without extensions.
fn plain() -> TestServer {
    TestServer::with(|server| server.features(Features::NONE))
}

async fn reached(server: &TestServer, count: usize) {
    while server.gate.waiting.load(Ordering::SeqCst) != count {
        server.gate.begun.notified().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_every_size_come_back() {
    let server = TestServer::start();
    let client = server.client().await;
    for length in [0, 1, 5_641, 131_049, 300_000, 5 << 20] {
        let sent = body(length);
        assert_eq!(client.call(MODULE, ECHO, sent.clone()).await.unwrap(), sent);
    }
    let address = server.address();
    blocking(move || {
        let mut client = BlockingClient::connect(address, ClientOptions::default()).unwrap();
        for length in [0, 1, 131_049, 5 << 20] {
            let sent = body(length);
            assert_eq!(client.call(MODULE, ECHO, sent.clone()).unwrap(), sent);
        }
        assert_eq!(
            client.server().unwrap().as_local().unwrap().pid().value(),
            Some(&std::process::id())
        );
    })
    .await;
    assert_eq!(server.counts().connections_admitted, 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_is_typed_and_explained() {
    let server = TestServer::with(|server| server.guard(MODULE, GUARDED, Policy::none()));
    let client = server.client().await;
    for (method, expected_status, expected_reason, expected_text) in [
        (FAIL, Status::Failure, None, "FAILURE: as asked"),
        (
            GUARDED,
            Status::Failure,
            Some(Reason::Denied),
            "FAILURE: not permitted",
        ),
        (
            PANIC,
            Status::Failure,
            Some(Reason::Panicked),
            "FAILURE: the handler panicked",
        ),
        (
            99,
            Status::UnknownMethod,
            None,
            "UNKNOWN_METHOD: module 77 has no method 99",
        ),
    ] {
        let error = client.call(MODULE, method, "").await.unwrap_err();
        assert_eq!(error.to_string(), expected_text);
        let CallError::Status { status, reason, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!((status, reason), (expected_status, expected_reason));
    }
    let error = client.call(9, 1, "").await.unwrap_err();
    assert!(error.hint().is_some());
    let huge = vec![0; (64 << 20) + 1];
    let error = client.call(MODULE, ECHO, huge).await.unwrap_err();
    assert!(matches!(error, CallError::TooLarge { .. }), "{error}");
    let plain = plain();
    let error = plain
        .client()
        .await
        .call(MODULE, FAIL, "")
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "FAILURE");
    plain.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_are_in_flight_and_matched_by_sequence() {
    let server = TestServer::start();
    let client = server.client().await;
    client.call(MODULE, ECHO, "").await.unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..200_u32 {
        let client = client.clone();
        calls.spawn(async move {
            let method = if number % 3 == 0 { ECHO } else { WAIT };
            let sent = number.to_string().repeat(number as usize * 40);
            let got = client.call(MODULE, method, sent.clone()).await.unwrap();
            assert_eq!(got, sent, "{number}");
        });
    }
    reached(&server, 64).await;
    server.gate.open.add_permits(200);
    while let Some(done) = calls.join_next().await {
        done.unwrap();
    }
    assert_eq!(server.gate.waiting_max.load(Ordering::SeqCst), 64);
    assert_eq!(server.counts().connections_admitted, 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_server_gets_one_call_at_a_time() {
    let server = plain();
    let client = server.client().await;
    server.gate.open.add_permits(50);
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..50_u32 {
        let client = client.clone();
        calls.spawn(async move {
            let sent = number.to_string();
            assert_eq!(client.call(MODULE, WAIT, sent.clone()).await.unwrap(), sent);
        });
    }
    while let Some(done) = calls.join_next().await {
        done.unwrap();
    }
    assert_eq!(server.gate.waiting_max.load(Ordering::SeqCst), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_drops_the_handler_and_keeps_the_connection() {
    let server = TestServer::start();
    let client = server.client().await;
    client.call(MODULE, ECHO, "").await.unwrap();
    let error = client.request(MODULE, WAIT).deadline(SHORT).send().await;
    assert!(matches!(error, Err(CallError::Deadline)), "{error:?}");
    reached(&server, 0).await;
    assert_eq!(client.call(MODULE, ECHO, "x").await.unwrap(), "x");
    assert_eq!(server.counts().connections_admitted, 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_call_is_cancelled_at_the_server() {
    let server = TestServer::start();
    let client = server.client().await;
    client.call(MODULE, ECHO, "").await.unwrap();
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.call(MODULE, WAIT, "").await }
    });
    reached(&server, 1).await;
    waiting.abort();
    reached(&server, 0).await;
    assert_eq!(client.call(MODULE, ECHO, "x").await.unwrap(), "x");
    assert_eq!(server.counts().connections_admitted, 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_of_a_plain_server_is_dropped_by_its_sequence() {
    let server = plain();
    let client = server.client().await;
    let late = client
        .request(MODULE, WAIT)
        .body("late")
        .deadline(SHORT)
        .send();
    assert!(matches!(late.await, Err(CallError::Deadline)));
    let next = tokio::spawn({
        let client = client.clone();
        async move { client.call(MODULE, ECHO, "next").await }
    });
    server.gate.open.add_permits(1);
    assert_eq!(next.await.unwrap().unwrap(), "next");
    assert_eq!(server.counts().connections_admitted, 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocking_client_keeps_its_connection_over_deadlines() {
    for server in [TestServer::start(), plain()] {
        let address = server.address();
        let gate = std::sync::Arc::clone(&server.gate);
        blocking(move || {
            let mut client = BlockingClient::connect(address, ClientOptions::default()).unwrap();
            client.call(MODULE, ECHO, "").unwrap();
            let late = client
                .request(MODULE, WAIT)
                .body("late")
                .deadline(SHORT)
                .send();
            assert!(matches!(late, Err(CallError::Deadline)), "{late:?}");
            // Without pipelining the next call waits for the late answer, within its own time.
            gate.open.add_permits(1);
            assert_eq!(client.call(MODULE, ECHO, "next").unwrap(), "next");
            let error = client.call(MODULE, FAIL, "").unwrap_err();
            assert!(matches!(error, CallError::Status { .. }));
            assert_eq!(client.call(MODULE, ECHO, "again").unwrap(), "again");
        })
        .await;
        assert_eq!(server.counts().connections_admitted, 1);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_travel_both_ways_by_agreement_only() {
    let server = TestServer::start();
    let client = server.client().await;
    let pipe = || std::io::pipe().unwrap();
    let (mut reader, writer) = pipe();
    // The very first call: the client asks first whether descriptors are understood.
    let request = client.request(MODULE, DESCRIPTORS).body("x");
    let reply = request
        .descriptors(vec![writer.into()])
        .send()
        .await
        .unwrap();
    let [back]: [OwnedFd; 1] = reply.descriptors.try_into().unwrap();
    File::from(back)
        .write_all(b"through the server and back")
        .unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through the server and back");
    let many = (0..254).map(|_| pipe().1.into()).collect();
    let error = client.request(MODULE, ECHO).descriptors(many).send().await;
    assert!(matches!(
        error,
        Err(CallError::TooManyDescriptors { count: 254 })
    ));
    let plain = plain();
    let request = plain.client().await;
    let error = request
        .request(MODULE, ECHO)
        .descriptors(vec![pipe().1.into()]);
    assert!(matches!(error.send().await, Err(CallError::NoDescriptors)));
    let address = server.address();
    blocking(move || {
        let mut client = BlockingClient::connect(address, ClientOptions::default()).unwrap();
        let (mut reader, writer) = pipe();
        let request = client
            .request(MODULE, DESCRIPTORS)
            .descriptors(vec![writer.into()]);
        drop(request.send().unwrap());
        // Every copy is closed, so this is the end.
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    })
    .await;
    plain.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_finds_out_what_the_server_speaks() {
    let only = |framing| TestServer::with(|server| server.accepts(Accepts::Only(framing)));
    let servers = [
        TestServer::start(),
        only(Framing::Chunked),
        only(Framing::Legacy),
    ];
    for server in servers {
        let options = ClientOptions::default().speaks(Speaks::Probe);
        let client = server.client_with(options.clone()).await;
        // Larger than any legacy server could take for something else.
        let large = body(100_000);
        assert_eq!(
            client.call(MODULE, ECHO, large.clone()).await.unwrap(),
            large
        );
        let address = server.address();
        blocking(move || {
            let mut client = BlockingClient::connect(address, options).unwrap();
            assert_eq!(client.call(MODULE, ECHO, large.clone()).unwrap(), large);
        })
        .await;
        assert_eq!(server.counts().calls_handled, 2);
        server.stop().await;
    }
    let legacy = only(Framing::Legacy);
    let error = legacy
        .client()
        .await
        .call(MODULE, ECHO, "x")
        .await
        .unwrap_err();
    assert!(error.hint().unwrap().contains("Legacy"), "{error:?}");
    let options = ClientOptions::default().speaks(Speaks::Only(Framing::Legacy));
    let client = legacy.client_with(options).await;
    assert_eq!(client.call(MODULE, ECHO, "x").await.unwrap(), "x");
    let error = client
        .call(MODULE, ECHO, vec![0; 131_072])
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::TooLarge { .. }), "{error}");
    legacy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_survive_a_restart_of_their_server() {
    let server = TestServer::start();
    let client = server.client().await;
    let address = server.address();
    client.call(MODULE, ECHO, "x").await.unwrap();
    let mut blocking_client = blocking(move || {
        let mut client = BlockingClient::connect(address, ClientOptions::default()).unwrap();
        client.call(MODULE, ECHO, "x").unwrap();
        client
    })
    .await;
    let again = server.restart().await;
    // Whether they have seen yet that the old connection ended or not: nothing was sent on it.
    assert_eq!(client.call(MODULE, ECHO, "y").await.unwrap(), "y");
    let again_blocking = blocking(move || blocking_client.call(MODULE, ECHO, "y").unwrap());
    assert_eq!(again_blocking.await, "y");
    assert_eq!(again.counts().connections_admitted, 2);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_and_clients_of_one_process_call_each_other() {
    let [first, second] = [0; 2].map(|_| nigh_testkit::TempSocket::private());
    let address =
        |place: &nigh_testkit::TempSocket| nigh_socket::Address::Path(place.path().to_owned());
    let bound = [&first, &second].map(|place| listener().bind(place.path()).unwrap());
    // Each hop calls the other server with one less, until nothing is left.
    let relay = |to: nigh_socket::Address| {
        // Settled before the first call: that one would wait for itself otherwise.
        let client = Client::lazy(to, ClientOptions::default().speaks(Speaks::Probe));
        nigh_drpc::Module::new(5, "relay").method(1, "hop", move |call: nigh_drpc::Request| {
            let client = client.clone();
            async move {
                let Some((_, rest)) = call.body.split_first() else {
                    return Ok(bytes::Bytes::from_static(b"arrived"));
                };
                let rest = bytes::Bytes::copy_from_slice(rest);
                client
                    .call(5, 1, rest)
                    .await
                    .map_err(|error| nigh_drpc::Failure::new(error.to_string()))
            }
        })
    };
    let [bound_first, bound_second] = bound;
    for (bound, to) in [(bound_first, &second), (bound_second, &first)] {
        let mut modules = modules(&std::sync::Arc::new(Gate::default()));
        modules.register(relay(address(to))).unwrap();
        tokio::spawn(Server::new(modules).policy(Policy::any()).serve(bound));
    }
    let client = Client::lazy(address(&first), ClientOptions::default());
    let calls = (0..8).map(|hops| {
        let client = client.clone();
        tokio::spawn(async move { client.call(5, 1, vec![0; hops]).await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().unwrap(), "arrived");
    }
}
