//! The test service answers as its proto says and counts each run, called through the generated client in process.

use nigh_testkit::service::TestService;
use nigh_testkit::service::proto::test_client::TestClient;
use nigh_testkit::service::proto::{DownloadRequest, FailRequest, Payload};
use tokio_stream::StreamExt;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

fn payload(text: &str) -> Payload {
    Payload { data: text.into() }
}

#[tokio::test]
async fn every_kind_of_call_works_and_is_counted() {
    let service = TestService::default();
    let mut client = TestClient::new(service.server());

    let mut request = Request::new(payload("hello"));
    request
        .metadata_mut()
        .insert("echo-a", "b".parse().unwrap());
    request.metadata_mut().insert("other", "c".parse().unwrap());
    let binary = MetadataValue::from_bytes(&[0, 255]);
    request
        .metadata_mut()
        .insert_bin("echo-x-bin", binary.clone());
    let reply = client.echo(request).await.unwrap();
    assert_eq!(reply.metadata().get("echo-a").unwrap(), "b");
    assert_eq!(reply.metadata().get_bin("echo-x-bin").unwrap(), &binary);
    assert!(reply.metadata().get("other").is_none());
    assert_eq!(reply.into_inner(), payload("hello"));

    let request = DownloadRequest { count: 3, bytes: 2 };
    let sent: Vec<_> = client
        .download(request)
        .await
        .unwrap()
        .into_inner()
        .collect()
        .await;
    let firsts: Vec<u8> = sent
        .into_iter()
        .map(|payload| payload.unwrap().data[0])
        .collect();
    assert_eq!(firsts, [0, 1, 2]);

    let words = || tokio_stream::iter([payload("a"), payload("bc")]);
    let counted = client.upload(words()).await.unwrap().into_inner();
    assert_eq!((counted.count, counted.bytes), (2, 3));

    let echoed: Vec<_> = client
        .chat(words())
        .await
        .unwrap()
        .into_inner()
        .collect()
        .await;
    assert_eq!(echoed.len(), 2);

    let request = FailRequest {
        code: Code::NotFound.into(),
        message: "no".into(),
    };
    let status = client.fail(request).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "no"));

    service.ended(5).await;
    assert_eq!(service.runs().started, 5);
}

#[tokio::test]
async fn a_held_call_ends_when_it_is_released_or_cancelled() {
    let service = TestService::default();
    let mut client = TestClient::new(service.server());
    let mut other = client.clone();
    let held = tokio::spawn(async move { client.hold(payload("x")).await });
    let cancelled = tokio::spawn(async move { other.hold(payload("y")).await });
    service.started(2).await;
    assert_eq!(service.runs().ended, 0);
    cancelled.abort();
    service.ended(1).await;
    service.release();
    assert_eq!(held.await.unwrap().unwrap().into_inner(), payload("x"));
}
