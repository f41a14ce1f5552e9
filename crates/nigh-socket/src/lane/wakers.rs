//! One waker for the tasks of both directions: bell and socket wake whoever waits, and each looks for itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// Who reads and who writes, each the last that waited.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    waiting: Mutex<[Option<Waker>; 2]>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Direction {
    Read,
    Write,
}

impl Wakers {
    pub(super) fn set(&self, direction: Direction, waker: &Waker) {
        let mut waiting = self.lock();
        let [reader, writer] = &mut *waiting;
        let known = match direction {
            Direction::Read => reader,
            Direction::Write => writer,
        };
        match known {
            Some(known) if known.will_wake(waker) => {}
            _ => *known = Some(waker.clone()),
        }
    }

    pub(super) fn wake_one(&self, direction: Direction) {
        let [reader, writer] = self.lock().clone();
        let waiting = match direction {
            Direction::Read => reader,
            Direction::Write => writer,
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, [Option<Waker>; 2]> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Cloned, not taken: who waits again with the same waker need not set it again.
        let [reader, writer] = self.lock().clone();
        match (reader, writer) {
            (Some(reader), Some(writer)) if reader.will_wake(&writer) => reader.wake(),
            (reader, writer) => reader.into_iter().chain(writer).for_each(Waker::wake),
        }
    }
}
