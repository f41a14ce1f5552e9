//! What calls promise beyond the interop cases: limits, flow control, deadlines, drain, panics, compression.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nigh::Policy;
use nigh_testkit::service::proto::test_client::TestClient;
use nigh_testkit::service::proto::{DownloadRequest, Payload, SleepRequest};
use tokio_stream::StreamExt as _;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request, Status};

use super::{Over, Stage};
use crate::common::payload;

super::on_every_wire!(
    every_kind,
    many_calls_at_once,
    more_calls_than_the_limit_wait,
    a_slow_reader_bounds_what_is_sent,
    a_reader_that_stops_holds_up_nobody_else,
    a_deadline_ends_a_stream,
    a_cancelled_call_ends_its_handler,
    a_message_over_the_limit_fails_its_call,
    metadata_over_the_limit_fail_their_call,
    compressed_messages,
    interceptors_on_both_sides,
    error_details,
    a_guarded_method_is_refused,
    a_panic_is_internal,
    a_drain_finishes_what_runs,
    a_lost_server_is_unavailable,
);

async fn every_kind(over: Over) {
    let stage = Stage::plain(over).await;
    crate::calls::every_kind(stage.client()).await;
    stage.served.service.ended(7).await;
    stage.served.stop().await;
}

async fn many_calls_at_once(over: Over) {
    let stage = Stage::plain(over).await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..64_usize {
        let mut client = stage.client();
        calls.spawn(async move {
            for round in 0..20 {
                let data = vec![number.to_le_bytes()[0]; (number * 131 + round * 977) % 9000];
                let sent = Payload { data };
                let reply = client.echo(sent.clone()).await.unwrap().into_inner();
                assert_eq!(reply, sent);
            }
        });
    }
    while let Some(ended) = calls.join_next().await {
        ended.unwrap();
    }
    assert_eq!(stage.served.service.runs().started, 64 * 20);
    stage.served.stop().await;
}

async fn more_calls_than_the_limit_wait(over: Over) {
    let stage = Stage::with(over, |server| {
        let mut limits = nigh::Limits::default();
        limits.http2.concurrent_streams_max = 2;
        limits.nigh.concurrent_calls_max = 2;
        server.limits(limits)
    })
    .await;
    stage.client().echo(payload("")).await.unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut client = stage.client();
        calls.spawn(async move { client.hold(payload("x")).await });
    }
    stage.served.service.started(3).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        stage.served.service.runs().started,
        3,
        "two of eight and the first"
    );
    stage.served.service.release();
    while let Some(ended) = calls.join_next().await {
        ended.unwrap().unwrap();
    }
    stage.served.stop().await;
}

/// Tells that its request has come, and never reads or answers it; tells when it is given up.
struct Deaf(tokio::sync::watch::Sender<u8>);

impl Drop for Deaf {
    fn drop(&mut self) {
        self.0.send_modify(|state| *state += 1);
    }
}

async fn a_slow_reader_bounds_what_is_sent(over: Over) {
    let state = tokio::sync::watch::Sender::new(0);
    let mut states = state.subscribe();
    let deaf = tower::service_fn(move |request: http::Request<tonic::body::Body>| {
        let deaf = Deaf(state.clone());
        state.send_modify(|state| *state += 1);
        async move {
            std::future::pending::<()>().await;
            drop((deaf, request));
            Ok::<_, std::convert::Infallible>(http::Response::new(tonic::body::Body::empty()))
        }
    });
    let stage = Stage::with(over, |server| server.fallback(deaf)).await;
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    // 64 MiB are on offer; the windows and buffers hold a few.
    let offer = (0..1024).map(move |_| {
        counted.fetch_add(64 * 1024, Ordering::Relaxed);
        Payload {
            data: vec![1; 64 * 1024],
        }
    });
    let mut grpc = tonic::client::Grpc::new(stage.channel.clone());
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<Payload, Payload>::default();
    let path = http::uri::PathAndQuery::from_static("/deaf.Service/Any");
    let call = tokio::spawn(async move {
        let offer = Request::new(tokio_stream::iter(offer));
        grpc.client_streaming(offer, path, codec).await.map(drop)
    });
    states.wait_for(|state| *state == 1).await.unwrap();
    for _ in 0..200 {
        stage.client().echo(payload("still here")).await.unwrap();
    }
    let sent = made.load(Ordering::Relaxed);
    assert!(sent < 12 * 1024 * 1024, "{sent} bytes were sent to nobody");
    call.abort();
    states.wait_for(|state| *state == 2).await.unwrap();
    stage.served.stop().await;
}

