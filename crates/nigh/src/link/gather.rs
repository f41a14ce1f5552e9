//! What a body has ready at once, so that a whole message and its end leave in one write.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body as _;
use tonic::Status;
use tonic::body::Body;

/// How a body ended.
#[derive(Debug)]
pub(crate) enum Ending {
    Done,
    Trailers(HeaderMap),
    Failed(Status),
}

/// The beginning of a body: at most two pieces, and the end if it is known.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) data: Option<Bytes>,
    pub(crate) next: Option<Bytes>,
    pub(crate) end: Option<Ending>,
}

/// Polls `body` until it has nothing ready, has ended, or has given two pieces; never waits.
pub(crate) fn gather(body: &mut Body, cx: &mut Context<'_>) -> Gathered {
    let mut gathered = Gathered::default();
    while gathered.next.is_none() && gathered.end.is_none() {
        if body.is_end_stream() {
            gathered.end = Some(Ending::Done);
            break;
        }
        match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Pending => break,
            Poll::Ready(frame) => match piece(frame) {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) if gathered.data.is_none() => gathered.data = Some(bytes),
                Ok(bytes) => gathered.next = Some(bytes),
                Err(end) => gathered.end = Some(end),
            },
        }
    }
    gathered
}

/// A piece of the body, or its end.
pub(super) fn piece(
    frame: Option<Result<http_body::Frame<Bytes>, Status>>,
) -> Result<Bytes, Ending> {
    match frame {
        None => Err(Ending::Done),
        Some(Err(status)) => Err(Ending::Failed(status)),
        Some(Ok(frame)) => match frame.into_data() {
            Ok(bytes) => Ok(bytes),
            Err(frame) => match frame.into_trailers() {
                // An empty TRAILERS would say `grpc-status: 0` (clause 6.4).
                Ok(trailers) if !trailers.is_empty() => Err(Ending::Trailers(trailers)),
                _ => Err(Ending::Done),
            },
        },
    }
}
