//! Everything but gRPC's own services: the RPCs in all their protocols, OFREP, liveness, readiness, metrics.
//!
//! Trap: nigh runs services that are added by name for gRPC only, so the RPCs are found here, by their path.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::http::header::{ALLOW, CONTENT_TYPE};
use ::http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use tonic::body::Body;

use super::connect::{self, Rpc};
use super::{Flagd, cors, ofrep};

/// Answers every path that belongs to no named service.
#[derive(Debug, Clone)]
pub(super) struct Pages {
    flagd: Flagd,
    rpc: Rpc,
}

pub(super) fn service(flagd: &Flagd) -> Pages {
    Pages {
        flagd: flagd.clone(),
        rpc: connect::service(flagd),
    }
}

impl tower::Service<Request<Body>> for Pages {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { flagd, rpc } = self.clone();
        Box::pin(async move { Ok(answer(flagd, rpc, request).await) })
    }
}

async fn answer(flagd: Flagd, mut rpc: Rpc, request: Request<Body>) -> Response<Body> {
    let origin = flagd.cors(request.headers());
    if let Some(preflight) = flagd.preflight(&request) {
        return preflight;
    }
    let path = request.uri().path().to_owned();
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = match path.as_str() {
        "/healthz" | "/readyz" | "/metrics" if !is_read => wrong_method("GET, HEAD"),
        "/healthz" => text(StatusCode::OK, ""),
        "/readyz" if flagd.is_ready() => text(StatusCode::OK, ""),
        "/readyz" => text(StatusCode::PRECONDITION_FAILED, ""),
        "/metrics" => metrics(&flagd),
        path if connect::is_rpc(path) => rpc.call(request).await,
        _ => match path.strip_prefix(ofrep::PATH) {
            Some(_) if request.method() != Method::POST => wrong_method("POST"),
            Some(key) => ofrep::answer(&flagd, key, request).await,
            None => text(StatusCode::NOT_FOUND, "nothing here\n"),
        },
    };
    cors::allow(&mut response, origin);
    response
}

fn metrics(flagd: &Flagd) -> Response<Body> {
    let mut response = text(StatusCode::OK, flagd.metrics());
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn wrong_method(allowed: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "");
    let allowed = HeaderValue::from_static(allowed);
    response.headers_mut().insert(ALLOW, allowed);
    response
}

fn text(status: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::from(text.into())));
    *response.status_mut() = status;
    response
}
