//! The limits of accepting: how many connections, for whom, and for how long; each with its unit and reason.

use std::time::Duration;

/// What a [`Front`](crate::Front) allows its callers to hold, in total and each.
///
/// Start from `Limits::default()` and assign the fields that should differ.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// Connections open at once, over all listeners. Above it callers are refused as retryable.
    /// Default 1024, and never more than a third of the process's descriptor limit (`RLIMIT_NOFILE`,
    /// often 1024): a connection takes two descriptors, and the handlers need some too.
    pub connections_max: usize,
    /// Connections open at once per kernel-verified uid (or per IP address over TCP; callers whose
    /// uid is unknown share one allowance). Default 512, and never more than half of what all
    /// together may hold where the descriptor limit has lowered that: no single user takes all.
    pub connections_per_uid_max: usize,
    /// Refused callers being told so at once; further ones are closed without a word. Default 64.
    pub refusals_max: usize,
    /// Time in which a refused caller is told before it is cut off. Default 1 s.
    pub refusal_time: Duration,
    /// Bytes read from a refused caller, enough for its greeting and first headers. Default 64 KiB.
    pub refusal_bytes_max: usize,
    /// Time for an admitted caller to send the first bytes that name its wire. Default 5 s.
    pub greeting_time: Duration,
    /// Time that running calls get to finish once a drain begins. Default 30 s.
    pub drain_time: Duration,
    /// Log lines about refusals and accept faults per second; the rest are counted into the next
    /// line, so that no caller can fill a disk. Default 10.
    pub log_lines_per_second: u32,
}

impl Limits {
    /// These limits, lowered to what `descriptors` descriptors allow.
    pub(crate) fn within(mut self, descriptors: usize) -> Self {
        let most = (descriptors / 3).max(1);
        if self.connections_max > most {
            tracing::warn!(
                "connections_max lowered from {} to {most}: this process may open {descriptors} descriptors",
                self.connections_max
            );
            self.connections_max = most;
            self.connections_per_uid_max = self.connections_per_uid_max.min(most.div_ceil(2));
        }
        self
    }
}

/// Descriptors that this process may open.
pub(crate) fn descriptors_max() -> usize {
    use rustix::process::{Resource, getrlimit};
    let soft = getrlimit(Resource::Nofile).current;
    soft.map_or(usize::MAX, |soft| {
        usize::try_from(soft).unwrap_or(usize::MAX)
    })
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            connections_per_uid_max: 512,
            refusals_max: 64,
            refusal_time: Duration::from_secs(1),
            refusal_bytes_max: 64 * 1024,
            greeting_time: Duration::from_secs(5),
            drain_time: Duration::from_secs(30),
            log_lines_per_second: 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_others() {
        let usual = Limits::default().within(1024);
        assert_eq!(
            (usual.connections_max, usual.connections_per_uid_max),
            (341, 171)
        );
        let ample = Limits::default().within(1 << 20);
        assert_eq!(
            (ample.connections_max, ample.connections_per_uid_max),
            (1024, 512)
        );
        assert_eq!(Limits::default().within(0).connections_max, 1);
    }
}
