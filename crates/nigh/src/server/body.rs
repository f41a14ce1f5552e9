//! An answer's body under watch: its deadline ends it, and a panic in it becomes INTERNAL.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

/// Wraps the body of an answer that is still being produced.
pub(crate) struct WatchedBody {
    /// Gone once the body has ended or was cut off: nothing of the handler's is kept after that.
    inner: Option<Body>,
    deadline: Option<Pin<Box<Sleep>>>,
    on_panic: Box<dyn Fn() + Send>,
}

impl WatchedBody {
    pub(crate) fn new(
        inner: Body,
        deadline: Option<Pin<Box<Sleep>>>,
        on_panic: Box<dyn Fn() + Send>,
    ) -> Self {
        Self {
            inner: Some(inner),
            deadline,
            on_panic,
        }
    }

    fn end_with(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.inner = None;
        let trailers = status.clone().into_http::<()>().into_parts().0.headers;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_frame(cx)));
        match polled {
            Ok(Poll::Ready(None)) => {
                this.inner = None;
                Poll::Ready(None)
            }
            Ok(Poll::Ready(frame)) => Poll::Ready(frame),
            Ok(Poll::Pending) => {
                let Some(deadline) = &mut this.deadline else {
                    return Poll::Pending;
                };
                ready!(deadline.as_mut().poll(cx));
                this.end_with(&deadline_exceeded())
            }
            Err(_) => {
                (this.on_panic)();
                this.end_with(&handler_panicked())
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

/// What the caller is told when its time is up.
pub(crate) fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("the call's deadline has passed")
}

/// What the caller is told when the handler panicked: nothing of the panic's text.
pub(crate) fn handler_panicked() -> Status {
    Status::internal("the handler failed unexpectedly")
}
