//! A request's body whose sending stops when nobody waits for the answer any more.
//!
//! hyper does not ask a body for more while a piece of it waits for the server's window, so the body alone cannot stop
//! it: what must go is hyper's task. Trap: which task sends which body is known only from hyper's order: it polls a
//! body for the first time right before it spawns the task that goes on with it, on the same thread. What it spawns
//! first of all is the task that reads and writes.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
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

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs a client connection's tasks. One that sends a body is dropped when its call is left, and with it the last hold
/// on the stream: h2 then resets it, whatever was still to be sent.
#[derive(Clone, Default)]
pub(super) struct Uploads {
    io: Arc<Mutex<IoTask>>,
}

/// The task that reads and writes.
#[derive(Default)]
enum IoTask {
    #[default]
    Awaited,
    Come(Task),
    Given,
}

impl Uploads {
    /// hyper's task that reads and writes, once the handshake is done; the caller runs it.
    pub(super) fn io_task(&self) -> Option<Task> {
        let mut io = self.io.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *io, IoTask::Given) {
            IoTask::Come(task) => Some(task),
            IoTask::Awaited | IoTask::Given => None,
        }
    }

    /// Runs a task that sends no body.
    fn start(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut io = self.io.lock().unwrap_or_else(PoisonError::into_inner);
        match *io {
            IoTask::Awaited => *io = IoTask::Come(Box::pin(task)),
            IoTask::Come(_) | IoTask::Given => drop(tokio::spawn(task)),
        }
    }
}

impl<F> hyper::rt::Executor<F> for Uploads
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        match BEGUN.take() {
            None => self.start(task),
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
