//! A service behind one type, so that routes of any kind stand in one table: one allocation a call beside its own.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use tonic::body::Body;
use tower_service::Service;

/// A call that is being answered.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Shared by all calls; each has a clone of the service.
#[derive(Clone)]
pub(crate) struct Handler(Arc<dyn Answers>);

trait Answers: Send + Sync {
    fn answer(&self, request: Request<Body>) -> Answering;
}

struct Typed<S>(S);

impl<S, B> Answers for Typed<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn answer(&self, request: Request<Body>) -> Answering {
        let mut service = self.0.clone();
        // Nearly every service is ready at once: then the request need not travel through a future of ours.
        match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => {
                let answer = service.call(request);
                Box::pin(async move { boxed(answer.await) })
            }
            Poll::Ready(Err(never)) => match never {},
            Poll::Pending => Box::pin(async move {
                match poll_fn(|cx| service.poll_ready(cx)).await {
                    Ok(()) => boxed(service.call(request).await),
                    Err(never) => match never {},
                }
            }),
        }
    }
}

fn boxed<B>(answer: Result<Response<B>, Infallible>) -> Response<Body>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match answer {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}

impl Handler {
    /// A layer (tonic's interceptors, for one) gives responses a body of its own: any is taken.
    pub(crate) fn new<S, B>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self(Arc::new(Typed(service)))
    }

    /// Answers one call; the service may run, and panic, before the first poll. Dropping the future cancels it.
    pub(crate) fn answer(&self, request: Request<Body>) -> Answering {
        self.0.answer(request)
    }
}
