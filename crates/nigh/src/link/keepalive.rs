//! Whether a silent peer is still there: PING, and an end to waiting (clause 10.1).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// What the clock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pulse {
    /// Nothing came for an interval: ask.
    Ask,
    /// Nothing came since, not even the answer.
    Dead,
}

#[derive(Debug)]
pub(crate) struct Keepalive {
    interval: Duration,
    timeout: Duration,
    sleep: Pin<Box<Sleep>>,
    seen: u64,
    is_asked: bool,
}

impl Keepalive {
    pub(crate) fn new(interval: Duration, timeout: Duration) -> Self {
        Self {
            interval,
            timeout,
            sleep: Box::pin(tokio::time::sleep(interval)),
            seen: 0,
            is_asked: false,
        }
    }

    /// `reads` counts what came so far.
    pub(crate) fn poll(&mut self, reads: u64, cx: &mut Context<'_>) -> Poll<Pulse> {
        loop {
            std::task::ready!(self.sleep.as_mut().poll(cx));
            let is_silent = self.seen == reads;
            self.seen = reads;
            if is_silent && self.is_asked {
                return Poll::Ready(Pulse::Dead);
            }
            self.is_asked = is_silent;
            let wait = if is_silent {
                self.timeout
            } else {
                self.interval
            };
            self.sleep.as_mut().reset(Instant::now() + wait);
            if is_silent {
                return Poll::Ready(Pulse::Ask);
            }
        }
    }
}