async fn a_reader_that_stops_holds_up_nobody_else(over: Over) {
    let stage = Stage::plain(over).await;
    let request = DownloadRequest {
        count: 10_000,
        bytes: 4096,
    };
    let mut stopped = stage.client().download(request).await.unwrap().into_inner();
    stopped.message().await.unwrap().unwrap();
    for _ in 0..50 {
        stage.client().echo(payload("on")).await.unwrap();
    }
    let rest = stopped.map(|reply| reply.unwrap().data.len());
    assert_eq!(rest.fold(0, |sum, length| sum + length).await, 9_999 * 4096);
    stage.served.stop().await;
}

async fn a_deadline_ends_a_stream(over: Over) {
    let stage = Stage::plain(over).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
    request.set_timeout(Duration::from_millis(60));
    sender.send(payload("one")).await.unwrap();
    // A busy machine may need the time for the beginning already.
    if let Ok(replies) = stage.client().chat(request).await {
        let mut replies = replies.into_inner();
        let status = loop {
            match replies.message().await {
                Ok(reply) => assert_eq!(reply.unwrap().data, b"one"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        stage.served.service.ended(1).await;
    }
    stage.served.stop().await;
}

async fn a_cancelled_call_ends_its_handler(over: Over) {
    let stage = Stage::plain(over).await;
    for count in 1..=20 {
        let mut client = stage.client();
        let held = tokio::spawn(async move { client.hold(payload("")).await });
        stage.served.service.started(count).await;
        held.abort();
        stage.served.service.ended(count).await;
    }
    stage.client().echo(payload("")).await.unwrap();
    stage.served.stop().await;
}

async fn a_message_over_the_limit_fails_its_call(over: Over) {
    let stage = Stage::plain(over).await;
    let mut client = stage.client().max_decoding_message_size(1000);
    let big = Payload {
        data: vec![0; 2000],
    };
    assert_eq!(client.echo(big).await.unwrap_err().code(), Code::OutOfRange);
    client.echo(payload("small")).await.unwrap();
    stage.served.stop().await;
}

async fn metadata_over_the_limit_fail_their_call(over: Over) {
    let stage = Stage::plain(over).await;
    let mut request = Request::new(payload(""));
    let long = "x".repeat(20 * 1024);
    request
        .metadata_mut()
        .insert("echo-long", long.parse().unwrap());
    stage.client().echo(request).await.unwrap_err();
    assert_eq!(stage.served.service.runs().started, 0);
    stage.client().echo(payload("")).await.unwrap();
    stage.served.stop().await;
}

async fn compressed_messages(over: Over) {
    let stage = Stage::plain(over).await;
    let client = stage.client().send_compressed(CompressionEncoding::Gzip);
    let mut client = client.accept_compressed(CompressionEncoding::Gzip);
    let big = Payload {
        data: vec![7; 500_000],
    };
    // The test service does not take compressed messages: it says so, in either wire.
    let status = client.echo(big.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "{status}");
    let served = Stage::with(over, |server| server.fallback(crate::wires::gzip())).await;
    let mut grpc = tonic::client::Grpc::new(served.channel.clone())
        .send_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Gzip);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<Payload, Payload>::default();
    let path = http::uri::PathAndQuery::from_static("/gzip.Echo/Echo");
    let reply = grpc
        .unary(Request::new(big.clone()), path, codec)
        .await
        .unwrap();
    assert_eq!(reply.metadata().get("grpc-encoding").unwrap(), "gzip");
    assert_eq!(reply.into_inner(), big);
    stage.served.stop().await;
    served.served.stop().await;
}

async fn interceptors_on_both_sides(over: Over) {
    use nigh_testkit::service::proto::test_server::TestServer;
    let test = nigh_testkit::service::TestService::default();
    let demand = |request: Request<()>| match request.metadata().get("x-token") {
        Some(token) if token == "let me in" => Ok(request),
        _ => Err(Status::unauthenticated("no token")),
    };
    let service = TestServer::with_interceptor(test, demand);
    let rewrite = tower::service_fn(move |mut request: http::Request<tonic::body::Body>| {
        let mut service = service.clone();
        *request.uri_mut() = "http://localhost/nigh.test.v1.Test/Echo".parse().unwrap();
        async move {
            let answer = tower::Service::call(&mut service, request).await;
            answer.map(|response| response.map(tonic::body::Body::new))
        }
    });
    let stage = Stage::with(over, |server| server.fallback(rewrite)).await;
    let path = || http::uri::PathAndQuery::from_static("/intercepted.Test/Echo");
    let codec = tonic_prost::ProstCodec::<Payload, Payload>::default;
    let mut bare = tonic::client::Grpc::new(stage.channel.clone());
    bare.ready().await.unwrap();
    let refused = bare.unary(Request::new(payload("")), path(), codec()).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    let add = |mut request: Request<()>| {
        request
            .metadata_mut()
            .insert("x-token", "let me in".parse().unwrap());
        Ok(request)
    };
    let with = tonic::service::interceptor::InterceptedService::new(stage.channel.clone(), add);
    let mut grpc = tonic::client::Grpc::new(with);
    grpc.ready().await.unwrap();
    let reply = grpc
        .unary(Request::new(payload("in")), path(), codec())
        .await;
    let reply: Payload = reply.unwrap().into_inner();
    assert_eq!(reply.data, b"in");
    stage.served.stop().await;
}

async fn error_details(over: Over) {
    let say = |_: http::Request<tonic::body::Body>| async {
        let details = bytes::Bytes::from_static(&[8, 13, 0, 255]);
        let status = Status::with_details(Code::FailedPrecondition, "why", details);
        Ok::<_, std::convert::Infallible>(status.into_http::<tonic::body::Body>())
    };
    let stage = Stage::with(over, |server| server.fallback(tower::service_fn(say))).await;
    let mut grpc = tonic::client::Grpc::new(stage.channel.clone());
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = http::uri::PathAndQuery::from_static("/details.Of/Failure");
    let status = grpc.unary(Request::new(()), path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.details(), [8, 13, 0, 255]);
    stage.served.stop().await;
}

async fn a_guarded_method_is_refused(over: Over) {
    let stage = Stage::with(over, |server| {
        server.guard("/nigh.test.v1.Test/Sleep", Policy::none())
    })
    .await;
    let status = stage
        .client()
        .sleep(SleepRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(stage.served.service.runs().started, 0);
    stage.served.stop().await;
}

async fn a_panic_is_internal(over: Over) {
    let stage = Stage::with(over, |server| {
        server.fallback(tower::service_fn(crate::panics::panic_at))
    })
    .await;
    for method in ["/any.Service/Method", "/any.Service/InBody"] {
        let mut grpc = tonic::client::Grpc::new(stage.channel.clone());
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let path = http::uri::PathAndQuery::from_static(method);
        let answer = grpc.unary(Request::new(()), path, codec).await;
        assert_eq!(answer.unwrap_err().code(), Code::Internal, "{method}");
    }
    stage.client().echo(payload("")).await.unwrap();
    stage.served.stop().await;
}

async fn a_drain_finishes_what_runs(over: Over) {
    let mut stage = Stage::plain(over).await;
    let mut client = stage.client();
    let held = tokio::spawn(async move { client.hold(payload("kept")).await });
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let sent = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut chat = stage.client().chat(sent).await.unwrap().into_inner();
    stage.served.service.started(2).await;
    stage.served.begin_stop();
    while stage.served.socket.path().exists() {
        tokio::task::yield_now().await;
    }
    let late = stage.client().echo(payload("late")).await.unwrap_err();
    assert_eq!(late.code(), Code::Unavailable, "{late}");
    sender.send(payload("word")).await.unwrap();
    assert_eq!(chat.message().await.unwrap().unwrap().data, b"word");
    drop(sender);
    assert!(chat.message().await.unwrap().is_none());
    stage.served.service.release();
    assert_eq!(held.await.unwrap().unwrap().into_inner().data, b"kept");
    drop(chat);
    assert_eq!(stage.served.stopped().await.cut_off, 0);
}

async fn a_lost_server_is_unavailable(over: Over) {
    let mut stage = Stage::with(over, |server| {
        let mut limits = nigh::Limits::default();
        limits.connections.drain_time = Duration::from_millis(10);
        server.limits(limits)
    })
    .await;
    let mut client: TestClient<_> = stage.client();
    let held = tokio::spawn(async move { client.hold(payload("")).await });
    stage.served.service.started(1).await;
    stage.served.begin_stop();
    assert_eq!(stage.served.stopped().await.cut_off, 1);
    assert_eq!(held.await.unwrap().unwrap_err().code(), Code::Unavailable);
}
