//! What a service tells its manager, as sd_notify(3) writes it. By value.

use std::fmt::Write as _;
use std::time::Duration;

/// One message to the service manager: assignments that take effect together.
///
/// ```
/// use nigh_socket::systemd::State;
///
/// let state = State::new().ready().status("serving\n2 listeners");
/// assert_eq!(state.text(), "READY=1\nSTATUS=serving 2 listeners\n");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct State {
    text: String,
}

impl State {
    /// Says nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The service has started, or has ended reloading.
    pub fn ready(self) -> Self {
        self.assign("READY", "1")
    }

    /// It reloads its configuration since `now` on the monotonic clock; [`ready`](Self::ready) has to follow.
    pub fn reloading(self, now: Duration) -> Self {
        self.assign("RELOADING", "1")
            .assign("MONOTONIC_USEC", &now.as_micros().to_string())
    }

    /// It stops. Final, for systemd from 259 on.
    pub fn stopping(self) -> Self {
        self.assign("STOPPING", "1")
    }

    /// One line for people. What would end the line becomes a space.
    pub fn status(self, text: &str) -> Self {
        self.assign("STATUS", text)
    }

    /// Which process the service is.
    pub fn main_pid(self, pid: u32) -> Self {
        self.assign("MAINPID", &pid.to_string())
    }

    /// It is alive.
    pub fn watchdog(self) -> Self {
        self.assign("WATCHDOG", "1")
    }

    /// It has found itself broken, and wants what follows when it is not alive.
    pub fn watchdog_trigger(self) -> Self {
        self.assign("WATCHDOG", "trigger")
    }

    /// It needs this long, from now, for what it is doing: starting or stopping.
    pub fn extend_timeout(self, time: Duration) -> Self {
        self.assign("EXTEND_TIMEOUT_USEC", &time.as_micros().to_string())
    }

    /// Any other assignment. Names of one's own begin with `X_`.
    pub fn assign(mut self, name: &str, value: &str) -> Self {
        let line = |c: char| if c.is_control() { ' ' } else { c };
        let value: String = value.chars().map(line).collect();
        // Writing into a string cannot fail.
        let _ = writeln!(self.text, "{name}={value}");
        self
    }

    /// As it is sent.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}
