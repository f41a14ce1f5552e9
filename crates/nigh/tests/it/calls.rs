//! Every kind of call, over nigh's channel and over tonic's own, on one socket.

use std::time::Duration;

use nigh_testkit::service::proto::test_client::TestClient;
use nigh_testkit::service::proto::{DownloadRequest, FailRequest, Payload, SleepRequest};
use tokio_stream::StreamExt as _;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

use crate::common::{Served, payload};

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// What a generated client can stand on.
pub(crate) trait Ground:
    GrpcService<
        Body,
        Error: Into<Fault>,
        ResponseBody: http_body::Body<Data = bytes::Bytes, Error: Into<Fault> + Send>
                          + Send
                          + 'static,
    > + Clone
{
}

impl Ground for nigh::Channel {}
impl Ground for tonic::transport::Channel {}

/// What every client must see, whichever channel is under it.
pub(crate) async fn every_kind<T: Ground>(mut client: TestClient<T>) {
    metadata(&mut client).await;
    streams(&mut client).await;
    sizes_and_failures(&mut client).await;
}

async fn metadata<T: Ground>(client: &mut TestClient<T>) {
    let mut request = Request::new(payload("hello"));
    request
        .metadata_mut()
        .insert("echo-text", "a b".parse().unwrap());
    request
        .metadata_mut()
        .append("echo-twice", "1".parse().unwrap());
    request
        .metadata_mut()
        .append("echo-twice", "2".parse().unwrap());
    request
        .metadata_mut()
        .insert_bin("echo-bytes-bin", MetadataValue::from_bytes(&[0, 255, 7]));
    let answer = client.echo(request).await.unwrap();
    assert_eq!(answer.get_ref().data, b"hello");
    assert_eq!(answer.metadata().get("echo-text").unwrap(), "a b");
    let twice: Vec<_> = answer.metadata().get_all("echo-twice").iter().collect();
    assert_eq!(twice, ["1", "2"]);
    let bytes = answer
        .metadata()
        .get_bin("echo-bytes-bin")
        .unwrap()
        .to_bytes()
        .unwrap();
    assert_eq!(&bytes[..], [0, 255, 7]);
}

async fn streams<T: Ground>(client: &mut TestClient<T>) {
    let many = client
        .download(DownloadRequest {
            count: 300,
            bytes: 4096,
        })
        .await
        .unwrap();
    let sizes: Vec<usize> = many
        .into_inner()
        .map(|one| one.unwrap().data.len())
        .collect()
        .await;
    assert_eq!(sizes, vec![4096; 300]);

    let up = tokio_stream::iter((0..300).map(|_| Payload {
        data: vec![1; 4096],
    }));
    let reply = client.upload(up).await.unwrap().into_inner();
    assert_eq!((reply.count, reply.bytes), (300, 300 * 4096));

    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let sent = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut chat = client.chat(sent).await.unwrap().into_inner();
    for word in ["one", "two"] {
        sender.send(payload(word)).await.unwrap();
        assert_eq!(chat.message().await.unwrap().unwrap().data, word.as_bytes());
    }
    drop(sender);
    assert!(chat.message().await.unwrap().is_none());
}

async fn sizes_and_failures<T: Ground>(client: &mut TestClient<T>) {
    let big = Payload {
        data: vec![9; 3 * 1024 * 1024],
    };
    assert_eq!(client.echo(big.clone()).await.unwrap().into_inner(), big);
    let oversized = Payload {
        data: vec![9; 5 * 1024 * 1024],
    };
    assert_eq!(
        client.echo(oversized).await.unwrap_err().code(),
        Code::OutOfRange
    );

    let fail = FailRequest {
        code: Code::DataLoss as i32,
        message: "ünïcode & %".into(),
    };
    let status = client.fail(fail).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::DataLoss, "ünïcode & %")
    );

    let mut slow = Request::new(SleepRequest {
        milliseconds: 60_000,
    });
    slow.set_timeout(Duration::from_millis(50));
    let status = client.sleep(slow).await.unwrap_err();
    // tonic's own channel calls it cancelled when its timer is the first to notice.
    let codes = [Code::DeadlineExceeded, Code::Cancelled];
    assert!(codes.contains(&status.code()), "{status}");
}

#[tokio::test]
async fn nighs_channel_makes_every_kind_of_call() {
    let served = Served::plain();
    every_kind(served.client().await).await;
    // The deadline reached the handler: it is gone, not asleep.
    served.service.ended(7).await;
    served.stop().await;
}

#[tokio::test]
async fn tonics_channel_makes_every_kind_of_call() {
    let served = Served::plain();
    every_kind(served.tonic_client().await).await;
    served.service.ended(7).await;
    served.stop().await;
}

