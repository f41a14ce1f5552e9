//! Plain HTTP/1.1 beside gRPC on one socket, with curl where it is installed.

use std::process::Stdio;

use crate::common::{Served, any, payload};

fn router() -> axum::Router {
    axum::Router::new().route("/hello", axum::routing::get(|| async { "hello\n" }))
}

async fn curl(served: &Served, path: &str) -> Option<String> {
    let mut command = tokio::process::Command::new("curl");
    command.args([
        "--silent",
        "--show-error",
        "--max-time",
        "10",
        "--write-out",
        "%{http_code}",
    ]);
    command
        .arg("--unix-socket")
        .arg(served.socket.path())
        .arg(format!("http://localhost{path}"));
    let output = command.stdin(Stdio::null()).output().await.ok()?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn an_axum_route_answers_curl_on_the_grpc_socket() {
    let served = Served::with(|server| server.fallback(router()));
    let Some(answer) = curl(&served, "/hello").await else {
        return nigh_testkit::skip("needs curl");
    };
    assert_eq!(answer, "hello\n200");
    assert_eq!(curl(&served, "/nowhere").await.unwrap(), "404");
    served.client().await.echo(payload("")).await.unwrap();
    served.stop().await;
}

#[tokio::test]
async fn without_a_route_plain_http_is_told_that_nothing_is_here() {
    let served = Served::with(|server| server.policy(any()));
    let Some(answer) = curl(&served, "/hello").await else {
        return nigh_testkit::skip("needs curl");
    };
    assert_eq!(answer, "nothing here\n404");
    served.stop().await;
}

#[tokio::test]
async fn bytes_of_no_known_wire_get_a_readable_answer() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let served = Served::plain();
    let mut raw = tokio::net::UnixStream::connect(served.socket.path())
        .await
        .unwrap();
    raw.write_all(b"\x16\x03\x01 this is no wire of ours")
        .await
        .unwrap();
    // The server closes with bytes of ours unread, so what follows the answer may be a reset.
    let mut answer = [0; 1024];
    let length = raw.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("gRPC"),
        "{answer}"
    );
    served.stop().await;
}
