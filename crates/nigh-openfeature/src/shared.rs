//! What evaluations and the follower share: the status, the cache, and who listens.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{broadcast, watch};
use tonic::Status;

use crate::cache::Cache;
use crate::event::{Event, KEPT};
use crate::options::Options;

/// How it stands with the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    NotReady,
    Ready,
    Stale,
    Error,
    /// There is no other try.
    Fatal,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) standing: watch::Sender<Standing>,
    pub(crate) events: broadcast::Sender<Event>,
    cache: Mutex<Cache>,
    /// Why the daemon was not reached when that was tried last.
    failure: Mutex<Option<String>>,
}

impl Shared {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            standing: watch::Sender::new(Standing::NotReady),
            events: broadcast::Sender::new(KEPT),
            cache: Mutex::new(Cache::new(options.cache_entries_max)),
            failure: Mutex::new(None),
            options,
        }
    }

    pub(crate) fn cache(&self) -> MutexGuard<'_, Cache> {
        // Every change under the lock is complete or has not begun.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The daemon tells of changes from now on.
    pub(crate) fn ready(&self) {
        self.cache().open();
        let event = match self.standing.send_replace(Standing::Ready) {
            // A stream that had grown old was replaced; what changed in between, nobody told.
            Standing::Ready => Event::ConfigurationChanged { flags: Vec::new() },
            _ => Event::Ready,
        };
        self.tell(event);
    }

    /// Flags changed; without keys any of them may have.
    pub(crate) fn changed(&self, flags: Vec<String>) {
        match flags.is_empty() {
            true => self.cache().clear(),
            false => self.cache().forget(&flags),
        }
        self.tell(Event::ConfigurationChanged { flags });
    }

    /// The daemon does not tell of changes any more.
    pub(crate) fn lost(&self) {
        self.cache().close();
        if self.turn(Standing::Ready, Standing::Stale) {
            self.tell(Event::Stale);
        }
    }

    /// A try to reach the daemon failed.
    pub(crate) fn failed(&self, status: &Status) {
        *self.failure() = Some(status.message().to_owned());
    }

    fn failure(&self) -> MutexGuard<'_, Option<String>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It was lost for too long, or never found: what is kept is too old. Nothing happens unless it stands at `from`.
    pub(crate) fn give_up(&self, from: Standing) {
        if self.turn(from, Standing::Error) {
            self.cache().clear();
            let message = self.failure().clone();
            self.tell(Event::Error {
                message: message.unwrap_or_else(|| "the flag daemon does not answer".to_owned()),
                fatal: false,
            });
        }
    }

    /// The daemon said what was said to be fatal.
    pub(crate) fn end(&self, status: &Status) {
        self.cache().close();
        self.cache().clear();
        self.standing.send_replace(Standing::Fatal);
        let message = status.message().to_owned();
        self.tell(Event::Error {
            message,
            fatal: true,
        });
    }

    fn turn(&self, from: Standing, to: Standing) -> bool {
        self.standing.send_if_modified(|standing| {
            let turns = *standing == from;
            if turns {
                *standing = to;
            }
            turns
        })
    }

    fn tell(&self, event: Event) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }
}