#[tokio::test]
async fn a_cancelled_call_ends_its_handler() {
    let served = Served::plain();
    let mut client = served.client().await;
    let held = tokio::spawn(async move { client.hold(payload("")).await });
    served.service.started(1).await;
    held.abort();
    served.service.ended(1).await;
    served.stop().await;
}

#[tokio::test]
async fn what_does_not_exist_is_unimplemented() {
    let served = Served::plain();
    let channel = nigh::Channel::connect(served.address()).await.unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let status = health
        .check(tonic_health::pb::HealthCheckRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(
        status.message().contains("grpc.health.v1.Health"),
        "{status}"
    );
    served.stop().await;
}

#[tokio::test]
async fn health_and_reflection_are_one_call_away() {
    let descriptors = nigh_testkit::service::FILE_DESCRIPTOR_SET;
    let served = Served::with(|server| server.health().reflection(descriptors));
    let channel = nigh::Channel::connect(served.address()).await.unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    for service in ["", "nigh.test.v1.Test"] {
        let request = tonic_health::pb::HealthCheckRequest {
            service: service.into(),
        };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(
            answer.status(),
            tonic_health::pb::health_check_response::ServingStatus::Serving
        );
    }
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_response};
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel);
    let answer = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap();
    let first = answer.into_inner().message().await.unwrap().unwrap();
    let Some(server_reflection_response::MessageResponse::ListServicesResponse(list)) =
        first.message_response
    else {
        panic!("no list of services");
    };
    let names: Vec<_> = list
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    assert!(names.contains(&"nigh.test.v1.Test") && names.contains(&"grpc.health.v1.Health"));
    served.stop().await;
}

#[tokio::test]
async fn a_malformed_timeout_is_the_callers_fault() {
    let served = Served::plain();
    let mut client = served.tonic_client().await;
    let mut request = Request::new(payload(""));
    request
        .metadata_mut()
        .insert("grpc-timeout", "soon".parse().unwrap());
    let status = client.echo(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("grpc-timeout"), "{status}");
    assert_eq!(served.service.runs().started, 0);
    served.stop().await;
}

#[tokio::test]
async fn a_conversation_that_its_caller_leaves_ends_its_handler() {
    let served = Served::plain();
    let mut client = served.client().await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    sender.send(payload("hello")).await.unwrap();
    let sent = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut chat = client.chat(sent).await.unwrap().into_inner();
    assert_eq!(chat.message().await.unwrap().unwrap().data, b"hello");
    drop(chat);
    // The sending half is still open here: only leaving the answer can have ended the call.
    served.service.ended(1).await;
    assert!(sender.send(payload("nobody listens")).await.is_err());
    served.stop().await;
}

/// Answers with a head, and then neither reads nor says anything; tells when that is dropped.
#[derive(Clone)]
struct Deaf(tokio::sync::mpsc::Sender<()>);

struct Told(tokio::sync::mpsc::Sender<()>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

impl tower::Service<http::Request<Body>> for Deaf {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let held = (request, Told(self.0.clone()));
        let silent = futures_util::stream::poll_fn(move |_| {
            let _held = &held;
            std::task::Poll::<Option<Result<http_body::Frame<bytes::Bytes>, tonic::Status>>>::Pending
        });
        let body = Body::new(http_body_util::StreamBody::new(silent));
        std::future::ready(Ok(http::Response::new(body)))
    }
}

#[tokio::test]
async fn an_upload_that_waits_for_its_window_is_reset_when_its_caller_leaves() {
    let (held, mut ended) = tokio::sync::mpsc::channel(1);
    let served = Served::with(|server| server.fallback(Deaf(held)));
    let channel = nigh::Channel::connect(served.address()).await.unwrap();
    let (sent, mut progress) = tokio::sync::watch::channel(0_u64);
    let endless = tokio_stream::iter(std::iter::repeat_with(move || {
        sent.send_modify(|count| *count += 1);
        let data = bytes::Bytes::from_static(&[0; 65_536]);
        Ok::<_, tonic::Status>(http_body::Frame::data(data))
    }));
    let body = Body::new(http_body_util::StreamBody::new(endless));
    let request =
        http::Request::post("/any.Service/Method").header("content-type", "application/grpc");
    let request = request.body(body).unwrap();
    let answer = tower::ServiceExt::oneshot(channel.clone(), request)
        .await
        .unwrap();
    // The server's window of 1 MiB is full, and nothing more is asked of the body.
    progress.wait_for(|count| *count > 16).await.unwrap();
    drop(answer);
    // The body is gone here, and the handler there, while the connection lives on.
    while progress.changed().await.is_ok() {}
    let mut client = TestClient::new(channel);
    client.echo(payload("")).await.unwrap();
    ended.recv().await.unwrap();
    served.stop().await;
}
