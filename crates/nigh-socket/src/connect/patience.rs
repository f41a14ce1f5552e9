//! When to try again, and when to give up: back-off inside one deadline, on tokio's clock.

use std::time::Duration;

use tokio::time::Instant;

use super::{Cause, ConnectFault, ConnectOptions};

/// Pause after the first try; it doubles. A server that is just starting is met within about its own start-up time.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// No pause is longer: a server is noticed at most this late.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// What is left of a client's patience.
#[derive(Debug)]
pub(super) struct Patience {
    started: Instant,
    /// None: a timeout beyond what the clock can express, hence never.
    deadline: Option<Instant>,
    wait: bool,
    pause: Duration,
    tries: u32,
}

impl Patience {
    pub(super) fn new(options: &ConnectOptions) -> Self {
        let started = Instant::now();
        Self {
            started,
            deadline: started.checked_add(options.timeout),
            wait: options.wait,
            pause: PAUSE_MIN,
            tries: 0,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How long to pause after a try that failed with `cause`.
    ///
    /// # Errors
    /// When that was the last try: the time is up, or this cause is not waited for.
    pub(super) fn pause_after(&mut self, cause: Cause) -> Result<Duration, ConnectFault> {
        self.tries = self.tries.saturating_add(1);
        let left = self.left();
        let is_waited_for = self.wait || cause == Cause::Busy;
        if left.is_zero() || !is_waited_for {
            return Err(self.given_up(cause));
        }
        let pause = self.pause.min(left);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(pause)
    }

    /// Pauses after a try that failed with `cause`.
    ///
    /// # Errors
    /// As for [`Patience::pause_after`].
    pub(super) async fn wait_after(&mut self, cause: Cause) -> Result<(), ConnectFault> {
        tokio::time::sleep(self.pause_after(cause)?).await;
        Ok(())
    }

    /// Like [`Patience::wait_after`], when a try takes time that may not be left after the pause.
    pub(super) async fn wait_with_time_to_try(&mut self, cause: Cause) -> Result<(), ConnectFault> {
        self.wait_after(cause).await?;
        if self.left().is_zero() {
            return Err(self.given_up(cause));
        }
        Ok(())
    }

    /// Like [`Patience::pause_after`], when a try takes time that must be left after the pause.
    pub(super) fn pause_with_time_to_try(
        &mut self,
        cause: Cause,
    ) -> Result<Duration, ConnectFault> {
        let pause = self.pause_after(cause)?;
        if pause >= self.left() {
            return Err(self.given_up(cause));
        }
        Ok(pause)
    }

    fn left(&self) -> Duration {
        self.deadline.map_or(PAUSE_MAX, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        })
    }

    fn given_up(&self, cause: Cause) -> ConnectFault {
        ConnectFault::Unavailable {
            cause,
            tries: self.tries,
            waited: self.started.elapsed(),
        }
    }
}
