//! One call at a time over the socket, by wire, and the answers of all flags.

use std::time::{Duration, Instant};

use nigh::{Channel, Wire};
use nigh_flagd::service::proto::evaluation::v1::ResolveAllRequest;
use nigh_flagd::service::proto::evaluation::v1::service_client::ServiceClient as V1;
use nigh_flagd::service::proto::evaluation::v2::ResolveStringRequest;
use nigh_flagd::service::proto::evaluation::v2::service_client::ServiceClient;
use nigh_flagd::value::to_struct;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tonic::transport::Endpoint;

use super::daemon::Daemon;
use super::{row, spread};
use crate::Failure;

/// Calls that are counted, after as many that are not.
const CALLS: usize = 2_000;

/// Wait before looking again whether a daemon's socket is there.
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// Bytes of one answer, at most.
const ANSWER_BYTES_MAX: usize = 1 << 30;

fn request() -> ResolveStringRequest {
    let attributes = json!({"targetingKey": "user-1", "email": "a@example.com"});
    ResolveStringRequest {
        flag_key: "flag-7".into(),
        context: attributes.as_object().map(to_struct),
    }
}

fn address(daemon: &Daemon) -> nigh::Address {
    nigh::Address::Path(daemon.socket())
}

/// The first answer of a daemon that may not listen yet.
pub(super) async fn first(daemon: &Daemon) -> Result<(), Failure> {
    // The channel would look again after a wait that doubles, which is not the daemon's time.
    while !daemon.socket().exists() {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let channel = Channel::connect(address(daemon)).await?;
    let request = ResolveStringRequest {
        flag_key: "changing".into(),
        context: None,
    };
    // Its value is a number: that it says so is an answer.
    match ServiceClient::new(channel).resolve_string(request).await {
        Err(status) if status.code() == tonic::Code::InvalidArgument => Ok(()),
        other => Err(format!("the first answer is {other:?}").into()),
    }
}

macro_rules! timed {
    ($call:expr) => {{
        let mut times = Vec::with_capacity(CALLS);
        for number in 0..CALLS * 2 {
            let started = Instant::now();
            $call;
            if number >= CALLS {
                times.push(started.elapsed());
            }
        }
        times
    }};
}

/// One evaluation per call, one call at a time.
pub(super) async fn by_wire(daemon: &Daemon) -> Result<(), Failure> {
    first(daemon).await?;
    for (name, wire) in [
        ("the nigh wire", Wire::Nigh),
        ("gRPC over HTTP/2, nigh's channel", Wire::Http2),
    ] {
        let channel = Channel::options()
            .wire(wire)
            .connect(address(daemon))
            .await?;
        let mut client = ServiceClient::new(channel);
        let times = timed!(client.resolve_string(request()).await?);
        row(&format!("one call, {name}"), &spread(times));
    }
    let endpoint = Endpoint::from_shared(format!("unix:{}", daemon.socket().display()))?;
    let mut client = ServiceClient::new(endpoint.connect().await?);
    let times = timed!(client.resolve_string(request()).await?);
    row(
        "one call, gRPC over HTTP/2, tonic's channel",
        &spread(times),
    );
    let context = json!({"targetingKey": "user-1", "email": "a@example.com"});
    let connect = json!({"flagKey": "flag-7", "context": context}).to_string();
    let ofrep = json!({ "context": context }).to_string();
    for (name, path, body) in [
        (
            "Connect, JSON over HTTP/1.1",
            "/flagd.evaluation.v2.Service/ResolveString",
            connect,
        ),
        (
            "OFREP over HTTP/1.1",
            "/ofrep/v1/evaluate/flags/flag-7",
            ofrep,
        ),
    ] {
        let mut stream = UnixStream::connect(daemon.socket()).await?;
        let length = body.len();
        let text = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let times = timed!(exchange(&mut stream, text.as_bytes()).await?);
        row(&format!("one call, {name}"), &spread(times));
    }
    Ok(())
}

/// One request and its whole answer.
async fn exchange(stream: &mut UnixStream, request: &[u8]) -> Result<(), Failure> {
    stream.write_all(request).await?;
    let mut answer = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err("the daemon closed the connection".into());
        }
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = std::str::from_utf8(&answer[..end])?.to_ascii_lowercase();
        if !head.starts_with("http/1.1 200") {
            return Err(head.into());
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let is_whole = match length {
            Some(length) => answer.len() >= end + 4 + length.parse::<usize>()?,
            // In chunks: the last one is empty.
            None => answer.ends_with(b"\r\n0\r\n\r\n"),
        };
        if is_whole {
            return Ok(());
        }
    }
}

/// Every flag in one answer.
pub(super) async fn all(daemon: &Daemon, expected: usize) -> Result<(), Failure> {
    let channel = Channel::connect(address(daemon)).await?;
    let mut client = V1::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..15 {
        let started = Instant::now();
        let answer = client.resolve_all(ResolveAllRequest::default()).await?;
        let count = answer.into_inner().flags.len();
        times.push(started.elapsed());
        if count != expected {
            return Err(format!("{count} flags, not {expected}").into());
        }
    }
    row(
        &format!("ResolveAll, {expected} flags, decoded"),
        &spread(times),
    );
    Ok(())
}
