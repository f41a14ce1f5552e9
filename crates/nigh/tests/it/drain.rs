//! Stopping: running calls finish, new ones are told to try again, the name is gone.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;

use crate::common::{Served, payload};
use crate::frames;

#[tokio::test]
async fn drain_finishes_running_calls_and_refuses_new_ones_as_retryable() {
    let mut served = Served::plain();
    let client = served.impatient_client().await;
    let mut running = client.clone();
    let held = tokio::spawn(async move { running.hold(payload("kept")).await });
    served.service.started(1).await;
    served.begin_stop();
    // The name goes first: from then on the drain has certainly begun.
    while served.socket.path().exists() {
        tokio::task::yield_now().await;
    }
    let status = client.clone().echo(payload("late")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(
        served.service.runs().started,
        1,
        "the late call reached no handler"
    );
    served.service.release();
    assert_eq!(held.await.unwrap().unwrap().into_inner().data, b"kept");
    assert_eq!(served.stopped().await.cut_off, 0);
}

#[tokio::test]
async fn a_call_that_comes_late_on_an_old_connection_is_refused_as_retryable() {
    let mut served = Served::plain();
    // A caller that answers no frame: the server cannot know that it has seen the GOAWAY.
    let mut raw = frames::connect(&served).await;
    let hold = frames::call(1, "/nigh.test.v1.Test/Hold");
    raw.write_all(&hold).await.unwrap();
    served.service.started(1).await;
    served.begin_stop();
    while served.socket.path().exists() {
        tokio::task::yield_now().await;
    }
    let late = frames::call(3, "/nigh.test.v1.Test/Echo");
    raw.write_all(&late).await.unwrap();
    // REFUSED_STREAM (RFC 9113 8.7): it may be sent again.
    let code = frames::read_until(&mut raw, frames::RST_STREAM, 3).await;
    assert_eq!(code, [0, 0, 0, 7]);
    assert_eq!(served.counts().calls_refused_draining, 1);
    assert_eq!(served.service.runs().started, 1);
    drop(raw);
    assert_eq!(served.stopped().await.cut_off, 0);
}

#[tokio::test]
async fn a_caller_in_the_backlog_is_told_to_try_again() {
    let mut served = Served::plain();
    let path = served.socket.path().to_owned();
    // The server is up: it has answered somebody.
    served.client().await.echo(payload("")).await.unwrap();
    served.begin_stop();
    // Nothing is awaited in between: the server's tasks hear of the shutdown first.
    let late = std::os::unix::net::UnixStream::connect(path).unwrap();
    late.set_nonblocking(true).unwrap();
    let mut late = tokio::net::UnixStream::from_std(late).unwrap();
    late.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    late.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(served.counts().connections_refused_draining, 1);
    served.stopped().await;
}

#[tokio::test]
async fn what_outlasts_the_drain_is_cut_off_and_counted() {
    let mut served = Served::with(|server| {
        let mut limits = nigh::Limits::default();
        limits.connections.drain_time = Duration::from_millis(20);
        server.limits(limits)
    });
    let mut client = served.client().await;
    let held = tokio::spawn(async move { client.hold(payload("")).await });
    served.service.started(1).await;
    let service = served.service.clone();
    served.begin_stop();
    assert_eq!(served.stopped().await.cut_off, 1);
    service.ended(1).await;
    assert_eq!(held.await.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn health_says_not_serving_before_the_drain_and_lets_its_watchers_go() {
    let mut served = Served::with(|server| {
        let mut limits = nigh::Limits::default();
        limits.connections.drain_time = Duration::from_secs(600);
        server.health().limits(limits)
    });
    let channel = nigh::Channel::connect(served.address()).await.unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let request = tonic_health::pb::HealthCheckRequest {
        service: String::new(),
    };
    let mut watch = health.watch(request).await.unwrap().into_inner();
    use tonic_health::pb::health_check_response::ServingStatus;
    assert_eq!(
        watch.message().await.unwrap().unwrap().status(),
        ServingStatus::Serving
    );
    served.begin_stop();
    assert_eq!(
        watch.message().await.unwrap().unwrap().status(),
        ServingStatus::NotServing
    );
    // Still held: it must not keep the drain waiting.
    let status = watch.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(served.stopped().await.cut_off, 0);
    drop(watch);
}
