//! What the calls of one user may take together, over all of its connections.
//!
//! Each connection looks its account up once; a call then costs one addition.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nigh_socket::{Fact, Peer};

/// The accounts of everybody who is connected.
#[derive(Debug)]
pub(crate) struct Shares {
    calls_max: usize,
    accounts: Mutex<HashMap<Option<u32>, Weak<AtomicUsize>>>,
}

/// One user's account, held by its connections.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    calls_max: usize,
    calls: Arc<AtomicUsize>,
}

/// The right to have one call more at work, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Shares {
    pub(crate) fn new(calls_max: usize) -> Self {
        Self {
            calls_max,
            accounts: Mutex::default(),
        }
    }

    /// The account of a caller; those of whom the kernel tells no uid share one.
    pub(crate) fn of(&self, peer: &Peer) -> Share {
        let uid = match peer {
            Peer::Local(local) => match local.uid() {
                Fact::Known { value, .. } => Some(*value),
                Fact::Unknown { .. } => None,
            },
            _ => None,
        };
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = accounts.get(&uid).and_then(Weak::upgrade);
        let calls = known.unwrap_or_else(|| {
            // One entry per user that is connected, not per user that ever was.
            accounts.retain(|_, account| account.strong_count() > 0);
            let calls = Arc::default();
            accounts.insert(uid, Arc::downgrade(&calls));
            calls
        });
        Share {
            calls_max: self.calls_max,
            calls,
        }
    }
}

impl Share {
    /// `None` when the user has as many calls at work as it may.
    pub(crate) fn take(&self) -> Option<Place> {
        let taken = self.calls.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(&self.calls));
        (taken < self.calls_max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_a_user_share_an_account_that_ends_with_the_last() {
        let shares = Shares::new(2);
        let peer = Peer::remote("127.0.0.1:1".parse().unwrap());
        let (one, other) = (shares.of(&peer), shares.of(&peer));
        let first = one.take().unwrap();
        let _second = other.take().unwrap();
        assert!(one.take().is_none());
        drop(first);
        assert!(one.take().is_some());
        drop((one, other));
        assert!(shares.of(&peer).take().is_some());
    }
}
