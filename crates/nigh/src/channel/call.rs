//! One call over the channel: under its deadline, over a new connection if the old one broke before
//! the call was sent, and never sent twice.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, Response, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use nigh_socket::Address;
use tokio::time::{Instant, Sleep};
use tonic::body::Body;
use tonic::{Code, Status};

use super::ChannelError;
use super::connection::{Carrier, Connector, Http2};
use super::nigh::{self, Refused};
use super::replay::{self, Keep};
use super::traffic::h2_error;
use super::upload::{Upload, Waiting};
use crate::deadline;
use crate::fd::{CALL_HEADER, ClientCall, Descriptors, Incapable};

/// How often one call is tried. It is tried again only if it is certain that no server has seen it: none of it was
/// sent, or the server says that it has not looked at it. (gRPC calls this a transparent retry.)
const ATTEMPTS_MAX: u32 = 5;

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
    let at = deadline::after(timeout);
    let sleep = Box::pin(tokio::time::sleep_until(at));
    let sending = Box::pin(send(&connector, request, Some(at), Some(sleep)));
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

/// What a call keeps from one attempt to the next.
#[derive(Default)]
struct Attempt {
    sleep: Option<Pin<Box<Sleep>>>,
    /// Descriptors to send that no connection has taken yet.
    asked: Option<Descriptors>,
}

async fn send(
    connector: &Connector,
    mut request: Request<Body>,
    at: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
) -> Result<Response<Body>, Status> {
    let mut attempt = Attempt {
        sleep,
        asked: request.extensions_mut().remove::<Descriptors>(),
    };
    if let (Some(asked), Some(why)) = (&attempt.asked, connector.incapability()) {
        asked.refuse(why)?;
    }
    let mut tries = 1;
    loop {
        let live = match connector.current() {
            Some(live) => live,
            None => Box::pin(connector.ready(at))
                .await
                .map_err(|error| unreachable(&error, at))?,
        };
        let answer = match live.carrier {
            Carrier::Nigh(handle) => over_nigh(&handle, request, &mut attempt).await,
            // Apart, so that the future of every call on the nigh wire is not as large as this one's.
            Carrier::Http2(http2) => {
                Box::pin(over_http2(connector, http2, request, &mut attempt)).await
            }
        };
        let status = match answer {
            Ok(mut response) => {
                response.extensions_mut().insert(live.peer);
                return Ok(response);
            }
            Err(Refused::Failed(status)) => return Err(status),
            Err(Refused::Unseen(unseen, status)) => {
                request = *unseen;
                status
            }
        };
        if tries == ATTEMPTS_MAX {
            return Err(status);
        }
        Box::pin(connector.discard(live.generation)).await;
        tries += 1;
    }
}

async fn over_nigh(
    handle: &nigh::Handle,
    request: Request<Body>,
    attempt: &mut Attempt,
) -> Result<Response<Body>, Refused> {
    if let Some(asked) = &attempt.asked
        && !handle.carries_descriptors()
    {
        asked.refuse(Incapable::NighWire)?;
    }
    nigh::call(handle, request, &mut attempt.asked, &mut attempt.sleep).await
}

async fn over_http2(
    connector: &Connector,
    mut http2: Http2,
    mut request: Request<Body>,
    attempt: &mut Attempt,
) -> Result<Response<Body>, Refused> {
    *request.uri_mut() = connector.uri(request.uri())?;
    // Says whether the connection still lives, and no more: calls beyond the server's limit of streams wait in the
    // connection's queue, which holds as many as its callers make.
    let accepts = std::future::poll_fn(|cx| http2.sender.poll_ready(cx)).await;
    if let Err(error) = accepts {
        let status = lost(connector.address(), error);
        return Err(Refused::Unseen(Box::new(request), status));
    }
    let (mut request, kept, waiting) = keep(request);
    let fds = match &http2.link {
        Some(link) => {
            let call = ClientCall::begin(link, &mut attempt.asked, request.headers_mut());
            Some(call.await?)
        }
        None => None,
    };
    let sent_before = http2.traffic.sent();
    match sent(&mut http2, request, fds.as_ref()).await? {
        Ok(mut response) => {
            if let Some(fds) = &fds {
                response.extensions_mut().insert(fds.handle());
            }
            let sleep = attempt.sleep.take();
            Ok(response.map(|body| {
                Body::new(AnswerBody {
                    answer: Some((body, Some(waiting))),
                    sleep,
                    fds,
                })
            }))
        }
        Err(mut failed) => {
            let was_sent = failed.take_message().is_none();
            let error = failed.into_error();
            let traffic = &http2.traffic;
            let unseen = !was_sent || traffic.spared(&error, sent_before, kept.is_begun());
            let status = lost(connector.address(), error);
            match kept.back().filter(|_| unseen) {
                Some(mut again) => {
                    again.headers_mut().remove(CALL_HEADER);
                    if fds.is_some_and(|fds| !fds.retreat()) {
                        // What it refers to went down with the old connection.
                        return Err(Refused::Failed(status));
                    }
                    Err(Refused::Unseen(Box::new(again), status))
                }
                None => Err(Refused::Failed(status)),
            }
        }
    }
}

