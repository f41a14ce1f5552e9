//! One call's way out: head, body and end into the connection's queue, as credit and room allow.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body as _;
use tonic::Status;
use tonic::body::Body;

use super::gather::piece;
use super::{End, Ending, Gathered, Later, Link, OUT_BYTES_MAX, Role, State};
use crate::frame::{Kind, fields, head};

/// Bytes that a body may give without a pause before other calls have their turn.
const TURN_BYTES: usize = 256 * 1024;

/// The call is over: what is left of the body is not wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

type Piece = Option<Result<http_body::Frame<Bytes>, Status>>;

#[derive(Debug)]
pub(crate) struct Sender<R> {
    pub(crate) link: Arc<Link<R>>,
    pub(crate) stream: u32,
    /// The peer's frame limit.
    pub(crate) frame_bytes_max: usize,
    /// What the peer takes as metadata.
    pub(crate) header_bytes_max: usize,
    /// Whether the end of this direction is the end of the call (clause 4.4).
    pub(crate) ends_call: bool,
}

impl<R: Role> Sender<R> {
    pub(crate) fn new(link: Arc<Link<R>>, stream: u32, ends_call: bool) -> Self {
        let accepted = link.theirs.accepted();
        Self {
            link,
            stream,
            frame_bytes_max: accepted.frame_bytes_max,
            header_bytes_max: accepted.header_bytes_max,
            ends_call,
        }
    }

    /// Queues what `gathered` holds and credit allows, and wakes the driver; what it could not queue is left there.
    pub(crate) fn send(
        &self,
        gathered: &mut Gathered,
        state: &mut State<R>,
        later: &mut Later,
    ) -> Result<(), Gone> {
        self.queue(gathered, state, later)?;
        later.wake(state.nudge());
        Ok(())
    }

    /// As [`send`](Self::send), for who writes it itself.
    pub(crate) fn queue(
        &self,
        gathered: &mut Gathered,
        state: &mut State<R>,
        later: &mut Later,
    ) -> Result<(), Gone> {
        if state.slot(self.stream).is_none() {
            return Err(Gone);
        }
        // What the body's messages mention was attached before they were made.
        state.carry();
        while let Some(piece) = gathered.data.take() {
            let is_last = gathered.next.is_none() && matches!(gathered.end, Some(Ending::Done));
            match self.push(piece, is_last, state) {
                None => gathered.data = gathered.next.take(),
                Some(rest) => {
                    gathered.data = Some(rest);
                    break;
                }
            }
            if is_last {
                gathered.end = None;
                self.ended(state, later);
            }
        }
        if gathered.data.is_none()
            && let Some(end) = gathered.end.take()
        {
            self.end(end, state, later);
        }
        Ok(())
    }

    /// Queues as much of a piece as credit allows; returns what is left.
    fn push(&self, mut piece: Bytes, is_last: bool, state: &mut State<R>) -> Option<Bytes> {
        loop {
            let has_credit = state.credit > 0;
            let slot = state.slot(self.stream)?;
            if !has_credit || slot.credit <= 0 {
                return Some(piece);
            }
            let chunk = piece.split_to(piece.len().min(self.frame_bytes_max));
            let length = i64::try_from(chunk.len()).unwrap_or(i64::MAX);
            slot.credit -= length;
            state.credit -= length;
            let is_end = is_last && piece.is_empty();
            state.out.data(self.stream, chunk, is_end);
            if piece.is_empty() {
                return None;
            }
        }
    }

    fn end(&self, end: Ending, state: &mut State<R>, later: &mut Later) {
        let stream = self.stream;
        match end {
            Ending::Done => state.out.data(stream, Bytes::new(), true),
            Ending::Trailers(trailers) => {
                let trailers = self.fitting(trailers);
                state.out.frame(Kind::Trailers, 0, stream, |out| {
                    head::encode_trailers(&trailers, out);
                });
            }
            Ending::Failed(status) => return self.fail(status, state, later),
        }
        self.ended(state, later);
    }

    /// The body broke: the peer is told, and on the client's side the caller is.
    fn fail(&self, status: Status, state: &mut State<R>, later: &mut Later) {
        self.cancel(&status, state);
        if self.ends_call {
            state.close(self.stream, later);
        } else if let Some(slot) = state.slot(self.stream) {
            slot.is_cancelled = true;
            slot.finish(End::Failed(status));
            later.wake(slot.reader.take());
        }
    }

    /// Ends the call without an answer (clauses 6.5 and 9).
    pub(crate) fn cancel(&self, status: &Status, state: &mut State<R>) {
        let code = u32::try_from(status.code() as i32).unwrap_or(2);
        state
            .out
            .reason(Kind::Cancel, self.stream, code, status.message());
    }

    fn ended(&self, state: &mut State<R>, later: &mut Later) {
        if self.ends_call {
            drop(state.finish(self.stream, later));
        }
    }

    /// What does not fit the peer's limit is replaced by an error that does (clause 7.4).
    pub(crate) fn fitting(&self, trailers: HeaderMap) -> HeaderMap {
        if fields::size(&trailers) <= self.header_bytes_max {
            return trailers;
        }
        let text = "the answer's metadata are larger than the caller takes";
        let mut fitting = HeaderMap::new();
        // It has no metadata of its own, so it can always be written.
        drop(Status::resource_exhausted(text).add_header(&mut fitting));
        fitting
    }

    /// Sends the rest of a body, waiting for credit and room; returns when it is sent or not wanted any more.
    pub(crate) async fn pump(&self, mut gathered: Gathered, mut body: Body) -> Result<(), Gone> {
        let mut given = 0;
        loop {
            while gathered.data.is_some() || gathered.end.is_some() {
                let had_end = gathered.end.is_some();
                std::future::poll_fn(|cx| self.poll_room(&gathered, cx)).await?;
                self.link
                    .change(|state, later| self.send(&mut gathered, state, later))?;
                if had_end && gathered.end.is_none() {
                    return Ok(());
                }
            }
            let frame = std::future::poll_fn(|cx| self.poll_body(&mut body, &mut given, cx));
            match piece(frame.await?) {
                Ok(bytes) if bytes.is_empty() => continue,
                Ok(bytes) => {
                    given += bytes.len();
                    gathered.data = Some(bytes);
                }
                Err(end) => gathered.end = Some(end),
            }
            if body.is_end_stream() {
                gathered.end.get_or_insert(Ending::Done);
            }
        }
    }

    /// Waits until a piece, or the end, may be queued.
    fn poll_room(&self, gathered: &Gathered, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let mut state = self.link.lock();
        let has_room = state.credit > 0 && state.out.bytes() < OUT_BYTES_MAX;
        let slot = state.slot(self.stream).ok_or(Gone)?;
        if gathered.data.is_none() || (has_room && slot.credit > 0) {
            return Poll::Ready(Ok(()));
        }
        slot.sender = Some(cx.waker().clone());
        state.is_starved |= !has_room;
        Poll::Pending
    }

    /// The next piece of the body, unless the call is over; now and then other tasks come first.
    fn poll_body(
        &self,
        body: &mut Body,
        given: &mut usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Piece, Gone>> {
        if *given >= TURN_BYTES {
            *given = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let frame = Pin::new(body).poll_frame(cx);
        if frame.is_pending() {
            *given = 0;
        }
        let mut state = self.link.lock();
        let is_over = state.over().is_some();
        let slot = state.slot(self.stream).filter(|_| !is_over).ok_or(Gone)?;
        if frame.is_pending() {
            slot.sender = Some(cx.waker().clone());
        }
        drop(state);
        frame.map(Ok)
    }
}
