//! A request's body from its beginning, for a call that no server has seen.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use tonic::Status;
use tonic::body::Body;

use crate::channel::replay::{self, Keep};
use crate::link::{End, Ending, Gathered, Whole};

/// What is needed to make a call again.
pub(super) struct Again {
    pieces: [Option<Bytes>; 2],
    pub(super) is_whole: bool,
    /// What follows the pieces, while it is sent.
    rest: Option<Keep>,
}

impl Again {
    pub(super) fn of(gathered: &Gathered) -> Self {
        Self {
            pieces: [gathered.data.clone(), gathered.next.clone()],
            is_whole: matches!(gathered.end, Some(Ending::Done)),
            rest: None,
        }
    }

    /// The rest of the body as it is sent.
    pub(super) fn keep(&mut self, body: Body) -> Body {
        if self.is_whole {
            return body;
        }
        let (replay, rest) = replay::keep(body);
        self.rest = Some(rest);
        Body::new(replay)
    }

    /// The body from its beginning; `None` when too much of it is gone.
    pub(super) fn back(self) -> Option<Body> {
        let [first, second] = self.pieces;
        if self.is_whole {
            let next = second.into_iter().collect();
            return Some(Body::new(Whole::new(first, next, End::Done)));
        }
        let body = self.rest?.back()?;
        let begun = [first, second];
        Some(Body::new(Begun { begun, body }))
    }
}

/// A request's body of which the beginning was read already.
pub(super) fn rest_of(gathered: Gathered, body: Body) -> Body {
    if matches!(gathered.end, Some(Ending::Done)) {
        let next = gathered.next.into_iter().collect();
        return Body::new(Whole::new(gathered.data, next, End::Done));
    }
    let begun = [gathered.data, gathered.next];
    Body::new(Begun { begun, body })
}

struct Begun {
    begun: [Option<Bytes>; 2],
    body: Body,
}

impl HttpBody for Begun {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let begun = self.begun.iter_mut().find_map(Option::take);
        match begun {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Pin::new(&mut self.body).poll_frame(cx),
        }
    }
}
