//! What the diagnostic server counts. Handlers are counted here; connections and refusals are the server's to report.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::pb::CountersReply;

/// What only the server below the handlers can count, since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServerCounts {
    /// Connections that were admitted.
    pub connections_accepted: u64,
    /// Connections that a policy or a quota refused.
    pub connections_refused: u64,
    /// Calls that a guard refused.
    pub calls_refused: u64,
}

/// Counters shared by all handlers of one server.
#[derive(Clone)]
pub struct Counters {
    handlers: Arc<Handlers>,
    server: Arc<dyn Fn() -> ServerCounts + Send + Sync>,
}

#[derive(Debug, Default)]
struct Handlers {
    by_method: Mutex<BTreeMap<&'static str, u64>>,
    cancelled: AtomicU64,
}

impl Counters {
    /// Counters at zero; `server` is asked for its own each time they are read.
    pub fn new(server: impl Fn() -> ServerCounts + Send + Sync + 'static) -> Self {
        Self {
            handlers: Arc::default(),
            server: Arc::new(server),
        }
    }

    /// Counts a handler in; it counts as cancelled unless [`Running::finish`] is called.
    pub(crate) fn enter(&self, method: &'static str) -> Running {
        let mut counts = self
            .handlers
            .by_method
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *counts.entry(method).or_default() += 1;
        Running(Some(Arc::clone(&self.handlers)))
    }

    pub(crate) fn read(&self) -> CountersReply {
        let server = (self.server)();
        let counts = self
            .handlers
            .by_method
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        CountersReply {
            connections_accepted: server.connections_accepted,
            connections_refused: server.connections_refused,
            handlers_run: counts.values().sum(),
            calls_refused: server.calls_refused,
            handlers_cancelled: self.handlers.cancelled.load(Ordering::Relaxed),
            handlers_by_method: counts
                .iter()
                .map(|(method, count)| ((*method).to_owned(), *count))
                .collect(),
        }
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters")
            .field("handlers", &self.handlers)
            .finish_non_exhaustive()
    }
}

/// A handler at work; a caller that goes away drops it.
#[derive(Debug)]
pub(crate) struct Running(Option<Arc<Handlers>>);

impl Running {
    /// The handler came to its own end.
    pub(crate) fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(handlers) = &self.0 {
            handlers.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}
