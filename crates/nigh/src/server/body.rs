//! An answer's body under watch: its deadline ends it, and a panic in it becomes INTERNAL.
//!
//! Trap: nobody polls a body while its caller does not read, so the deadline has a task of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tonic::body::Body;

use super::answer::Dialect;

/// Wraps the body of an answer that is still being produced.
pub(crate) struct WatchedBody {
    shared: Arc<Mutex<Shared>>,
    deadline: Option<Deadline>,
    dialect: Dialect,
    on_panic: Box<dyn Fn() + Send>,
}

/// What the deadline's task sees of a body.
struct Shared {
    producing: Producing,
    /// Who waits for the body, if anybody does.
    waiting: Option<Waker>,
}

/// Nothing of the handler's is kept once its body has ended or was cut off.
enum Producing {
    Running(Body),
    /// The caller has not been told yet.
    Cut(Status),
    Ended,
}

/// Ends the body at this time, whether it is polled or not.
struct Deadline {
    at: Instant,
    task: AbortHandle,
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl WatchedBody {
    pub(crate) fn new(
        inner: Body,
        deadline: Option<Pin<Box<Sleep>>>,
        dialect: Dialect,
        on_panic: Box<dyn Fn() + Send>,
    ) -> Self {
        let shared = Arc::new(Mutex::new(Shared {
            producing: Producing::Running(inner),
            waiting: None,
        }));
        let deadline = deadline.map(|sleep| {
            // Weak: a body that is dropped goes at once, and not with the task.
            let (at, watched) = (sleep.deadline(), Arc::downgrade(&shared));
            let task = tokio::spawn(async move {
                sleep.await;
                if let Some(watched) = watched.upgrade() {
                    cut(&watched, deadline_exceeded());
                }
            });
            Deadline {
                at,
                task: task.abort_handle(),
            }
        });
        Self {
            shared,
            deadline,
            dialect,
            on_panic,
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends a body that still runs.
fn cut(shared: &Mutex<Shared>, status: Status) {
    let mut now = lock(shared);
    if !matches!(now.producing, Producing::Running(_)) {
        return;
    }
    let stopped = std::mem::replace(&mut now.producing, Producing::Cut(status));
    let waiting = now.waiting.take();
    // Both are other people's code, and not to be run under the lock.
    drop(now);
    drop(stopped);
    if let Some(waiting) = waiting {
        waiting.wake();
    }
}

/// How a body that was cut off ends. Plain HTTP has only a broken body for it: an end would look whole.
fn end(dialect: Dialect, status: Status) -> Result<Frame<Bytes>, Status> {
    match dialect {
        Dialect::Http => Err(status),
        Dialect::Grpc => {
            let trailers = status.into_http::<()>().into_parts().0.headers;
            Ok(Frame::trailers(trailers))
        }
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
        // Asked first: a body that always has more to say would never let the timer's turn come.
        if let Some(deadline) = &this.deadline
            && Instant::now() >= deadline.at
        {
            cut(&this.shared, deadline_exceeded());
        }
        let mut now = lock(&this.shared);
        if let Producing::Running(inner) = &mut now.producing {
            let polling = AssertUnwindSafe(|| Pin::new(inner).poll_frame(cx));
            match catch_unwind(polling) {
                Ok(Poll::Ready(None)) => {}
                Ok(Poll::Ready(frame)) => return Poll::Ready(frame),
                Ok(Poll::Pending) => {
                    if this.deadline.is_some() {
                        now.waiting = Some(cx.waker().clone());
                    }
                    return Poll::Pending;
                }
                Err(_) => {
                    drop(now);
                    (this.on_panic)();
                    cut(&this.shared, handler_panicked());
                    now = lock(&this.shared);
                }
            }
        }
        let before = std::mem::replace(&mut now.producing, Producing::Ended);
        drop(now);
        this.deadline = None;
        match before {
            Producing::Cut(status) => Poll::Ready(Some(end(this.dialect, status))),
            Producing::Running(_) | Producing::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &lock(&self.shared).producing {
            Producing::Running(inner) => inner.is_end_stream(),
            Producing::Cut(_) => false,
            Producing::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &lock(&self.shared).producing {
            Producing::Running(inner) => inner.size_hint(),
            Producing::Cut(_) => SizeHint::default(),
            Producing::Ended => SizeHint::with_exact(0),
        }
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
