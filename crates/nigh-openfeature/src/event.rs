//! What happens to a provider, for whoever listens.

use tokio::sync::broadcast;

/// Events that are kept for a listener that is busy.
pub(crate) const KEPT: usize = 256;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The daemon answers: at first, or again. Flags may have changed meanwhile.
    Ready,
    /// The daemon is gone; values that are kept may be old.
    Stale,
    /// The daemon could not be reached for longer than the grace, or will never be.
    Error {
        /// Why.
        message: String,
        /// Whether it was the last try: a status that was said to be fatal.
        fatal: bool,
    },
    /// Flags changed.
    ConfigurationChanged {
        /// Their keys; none where they are not known: between two streams, or if the daemon does not tell.
        flags: Vec<String>,
    },
    /// The listener was busy for too long.
    Missed {
        /// How many events it did not hear.
        count: u64,
    },
}

/// Listens to one provider, from the moment it was asked for.
#[derive(Debug)]
pub struct Events(pub(crate) broadcast::Receiver<Event>);

impl Events {
    /// The next event; `None` once the provider is gone.
    ///
    /// # Cancel safety
    /// No event is lost by dropping the future.
    pub async fn next(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(Event::Missed { count }),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
