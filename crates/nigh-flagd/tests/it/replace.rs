//! A daemon takes the place of another while callers call, over either wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nigh::{Channel, Wire};
use nigh_flagd::service::proto::evaluation::v2::service_client::ServiceClient;
use nigh_flagd::service::proto::evaluation::v2::{EventStreamRequest, ResolveIntRequest};
use nigh_flagd::service::proto::sync::v1::SyncFlagsRequest;
use nigh_flagd::service::proto::sync::v1::flag_sync_service_client::FlagSyncServiceClient;
use nigh_testkit::TempSocket;
use serde_json::json;
use tokio::sync::watch;
use tonic::Code;

use crate::common::{Flags, Running, flag};

const LIMIT: Duration = Duration::from_secs(60);

/// Calls before, between and after.
const CALLS: u64 = 50;

fn question() -> ResolveIntRequest {
    ResolveIntRequest {
        flag_key: "a".into(),
        context: None,
    }
}

async fn connect(socket: &TempSocket, wire: Wire) -> Channel {
    let options = Channel::options().wire(wire);
    options.connect(socket.address().as_str()).await.unwrap()
}

/// Waits for as many more answers.
async fn more(answered: &mut watch::Receiver<u64>) {
    let goal = *answered.borrow() + CALLS;
    let reached = tokio::time::timeout(LIMIT, answered.wait_for(|count| *count >= goal));
    reached.await.unwrap().unwrap();
}

async fn replaced(wire: Wire) {
    let flags = Flags::new(&json!({"a": flag(1)}));
    let source = format!("file:{}", flags.path.display());
    let socket = TempSocket::private();
    let first = Running::serving(socket.path(), &["-f", &source]);
    let (counts, mut answered) = watch::channel(0_u64);
    let (counts, stop) = (Arc::new(counts), Arc::new(AtomicBool::new(false)));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut client = ServiceClient::new(connect(&socket, wire).await);
        let (counts, stop) = (Arc::clone(&counts), Arc::clone(&stop));
        callers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let answer = client.resolve_int(question()).await;
                assert_eq!(answer.unwrap().into_inner().value, Some(1));
                counts.send_modify(|count| *count += 1);
            }
        });
    }
    more(&mut answered).await;
    let _second = Running::serving(socket.path(), &["-f", &source, "--replace"]);
    more(&mut answered).await;
    assert_eq!(first.terminate(), Some(0));
    more(&mut answered).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        assert!(ended.is_ok(), "{wire:?}: a call was lost: {ended:?}");
    }
    assert!(
        socket.path().exists(),
        "the first took only its own socket away"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_is_replaced_without_a_lost_call_over_the_nigh_wire() {
    replaced(Wire::Nigh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_is_replaced_without_a_lost_call_over_http2() {
    replaced(Wire::Http2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nigh_wire_carries_all_of_flagds_calls() {
    let flags = Flags::new(&json!({"a": flag(1)}));
    let source = format!("file:{}", flags.path.display());
    let socket = TempSocket::private();
    let _daemon = Running::serving(socket.path(), &["-f", &source]);
    let channel = connect(&socket, Wire::Nigh).await;
    let mut client = ServiceClient::new(channel.clone());
    let answer = client.resolve_int(question()).await.unwrap().into_inner();
    assert_eq!((answer.value, answer.reason.as_str()), (Some(1), "STATIC"));
    let gone = ResolveIntRequest {
        flag_key: "gone".into(),
        context: None,
    };
    let status = client.resolve_int(gone).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "Flag not found")
    );
    let events = client.event_stream(EventStreamRequest {}).await.unwrap();
    let mut events = events.into_inner();
    let ready = events.message().await.unwrap().unwrap();
    assert_eq!(ready.r#type, "provider_ready");
    let mut sync = FlagSyncServiceClient::new(channel);
    let sync = sync.sync_flags(SyncFlagsRequest::default()).await.unwrap();
    let mut sync = sync.into_inner();
    assert!(sync.message().await.unwrap().is_some());
    flags.replace(&json!({"a": flag(2)}));
    let change = tokio::time::timeout(LIMIT, events.message()).await.unwrap();
    assert_eq!(change.unwrap().unwrap().r#type, "configuration_change");
    let all = tokio::time::timeout(LIMIT, sync.message()).await.unwrap();
    let all = all.unwrap().unwrap().flag_configuration;
    assert!(all.contains(r#""v":2"#), "{all}");
}
