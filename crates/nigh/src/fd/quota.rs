//! What descriptors that came are charged to: their connection, and their user over all connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nigh_socket::{DescriptorCharge, DescriptorShare};

use super::error::Loss;

/// One connection's account.
#[derive(Debug)]
pub(super) struct Account {
    limit: u32,
    held: Arc<AtomicU32>,
    user: Option<DescriptorShare>,
}

/// The right to hold one descriptor that nobody took yet; given back when dropped.
#[derive(Debug)]
pub(super) struct Charge {
    _held: Held,
    _user: Option<DescriptorCharge>,
}

#[derive(Debug)]
struct Held(Arc<AtomicU32>);

impl Account {
    pub(super) fn new(limit: u32, user: Option<DescriptorShare>) -> Self {
        Self {
            limit,
            held: Arc::default(),
            user,
        }
    }

    /// One descriptor more.
    pub(super) fn charge(&self) -> Result<Charge, Loss> {
        let limit = self.limit;
        let held = self
            .held
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| {
                (held < limit).then_some(held + 1)
            });
        if held.is_err() {
            return Err(Loss::PerConnection { limit });
        }
        let held = Held(Arc::clone(&self.held));
        let user = self.user.as_ref().map(DescriptorShare::charge).transpose();
        Ok(Charge {
            _held: held,
            _user: user.map_err(|exceeded| Loss::PerUser {
                limit: exceeded.limit,
            })?,
        })
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> u32 {
        self.held.load(Ordering::Acquire)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
