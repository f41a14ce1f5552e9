//! Which wire a channel speaks to whom: nigh to nigh, HTTP/2 to all others, one extra connection and no failed call.

use std::time::{Duration, Instant};

use nigh::{Channel, Wire};
use nigh_testkit::TempSocket;
use nigh_testkit::service::TestService;
use nigh_testkit::service::proto::Payload;
use nigh_testkit::service::proto::test_client::TestClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio_stream::StreamExt as _;
use tonic::codec::CompressionEncoding;

use crate::common::{Served, payload};

/// An echo that takes and sends compressed messages.
#[derive(Debug, Clone)]
pub(crate) struct Gzip;

pub(crate) fn gzip() -> Gzip {
    Gzip
}

impl tower::Service<http::Request<tonic::body::Body>> for Gzip {
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = std::pin::Pin<
        Box<dyn Future<Output = Result<Self::Response, std::convert::Infallible>> + Send>,
    >;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let echo = |request: tonic::Request<Payload>| async move {
            Ok(tonic::Response::new(request.into_inner()))
        };
        Box::pin(async move {
            let codec = tonic_prost::ProstCodec::<Payload, Payload>::default();
            let mut grpc = tonic::server::Grpc::new(codec)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip);
            Ok(grpc.unary(tower::service_fn(echo), request).await)
        })
    }
}

/// Connections accepted on the way to a stock tonic server.
async fn stock_tonic(socket: &TempSocket) -> tokio::sync::watch::Receiver<usize> {
    let listener = UnixListener::bind(socket.path()).unwrap();
    let (count, counted) = tokio::sync::watch::channel(0);
    let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
    let incoming = incoming.map(move |stream| {
        count.send_modify(|count| *count += 1);
        stream
    });
    let service = TestService::default().server();
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(incoming));
    counted
}

#[tokio::test]
async fn a_stock_tonic_server_costs_one_more_connection_and_no_failed_call() {
    let socket = TempSocket::private();
    let accepted = stock_tonic(&socket).await;
    let channel = Channel::connect(socket.address().as_str()).await.unwrap();
    let mut client = TestClient::new(channel);
    for _ in 0..3 {
        client.echo(payload("hello")).await.unwrap();
    }
    assert_eq!(*accepted.borrow(), 2);
}

#[tokio::test]
async fn pinned_to_http2_no_greeting_is_sent() {
    let socket = TempSocket::private();
    let accepted = stock_tonic(&socket).await;
    let options = Channel::options().wire(Wire::Http2);
    let mut client = TestClient::new(options.connect(socket.address().as_str()).await.unwrap());
    client.echo(payload("hello")).await.unwrap();
    assert_eq!(*accepted.borrow(), 1);
}

#[tokio::test]
async fn pinned_to_nigh_another_server_is_an_error_that_says_so() {
    let socket = TempSocket::private();
    let _accepted = stock_tonic(&socket).await;
    let options = Channel::options().wire(Wire::Nigh);
    let error = options
        .connect(socket.address().as_str())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("nigh greeting"), "{error}");
}

/// What a server does that is not nigh's, on its first connection.
#[derive(Debug, Clone, Copy)]
enum Odd {
    Silent,
    Closes,
    SpeaksHttp1,
    GreetsWrongly,
}

/// Treats the first connection oddly, and hands the second to HTTP/2.
async fn odd_then_http2(odd: Odd) -> Duration {
    let socket = TempSocket::private();
    let listener = UnixListener::bind(socket.path()).unwrap();
    let server = tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        let mut greeting = [0; 40];
        first.read_exact(&mut greeting).await.unwrap();
        match odd {
            Odd::Silent => {}
            Odd::Closes => drop(first.shutdown().await),
            Odd::SpeaksHttp1 => first
                .write_all(b"HTTP/1.1 400 Bad Request\r\n")
                .await
                .unwrap(),
            Odd::GreetsWrongly => {
                greeting[8] = 9;
                first.write_all(&greeting).await.unwrap();
            }
        }
        let (second, _) = listener.accept().await.unwrap();
        let service = TestService::default().server();
        let router = tonic::transport::Server::builder().add_service(service);
        let incoming = tokio_stream::once(Ok::<_, std::io::Error>(second));
        // The silent one stays open, as a stuck server's would.
        let served = router
            .serve_with_incoming(incoming.chain(tokio_stream::pending()))
            .await;
        drop(first);
        served
    });
    let options = Channel::options().nigh_answer_time(Duration::from_millis(40));
    let began = Instant::now();
    let mut client = TestClient::new(options.connect(socket.address().as_str()).await.unwrap());
    let took = began.elapsed();
    assert_eq!(
        client.echo(payload("on")).await.unwrap().into_inner().data,
        b"on"
    );
    server.abort();
    took
}

