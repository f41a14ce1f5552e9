//! One call over the nigh wire, from the request to the head of its answer.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Sleep;
use tonic::body::Body;
use tonic::{Code, Status};

use super::again::{Again, rest_of};
use super::driver::Turn;
use super::state::{self, Client, Reading};
use super::{Conn, Handle};
use crate::fd::{ClientCall, Descriptors};
use crate::frame::{END, Kind, fields, head};
use crate::link::{End, Ending, Gathered, Later, Received, Sender, State, Whole, gather};

/// Why there is no answer.
pub(in crate::channel) enum Refused {
    /// No server has seen the call, for certain: it may be made again, elsewhere.
    Unseen(Box<Request<Body>>, Status),
    Failed(Status),
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

/// Makes a call, with what was attached to it. `sleep` ends its answer's body, too.
pub(in crate::channel) async fn call(
    handle: &Handle,
    request: Request<Body>,
    asked: &mut Option<Descriptors>,
    sleep: &mut Option<Pin<Box<Sleep>>>,
) -> Result<Response<Body>, Refused> {
    let conn = &handle.conn;
    let (parts, mut body) = request.into_parts();
    let first = std::future::poll_fn(|cx| Poll::Ready(gather(&mut body, cx)));
    let mut gathered = first.await;
    if let Some(Ending::Failed(status)) = gathered.end {
        return Err(Refused::Failed(status));
    }
    let accepted = conn.link.theirs.accepted();
    if fields::size(&parts.headers) > accepted.header_bytes_max {
        let text = "the call's metadata are larger than the server takes";
        return Err(Status::resource_exhausted(text).into());
    }
    let mut again = Again::of(&gathered);
    let Ok(permit) = conn.permits.acquire().await else {
        let status = conn.closed();
        return Err(unseen(parts, rest_of(gathered, body), status));
    };
    permit.forget();
    let mut fds = match &conn.link.fds {
        Some(fds) => {
            Some(ClientCall::ahead(fds, asked).inspect_err(|_| conn.permits.add_permits(1))?)
        }
        None => None,
    };
    let Some(opened) = Opened::new(conn, &parts, &mut gathered, fds.as_mut()) else {
        let status = conn.closed();
        // Nothing of it has left.
        let _whole = fds.map(ClientCall::retreat);
        return Err(unseen(parts, rest_of(gathered, body), status));
    };
    if gathered.data.is_some() || gathered.end.is_some() || !again.is_whole {
        let body = again.keep(body);
        let sender = Sender::new(Arc::clone(&conn.link), opened.stream, false);
        // It ends with the call, whose end it sees.
        tokio::spawn(async move {
            let _ = sender.pump(gathered, body).await;
        });
    }
    let answer = std::future::poll_fn(|cx| opened.poll(cx));
    let answer = match &fds {
        None => answer.await,
        Some(fds) => tokio::select! {
            biased;
            answer = answer => answer,
            status = fds.lost() => return Err(Refused::Failed(status)),
        },
    };
    let stream = opened.disarm();
    match answer {
        Ok(answer) => {
            let response = conn.response(stream, answer, sleep);
            match fds {
                None => Ok(response),
                Some(fds) => with_fds(response, fds),
            }
        }
        Err(failure) => {
            let Some(body) = again.back().filter(|_| failure.is_unseen) else {
                return Err(Refused::Failed(failure.status));
            };
            // What it refers to may have left.
            if fds.is_some_and(|fds| !fds.retreat()) {
                return Err(Refused::Failed(failure.status));
            }
            Err(unseen(parts, body, failure.status))
        }
    }
}

fn unseen(parts: Parts, body: Body, status: Status) -> Refused {
    Refused::Unseen(Box::new(Request::from_parts(parts, body)), status)
}

/// The response with its call's descriptors, which end with it.
fn with_fds(response: Response<Body>, fds: ClientCall) -> Result<Response<Body>, Refused> {
    if let Some(status) = fds.loss() {
        return Err(Refused::Failed(status));
    }
    let handle = fds.handle();
    let mut response = response.map(|body| {
        Body::new(WithFds {
            body: Some(body),
            fds: Some(fds),
        })
    });
    response.extensions_mut().insert(handle);
    Ok(response)
}

/// An answer's body that fails when descriptors of its call are lost.
struct WithFds {
    body: Option<Body>,
    fds: Option<ClientCall>,
}

impl HttpBody for WithFds {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        // Before the message that mentions them, so that nobody looks for what is not there.
        if let Some(status) = this.fds.as_ref().and_then(|fds| fds.poll_loss(cx)) {
            (this.body, this.fds) = (None, None);
            return Poll::Ready(Some(Err(status)));
        }
        let frame = ready!(polled);
        ClientCall::follow(&mut this.fds, frame.as_ref());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl Drop for WithFds {
    fn drop(&mut self) {
        if self.body.is_some() && self.is_end_stream() {
            ClientCall::follow::<Status>(&mut self.fds, None);
        }
    }
}

/// The head of an answer, and all of its body if it has come.
struct Answer {
    status: StatusCode,
    fields: HeaderMap,
    whole: Option<Whole>,
}

struct Failure {
    status: Status,
    is_unseen: bool,
}

/// A call that was sent and whose answer has not begun. Dropping it cancels it.
struct Opened<'a> {
    conn: &'a Conn,
    stream: u32,
    is_armed: bool,
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        if !self.is_armed {
            return;
        }
        let stream = self.stream;
        self.conn.link.change(|state, later| {
            let Some(slot) = state.slot(stream) else {
                return;
            };
            let needs_telling = !slot.is_ended;
            if needs_telling {
                let code = u32::try_from(Code::Cancelled as i32).unwrap_or(1);
                state.out.reason(Kind::Cancel, stream, code, "");
            }
            state.close(stream, later);
            state.own.drive();
            later.wake(state.nudge());
        });
    }
}

