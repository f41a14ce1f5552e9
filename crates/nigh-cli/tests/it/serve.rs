//! `nigh serve` as a program: its addresses, its socket files, its guards and its end; `nigh call` on nigh's own channel.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use nigh_testkit::TempSocket;
use rustix::process::Signal;
use serde_json::Value;

use crate::program::{Ran, Serving, nigh};

async fn call(address: &str, method: &str, input: &str) -> Ran {
    nigh(&[
        "call",
        address,
        &format!("nigh.diag.v1.Diag/{method}"),
        input,
    ])
    .await
}

/// How often a handler has been entered.
async fn entered(address: &str, method: &str) -> u64 {
    let ran = call(address, "Counters", "{}").await;
    let counters: Value = serde_json::from_str(&ran.stdout).unwrap();
    let count = counters["handlersByMethod"][method].as_str();
    count.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn one_server_on_every_kind_of_address() {
    let socket = TempSocket::private();
    let (path, unique) = (
        socket.address(),
        format!("unix-abstract:nigh-{}", std::process::id()),
    );
    let asked = [&*path, &*unique, "autobind:", "tcp:127.0.0.1:0"];
    let serving = Serving::start(&asked, &["--allow", "any"]);
    assert_eq!(serving.addresses[..2], [path.clone(), unique]);
    for address in &serving.addresses {
        let ran = call(address, "Echo", r#"{"text": "hello"}"#).await;
        assert_eq!(
            ran.stdout, "{\"text\":\"hello\"}\n",
            "{address}: {}",
            ran.stderr
        );
        let ran = nigh(&["call", address, "grpc.health.v1.Health/Check"]).await;
        assert_eq!(
            ran.stdout, "{\"status\":\"SERVING\"}\n",
            "{address}: {}",
            ran.stderr
        );
    }
    assert_eq!(entered(&path, "Echo").await, 4);
}

#[tokio::test]
async fn a_signal_drains_and_removes_the_socket() {
    let socket = TempSocket::private();
    let address = socket.address();
    let serving = Serving::start(&[&address], &[]);
    let call_address = address.clone();
    let running =
        tokio::spawn(async move { call(&call_address, "Sleep", r#"{"duration": "0.5s"}"#).await });
    while entered(&address, "Sleep").await == 0 {}
    serving.signal(Signal::TERM);
    let ran = running.await.unwrap();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let ended = serving.ended().await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(!socket.path().exists());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let socket = TempSocket::private();
    let address = socket.address();
    let serving = Serving::start(&[&address], &["--drain", "1h"]);
    let call_address = address.clone();
    let running =
        tokio::spawn(async move { call(&call_address, "Sleep", r#"{"duration": "3600s"}"#).await });
    while entered(&address, "Sleep").await == 0 {}
    serving.signal(Signal::TERM);
    // The name goes when the drain begins: signals of one kind that are pending together count as one.
    while socket.path().exists() {
        tokio::task::yield_now().await;
    }
    serving.signal(Signal::INT);
    let ended = serving.ended().await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("second signal"), "{}", ended.stderr);
    let ran = running.await.unwrap();
    assert_eq!(ran.code, 16 + 14, "{}", ran.stderr);
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_living_one_only_when_asked() {
    let socket = TempSocket::private();
    let address = socket.address();
    drop(UnixListener::bind(socket.path()).unwrap());
    let first = Serving::start(&[&address], &["--mode", "0640"]);
    let mode = socket.path().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);

    let ran = nigh(&["serve", &address]).await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("a living server has it"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("hint: ") && ran.stderr.contains("--replace"),
        "{}",
        ran.stderr
    );

    let second = Serving::start(&[&address], &["--replace"]);
    first.signal(Signal::TERM);
    assert_eq!(first.ended().await.code, 0);
    let ran = nigh(&["who", &address, "--json"]).await;
    let who: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(who["server"]["pid"]["id"], second.pid());
}

#[tokio::test]
async fn what_is_not_a_socket_stays() {
    let socket = TempSocket::private();
    std::fs::write(socket.path(), "precious").unwrap();
    let ran = nigh(&["serve", &socket.address(), "--replace"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("regular file"), "{}", ran.stderr);
    assert_eq!(std::fs::read_to_string(socket.path()).unwrap(), "precious");
}

#[tokio::test]
async fn who_is_not_allowed_gets_no_handler() {
    let socket = TempSocket::private();
    let address = socket.address();
    let serving = Serving::start(&[&address], &["--allow", "none"]);
    let ran = call(&address, "Echo", "{}").await;
    assert_eq!(ran.code, 16 + 7, "{}", ran.stderr);
    assert!(ran.stderr.contains("PERMISSION_DENIED"), "{}", ran.stderr);
    let ran = nigh(&["who", &address]).await;
    assert!(
        ran.stdout.contains("the server refuses you"),
        "{}",
        ran.stdout
    );
    serving.signal(Signal::TERM);
    let ended = serving.ended().await;
    assert!(ended.stderr.contains("WARN"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_guard_closes_one_method() {
    let socket = TempSocket::private();
    let address = socket.address();
    let _serving = Serving::start(&[&address], &["--guard", "/nigh.diag.v1.Diag/Sleep=none"]);
    assert_eq!(call(&address, "Sleep", "{}").await.code, 16 + 7);
    assert_eq!(call(&address, "Echo", "{}").await.code, 0);
    assert_eq!(entered(&address, "Sleep").await, 0);
}

#[tokio::test]
async fn only_streams_are_served() {
    let socket = TempSocket::private();
    let ran = nigh(&["serve", &format!("seqpacket:{}", socket.address())]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("seqpacket"), "{}", ran.stderr);
    assert!(socket.names().is_empty());
}

#[tokio::test]
async fn a_missing_server_is_waited_for_only_when_asked() {
    let socket = TempSocket::private();
    let address = socket.address();
    let ran = call(&address, "Echo", "{}").await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let early = address.clone();
    let waiting = tokio::spawn(async move {
        nigh(&[
            "call",
            &early,
            "nigh.diag.v1.Diag/Echo",
            "--wait",
            "--timeout",
            "20s",
        ])
        .await
    });
    let _serving = Serving::start(&[&address], &[]);
    let ran = waiting.await.unwrap();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}
