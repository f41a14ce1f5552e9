//! Deadlines end what would go on for ever: streams that always have more, and callers that stop reading.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response};
use http_body::Frame;
use nigh::Channel;
use nigh_testkit::TempSocket;
use nigh_testkit::service::proto::DownloadRequest;
use nigh_testkit::service::proto::test_client::TestClient;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::common::Served;

/// A client that does only what the test says: no deadline of its own.
async fn raw(served: &Served) -> SendRequest<Bytes> {
    let stream = tokio::net::UnixStream::connect(served.socket.path())
        .await
        .unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

fn call(path: &str, timeout: &str) -> Request<()> {
    Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("grpc-timeout", timeout)
        .body(())
        .unwrap()
}

/// Always has more to say, and says it at once.
struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 16_384])))))
    }
}

async fn endless(_: Request<Body>) -> Result<Response<Endless>, Infallible> {
    let response = Response::builder().header("content-type", "application/grpc");
    Ok(response.body(Endless).unwrap())
}

#[tokio::test]
async fn a_stream_that_always_has_more_ends_at_the_deadline() {
    let served = Served::with(|server| server.fallback(tower::service_fn(endless)));
    let mut sender = raw(&served).await;
    let (answer, _) = sender.send_request(call("/any.S/M", "50m"), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    while let Some(data) = body.data().await {
        let length = data.unwrap().len();
        body.flow_control().release_capacity(length).unwrap();
    }
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "4");
    served.stop().await;
}

#[tokio::test]
async fn a_stream_whose_caller_stopped_reading_ends_at_the_deadline() {
    let served = Served::plain();
    let mut sender = raw(&served).await;
    let path = "/nigh.test.v1.Test/Download";
    let (answer, mut body) = sender.send_request(call(path, "50m"), false).unwrap();
    let message = DownloadRequest {
        count: u32::MAX,
        bytes: 4096,
    }
    .encode_to_vec();
    let mut framed = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
    framed.extend(message);
    body.send_data(framed.into(), true).unwrap();
    // No window is ever given back, so the server's stream stands still.
    let held = answer.await.unwrap();
    served.service.ended(1).await;
    drop((held, body));
    served.stop().await;
}

/// Serves one endless answer, whatever deadline the caller named; gives what ended it.
async fn endless_server(listener: tokio::net::UnixListener) -> h2::Error {
    let (stream, _) = listener.accept().await.unwrap();
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let (_, mut respond) = connection.accept().await.unwrap().unwrap();
    tokio::spawn(async move { while connection.accept().await.is_some() {} });
    let head = Response::builder().header("content-type", "application/grpc");
    let mut body = respond
        .send_response(head.body(()).unwrap(), false)
        .unwrap();
    loop {
        // Zeros are empty messages, wherever they are cut.
        body.reserve_capacity(500);
        match poll_fn(|cx| body.poll_capacity(cx)).await {
            Some(Ok(length)) => body.send_data(vec![0; length].into(), false).unwrap(),
            Some(Err(error)) => return error,
            None => return poll_fn(|cx| body.poll_reset(cx)).await.unwrap().into(),
        }
    }
}

#[tokio::test]
async fn a_client_ends_an_answer_that_always_has_more() {
    let socket = TempSocket::private();
    let listener = tokio::net::UnixListener::bind(socket.path()).unwrap();
    let serving = tokio::spawn(endless_server(listener));
    // It accepts once, so nothing else may be tried first.
    let options = Channel::options().wire(nigh::Wire::Http2);
    let address = socket.address();
    let channel = options.connect(address.as_str()).await.unwrap();
    let mut request = tonic::Request::new(DownloadRequest::default());
    request.set_timeout(Duration::from_millis(50));
    let mut answer = TestClient::new(channel)
        .download(request)
        .await
        .unwrap()
        .into_inner();
    let status = loop {
        match answer.message().await {
            Ok(message) => assert!(message.is_some(), "the server never ends it"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    // The server is told while the answer is still in somebody's hands.
    let error = serving.await.unwrap();
    assert_eq!(error.reason(), Some(h2::Reason::CANCEL), "{error}");
    drop(answer);
}

/// Says `hello`, and then nothing, or panics.
async fn begun(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let panics = request.uri().path() == "/panic";
    let mut said = false;
    let body = futures_util::stream::poll_fn(move |_| {
        if std::mem::replace(&mut said, true) {
            assert!(!panics, "after the first words");
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok::<_, Status>(Frame::data(Bytes::from("hello")))))
    });
    let body = http_body_util::StreamBody::new(body);
    Ok(Response::new(Body::new(body)))
}

#[tokio::test]
async fn a_plain_http_answer_that_was_cut_off_does_not_look_whole() {
    let served = Served::with(|server| server.fallback(tower::service_fn(begun)));
    for path in ["/deadline", "/panic"] {
        let mut raw = tokio::net::UnixStream::connect(served.socket.path())
            .await
            .unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\ngrpc-timeout: 50m\r\n\r\n");
        raw.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        raw.read_to_string(&mut answer).await.unwrap();
        assert!(!answer.ends_with("0\r\n\r\n"), "{path}: {answer:?}");
    }
    assert_eq!(served.counts().handler_panics, 1);
    served.stop().await;
}
