//! A descriptor on its way out: owned from the moment it is attached until its carrier is written.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::error::{Loss, UnsentError};

#[derive(Debug)]
enum State {
    Waiting(OwnedFd),
    /// The connection's writer has it in hand.
    Leaving,
    Left,
    Failed(UnsentError),
}

/// One attached descriptor and what became of it.
#[derive(Debug)]
pub(super) struct Attachment {
    state: Mutex<State>,
    changed: Notify,
}

impl Attachment {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self {
            state: Mutex::new(State::Waiting(fd)),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) -> State {
        let before = std::mem::replace(&mut *self.state(), state);
        self.changed.notify_waiters();
        before
    }

    /// Hands the descriptor to the writer; `None` if the call has ended.
    pub(super) fn begin(&self) -> Option<OwnedFd> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Leaving) {
            State::Waiting(fd) => Some(fd),
            other => {
                *state = other;
                None
            }
        }
    }

    /// The writer could not write it: the connection is gone, another may carry it.
    pub(super) fn put_back(&self, fd: OwnedFd) {
        self.set(State::Waiting(fd));
    }

    pub(super) fn left(&self) {
        self.set(State::Left);
    }

    pub(super) fn failed(&self, loss: Loss) {
        self.set(State::Failed(UnsentError::Lost(loss)));
    }

    /// Nobody will send it any more.
    pub(super) fn give_up(&self) -> Option<OwnedFd> {
        let mut state = self.state();
        let before = std::mem::replace(&mut *state, State::Failed(UnsentError::Ended));
        let fd = match before {
            State::Waiting(fd) => Some(fd),
            other => {
                *state = other;
                None
            }
        };
        drop(state);
        self.changed.notify_waiters();
        fd
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(*self.state(), State::Waiting(_))
    }

    /// Whether it has left, or never will.
    pub(super) fn is_settled(&self) -> bool {
        matches!(*self.state(), State::Left | State::Failed(_))
    }

    /// Waits until it has left.
    pub(super) async fn sent(&self) -> Result<(), UnsentError> {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            match *self.state() {
                State::Left => return Ok(()),
                State::Failed(error) => return Err(error),
                State::Waiting(_) | State::Leaving => {}
            }
            changed.await;
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if let Some(fd) = self.give_up() {
            super::closer::drop_off(fd);
        }
    }
}