/// What is needed to make a call again.
struct Kept {
    head: Parts,
    body: Keep,
}

impl Kept {
    fn is_begun(&self) -> bool {
        self.body.is_begun()
    }

    fn back(self) -> Option<Request<Body>> {
        Some(Request::from_parts(self.head, self.body.back()?))
    }
}

/// The request as hyper gets it, what is kept of it, and what keeps its upload going.
fn keep(request: Request<Body>) -> (Request<Body>, Kept, Waiting) {
    let (head, body) = request.into_parts();
    let (mut again, ()) = Request::new(()).into_parts();
    again.method = head.method.clone();
    again.uri = head.uri.clone();
    again.version = head.version;
    again.headers = head.headers.clone();
    let (replay, kept) = replay::keep(body);
    // Without it the request's open body would keep the call, and its handler, alive after everybody has left.
    let (upload, waiting) = Upload::new(Body::new(replay));
    let request = Request::from_parts(head, Body::new(upload));
    let kept = Kept {
        head: again,
        body: kept,
    };
    (request, kept, waiting)
}

type Sent = Result<Response<Incoming>, TrySendError<Request<Body>>>;

/// Sends the request and waits for the head of its answer; fails when descriptors of the call are lost meanwhile.
async fn sent(
    http2: &mut Http2,
    request: Request<Body>,
    fds: Option<&ClientCall>,
) -> Result<Sent, Status> {
    let gate = http2.traffic.handing_over();
    let sending = http2.sender.try_send_request(request);
    drop(gate);
    let Some(fds) = fds else {
        return Ok(sending.await);
    };
    let sent = tokio::select! {
        biased;
        sent = sending => sent,
        status = fds.lost() => return Err(status),
    };
    match fds.loss() {
        Some(status) if sent.is_ok() => Err(status),
        _ => Ok(sent),
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
    // A server that leaves in order is no error of anybody's.
    let left = h2_error(&error)
        .is_some_and(|error| error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR));
    let status = Status::from_error(Box::new(error));
    if abandoned || left || status.code() == Code::Unknown {
        return Status::unavailable(format!("the connection to {address} was lost: {text}"));
    }
    status
}

/// An answer's body, ended by the call's deadline.
struct AnswerBody {
    /// With what keeps the upload going. Both are gone once the deadline has passed, and so the call.
    answer: Option<(Incoming, Option<Waiting>)>,
    sleep: Option<Pin<Box<Sleep>>>,
    fds: Option<ClientCall>,
}

impl AnswerBody {
    /// Ends the call with its answer: well, or with what came of it closed.
    fn follow(&mut self, frame: Option<&Result<Frame<Bytes>, hyper::Error>>) {
        ClientCall::follow(&mut self.fds, frame);
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        if self.answer.is_some() && self.is_end_stream() {
            self.follow(None);
        }
    }
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
            (this.answer, this.fds) = (None, None);
            return Poll::Ready(Some(Err(deadline_exceeded())));
        }
        let polled = Pin::new(body).poll_frame(cx);
        // Before the message that mentions them, so that nobody looks for what is not there.
        if let Some(status) = this.fds.as_ref().and_then(|fds| fds.poll_loss(cx)) {
            (this.answer, this.fds) = (None, None);
            return Poll::Ready(Some(Err(status)));
        }
        let frame = ready!(polled);
        this.follow(frame.as_ref());
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
