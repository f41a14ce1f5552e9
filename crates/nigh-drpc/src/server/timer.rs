//! A time limit that costs nothing while nothing waits.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

/// A time that is made only when something has to wait.
#[derive(Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Starts, unless it runs.
    pub(crate) fn run(&mut self, time: Duration) {
        self.sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
    }

    pub(crate) fn stop(&mut self) {
        self.sleep = None;
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}
