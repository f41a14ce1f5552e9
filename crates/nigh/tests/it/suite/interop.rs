//! gRPC's own interop cases (grpc/grpc, doc/interop-test-descriptions.md), on the test service.

use std::time::Duration;

use nigh_testkit::service::proto::{DownloadRequest, FailRequest, Payload, SleepRequest};
use tokio_stream::StreamExt as _;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

use super::{Over, Stage};
use crate::common::payload;

super::on_every_wire!(
    empty_unary,
    large_unary,
    client_streaming,
    server_streaming,
    ping_pong,
    empty_stream,
    custom_metadata,
    status_code_and_message,
    special_status_message,
    unimplemented_method,
    unimplemented_service,
    cancel_after_begin,
    cancel_after_first_response,
    timeout_on_sleeping_server,
);

fn sized(bytes: usize) -> Payload {
    Payload {
        data: vec![0; bytes],
    }
}

async fn empty_unary(over: Over) {
    let stage = Stage::plain(over).await;
    let reply = stage.client().echo(Payload::default()).await.unwrap();
    assert!(reply.into_inner().data.is_empty());
    stage.served.stop().await;
}

async fn large_unary(over: Over) {
    let stage = Stage::plain(over).await;
    for bytes in [271_828, 314_159, 3_500_000] {
        let reply = stage.client().echo(sized(bytes)).await.unwrap();
        assert_eq!(reply.into_inner().data.len(), bytes);
    }
    stage.served.stop().await;
}

async fn client_streaming(over: Over) {
    let stage = Stage::plain(over).await;
    let sizes = [27_182, 8, 1_828, 45_904];
    let sent = tokio_stream::iter(sizes.map(sized));
    let reply = stage.client().upload(sent).await.unwrap();
    assert_eq!(reply.into_inner().bytes, 74_922);
    stage.served.stop().await;
}

async fn server_streaming(over: Over) {
    let stage = Stage::plain(over).await;
    let request = DownloadRequest {
        count: 4,
        bytes: 31_415,
    };
    let replies = stage.client().download(request).await.unwrap().into_inner();
    let firsts: Vec<u8> = replies.map(|reply| reply.unwrap().data[0]).collect().await;
    assert_eq!(firsts, [0, 1, 2, 3]);
    stage.served.stop().await;
}

async fn ping_pong(over: Over) {
    let stage = Stage::plain(over).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let sent = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut replies = stage.client().chat(sent).await.unwrap().into_inner();
    for size in [27_182, 8, 1_828, 45_904] {
        sender.send(sized(size)).await.unwrap();
        let reply = replies.message().await.unwrap().unwrap();
        assert_eq!(reply.data.len(), size);
    }
    drop(sender);
    assert!(replies.message().await.unwrap().is_none());
    stage.served.stop().await;
}

async fn empty_stream(over: Over) {
    let stage = Stage::plain(over).await;
    let none = tokio_stream::empty::<Payload>();
    let mut replies = stage.client().chat(none).await.unwrap().into_inner();
    assert!(replies.message().await.unwrap().is_none());
    stage.served.stop().await;
}

async fn custom_metadata(over: Over) {
    let stage = Stage::plain(over).await;
    let mut request = Request::new(payload(""));
    let initial = MetadataValue::from_static("test_initial_metadata_value");
    request
        .metadata_mut()
        .insert("echo-initial", initial.clone());
    let trailing = MetadataValue::from_bytes(&[0xab, 0xab, 0xab]);
    request
        .metadata_mut()
        .insert_bin("echo-trailing-bin", trailing.clone());
    let reply = stage.client().echo(request).await.unwrap();
    assert_eq!(reply.metadata().get("echo-initial"), Some(&initial));
    assert_eq!(
        reply.metadata().get_bin("echo-trailing-bin"),
        Some(&trailing)
    );
    stage.served.stop().await;
}

async fn failure(stage: &Stage, code: Code, message: &str) {
    let request = FailRequest {
        code: code as i32,
        message: message.into(),
    };
    let status = stage.client().fail(request).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (code, message));
}

async fn status_code_and_message(over: Over) {
    let stage = Stage::plain(over).await;
    failure(&stage, Code::Unknown, "test status message").await;
    stage.served.stop().await;
}

async fn special_status_message(over: Over) {
    let stage = Stage::plain(over).await;
    let message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
    failure(&stage, Code::Unknown, message).await;
    stage.served.stop().await;
}

async fn unimplemented(stage: &Stage, path: &'static str) {
    let mut grpc = tonic::client::Grpc::new(stage.channel.clone());
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    let answer = grpc.unary(Request::new(()), path, codec).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
}

async fn unimplemented_method(over: Over) {
    let stage = Stage::plain(over).await;
    unimplemented(&stage, "/nigh.test.v1.Test/Unimplemented").await;
    stage.served.stop().await;
}

async fn unimplemented_service(over: Over) {
    let stage = Stage::plain(over).await;
    unimplemented(&stage, "/nigh.test.v1.None/Any").await;
    stage.served.stop().await;
}

async fn cancel_after_begin(over: Over) {
    let stage = Stage::plain(over).await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Payload>(1);
    let sent = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut client = stage.client();
    let call = tokio::spawn(async move { client.upload(sent).await });
    stage.served.service.started(1).await;
    call.abort();
    stage.served.service.ended(1).await;
    // The caller's own stream is let go as well.
    sender.closed().await;
    stage.served.stop().await;
}

async fn cancel_after_first_response(over: Over) {
    let stage = Stage::plain(over).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let sent = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut replies = stage.client().chat(sent).await.unwrap().into_inner();
    sender.send(sized(31_415)).await.unwrap();
    assert_eq!(replies.message().await.unwrap().unwrap().data.len(), 31_415);
    drop(replies);
    stage.served.service.ended(1).await;
    sender.closed().await;
    stage.served.stop().await;
}

async fn timeout_on_sleeping_server(over: Over) {
    let stage = Stage::plain(over).await;
    let mut request = Request::new(SleepRequest {
        milliseconds: 60_000,
    });
    request.set_timeout(Duration::from_millis(20));
    let status = stage.client().sleep(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    if stage.served.service.runs().started > 0 {
        stage.served.service.ended(1).await;
    }
    stage.served.stop().await;
}
