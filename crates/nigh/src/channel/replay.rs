//! A request's body that can be had back while no answer has begun: for a call that the server has certainly not seen.
//!
//! Trap: what is kept is memory. The first piece is kept whatever its size, for a unary call is one piece; further ones
//! up to [`KEPT_BYTES_MAX`]. A call that has sent more is not made again.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// Bytes of one call that are kept to be sent again, its first piece aside.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// Wraps a body: what is sent, and what it can be had back with.
pub(super) fn keep(body: Body) -> (Replay, Keep) {
    let kept = Kept {
        body: Some(body),
        taken: VecDeque::new(),
        bytes: 0,
        is_begun: false,
        is_done: false,
        is_whole: true,
    };
    let kept = Arc::new(Mutex::new(kept));
    (Replay(Arc::clone(&kept)), Keep(kept))
}

#[derive(Debug)]
struct Kept {
    /// `None` once it was had back.
    body: Option<Body>,
    /// What was taken of it so far.
    taken: VecDeque<Bytes>,
    bytes: usize,
    /// It was asked for its first piece.
    is_begun: bool,
    is_done: bool,
    /// Nothing of what was taken was let go.
    is_whole: bool,
}

impl Kept {
    fn note(&mut self, frame: Option<&Result<Frame<Bytes>, Status>>) {
        let data = match frame {
            None => {
                self.is_done = true;
                return;
            }
            Some(Ok(frame)) => frame.data_ref(),
            Some(Err(_)) => None,
        };
        let Some(data) = data.filter(|_| self.is_whole) else {
            return self.forget();
        };
        self.bytes += data.len();
        if !self.taken.is_empty() && self.bytes > KEPT_BYTES_MAX {
            return self.forget();
        }
        self.taken.push_back(data.clone());
    }

    fn forget(&mut self) {
        self.is_whole = false;
        self.taken = VecDeque::new();
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The body as it is sent.
#[derive(Debug)]
pub(super) struct Replay(Arc<Mutex<Kept>>);

/// The way back to it. Dropped, nothing is kept any more.
#[derive(Debug)]
pub(super) struct Keep(Arc<Mutex<Kept>>);

impl Keep {
    /// Whether any of it was asked for.
    pub(super) fn is_begun(&self) -> bool {
        lock(&self.0).is_begun
    }

    /// The body from its beginning; `None` when too much of it is gone. Who sends it still finds its end.
    pub(super) fn back(self) -> Option<Body> {
        let mut kept = lock(&self.0);
        if !kept.is_whole {
            return None;
        }
        let body = kept.body.take().filter(|_| !kept.is_done);
        let taken = std::mem::take(&mut kept.taken);
        drop(kept);
        Some(Body::new(Again { taken, body }))
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        lock(&self.0).forget();
    }
}

impl HttpBody for Replay {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut kept = lock(&self.0);
        kept.is_begun = true;
        let Some(body) = kept.body.as_mut().filter(|body| !body.is_end_stream()) else {
            kept.is_done = true;
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        if let Poll::Ready(frame) = &polled {
            kept.note(frame.as_ref());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let kept = lock(&self.0);
        kept.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let kept = lock(&self.0);
        kept.body
            .as_ref()
            .map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

/// A body from its beginning: what was taken, and the rest.
struct Again {
    taken: VecDeque<Bytes>,
    body: Option<Body>,
}

impl HttpBody for Again {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match (self.taken.pop_front(), &mut self.body) {
            (Some(piece), _) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            (None, Some(body)) => Pin::new(body).poll_frame(cx),
            (None, None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.taken.is_empty() && self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt as _, StreamBody};

    fn body(pieces: &[usize]) -> Body {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|length| Ok::<_, Status>(Frame::data(Bytes::from(vec![7; *length]))))
            .collect();
        Body::new(StreamBody::new(tokio_stream::iter(pieces)))
    }

    async fn take(replay: &mut Replay, pieces: usize) {
        for _ in 0..pieces {
            replay.frame().await.unwrap().unwrap();
        }
    }

    async fn length(body: Body) -> usize {
        body.collect().await.unwrap().to_bytes().len()
    }

    #[tokio::test]
    async fn it_comes_back_whole_wherever_it_was_left() {
        for taken in 0..=3 {
            let (mut replay, keep) = keep(body(&[1, 2, 3]));
            take(&mut replay, taken).await;
            assert_eq!(keep.is_begun(), taken > 0);
            assert_eq!(length(keep.back().unwrap()).await, 6, "{taken}");
            // Who still sends it finds its end and nothing else.
            assert!(replay.frame().await.is_none());
        }
        let (mut replay, keep) = keep(body(&[1]));
        take(&mut replay, 1).await;
        assert!(replay.frame().await.is_none());
        assert_eq!(length(keep.back().unwrap()).await, 1);
    }

    #[tokio::test]
    async fn one_piece_of_any_size_comes_back_and_many_do_not() {
        let (mut replay, one) = keep(body(&[5 * KEPT_BYTES_MAX]));
        take(&mut replay, 1).await;
        assert_eq!(length(one.back().unwrap()).await, 5 * KEPT_BYTES_MAX);
        let (mut replay, many) = keep(body(&[KEPT_BYTES_MAX, 1]));
        take(&mut replay, 2).await;
        assert!(many.back().is_none());
    }

    #[tokio::test]
    async fn once_the_answer_has_begun_nothing_is_kept() {
        let (mut replay, keep) = keep(body(&[9, 9]));
        take(&mut replay, 1).await;
        drop(keep);
        take(&mut replay, 1).await;
        assert!(lock(&replay.0).taken.is_empty());
    }

    #[tokio::test]
    async fn a_body_that_broke_does_not_come_back() {
        let broken = tokio_stream::iter([
            Ok(Frame::data(Bytes::from_static(b"x"))),
            Err(Status::aborted("broke")),
        ]);
        let (mut replay, keep) = keep(Body::new(StreamBody::new(broken)));
        take(&mut replay, 1).await;
        assert!(replay.frame().await.unwrap().is_err());
        assert!(keep.back().is_none());
    }
}
