//! Counts connections, in total and per caller, and hands out the right to hold one more.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::fact::Fact;
use crate::limits::Limits;
use crate::peer::Peer;

/// Whose allowance a connection is charged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Holder {
    Uid(u32),
    /// Local callers of whom the kernel tells no uid share one allowance.
    UnknownLocal,
    Ip(IpAddr),
}

impl From<&Peer> for Holder {
    fn from(peer: &Peer) -> Self {
        match peer {
            Peer::Local(local) => match local.uid() {
                Fact::Known { value, .. } => Self::Uid(*value),
                Fact::Unknown { .. } => Self::UnknownLocal,
            },
            Peer::Tls(tls) => Self::Ip(tls.address().ip()),
            Peer::Remote(remote) => Self::Ip(remote.address().ip()),
        }
    }
}

/// Which allowance is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum QuotaExceeded {
    /// The server holds as many connections as it may.
    Total {
        /// The limit, in connections.
        limit: usize,
    },
    /// This caller holds as many as it may.
    Caller {
        /// The limit, in connections.
        limit: usize,
    },
}

impl std::fmt::Display for QuotaExceeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Total { limit } => write!(f, "the server's {limit} connections are all in use"),
            Self::Caller { limit } => write!(f, "the caller's {limit} connections are all in use"),
        }
    }
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    by_holder: HashMap<Holder, usize>,
}

/// The one account of open connections, shared by every listener and protocol of a process.
#[derive(Debug)]
pub(crate) struct Quota {
    total_max: usize,
    holder_max: usize,
    held: Mutex<Held>,
    returned: Notify,
}

impl Quota {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Self::of(limits.connections_max, limits.connections_per_uid_max)
    }

    pub(crate) fn of(total_max: usize, holder_max: usize) -> Arc<Self> {
        Arc::new(Self {
            total_max,
            holder_max,
            held: Mutex::default(),
            returned: Notify::new(),
        })
    }

    /// Takes one connection out of the caller's and the server's allowance.
    pub(crate) fn take(self: &Arc<Self>, peer: &Peer) -> Result<Ticket, QuotaExceeded> {
        let holder = Holder::from(peer);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.total >= self.total_max {
            return Err(QuotaExceeded::Total {
                limit: self.total_max,
            });
        }
        let count = held.by_holder.entry(holder).or_default();
        if *count >= self.holder_max {
            return Err(QuotaExceeded::Caller {
                limit: self.holder_max,
            });
        }
        *count += 1;
        held.total += 1;
        Ok(Ticket {
            quota: Arc::clone(self),
            holder,
        })
    }

    /// Waits until some connection is given back: descriptors are free again then.
    pub(crate) async fn returned(&self) {
        self.returned.notified().await;
    }
}

/// The right to hold one connection, given back when dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    quota: Arc<Quota>,
    holder: Holder,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut held = self
            .quota
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        held.total -= 1;
        if let Some(count) = held.by_holder.get_mut(&self.holder) {
            *count -= 1;
            if *count == 0 {
                held.by_holder.remove(&self.holder);
            }
        }
        drop(held);
        self.quota.returned.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(text: &str) -> Peer {
        Peer::remote(text.parse().unwrap())
    }

    #[test]
    fn one_caller_cannot_take_the_others_allowance() {
        let limits = Limits {
            connections_max: 3,
            connections_per_uid_max: 2,
            ..Limits::default()
        };
        let quota = Quota::new(&limits);
        let greedy = remote("127.0.0.1:1");
        let modest = remote("127.0.0.2:1");
        let first = quota.take(&greedy).unwrap();
        let _second = quota.take(&greedy).unwrap();
        assert_eq!(
            quota.take(&greedy).unwrap_err(),
            QuotaExceeded::Caller { limit: 2 }
        );
        let _third = quota.take(&modest).unwrap();
        assert_eq!(
            quota.take(&modest).unwrap_err(),
            QuotaExceeded::Total { limit: 3 }
        );
        drop(first);
        assert_eq!(quota.held.lock().unwrap().total, 2);
        quota.take(&greedy).unwrap();
    }

    #[test]
    fn a_holder_without_connections_leaves_no_entry() {
        let quota = Quota::new(&Limits::default());
        drop(quota.take(&remote("127.0.0.1:1")).unwrap());
        assert!(quota.held.lock().unwrap().by_holder.is_empty());
    }
}
