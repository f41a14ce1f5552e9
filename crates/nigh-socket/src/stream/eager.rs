//! Looking again for what comes next, for a moment, before the reactor is waited for.
//!
//! Trap: whoever looks keeps its thread. So only the socket looks that this thread has read from last, several times on
//! end: with several at work there is something better to do.

use std::cell::Cell;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::time::Instant;

use crate::spin::{Luck, Spin};

/// Reads on end, from one socket, after which a thread is taken to serve no other.
const STREAK_MIN: u32 = 2;

/// Looks between two readings of the clock.
const LOOKS: u32 = 4;

thread_local! {
    /// Whom this thread has read from last, and how often on end.
    static LAST: Cell<(RawFd, u32)> = const { Cell::new((-1, 0)) };
}

#[derive(Debug, Default)]
pub(super) struct Eager {
    pub(super) spin: Spin,
    pub(super) is_eager: bool,
    luck: Luck,
}

impl Eager {
    /// Something was read.
    pub(super) fn note(&self, socket: BorrowedFd<'_>) {
        if self.spin == Spin::Off {
            return;
        }
        let this = socket.as_raw_fd();
        let (last, streak) = LAST.get();
        let streak = if last == this {
            streak.saturating_add(1)
        } else {
            0
        };
        LAST.set((this, streak));
    }

    /// Tries until something is there, for as long as is allowed and worth it.
    pub(super) fn look<T>(
        &mut self,
        socket: BorrowedFd<'_>,
        mut read: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let Spin::Adaptive(patience) = self.spin else {
            return None;
        };
        let (last, streak) = LAST.get();
        let is_alone = last == socket.as_raw_fd() && streak >= STREAK_MIN;
        if !self.is_eager || !is_alone || !self.luck.try_now() {
            return None;
        }
        // What is there already was no luck: on one processor it means that the peer had its turn meanwhile.
        if let Some(done) = read() {
            return Some(done);
        }
        let until = Instant::now() + patience;
        loop {
            for _ in 0..LOOKS {
                if let Some(done) = read() {
                    self.luck.hit();
                    return Some(done);
                }
                std::hint::spin_loop();
            }
            if Instant::now() >= until {
                self.luck.miss();
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::time::Duration;

    use super::*;

    fn eager(spin: Spin) -> Eager {
        Eager {
            spin,
            is_eager: true,
            ..Eager::default()
        }
    }

    /// How often a look tries, at a socket where nothing ever comes.
    fn tries(eager: &mut Eager, socket: BorrowedFd<'_>) -> usize {
        let mut tries = 0;
        let nothing = || {
            tries += 1;
            None::<()>
        };
        assert_eq!(eager.look(socket, nothing), None);
        tries
    }

    #[test]
    fn only_a_socket_that_has_its_thread_for_itself_looks() {
        let (a, b) = rustix::pipe::pipe().unwrap();
        let mut first = eager(Spin::Adaptive(Duration::ZERO));
        let second = eager(Spin::Adaptive(Duration::ZERO));
        assert_eq!(tries(&mut first, a.as_fd()), 0);
        (0..=STREAK_MIN).for_each(|_| first.note(a.as_fd()));
        assert!(tries(&mut first, a.as_fd()) > 0);
        second.note(b.as_fd());
        assert_eq!(tries(&mut first, a.as_fd()), 0);
        (0..=STREAK_MIN).for_each(|_| first.note(a.as_fd()));
        first.is_eager = false;
        assert_eq!(tries(&mut first, a.as_fd()), 0);
    }

    #[test]
    fn who_looks_in_vain_looks_less_often() {
        let (a, _b) = rustix::pipe::pipe().unwrap();
        let mut eager = eager(Spin::Adaptive(Duration::ZERO));
        (0..=STREAK_MIN).for_each(|_| eager.note(a.as_fd()));
        let looked = (0..1000).filter(|_| tries(&mut eager, a.as_fd()) > 0);
        assert!((5..20).contains(&looked.count()));
        let mut off = self::eager(Spin::Off);
        assert_eq!(tries(&mut off, a.as_fd()), 0);
    }

    #[test]
    fn what_comes_meanwhile_is_taken() {
        let (a, _b) = rustix::pipe::pipe().unwrap();
        let mut eager = eager(Spin::Adaptive(Duration::from_secs(3600)));
        (0..=STREAK_MIN).for_each(|_| eager.note(a.as_fd()));
        let mut left = 100;
        let found = eager.look(a.as_fd(), || {
            left -= 1;
            (left == 0).then_some("here")
        });
        assert_eq!(found, Some("here"));
    }
}
