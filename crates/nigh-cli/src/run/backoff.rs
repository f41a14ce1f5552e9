//! How long to wait after a crash: twice as long each time, up to a limit; forgotten when it has run for long enough.

use std::time::Duration;

/// The wait before the next start.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    first: Duration,
    max: Duration,
    crashes: u32,
}

impl Backoff {
    pub(super) fn new(first: Duration, max: Duration) -> Self {
        Self {
            first: first.min(max),
            max,
            crashes: 0,
        }
    }

    /// It crashed after having run for `ran`: the time to wait.
    pub(super) fn crashed(&mut self, ran: Duration) -> Duration {
        // One that ran for longer than the longest wait has recovered.
        if ran >= self.max {
            self.crashes = 0;
        }
        let doubled = 2_u32.saturating_pow(self.crashes);
        self.crashes = self.crashes.saturating_add(1);
        self.first.saturating_mul(doubled).min(self.max)
    }

    /// Crashes in a row.
    pub(super) fn crashes(&self) -> u32 {
        self.crashes
    }

    /// Somebody wants it to be tried at once.
    pub(super) fn reset(&mut self) {
        self.crashes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_begin_anew_after_a_good_run() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(1000));
        let waits: Vec<_> = (0..6).map(|_| backoff.crashed(ms(1))).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000].map(ms));
        assert_eq!(backoff.crashes(), 6);
        assert_eq!(backoff.crashed(ms(1000)), ms(100));
        backoff.reset();
        assert_eq!(backoff.crashed(ms(1)), ms(100));
        for _ in 0..100 {
            assert!(backoff.crashed(ms(1)) <= ms(1000));
        }
        assert_eq!(Backoff::new(ms(5), ms(1)).crashed(ms(0)), ms(1));
    }
}