#[tokio::test]
async fn a_silent_server_gets_its_time_and_then_http2() {
    let took = odd_then_http2(Odd::Silent).await;
    assert!(took >= Duration::from_millis(40), "{took:?}");
}

#[tokio::test]
async fn a_server_that_closes_or_says_something_else_gets_http2() {
    for odd in [Odd::Closes, Odd::SpeaksHttp1, Odd::GreetsWrongly] {
        odd_then_http2(odd).await;
    }
}

#[tokio::test]
async fn auto_speaks_nigh_to_nigh_on_one_connection() {
    let served = Served::plain();
    let mut client = served.client().await;
    for _ in 0..3 {
        client.echo(payload("")).await.unwrap();
    }
    assert_eq!(served.counts().connections_admitted, 1);
    served.stop().await;
}

#[tokio::test]
async fn clients_of_all_wires_share_one_socket() {
    let served = Served::plain();
    let mut tonics = served.tonic_client().await;
    let mut auto = served.client().await;
    let options = Channel::options().wire(Wire::Http2);
    let mut http2 = TestClient::new(options.connect(served.address()).await.unwrap());
    for _ in 0..20 {
        tonics.echo(payload("t")).await.unwrap();
        auto.echo(payload("n")).await.unwrap();
        http2.echo(payload("h")).await.unwrap();
    }
    served.stop().await;
}

/// A channel over the nigh wire and one that is stuck: neither answers pings.
#[tokio::test]
async fn keepalive_finds_a_server_that_is_stuck() {
    let socket = TempSocket::private();
    let listener = UnixListener::bind(socket.path()).unwrap();
    let stuck = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut greeting = [0; 40];
        stream.read_exact(&mut greeting).await.unwrap();
        // Places for calls, and then nothing more.
        greeting[32] = 9;
        stream.write_all(&greeting).await.unwrap();
        std::future::pending::<()>().await;
    });
    let options = Channel::options()
        .keepalive(Duration::from_millis(20))
        .keepalive_timeout(Duration::from_millis(20));
    let mut client = TestClient::new(options.connect(socket.address().as_str()).await.unwrap());
    let status = client.echo(payload("")).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(status.message().contains("no sign of life"), "{status}");
    stuck.abort();
}

#[tokio::test]
async fn keepalive_leaves_a_server_alone_that_is_only_slow() {
    let served = Served::with(|server| {
        let mut limits = nigh::Limits::default();
        limits.nigh.keepalive = Some(Duration::from_millis(5));
        limits.nigh.keepalive_timeout = Duration::from_secs(9);
        server.limits(limits)
    });
    let options = Channel::options()
        .wire(Wire::Nigh)
        .keepalive(Duration::from_millis(5))
        .keepalive_timeout(Duration::from_secs(9));
    let mut client = TestClient::new(options.connect(served.address()).await.unwrap());
    let slow = nigh_testkit::service::proto::SleepRequest { milliseconds: 120 };
    client.sleep(slow).await.unwrap();
    served.stop().await;
}

/// A call that is alive and polled no more, beside one that is polled: the second must not wait for the first.
#[tokio::test]
async fn a_call_that_nobody_polls_stops_nothing() {
    let served = Served::plain();
    let options = Channel::options().wire(Wire::Nigh);
    let client = TestClient::new(options.connect(served.address()).await.unwrap());
    let (mut first, mut second) = (client.clone(), client);
    let mut held = std::pin::pin!(first.hold(payload("first")));
    futures_util::future::poll_immediate(held.as_mut()).await;
    served.service.started(1).await;
    for _ in 0..3 {
        second.echo(payload("second")).await.unwrap();
    }
    served.service.release();
    assert_eq!(held.await.unwrap().into_inner().data, b"first");
    served.stop().await;
}

#[tokio::test]
async fn a_caller_refused_by_policy_is_told_over_the_nigh_wire() {
    let served = Served::with(|server| server.policy(nigh::Policy::none()));
    let options = Channel::options().wire(Wire::Nigh);
    let mut client = TestClient::new(options.connect(served.address()).await.unwrap());
    let status = client.echo(payload("")).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
    assert_eq!(served.service.runs().started, 0);
    served.stop().await;
}
