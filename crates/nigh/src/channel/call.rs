//! One call over the channel: under its deadline, over a new connection if the old one broke before
//! the call was sent, and never sent twice.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use nigh_socket::Address;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};
use tonic::body::Body;
use tonic::{Code, Status};

use super::ChannelError;
use super::connection::Connector;
use crate::deadline;

/// Connections tried for one call. A call is tried again only if it is certain that none of it was
/// sent: the server had closed the connection in the meantime.
const ATTEMPTS_MAX: u32 = 4;

const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("nigh/", env!("CARGO_PKG_VERSION")));

/// Runs one call to the head of its answer.
pub(super) async fn run(
    connector: Arc<Connector>,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let timeout = deadline::timeout(request.headers())
        .map_err(|bad| Status::invalid_argument(bad.to_string()))?;
    prepare(&connector, &mut request)?;
    let Some(timeout) = timeout else {
        return send(&connector, request, None, None).await;
    };
    let at = Instant::now() + timeout;
    let sending = send(
        &connector,
        request,
        Some(at),
        Some(Box::pin(tokio::time::sleep_until(at))),
    );
    tokio::time::timeout_at(at, sending)
        .await
        .unwrap_or_else(|_| Err(deadline_exceeded()))
}

fn prepare(connector: &Connector, request: &mut Request<Body>) -> Result<(), Status> {
    let path = request.uri().path_and_query().cloned();
    let path = path.ok_or_else(|| Status::invalid_argument("the call has no method path"))?;
    *request.uri_mut() = Uri::builder()
        .scheme(connector.scheme.clone())
        .authority(connector.authority.clone())
        .path_and_query(path)
        .build()
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    request
        .headers_mut()
        .entry(header::USER_AGENT)
        .or_insert(USER_AGENT);
    Ok(())
}

async fn send(
    connector: &Connector,
    mut request: Request<Body>,
    at: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
) -> Result<Response<Body>, Status> {
    // Lives as long as somebody waits for the answer; without it the request's open body would keep
    // the call, and its handler, alive after everybody has left.
    let (waiting, left) = oneshot::channel();
    request = request.map(|body| {
        Body::new(CancelledBody {
            body,
            left: Some(left),
        })
    });
    let mut attempt = 1;
    loop {
        let mut live = connector
            .ready(at)
            .await
            .map_err(|error| unreachable(&error, at))?;
        // Without this, calls would pile up in the connection's queue beyond every limit.
        let accepts = std::future::poll_fn(|cx| live.sender.poll_ready(cx)).await;
        let error = match accepts {
            Err(error) => error,
            Ok(()) => match live.sender.try_send_request(request).await {
                Ok(mut response) => {
                    response.extensions_mut().insert(live.peer);
                    return Ok(response.map(|response_body| {
                        Body::new(AnswerBody {
                            answer: Some((response_body, waiting)),
                            sleep,
                        })
                    }));
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => {
                        request = unsent;
                        failed.into_error()
                    }
                    None => return Err(lost(connector.address(), failed.into_error())),
                },
            },
        };
        connector.discard(live.generation).await;
        if attempt == ATTEMPTS_MAX {
            return Err(lost(connector.address(), error));
        }
        attempt += 1;
    }
}

fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("the call's deadline has passed")
}

fn unreachable(error: &ChannelError, at: Option<Instant>) -> Status {
    if at.is_some_and(|at| Instant::now() >= at) {
        return deadline_exceeded();
    }
    Status::unavailable(with_causes(error))
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// What a call's caller is told when the connection broke under it.
fn lost(address: &Address, error: hyper::Error) -> Status {
    let text = with_causes(&error);
    // hyper cancels what its connection's task leaves behind; the caller has cancelled nothing.
    let abandoned = error.is_canceled();
    let status = Status::from_error(Box::new(error));
    if abandoned || status.code() == Code::Unknown {
        return Status::unavailable(format!("the connection to {address} was lost: {text}"));
    }
    status
}

/// A request's body that resets its stream once nobody waits for the answer any more.
struct CancelledBody {
    body: Body,
    left: Option<oneshot::Receiver<Infallible>>,
}

impl HttpBody for CancelledBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        if let Some(left) = &mut this.left
            && Pin::new(left).poll(cx).is_ready()
        {
            this.left = None;
            return Poll::Ready(Some(Err(h2::Error::from(h2::Reason::CANCEL).into())));
        }
        Pin::new(&mut this.body).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// An answer's body, ended by the call's deadline.
struct AnswerBody {
    /// With what keeps the upload going. Both are gone once the deadline has passed, and so the call.
    answer: Option<(hyper::body::Incoming, oneshot::Sender<Infallible>)>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some((body, _)) = &mut this.answer else {
            return Poll::Ready(None);
        };
        // Asked first: an answer that always has more to say would never let the timer's turn come.
        if let Some(sleep) = &mut this.sleep
            && sleep.as_mut().poll(cx).is_ready()
        {
            this.answer = None;
            return Poll::Ready(Some(Err(deadline_exceeded())));
        }
        let frame = ready!(Pin::new(body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map_err(broken)))
    }

    fn is_end_stream(&self) -> bool {
        self.answer
            .as_ref()
            .is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.answer
            .as_ref()
            .map_or_else(SizeHint::default, |(body, _)| body.size_hint())
    }
}

fn broken(error: hyper::Error) -> Status {
    let text = with_causes(&error);
    let status = Status::from_error(Box::new(error));
    match status.code() {
        Code::Unknown => Status::unavailable(format!("the connection was lost: {text}")),
        _ => status,
    }
}
