//! Counts descriptors that callers sent and nobody took yet, per user over all its connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::peer::Peer;
use crate::quota::Holder;

/// The account of one [`Front`](crate::Front): every listener and protocol charges it.
#[derive(Debug)]
pub(crate) struct Descriptors {
    holder_max: u32,
    held: Mutex<HashMap<Holder, u32>>,
}

impl Descriptors {
    pub(crate) fn new(holder_max: u32) -> Arc<Self> {
        Arc::new(Self {
            holder_max,
            held: Mutex::default(),
        })
    }

    pub(crate) fn share(self: &Arc<Self>, peer: &Peer) -> DescriptorShare {
        DescriptorShare {
            account: Arc::clone(self),
            holder: Holder::from(peer),
        }
    }
}

/// One user's share of the descriptors that a server holds unclaimed.
#[derive(Debug, Clone)]
pub struct DescriptorShare {
    account: Arc<Descriptors>,
    holder: Holder,
}

/// The right to hold one descriptor that nobody took yet; given back when dropped.
#[derive(Debug)]
pub struct DescriptorCharge {
    share: DescriptorShare,
}

/// The user's allowance is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the caller's {limit} unclaimed descriptors are all in use")]
pub struct DescriptorsExceeded {
    /// The limit, in descriptors.
    pub limit: u32,
}

impl DescriptorShare {
    /// Charges one descriptor to the user.
    ///
    /// # Errors
    /// When the user holds as many as it may.
    pub fn charge(&self) -> Result<DescriptorCharge, DescriptorsExceeded> {
        let limit = self.account.holder_max;
        let mut held = self
            .account
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(self.holder).or_default();
        if *count >= limit {
            return Err(DescriptorsExceeded { limit });
        }
        *count += 1;
        Ok(DescriptorCharge {
            share: self.clone(),
        })
    }
}

impl Drop for DescriptorCharge {
    fn drop(&mut self) {
        let account = &self.share.account;
        let mut held = account.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.share.holder) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.share.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_the_others_share_and_gets_its_own_back() {
        let account = Descriptors::new(2);
        let share = |text: &str| account.share(&Peer::remote(text.parse().unwrap()));
        let (greedy, same, other) = (
            share("127.0.0.1:1"),
            share("127.0.0.1:2"),
            share("127.0.0.2:1"),
        );
        let first = greedy.charge().unwrap();
        let _second = same.charge().unwrap();
        assert_eq!(
            greedy.charge().unwrap_err(),
            DescriptorsExceeded { limit: 2 }
        );
        let _others = other.charge().unwrap();
        drop(first);
        drop(greedy.charge().unwrap());
        drop((_second, _others));
        assert!(account.held.lock().unwrap().is_empty());
    }
}
