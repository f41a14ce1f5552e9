//! A daemon takes the place of another while callers call, over either wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nigh::Wire;
use nigh_flagd::service::proto::evaluation::v2::EventStreamRequest;
use nigh_flagd::service::proto::evaluation::v2::service_client::ServiceClient;
use nigh_testkit::TempSocket;
use serde_json::json;
use tokio::sync::watch;
use tonic::Code;

use crate::common::{Flags, Running, connect, flag, question};

const LIMIT: Duration = Duration::from_secs(60);

/// Calls before, between and after.
const CALLS: u64 = 50;

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
    let mut client = ServiceClient::new(connect(&socket, wire).await);
    let events = client.event_stream(EventStreamRequest {}).await.unwrap();
    let mut events = events.into_inner();
    let ready = events.message().await.unwrap().unwrap();
    assert_eq!(ready.r#type, "provider_ready");
    let second = Running::serving(socket.path(), &["-f", &source, "--replace"]);
    // Streams are let go, so that their clients come back to the new daemon, and the old one ends by itself.
    let status = tokio::time::timeout(LIMIT, events.message()).await.unwrap();
    assert_eq!(status.unwrap_err().code(), Code::Unavailable);
    assert_eq!(first.ended(), Some(0));
    more(&mut answered).await;
    let mut events = client.event_stream(EventStreamRequest {}).await.unwrap();
    assert!(events.get_mut().message().await.unwrap().is_some());
    drop((events, client));
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        assert!(ended.is_ok(), "{wire:?}: a call was lost: {ended:?}");
    }
    assert!(socket.path().exists(), "it is the second's");
    let mut control = socket.path().as_os_str().to_owned();
    control.push(".handover");
    let control = std::path::PathBuf::from(control);
    assert_eq!(second.terminate(), Some(0));
    assert!(!socket.path().exists() && !control.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_without_a_control_socket_loses_its_socket_to_another() {
    let flags = Flags::new(&json!({"a": flag(1)}));
    let source = format!("file:{}", flags.path.display());
    let socket = TempSocket::private();
    let elsewhere = socket.path().with_file_name("elsewhere");
    let elsewhere = elsewhere.to_str().unwrap();
    let first = ["-f", source.as_str(), "--handover", elsewhere];
    let first = Running::serving(socket.path(), &first);
    let _second = Running::serving(socket.path(), &["-f", &source, "--replace"]);
    let mut client = ServiceClient::new(connect(&socket, Wire::Auto).await);
    let answer = client.resolve_int(question()).await.unwrap();
    assert_eq!(answer.into_inner().value, Some(1));
    // It still runs, and takes only its own socket away.
    assert_eq!(first.terminate(), Some(0));
    assert!(socket.path().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_is_replaced_without_a_lost_call_over_the_nigh_wire() {
    replaced(Wire::Nigh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_is_replaced_without_a_lost_call_over_http2() {
    replaced(Wire::Http2).await;
}
