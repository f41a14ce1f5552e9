//! Which policy stands before which method, for every protocol: a table from method to [`Policy`].

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use crate::peer::Peer;
use crate::policy::{Policy, Verdict};

/// Policies per method, over and above the one that admitted the connection.
///
/// `M` is the protocol's own name of a method (a gRPC path, a dRPC module and method).
/// A method without an entry is open to every admitted caller.
#[derive(Debug, Clone)]
pub struct Guard<M> {
    methods: HashMap<M, Policy>,
}

impl<M> Default for Guard<M> {
    fn default() -> Self {
        Self {
            methods: HashMap::new(),
        }
    }
}

impl<M: Hash + Eq> Guard<M> {
    /// Lets only callers that `policy` admits reach `method`. A second policy for the same method
    /// is required as well as the first.
    pub fn require(&mut self, method: M, policy: Policy) {
        use std::collections::hash_map::Entry;
        match self.methods.entry(method) {
            Entry::Occupied(mut entry) => {
                let both = entry.get().clone().and(policy);
                let _replaced = entry.insert(both);
            }
            Entry::Vacant(entry) => {
                entry.insert(policy);
            }
        }
    }

    /// Whether any method has a policy of its own.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.methods.is_empty()
    }

    /// The methods that have a policy of their own, in no order.
    pub fn methods(&self) -> impl Iterator<Item = &M> {
        self.methods.keys()
    }

    /// Decides whether `peer` may call `method`; to be asked before the call's body is decoded.
    ///
    /// # Errors
    /// The verdict that refused: its text is for the log, not for the peer.
    pub fn check<Q>(&self, peer: &Peer, method: &Q) -> Result<(), Verdict>
    where
        M: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let Some(policy) = self.methods.get(method) else {
            return Ok(());
        };
        let verdict = policy.evaluate(peer);
        if verdict.admits() {
            Ok(())
        } else {
            Err(verdict)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_guarded_methods_are_closed() {
        let peer = Peer::remote("127.0.0.1:1".parse().unwrap());
        let mut guard = Guard::<String>::default();
        guard.require("/a.B/C".into(), Policy::none());
        assert!(guard.check(&peer, "/a.B/C").is_err());
        guard.check(&peer, "/a.B/D").unwrap();
    }

    #[test]
    fn a_second_policy_does_not_replace_the_first() {
        let peer = Peer::remote("127.0.0.1:1".parse().unwrap());
        let mut guard = Guard::<u32>::default();
        guard.require(1, Policy::none());
        guard.require(1, Policy::any());
        assert!(guard.check(&peer, &1).is_err());
    }
}