impl<'a> Opened<'a> {
    /// Queues the request; `None`: the connection takes no calls any more.
    fn new(
        conn: &'a Conn,
        parts: &Parts,
        gathered: &mut Gathered,
        fds: Option<&mut ClientCall>,
    ) -> Option<Self> {
        conn.link.change(|state, later| {
            if state.own.is_leaving || state.over().is_some() {
                return None;
            }
            let stream = state::next_stream(state);
            let begins_at = state.out.appended();
            let slot = state.open(stream, u32::MAX).ok()?;
            slot.begins_at = begins_at;
            if let Some(fds) = fds {
                // Ahead of HEADERS: one system call takes all.
                fds.bind(stream);
                state.carry();
            }
            let is_done = matches!(gathered.end, Some(Ending::Done));
            let is_empty = is_done && gathered.data.is_none();
            let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            let flags = head::request_flags(&parts.method, &parts.headers);
            let end = if is_empty { END } else { 0 };
            let State { out, own, .. } = state;
            out.frame(Kind::Headers, flags | end, stream, |out| {
                let request = (&parts.method, path, &parts.headers);
                head::encode_request(request, flags, &mut own.paths, out);
            });
            if is_empty {
                gathered.end = None;
            } else {
                let sender = Sender::new(Arc::clone(&conn.link), stream, false);
                // The slot was just opened.
                let _ = sender.queue(gathered, state, later);
            }
            let is_sent = is_done && gathered.end.is_none();
            let is_solo = state::begin(state, stream, is_sent);
            if !is_solo {
                later.wake(state.nudge());
            } else if !state.own.is_ticking {
                later.wake(state.wake_driver());
            }
            Some(Self {
                conn,
                stream,
                is_armed: true,
            })
        })
    }

