//! A service behind one type, so that routes of any kind stand in one table: one allocation a call beside its own.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;

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
        Box::pin(async move {
            match poll_fn(|cx| service.poll_ready(cx)).await {
                Ok(()) => {}
                Err(never) => match never {},
            }
            match service.call(request).await {
                Ok(response) => response.map(Body::new),
                Err(never) => match never {},
            }
        })
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

    /// Answers one call. Dropping the future cancels it.
    pub(crate) fn answer(&self, request: Request<Body>) -> Answering {
        self.0.answer(request)
    }
}
