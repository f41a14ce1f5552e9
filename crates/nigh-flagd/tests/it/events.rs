//! Event streams: what changed, when, and how a stream ends.

use std::time::{Duration, Instant};

use nigh::Channel;
use nigh_flagd::eval::Fractional;
use nigh_flagd::service::Options;
use nigh_flagd::service::proto::evaluation::v1::service_client::ServiceClient;
use nigh_flagd::service::proto::evaluation::v1::{EventStreamRequest, EventStreamResponse};
use nigh_flagd::service::proto::sync::v1::SyncFlagsRequest;
use nigh_flagd::service::proto::sync::v1::flag_sync_service_client::FlagSyncServiceClient;
use nigh_flagd::value::to_members;
use serde_json::{Value, json};
use tonic::{Code, Request, Status, Streaming};

use crate::common::{Daemon, Flags, flag, source};

const LIMIT: Duration = Duration::from_secs(20);

async fn stream(channel: Channel, selector: &str) -> Streaming<EventStreamResponse> {
    let mut request = Request::new(EventStreamRequest {});
    if !selector.is_empty() {
        let selector = selector.parse().unwrap();
        request.metadata_mut().insert("flagd-selector", selector);
    }
    let mut client = ServiceClient::new(channel);
    let mut stream = client.event_stream(request).await.unwrap().into_inner();
    let first = next(&mut stream).await.unwrap();
    assert_eq!(first, json!({"type": "provider_ready", "data": null}));
    stream
}

async fn next(stream: &mut Streaming<EventStreamResponse>) -> Result<Value, Status> {
    let event = tokio::time::timeout(LIMIT, stream.message())
        .await
        .unwrap()?;
    let event = event.expect("a stream never ends with OK");
    let data = event.data.as_ref().map(to_members);
    Ok(json!({"type": event.r#type, "data": data}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_is_told_to_everybody_it_concerns() {
    let flags = Flags::new(&json!({"a": flag(1), "b": flag(1), "c": flag(1)}));
    let daemon = Daemon::of(&flags.path).await;
    let channel = daemon.channel().await;
    let mut everything = stream(channel.clone(), "").await;
    let mut set = stream(channel, "flagSetId=s").await;
    let started = Instant::now();
    flags.replace(&json!({"a": flag(1), "b": flag(2), "d": flag(1)}));
    let expected = json!({"type": "configuration_change", "data": {"flags": {
        "b": {"type": "update"}, "c": {"type": "delete"}, "d": {"type": "write"},
    }}});
    assert_eq!(next(&mut everything).await.unwrap(), expected);
    println!("rename to configuration_change: {:?}", started.elapsed());
    let mut in_set = flag(1);
    in_set["metadata"] = json!({"flagSetId": "s"});
    flags.replace(&json!({"a": flag(1), "b": flag(2), "d": flag(1), "e": in_set}));
    let expected =
        json!({"type": "configuration_change", "data": {"flags": {"e": {"type": "write"}}}});
    assert_eq!(
        next(&mut set).await.unwrap(),
        expected,
        "the first change was none of its"
    );
    assert_eq!(next(&mut everything).await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_streams_hear_of_a_rename() {
    let flags = Flags::new(&json!({"a": flag(1)}));
    let daemon = Daemon::of(&flags.path).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let channel = daemon.channel().await;
        for _ in 0..200 {
            streams.push(stream(channel.clone(), "").await);
        }
    }
    let started = Instant::now();
    flags.replace(&json!({"a": flag(2)}));
    for stream in &mut streams {
        assert_eq!(next(stream).await.unwrap()["type"], "configuration_change");
    }
    println!("rename to 1000 streams: {:?}", started.elapsed());
    assert!(
        daemon
            .flagd
            .metrics()
            .contains("feature_flag_flagd_streams 1000")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_ends_streams_with_unavailable() {
    let flags = Flags::new(&json!({"a": flag(1)}));
    let mut daemon = Daemon::of(&flags.path).await;
    let channel = daemon.channel().await;
    let mut events = stream(channel.clone(), "").await;
    let mut client = FlagSyncServiceClient::new(channel);
    let request = SyncFlagsRequest::default();
    let mut sync = client.sync_flags(request).await.unwrap().into_inner();
    let first = sync.message().await.unwrap().unwrap();
    assert!(
        first.flag_configuration.contains(r#""a":{"#),
        "{}",
        first.flag_configuration
    );
    daemon.begin_to_stop();
    let shutdown = json!({"type": "provider_shutdown", "data": null});
    assert_eq!(next(&mut events).await.unwrap(), shutdown);
    assert_eq!(
        next(&mut events).await.unwrap_err().code(),
        Code::Unavailable
    );
    assert_eq!(sync.message().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(daemon.stopped().await.cut_off, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_streams_say_that_they_live_and_old_ones_end() {
    let flags = Flags::new(&json!({"a": flag(1)}));
    let mut options = Options::default();
    options.keep_alive = Duration::from_millis(20);
    options.stream_deadline = Some(Duration::from_secs(2));
    let daemon = Daemon::start(&[source(&flags.path)], Fractional::V2, options).await;
    let mut events = stream(daemon.channel().await, "").await;
    assert_eq!(next(&mut events).await.unwrap()["type"], "keep_alive");
    let end = loop {
        match next(&mut events).await {
            Ok(event) => assert_eq!(event["type"], "keep_alive"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::DeadlineExceeded);
    assert_eq!(end.message(), "stream closed due to server-side timeout");
}
