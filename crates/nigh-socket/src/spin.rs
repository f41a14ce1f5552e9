//! When it pays to look again and again for a moment before going to sleep; learned from how it went.

use std::time::Duration;

/// Whether one end of a connection looks for a moment for what comes next before it sleeps.
///
/// Two processors that wait for each other asleep pay for a wake-up each time, 20 µs on a virtual machine. Looking costs the
/// thread that looks: other tasks on it wait for as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Spin {
    /// Never: sleep at once.
    #[default]
    Off,
    /// For at most so long, as long as that succeeds: each failure lets more waits pass, up to 255, before the next try.
    /// Through shared memory never when the peer last ran on this very processor; on a socket nobody knows that, and it is
    /// learned from failure.
    Adaptive(Duration),
}

impl Spin {
    /// Adaptive, for as long as waking a sleeping virtual processor takes: 20 µs.
    #[must_use]
    pub const fn adaptive() -> Self {
        Self::Adaptive(Duration::from_micros(20))
    }

    /// As [`adaptive`](Self::adaptive), for a socket: 50 µs, in which a peer that sleeps can wake and answer. Where both ends
    /// have slept, one has to be awake for so long until the other finds that looking pays for it, too.
    #[must_use]
    pub const fn adaptive_on_socket() -> Self {
        Self::Adaptive(Duration::from_micros(50))
    }
}

/// What was learned.
#[derive(Debug, Default)]
pub(crate) struct Luck {
    /// Waits to let pass after the next failure; 255 at most.
    penalty: u8,
    /// Waits to let pass now.
    passing: u8,
}

impl Luck {
    /// Whether to try at this wait.
    pub(crate) fn try_now(&mut self) -> bool {
        let is_due = self.passing == 0;
        self.passing = self.passing.saturating_sub(1);
        is_due
    }

    pub(crate) fn hit(&mut self) {
        self.penalty /= 4;
    }

    pub(crate) fn miss(&mut self) {
        self.penalty = self.penalty.saturating_mul(2).saturating_add(1);
        self.passing = self.penalty;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_make_tries_rare_and_successes_common() {
        let mut luck = Luck::default();
        let mut tries = 0;
        for _ in 0..10_000 {
            if luck.try_now() {
                tries += 1;
                luck.miss();
            }
        }
        assert!((30..60).contains(&tries), "{tries}");
        while !luck.try_now() {}
        // Four successes undo all of it.
        (0..4).for_each(|_| luck.hit());
        luck.miss();
        assert!(!luck.try_now());
        assert!(luck.try_now());
    }

    #[test]
    fn as_long_as_it_succeeds_every_wait_is_a_try() {
        let mut luck = Luck::default();
        for _ in 0..100 {
            assert!(luck.try_now());
            luck.hit();
        }
    }
}
