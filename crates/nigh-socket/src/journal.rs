//! Log lines that callers can cause, held to a rate: what is left out is counted into the next line.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug)]
struct Window {
    began: Instant,
    lines: u32,
    left_out: u64,
}

/// Writes warnings that peers can cause, at a bounded rate for the whole server.
#[derive(Debug)]
pub struct Journal {
    lines_per_second: u32,
    window: Mutex<Window>,
}

impl Journal {
    pub(crate) fn new(lines_per_second: u32) -> Self {
        let window = Window {
            began: Instant::now(),
            lines: 0,
            left_out: 0,
        };
        Self {
            lines_per_second,
            window: Mutex::new(window),
        }
    }

    /// How many lines were left out since the last one, if this one may be written now.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(window.began) >= Duration::from_secs(1) {
            window.began = now;
            window.lines = 0;
        }
        if window.lines >= self.lines_per_second {
            window.left_out += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.left_out))
    }

    /// Writes one warning, or counts it if too many were written within the second.
    pub fn warn(&self, line: fmt::Arguments<'_>) {
        match self.admit(Instant::now()) {
            None => {}
            Some(0) => tracing::warn!("{line}"),
            Some(left_out) => tracing::warn!(left_out, "{line}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_over_the_rate_are_counted_not_written() {
        let journal = Journal::new(2);
        let now = Instant::now();
        assert_eq!(journal.admit(now), Some(0));
        assert_eq!(journal.admit(now), Some(0));
        assert_eq!(journal.admit(now), None);
        assert_eq!(journal.admit(now), None);
        assert_eq!(journal.admit(now + Duration::from_secs(2)), Some(2));
    }
}
