//! A request's body whose sending stops when nobody waits for the answer any more.
//!
//! hyper does not ask a body for more while a piece of it waits for the server's window, so the body alone cannot stop
//! it: what must go is hyper's task. Trap: which task sends which body is known only from hyper's order: it polls a
//! body for the first time right before it spawns the task that goes on with it, on the same thread.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::oneshot;
use tonic::Status;
use tonic::body::Body;

/// Lives as long as somebody waits for the answer.
pub(super) type Waiting = oneshot::Sender<Infallible>;
type Left = oneshot::Receiver<Infallible>;

thread_local! {
    /// Of the body that was polled for the first time just now.
    static BEGUN: Cell<Option<Left>> = const { Cell::new(None) };
}

/// A request's body, for hyper on an [`Uploads`] executor.
pub(super) struct Upload {
    body: Body,
    /// Gone once the body has been polled.
    left: Option<Left>,
}

impl Upload {
    pub(super) fn new(body: Body) -> (Self, Waiting) {
        let (waiting, left) = oneshot::channel();
        let left = Some(left);
        (Self { body, left }, waiting)
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(left) = self.left.take() {
            BEGUN.set(Some(left));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Runs a client connection's tasks. One that sends a body is dropped when its call is left, and with it the last hold
/// on the stream: h2 then resets it, whatever was still to be sent.
#[derive(Debug, Clone)]
pub(super) struct Uploads;

impl<F> hyper::rt::Executor<F> for Uploads
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        match BEGUN.take() {
            None => drop(tokio::spawn(task)),
            // The task may also be the one that waits for the answer, when the body was sent at once: by the time the
            // answer is left it has ended.
            Some(left) => drop(tokio::spawn(async move {
                tokio::select! {
                    () = task => {}
                    _ = left => {}
                }
            })),
        }
    }
}