    fn disarm(mut self) -> u32 {
        self.is_armed = false;
        self.stream
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<Answer, Failure>> {
        let Self { conn, stream, .. } = *self;
        loop {
            let mut later = Later::default();
            let mut state = conn.link.lock();
            let taken = take(&mut state, stream, &mut later);
            let line = match &taken {
                Some(_) => None,
                None => lend(&mut state, stream, cx),
            };
            drop(state);
            later.run();
            if let Some(taken) = taken {
                return Poll::Ready(taken);
            }
            let Some(mut line) = line else {
                return Poll::Pending;
            };
            let turn = conn.turn(&mut line, Some(stream), cx);
            if let Turn::Ended(status) = &turn {
                conn.end(status, Some(&mut *line));
            }
            let mut state = conn.link.lock();
            // Of an ended connection nobody needs it.
            state.own.line = state.over().is_none().then_some(line);
            let waker = match state.own.reading {
                Reading::Solo(_) => None,
                _ => state.nudge(),
            };
            if matches!(turn, Turn::Waiting)
                && let Some(slot) = state.slot(stream)
            {
                slot.reader = Some(cx.waker().clone());
            }
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
            if matches!(turn, Turn::Waiting) {
                return Poll::Pending;
            }
        }
    }
}

/// The line, if this call is to read itself; else the call waits to be woken.
fn lend(
    state: &mut State<Client>,
    stream: u32,
    cx: &Context<'_>,
) -> Option<Box<crate::link::line::Line<crate::io::Io>>> {
    let is_solo = state.own.reading == Reading::Solo(stream);
    let line = if is_solo { state.own.line.take() } else { None };
    let slot = state.slot(stream)?;
    // Whoever reads its own answer need not be woken for it.
    slot.reader = line.is_none().then(|| cx.waker().clone());
    line
}

/// The answer, if its head has come or the call has failed.
fn take(
    state: &mut State<Client>,
    stream: u32,
    later: &mut Later,
) -> Option<Result<Answer, Failure>> {
    let Some(slot) = state.slot(stream) else {
        let status = Status::cancelled("the call is over");
        let is_unseen = false;
        return Some(Err(Failure { status, is_unseen }));
    };
    if let Some((status, fields)) = slot.head.take() {
        let whole = if slot.is_ended {
            state.take_whole(stream, later)
        } else {
            None
        };
        if whole.is_some() {
            solo_is_over(state, stream);
        } else {
            // The rest comes as it is read, by the driver.
            state.own.drive();
            later.wake(state.nudge());
        }
        return Some(Ok(Answer {
            status,
            fields,
            whole,
        }));
    }
    let is_unseen = slot.is_unseen;
    let status = match slot.end.take()? {
        End::Failed(status) => status,
        End::Done | End::Trailers(_) => Status::internal("an answer without a head"),
    };
    state.close(stream, later);
    solo_is_over(state, stream);
    Some(Err(Failure { status, is_unseen }))
}

fn solo_is_over(state: &mut State<Client>, stream: u32) {
    if state.own.reading == Reading::Solo(stream) {
        state.own.reading = Reading::Nobody;
    }
}

impl Conn {
    fn closed(&self) -> Status {
        let over = self.link.lock().over().cloned();
        over.unwrap_or_else(|| Status::unavailable("the server is stopping; try again"))
    }

    fn response(
        &self,
        stream: u32,
        answer: Answer,
        sleep: &mut Option<Pin<Box<Sleep>>>,
    ) -> Response<Body> {
        let body = match answer.whole {
            Some(whole) => Body::new(whole),
            None => {
                let body = Received::new(Arc::clone(&self.link), stream, true);
                match sleep.take() {
                    None => Body::new(body),
                    Some(sleep) => Body::new(Timed {
                        body: Some(body),
                        sleep,
                    }),
                }
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = answer.status;
        *response.version_mut() = http::Version::HTTP_2;
        *response.headers_mut() = answer.fields;
        response
    }
}

/// An answer's body, ended by the call's deadline.
struct Timed {
    body: Option<Received<Client>>,
    sleep: Pin<Box<Sleep>>,
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        // Asked first: an answer that always has more to say would never let the timer's turn come.
        if this.sleep.as_mut().poll(cx).is_pending() {
            return Pin::new(body).poll_frame(cx);
        }
        // Dropping the rest cancels the call.
        this.body = None;
        let text = "the call's deadline has passed";
        Poll::Ready(Some(Err(Status::deadline_exceeded(text))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }
}
