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

/// Posts an empty gRPC message over HTTP/1.1 and gives the answer's status line and its body.
async fn post(served: &Served, content_type: &str) -> (String, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut raw = tokio::net::UnixStream::connect(served.socket.path())
        .await
        .unwrap();
    let head = format!(
        "POST /nigh.test.v1.Test/Echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: {content_type}\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0"
    );
    raw.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    raw.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[tokio::test]
async fn a_grpc_service_runs_for_grpc_over_http2_only() {
    let served = Served::with(|server| server.fallback(router()));
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/grpc-web+proto",
        "application/grpcx",
    ] {
        let (status, body) = post(&served, content_type).await;
        assert_eq!(status, "HTTP/1.1 415 Unsupported Media Type");
        assert!(body.contains("application/grpc"), "{body}");
    }
    let (status, body) = post(&served, "application/grpc+proto").await;
    assert_eq!(status, "HTTP/1.1 505 HTTP Version Not Supported");
    assert!(body.contains("HTTP/2"), "{body}");
    assert_eq!(served.service.runs().started, 0);
    assert_eq!(served.counts().calls_handled, 0);
    // The same over HTTP/2, where only the content type is wrong.
    let channel = nigh::Channel::connect(served.address()).await.unwrap();
    let request = http::Request::post("/nigh.test.v1.Test/Echo")
        .header("content-type", "application/json")
        .body(tonic::body::Body::empty())
        .unwrap();
    let answer = tower::ServiceExt::oneshot(channel, request).await.unwrap();
    assert_eq!(answer.status(), http::StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(served.service.runs().started, 0);
    served.stop().await;
}
