//! A handler that panics answers INTERNAL, and nothing else dies.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use tonic::Code;
use tonic::body::Body;

use crate::common::{Served, payload};

pub(crate) struct PanickingBody;

impl http_body::Body for PanickingBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("a secret in the body's panic")
    }
}

pub(crate) async fn panic_at(
    request: Request<Body>,
) -> Result<Response<PanickingBody>, Infallible> {
    assert!(
        request.uri().path().ends_with("InBody"),
        "a secret in the handler's panic"
    );
    let response = Response::builder().header("content-type", "application/grpc");
    Ok(response.body(PanickingBody).unwrap())
}

#[tokio::test]
async fn a_panicking_handler_answers_internal_and_nothing_else_dies() {
    let served = Served::with(|server| server.fallback(tower::service_fn(panic_at)));
    let channel = nigh::Channel::connect(served.address()).await.unwrap();
    for method in ["/any.Service/Method", "/any.Service/InBody"] {
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let path = http::uri::PathAndQuery::from_static(method);
        let status = grpc
            .unary(tonic::Request::new(()), path, codec)
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Internal, "{method}: {status}");
        assert!(!status.message().contains("secret"), "{status}");
    }
    assert_eq!(served.counts().handler_panics, 2);
    served.client().await.echo(payload("")).await.unwrap();
    served.stop().await;
}
