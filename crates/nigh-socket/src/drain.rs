//! The one signal that a server is stopping: running calls finish, new ones go elsewhere.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Told to every connection: when the server begins to drain, and until when.
#[derive(Debug, Clone)]
pub struct Drain {
    deadline: watch::Receiver<Option<Instant>>,
}

impl Drain {
    /// Whether draining has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.deadline.borrow().is_some()
    }

    /// Completes when draining begins, with the moment at which what still runs is cut off.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is consumed.
    pub async fn begun(&mut self) -> Instant {
        loop {
            if let Some(deadline) = *self.deadline.borrow_and_update() {
                return deadline;
            }
            if self.deadline.changed().await.is_err() {
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
    deadline: watch::Sender<Option<Instant>>,
}

impl Drainer {
    pub(crate) fn new() -> (Self, Drain) {
        let (sender, receiver) = watch::channel(None);
        (Self { deadline: sender }, Drain { deadline: receiver })
    }

    /// Begins the drain; a second call changes nothing.
    pub(crate) fn begin(&self, time: Duration) {
        self.deadline.send_if_modified(|deadline| {
            let first = deadline.is_none();
            if first {
                let now = Instant::now();
                *deadline = Some(now.checked_add(time).unwrap_or_else(|| now + FOR_EVER));
            }
            first
        });
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
        drainer.begin(Duration::from_secs(1));
        drainer.begin(Duration::MAX);
        assert!(drain.has_begun());
        assert_eq!(drain.begun().await, began + Duration::from_secs(1));
    }
    #[tokio::test]
    async fn no_time_is_too_long() {
        let (drainer, mut drain) = Drainer::new();
        drainer.begin(Duration::MAX);
        assert!(drain.begun().await > Instant::now());
    }
}
