//! How long each method's handler keeps the connection's task busy: quick ones run there, slow ones move off.

use std::time::Duration;

/// A handler that takes longer until it first waits or answers is run by a task of its own, which another core may run.
/// A task costs one to two microseconds.
const INLINE_MAX: Duration = Duration::from_micros(20);

/// A running mean per path.
#[derive(Debug, Default)]
pub(super) struct Pace {
    nanoseconds: Vec<u32>,
}

impl Pace {
    pub(super) fn is_quick(&self, path: usize) -> bool {
        let mean = self.nanoseconds.get(path).copied().unwrap_or(0);
        u128::from(mean) <= INLINE_MAX.as_nanos()
    }

    /// Takes in how long the handler ran until it first returned.
    pub(super) fn note(&mut self, path: usize, took: Duration) {
        if self.nanoseconds.len() <= path {
            self.nanoseconds.resize(path + 1, 0);
        }
        let took = u32::try_from(took.as_nanos()).unwrap_or(u32::MAX);
        if let Some(mean) = self.nanoseconds.get_mut(path) {
            *mean = *mean - *mean / 8 + took / 8;
        }
    }

    /// A call ran elsewhere: after enough of them one is tried here again, the later the slower the last ones were.
    pub(super) fn forget(&mut self, path: usize) {
        if let Some(mean) = self.nanoseconds.get_mut(path) {
            *mean -= *mean / 8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_method_moves_off_and_comes_back() {
        let mut pace = Pace::default();
        assert!(pace.is_quick(3));
        pace.note(3, Duration::from_millis(5));
        assert!(!pace.is_quick(3));
        assert!(pace.is_quick(2));
        for _ in 0..64 {
            pace.note(3, Duration::from_micros(1));
        }
        assert!(pace.is_quick(3));
    }

    #[test]
    fn one_slow_call_is_not_held_against_a_method_forever() {
        let mut pace = Pace::default();
        pace.note(1, Duration::from_millis(1));
        let calls = (0..100).take_while(|_| {
            pace.forget(1);
            !pace.is_quick(1)
        });
        assert!((5..40).contains(&calls.count()));
    }
}
