//! The one signal that a server is stopping or was replaced: running calls finish, new ones go elsewhere.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Told to every connection: when the server begins to drain, and until when.
#[derive(Debug, Clone)]
pub struct Drain {
    began: watch::Receiver<Option<Began>>,
}

/// How a drain began.
#[derive(Debug, Clone, Copy)]
struct Began {
    deadline: Instant,
    why: DrainReason,
}

/// Why a server drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DrainReason {
    /// It stops: calls that come now are refused as retryable.
    Stop,
    /// A successor serves its listeners, or will: calls that come over the connections it still has are answered, and the
    /// connections end as soon as their callers can tell that no call was lost.
    Replaced,
}

impl Drain {
    /// Whether draining has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.began.borrow().is_some()
    }

    /// Why it has begun; `None` before that.
    #[must_use]
    pub fn reason(&self) -> Option<DrainReason> {
        self.began.borrow().map(|began| began.why)
    }

    /// Whether a call that comes now is to be refused as retryable.
    #[must_use]
    pub fn refuses_calls(&self) -> bool {
        self.reason() == Some(DrainReason::Stop)
    }

    /// Completes when the server stops, which it may also after it was replaced.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is consumed.
    pub async fn stopped(&mut self) {
        let stops = |began: &Option<Began>| {
            began
                .as_ref()
                .is_some_and(|began| began.why == DrainReason::Stop)
        };
        // A server that is gone has stopped, unless a successor was given everything.
        if self.began.wait_for(stops).await.is_err() && self.has_begun() {
            std::future::pending().await
        }
    }

    /// Completes when draining begins, with the moment at which what still runs is cut off.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is consumed.
    pub async fn begun(&mut self) -> Instant {
        loop {
            if let Some(began) = *self.began.borrow_and_update() {
                return began.deadline;
            }
            if self.began.changed().await.is_err() {
                // The server is gone without a drain: there is nothing left to wait for.
                return Instant::now();
            }
        }
    }
}

/// Stands for times that no clock can hold.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// Starts a drain; held by the server alone.
#[derive(Debug)]
pub(crate) struct Drainer {
    began: watch::Sender<Option<Began>>,
}

impl Drainer {
    pub(crate) fn new() -> (Self, Drain) {
        let (sender, receiver) = watch::channel(None);
        (Self { began: sender }, Drain { began: receiver })
    }

    /// Begins the drain, and says until when. A later call moves no deadline; only a stop makes a replacement one.
    pub(crate) fn begin(&self, time: Duration, why: DrainReason) -> Instant {
        let now = Instant::now();
        let mut until = now.checked_add(time).unwrap_or_else(|| now + FOR_EVER);
        self.began.send_if_modified(|began| match began {
            None => {
                let deadline = until;
                *began = Some(Began { deadline, why });
                true
            }
            Some(began) => {
                until = began.deadline;
                let changes = why == DrainReason::Stop && began.why != why;
                if changes {
                    began.why = why;
                }
                changes
            }
        });
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_deadline_stands() {
        let (drainer, mut drain) = Drainer::new();
        assert!(!drain.has_begun());
        let began = Instant::now();
        drainer.begin(Duration::from_secs(1), DrainReason::Stop);
        drainer.begin(Duration::MAX, DrainReason::Stop);
        assert!(drain.has_begun());
        assert_eq!(drain.begun().await, began + Duration::from_secs(1));
    }
    #[tokio::test]
    async fn no_time_is_too_long() {
        let (drainer, mut drain) = Drainer::new();
        drainer.begin(Duration::MAX, DrainReason::Stop);
        assert!(drain.begun().await > Instant::now());
    }
}
