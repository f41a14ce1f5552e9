//! The calls of one connection that handlers are at work on.
//!
//! A handler is polled at once, on the connection's task: most answer without a pause, and that saves a task. One that
//! pauses becomes a task, so that it holds up nobody. A panic is caught in both places.

use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll, ready};

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::handler::{Answer, Failure, Request};
use super::registry::{Answering, Method};
use super::share::Place;
use crate::wire::Reason;

/// What became of a call.
pub(crate) struct Done {
    pub(crate) sequence: i64,
    pub(crate) outcome: Result<Answer, Failure>,
    pub(crate) panicked: bool,
}

/// The tasks of handlers that have paused; dropped with the connection.
#[derive(Default)]
pub(crate) struct Running {
    tasks: JoinSet<Result<Answer, Failure>>,
    calls: Vec<Entry>,
    bytes: usize,
}

struct Entry {
    id: Id,
    sequence: i64,
    bytes: usize,
    handle: AbortHandle,
    /// Of its user's.
    _place: Place,
}

impl Running {
    /// Calls at work.
    pub(crate) fn count(&self) -> usize {
        self.calls.len()
    }

    /// Bytes of their bodies.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Begins a call; returns what became of it if that is known at once.
    pub(crate) fn start(
        &mut self,
        cx: &mut Context<'_>,
        (sequence, place): (i64, Place),
        method: &Method,
        request: Request,
    ) -> Option<Done> {
        let (deadline, bytes) = (request.deadline, request.body.len());
        let begun = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let mut answering = (method.handle)(request);
            let polled = answering.as_mut().poll(cx);
            (polled, answering)
        }));
        match begun {
            Err(_) => Some(Done::panicked(sequence)),
            Ok((Poll::Ready(outcome), _)) => Some(Done {
                sequence,
                outcome,
                panicked: false,
            }),
            Ok((Poll::Pending, answering)) => {
                self.spawn(answering, deadline, (sequence, place), bytes);
                None
            }
        }
    }

    fn spawn(
        &mut self,
        answering: Answering,
        deadline: Option<Instant>,
        (sequence, place): (i64, Place),
        bytes: usize,
    ) {
        let handle = match deadline {
            None => self.tasks.spawn(answering),
            Some(deadline) => self.tasks.spawn(async move {
                let in_time = tokio::time::timeout_at(deadline, answering).await;
                in_time.unwrap_or_else(|_| Err(Failure::because(Reason::Deadline)))
            }),
        };
        self.bytes += bytes;
        self.calls.push(Entry {
            id: handle.id(),
            sequence,
            bytes,
            handle,
            _place: place,
        });
    }

    /// Drops the handler of call `sequence`, which is then answered as cancelled. drpc §9.4
    pub(crate) fn cancel(&self, sequence: i64) {
        if let Some(entry) = self.calls.iter().find(|entry| entry.sequence == sequence) {
            entry.handle.abort();
        }
    }

    /// The next call that is done; pending while there is none, or none at work.
    pub(crate) fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        if self.calls.is_empty() {
            return Poll::Pending;
        }
        let Some(ended) = ready!(self.tasks.poll_join_next_with_id(cx)) else {
            return Poll::Pending;
        };
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some(at) = self.calls.iter().position(|entry| entry.id == id) else {
            return Poll::Pending;
        };
        let Entry {
            sequence, bytes, ..
        } = self.calls.swap_remove(at);
        self.bytes -= bytes;
        Poll::Ready(match ended {
            Ok((_, outcome)) => Done {
                sequence,
                outcome,
                panicked: false,
            },
            Err(error) => Done::ended(sequence, &error),
        })
    }
}

impl Done {
    fn panicked(sequence: i64) -> Self {
        Self {
            sequence,
            outcome: Err(Failure::because(Reason::Panicked)),
            panicked: true,
        }
    }

    fn ended(sequence: i64, error: &JoinError) -> Self {
        if error.is_panic() {
            return Self::panicked(sequence);
        }
        Self {
            sequence,
            outcome: Err(Failure::because(Reason::Cancelled)),
            panicked: false,
        }
    }
}
