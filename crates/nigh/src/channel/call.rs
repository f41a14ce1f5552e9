//! One call over the channel: under its deadline, over a new connection if the old one broke before
//! the call was sent, and never sent twice.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::client::conn::http2::SendRequest;
use nigh_socket::Address;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};
use tonic::body::Body;
use tonic::{Code, Status};

use super::ChannelError;
use super::connection::{Carrier, Connector};
use super::nigh::{self, Refused};
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
    prepare(&mut request)?;
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

fn prepare(request: &mut Request<Body>) -> Result<(), Status> {
    if request.uri().path_and_query().is_none() {
        return Err(Status::invalid_argument("the call has no method path"));
    }
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
    mut sleep: Option<Pin<Box<Sleep>>>,
) -> Result<Response<Body>, Status> {
    let mut attempt = 1;
    loop {
        let live = match connector.current() {
            Some(live) => live,
            None => connector
                .ready(at)
                .await
                .map_err(|error| unreachable(&error, at))?,
        };
        let answer = match live.carrier {
            Carrier::Nigh(handle) => nigh::call(&handle, request, &mut sleep).await,
            Carrier::Http2(sender) => over_http2(connector, sender, request, &mut sleep).await,
        };
        let status = match answer {
            Ok(mut response) => {
                response.extensions_mut().insert(live.peer);
                return Ok(response);
            }
            Err(Refused::Failed(status)) => return Err(status),
            Err(Refused::Unsent(unsent, status)) => {
                request = *unsent;
                status
            }
        };
        connector.discard(live.generation).await;
        if attempt == ATTEMPTS_MAX {
            return Err(status);
        }
        attempt += 1;
    }
}

async fn over_http2(
    connector: &Connector,
    mut sender: SendRequest<Body>,
    mut request: Request<Body>,
    sleep: &mut Option<Pin<Box<Sleep>>>,
) -> Result<Response<Body>, Refused> {
    *request.uri_mut() = connector.uri(request.uri())?;
    // Without this, calls would pile up in the connection's queue beyond every limit.
    let accepts = std::future::poll_fn(|cx| sender.poll_ready(cx)).await;
    if let Err(error) = accepts {
        let status = lost(connector.address(), error);
        return Err(Refused::Unsent(Box::new(request), status));
    }
    // Lives as long as somebody waits for the answer; without it the request's open body would keep
    // the call, and its handler, alive after everybody has left.
    let (waiting, left) = oneshot::channel();
    request = request.map(|body| {
        Body::new(CancelledBody {
            body,
            left: Some(left),
        })
    });
    match sender.try_send_request(request).await {
        Ok(response) => {
            let sleep = sleep.take();
            Ok(response.map(|body| {
                Body::new(AnswerBody {
                    body,
                    sleep,
                    _waiting: waiting,
                })
            }))
        }
        Err(mut failed) => {
            let unsent = failed.take_message();
            let status = lost(connector.address(), failed.into_error());
            match unsent {
                Some(unsent) => {
                    // The body goes on over another connection, which watches for itself.
                    let _ = waiting.send(());
                    Err(Refused::Unsent(Box::new(unsent), status))
                }
                None => Err(Refused::Failed(status)),
            }
        }
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
    left: Option<oneshot::Receiver<()>>,
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
            && let Poll::Ready(left) = Pin::new(left).poll(cx)
        {
            this.left = None;
            if left.is_err() {
                return Poll::Ready(Some(Err(h2::Error::from(h2::Reason::CANCEL).into())));
            }
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
    body: hyper::body::Incoming,
    sleep: Option<Pin<Box<Sleep>>>,
    _waiting: oneshot::Sender<()>,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(broken)));
        }
        let Some(sleep) = &mut this.sleep else {
            return Poll::Pending;
        };
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Some(Err(deadline_exceeded())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
