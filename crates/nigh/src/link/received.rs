//! The body of a call as it arrives, and of one that arrived whole.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;

use super::{End, Later, Link, Role, State};
use crate::frame::Kind;

type Piece = Option<Result<Frame<Bytes>, Status>>;

/// A body that is read as it arrives. Dropping it before its end tells the peer that it is not wanted.
#[derive(Debug)]
pub(crate) struct Received<R: Role> {
    link: Arc<Link<R>>,
    stream: u32,
    /// Whether the end of this direction is the end of the call: the client's view (clause 4.4).
    ends_call: bool,
    is_over: bool,
}

impl<R: Role> Received<R> {
    pub(crate) fn new(link: Arc<Link<R>>, stream: u32, ends_call: bool) -> Self {
        Self {
            link,
            stream,
            ends_call,
            is_over: false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        let mut later = Later::default();
        let polled = self.poll_state(cx, &mut later);
        later.run();
        polled
    }

    fn poll_state(&mut self, cx: &mut Context<'_>, later: &mut Later) -> Poll<Piece> {
        let link = Arc::clone(&self.link);
        let mut state = link.lock();
        let Some(slot) = state.slot(self.stream) else {
            self.is_over = true;
            let gone = Status::cancelled("the caller has left");
            return Poll::Ready(Some(Err(gone)));
        };
        if let Some(bytes) = slot.inbox.pop_front() {
            state.consumed(self.stream, bytes.len(), later);
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let Some(end) = slot.end.take() else {
            slot.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        self.is_over = true;
        if self.ends_call {
            state.close(self.stream, later);
        }
        Poll::Ready(end.into_frame())
    }

    fn abandon(&self, state: &mut State<R>, later: &mut Later) {
        let Some(slot) = state.slot(self.stream) else {
            return;
        };
        if self.ends_call {
            if !slot.is_ended {
                let cancelled = tonic::Code::Cancelled as i32;
                let code = u32::try_from(cancelled).unwrap_or_default();
                state.out.reason(Kind::Cancel, self.stream, code, "");
                later.wake(state.nudge());
            }
            state.close(self.stream, later);
        } else {
            slot.is_unread = true;
            let unread = slot.inbox.drain(..).map(|bytes| bytes.len()).sum();
            if let Some(credit) = state.receipts.consumed(unread) {
                state.out.window(0, credit);
                later.wake(state.nudge());
            }
        }
    }
}

impl End {
    fn into_frame(self) -> Piece {
        match self {
            Self::Done => None,
            Self::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            Self::Failed(status) => Some(Err(status)),
        }
    }
}

impl<R: Role> HttpBody for Received<R> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Piece> {
        if self.is_over {
            return Poll::Ready(None);
        }
        self.poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}

impl<R: Role> Drop for Received<R> {
    fn drop(&mut self) {
        if !self.is_over {
            let link = Arc::clone(&self.link);
            link.change(|state, later| self.abandon(state, later));
        }
    }
}

/// A body that has arrived with its end.
#[derive(Debug)]
pub(crate) struct Whole {
    pieces: VecDeque<Bytes>,
    first: Option<Bytes>,
    end: Option<End>,
}

impl Whole {
    pub(crate) fn new(first: Option<Bytes>, pieces: VecDeque<Bytes>, end: End) -> Self {
        Self {
            pieces,
            first,
            end: Some(end),
        }
    }
}

impl HttpBody for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Piece> {
        let first = self.first.take();
        if let Some(bytes) = first.or_else(|| self.pieces.pop_front()) {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        Poll::Ready(self.end.take().and_then(End::into_frame))
    }

    fn is_end_stream(&self) -> bool {
        let is_read = self.first.is_none() && self.pieces.is_empty();
        is_read && matches!(self.end, None | Some(End::Done))
    }

    fn size_hint(&self) -> SizeHint {
        let rest: usize = self.pieces.iter().map(Bytes::len).sum();
        let first = self.first.as_ref().map_or(0, Bytes::len);
        SizeHint::with_exact((rest + first) as u64)
    }
}
