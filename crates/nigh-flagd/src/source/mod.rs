//! Where flags come from, and what happens when a source is read: the store, the log, the counts.

mod address;
mod file;
mod watch;

pub use address::{Address, AddressError};

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::eval::Evaluator;
use crate::model::{FlagSet, LoadError};
use crate::store::Store;

/// Why a source could not be read this time. What was read before stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be read, or is gone.
    #[error("cannot read it")]
    Io(#[source] io::Error),
    /// It is no UTF-8 text.
    #[error("it is no UTF-8 text")]
    NotText,
    /// Its flags cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The reading itself was broken off.
    #[error("reading it was broken off")]
    BrokenOff,
}

/// How often sources were read.
#[derive(Debug, Default)]
pub struct Counts {
    /// Reads that gave flags.
    pub good: AtomicU64,
    /// Reads that failed, after which the last good flags stayed.
    pub bad: AtomicU64,
}

/// What every source works for.
#[derive(Debug)]
pub struct Hub {
    /// Where flags go.
    pub store: Arc<Store>,
    /// What compiles them.
    pub evaluator: Arc<Evaluator>,
    /// How often.
    pub counts: Counts,
}

impl Hub {
    /// A hub for these sources, none of them read yet: [`Sources::start`] reads them.
    #[must_use]
    pub fn new(sources: &[Address], evaluator: Evaluator) -> Arc<Self> {
        let names = sources.iter().map(|source| source.name().to_owned());
        Arc::new(Self {
            store: Arc::new(Store::new(names)),
            evaluator: Arc::new(evaluator),
            counts: Counts::default(),
        })
    }

    /// Takes one reading of source number `index`: good flags into the store, a failure into the log.
    fn take(&self, index: usize, name: &str, reading: Result<FlagSet, ReadError>) {
        match reading {
            Ok(set) => {
                self.counts.good.fetch_add(1, Ordering::Relaxed);
                for note in &set.notes {
                    tracing::warn!("{name}: {note}");
                }
                let flags = set.flags.len();
                let changes = self.store.update(index, set.flags);
                tracing::info!("{name}: {flags} flags, {} changed", changes.len());
            }
            Err(error) => {
                self.counts.bad.fetch_add(1, Ordering::Relaxed);
                let waits = self
                    .store
                    .view()
                    .waiting()
                    .iter()
                    .any(|source| **source == *name);
                let stays = if waits {
                    "it has never been read: not ready"
                } else {
                    "the last good flags stay"
                };
                tracing::error!("{name}: {}; {stays}", describe(&error));
            }
        }
    }
}

/// An error with its causes, on one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Reads every source once, then follows them all until dropped.
#[derive(Debug)]
pub struct Sources {
    tasks: tokio::task::JoinSet<()>,
}

impl Sources {
    /// Reads each source once and then follows it.
    ///
    /// # Errors
    /// When the kernel has no inotify instance to spare.
    pub async fn start(addresses: &[Address], hub: &Arc<Hub>) -> io::Result<Self> {
        let mut tasks = tokio::task::JoinSet::new();
        for (index, address) in addresses.iter().enumerate() {
            let Address::File { path, .. } = address;
            let mut follower =
                file::Follower::new(index, address.name().to_owned(), path.clone(), hub)?;
            follower.begin().await;
            tasks.spawn(follower.run());
        }
        Ok(Self { tasks })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}
