//! `grpc.health.v1.Health`: SERVING until a drain begins, and no watcher that keeps the drain waiting.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::Service;

use super::calls::draining;

/// The server's side of its health service.
pub(super) struct Health {
    reporter: HealthReporter,
    closing: watch::Sender<bool>,
    names: Vec<&'static str>,
}

impl Health {
    /// The reporter, and the service that tells what it reports.
    pub(super) fn new() -> (
        Self,
        Closing<
            impl Service<
                Request<Body>,
                Response = Response<Body>,
                Error = Infallible,
                Future: Send + 'static,
            > + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        >,
    ) {
        let (reporter, service) = tonic_health::server::health_reporter();
        let (closing, watched) = watch::channel(false);
        let health = Self {
            reporter,
            closing,
            names: Vec::new(),
        };
        let closing = watched;
        (health, Closing { service, closing })
    }

    /// Reports the whole server and `services` as SERVING, before the first caller can ask.
    pub(super) async fn open(&mut self, services: impl Iterator<Item = &'static str>) {
        self.names = std::iter::once("").chain(services).collect();
        self.report(ServingStatus::Serving).await;
    }

    /// Reports them as NOT_SERVING; whoever watches is told so, and then let go.
    pub(super) async fn close(&self) {
        self.report(ServingStatus::NotServing).await;
        self.closing.send_replace(true);
    }

    /// Lets go of whoever watches, who then watches the successor; nothing is reported, for nothing has changed.
    pub(super) fn release(&self) {
        self.closing.send_replace(true);
        self.closing.send_replace(false);
    }

    async fn report(&self, status: ServingStatus) {
        for name in &self.names {
            self.reporter.set_service_status(*name, status).await;
        }
    }
}

/// A service whose answers end when it closes, once they have nothing more to say.
#[derive(Debug, Clone)]
pub(super) struct Closing<S> {
    service: S,
    closing: watch::Receiver<bool>,
}

impl<S: NamedService> NamedService for Closing<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Closing<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.service.call(request);
        let mut closing = self.closing.clone();
        async move {
            let closed = async move {
                // A server that is gone closes as well.
                if !*closing.borrow_and_update() {
                    let _ = closing.changed().await;
                }
            };
            let closed = closed.boxed();
            let body = |body| {
                Body::new(ClosingBody {
                    body,
                    closed,
                    state: State::Open,
                })
            };
            answer.await.map(|response| response.map(body))
        }
        .boxed()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Closing,
    Ended,
}

struct ClosingBody {
    body: Body,
    closed: BoxFuture<'static, ()>,
    state: State,
}

impl HttpBody for ClosingBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.state == State::Ended {
            return Poll::Ready(None);
        }
        // Asked before the body: what was reported before closing is then certainly said.
        if this.state == State::Open && this.closed.poll_unpin(cx).is_ready() {
            this.state = State::Closing;
        }
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if polled.is_pending() && this.state == State::Closing {
            this.state = State::Ended;
            let trailers = draining().into_http::<()>().into_parts().0.headers;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Poll::Ready(ready!(polled))
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
