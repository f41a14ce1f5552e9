//! Callers that may not: told in their own wire, counted, logged, and no handler runs for them.

use nigh::{Policy, Server};
use nigh_testkit::service::proto::test_client::TestClient;
use nigh_testkit::{Child, TempSocket, child_variable};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;

use crate::common::{Served, bind, payload};
use crate::frames;

#[tokio::test]
async fn a_refused_grpc_caller_gets_permission_denied() {
    let served = Served::with(|server| server.policy(Policy::none()));
    for status in [
        served.client().await.echo(payload("")).await.unwrap_err(),
        served
            .tonic_client()
            .await
            .echo(payload(""))
            .await
            .unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert!(
            !status.message().contains("uid"),
            "no facts for the refused: {status}"
        );
    }
    assert_eq!(served.service.runs().started, 0);
    let counts = served.counts();
    assert_eq!(
        (
            counts.connections_refused_by_policy,
            counts.connections_admitted
        ),
        (2, 0)
    );
    served.stop().await;
}

#[tokio::test]
async fn a_refused_http_caller_gets_403() {
    let served = Served::with(|server| server.policy(Policy::none()));
    let mut raw = tokio::net::UnixStream::connect(served.socket.path())
        .await
        .unwrap();
    raw.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    raw.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    served.stop().await;
}

#[tokio::test]
async fn refused_callers_that_say_nothing_are_cut_off_and_cost_no_one_else_anything() {
    let served = Served::with(|server| {
        let mut limits = nigh::Limits::default();
        // A quarter of them for each caller.
        limits.connections.refusals_max = 8;
        limits.connections.refusal_time = std::time::Duration::from_millis(50);
        server.policy(Policy::none()).limits(limits)
    });
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(
            tokio::net::UnixStream::connect(served.socket.path())
                .await
                .unwrap(),
        );
    }
    for mut caller in silent {
        // Closed without a word: six at once, two after their time.
        assert_eq!(caller.read(&mut [0; 1]).await.unwrap(), 0);
    }
    assert_eq!(served.counts().refusals_untold, 6);
    served.stop().await;
}

#[tokio::test]
async fn a_refused_caller_that_floods_is_cut_off() {
    let served = Served::with(|server| {
        let mut limits = nigh::Limits::default();
        // Not the time is to end it.
        limits.connections.refusal_time = std::time::Duration::from_secs(600);
        server.policy(Policy::none()).limits(limits)
    });
    let mut raw = frames::connect(&served).await;
    // It makes no call that could be refused, and sends what must be read and ignored.
    let one = frames::frame(frames::UNKNOWN, 0, 0, &[0; 16_384]);
    let flood = one.repeat(512);
    // More than the socket's buffer and the allowance together: it cannot all be taken.
    let sent = raw.write_all(&flood).await;
    assert!(sent.is_err(), "the server read it all");
    served.stop().await;
}

#[tokio::test]
async fn a_guard_closes_one_method_and_leaves_the_others() {
    let served = Served::with(|server| {
        let server = server.guard("/nigh.test.v1.Test/Fail", Policy::none());
        server.guard("/nigh.test.v1.Test/Echo", Policy::same_user())
    });
    let mut client = served.client().await;
    let status = client
        .fail(nigh_testkit::service::proto::FailRequest::default())
        .await;
    assert_eq!(status.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(served.service.runs().started, 0);
    client.echo(payload("")).await.unwrap();
    let counts = served.counts();
    assert_eq!(
        (counts.calls_refused_by_guard, counts.calls_handled),
        (1, 1)
    );
    served.stop().await;
}

#[tokio::test]
async fn a_guard_of_a_whole_service_closes_all_of_it() {
    let served = Served::with(|server| server.guard("/nigh.test.v1.Test/*", Policy::none()));
    let status = served.client().await.echo(payload("")).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    served.stop().await;
}

/// What plain HTTP answers to a GET of `path`: the status line.
async fn http_status(served: &Served, path: &str) -> String {
    let mut raw = tokio::net::UnixStream::connect(served.socket.path())
        .await
        .unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    raw.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    raw.read_to_string(&mut answer).await.unwrap();
    answer.lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn a_guard_of_a_prefix_closes_every_path_below_it() {
    let routes = axum::Router::new()
        .route("/admin/{*rest}", axum::routing::get(|| async { "secret" }))
        .route("/open/{*rest}", axum::routing::get(|| async { "open" }));
    let served = Served::with(|server| {
        let server = server.guard("/admin/*", Policy::none());
        server
            .guard("/nigh.test.v1.Test/*", Policy::none())
            .fallback(routes)
    });
    for path in [
        "/admin/users",
        "/admin/users/1",
        "/admin/users/1/",
        "/admin//1",
        "/nigh.test.v1.Test/Echo/deeper",
    ] {
        let status = http_status(&served, path).await;
        assert_eq!(status, "HTTP/1.1 403 Forbidden", "{path}");
    }
    assert_eq!(http_status(&served, "/open/a/b").await, "HTTP/1.1 200 OK");
    assert_eq!(served.counts().calls_refused_by_guard, 5);
    served.stop().await;
}

const STRANGER: u32 = 54_321;
const GROUP: u32 = 54_400;

/// Serves to members of a group, and lets a stranger with and without that group call.
async fn stranger_calls(groups: &[u32]) -> (nigh::Counts, u64, String) {
    let socket = TempSocket::shared();
    let listener = bind(&socket, 0o666);
    let served = Served::on(socket, listener, |server: Server| {
        server.policy(Policy::gid(GROUP))
    });
    let child = Child::test("refusal::stranger").user(STRANGER, STRANGER, groups);
    let outcome = child
        .env("ADDRESS", served.socket.address())
        .run_async()
        .await;
    outcome.assert_success();
    let result = (
        served.counts(),
        served.service.runs().started,
        outcome.text(),
    );
    served.stop().await;
    result
}

#[tokio::test]
#[ignore = "runs as a child of a_caller_under_another_uid"]
async fn stranger() {
    let channel = nigh::Channel::connect(child_variable("ADDRESS").as_str())
        .await
        .unwrap();
    let answer = TestClient::new(channel).echo(payload("hello")).await;
    println!(
        "GOT {}",
        answer.map_or_else(|status| status.code(), |_| Code::Ok) as i32
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_under_another_uid_is_admitted_by_its_group() {
    nigh_testkit::require_root!();
    let (counts, runs, said) = stranger_calls(&[GROUP]).await;
    assert!(said.contains("GOT 0"), "{said}");
    assert_eq!((counts.connections_admitted, runs), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_under_another_uid_is_refused_without_the_group() {
    nigh_testkit::require_root!();
    let log = crate::log::capture();
    let (counts, runs, said) = stranger_calls(&[]).await;
    assert!(said.contains("GOT 7"), "{said}");
    assert_eq!((counts.connections_refused_by_policy, runs), (1, 0));
    let lines = log.lines_with(&format!("uid {STRANGER}"));
    assert_eq!(lines.len(), 1, "one line for one refusal: {lines:?}");
    assert!(
        lines[0].contains(&GROUP.to_string()),
        "it says what was demanded: {}",
        lines[0]
    );
}
