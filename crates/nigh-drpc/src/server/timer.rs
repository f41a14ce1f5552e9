//! A time limit that costs nothing while nothing waits.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A time that somebody is woken at only when something has to wait.
#[derive(Default)]
pub(crate) struct Timer {
    until: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Starts, unless it runs. A time that no clock can hold is no limit.
    pub(crate) fn run(&mut self, time: Duration) {
        if self.until.is_none() {
            self.until = Instant::now().checked_add(time);
        }
    }

    pub(crate) fn stop(&mut self) {
        self.until = None;
        self.sleep = None;
    }

    /// Whether it is over, without waiting for it.
    pub(crate) fn is_over(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(until) = self.until else {
            return Poll::Pending;
        };
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        sleep.as_mut().poll(cx)
    }
}
