//! All of flagd's calls over the nigh wire.

use std::time::Duration;

use nigh::Wire;
use nigh_flagd::service::proto::evaluation::v2::service_client::ServiceClient;
use nigh_flagd::service::proto::evaluation::v2::{EventStreamRequest, ResolveIntRequest};
use nigh_flagd::service::proto::sync::v1::SyncFlagsRequest;
use nigh_flagd::service::proto::sync::v1::flag_sync_service_client::FlagSyncServiceClient;
use nigh_testkit::TempSocket;
use serde_json::json;
use tonic::Code;

use crate::common::{Flags, Running, connect, flag, question};

const LIMIT: Duration = Duration::from_secs(60);

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
