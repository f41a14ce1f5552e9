//! Who may take part in a hand-over, and how long each step may take.

use std::time::Duration;

use crate::policy::Policy;

/// The terms of a hand-over, the same for both sides. Start from `HandoverOptions::default()`.
#[derive(Debug, Clone)]
#[must_use]
pub struct HandoverOptions {
    pub(crate) policy: Policy,
    pub(crate) step_time: Duration,
    pub(crate) ready_time: Duration,
    pub(crate) unknown_process: bool,
}

impl Default for HandoverOptions {
    fn default() -> Self {
        Self {
            policy: Policy::same_user(),
            step_time: Duration::from_secs(5),
            ready_time: Duration::from_secs(60),
            unknown_process: false,
        }
    }
}

impl HandoverOptions {
    /// Whom the other process must belong to. Default: the same user.
    ///
    /// Trap: the control socket's mode is 0600, so other users than its owner and root do not get as far as this.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The longest silence within one step. Default 5 s. The old process serves on after it; accepting pauses no longer
    /// than this.
    pub fn step_time(mut self, time: Duration) -> Self {
        self.step_time = time;
        self
    }

    /// How long a successor may prepare itself, with the listeners in its hands and the old process serving. Default
    /// 60 s.
    pub fn ready_time(mut self, time: Duration) -> Self {
        self.ready_time = time;
        self
    }

    /// Goes on where the kernel does not name the other process by a pidfd (before Linux 6.5). Its death is then known
    /// only by the end of the connection. Default false.
    pub fn unknown_process(mut self, allowed: bool) -> Self {
        self.unknown_process = allowed;
        self
    }
}
