//! What a server counts: connections and calls, admitted and refused.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Live counts of one [`Front`](crate::Front), shared by all its listeners and protocols.
        #[derive(Debug, Default)]
        pub struct Counters { $($name: AtomicU64),* }

        /// The counts at one moment. They only grow.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counts { $($(#[$doc])* pub $name: u64),* }

        impl Counters {
            /// Reads all counts; each is exact, together they may be of slightly different moments.
            #[must_use]
            pub fn read(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed)),* }
            }

            $(
                /// Adds one to the count of the same name.
                pub fn $name(&self) {
                    self.$name.fetch_add(1, Ordering::Relaxed);
                }
            )*
        }
    };
}

counters! {
    /// Connections admitted.
    connections_admitted,
    /// Connections refused by a listener's policy.
    connections_refused_by_policy,
    /// Connections refused because an allowance was used up.
    connections_refused_by_quota,
    /// Connections refused because the server was draining.
    connections_refused_draining,
    /// Refused connections closed without a word, because too many were being told already.
    refusals_untold,
    /// Times that accepting paused because descriptors or memory had run out.
    accept_pauses,
    /// Calls handed to a handler.
    calls_handled,
    /// Calls refused by a method's policy; no handler ran for them.
    calls_refused_by_guard,
    /// Calls refused because the server was draining; no handler ran for them.
    calls_refused_draining,
    /// Calls whose handler panicked.
    handler_panics,
}
