//! How a connection ends that its server leaves and no successor takes: no call on it is lost.
//!
//! The receiving side is shut first. From then on the kernel refuses what the caller sends, before it has taken a byte
//! of it (EPIPE), so that the caller may send it again, elsewhere. What the kernel had taken is read and answered. Only
//! then is the socket closed, with nothing unread in it. drpc §7.12

use std::net::Shutdown;
use std::task::{Context, Poll};
use std::time::Duration;

use nigh_socket::DrainReason;
use tokio::time::Instant;

use super::{Agreement, Connection};

/// How long a replaced server waits for the first call of who has connected (DAOS's clients connect, call once and
/// leave), and for a pause between calls that overlap. Half of what is left of the drain, if that is less.
const PATIENCE: Duration = Duration::from_secs(1);

impl Connection {
    /// Looks whether the server drains; the first time, begins to count.
    pub(super) fn watch_drain(&mut self, cx: &mut Context<'_>) {
        if let Some(drain) = &mut self.drain
            && let Poll::Ready(deadline) = drain.as_mut().poll(cx)
        {
            self.drain = None;
            self.is_draining = true;
            let left = deadline.saturating_duration_since(Instant::now());
            self.patience.run(PATIENCE.min(left / 2));
        }
    }

    /// Refuses what the caller would send from now on, once it is time; says whether it did.
    pub(super) fn shut(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_shut || !self.is_time_to_leave(cx) {
            return false;
        }
        self.is_shut = true;
        if let Err(error) = self.line.shutdown(Shutdown::Read) {
            // It cannot be read to its end then.
            tracing::debug!("connection of {}: {error}", self.peer);
            self.has_ended = true;
        }
        true
    }

    fn is_time_to_leave(&mut self, cx: &mut Context<'_>) -> bool {
        // A message that has begun has its own time.
        if !self.is_draining || self.has_ended || self.inbound.is_partial() {
            return false;
        }
        let is_idle = self.held.is_none() && self.is_idle();
        match self.signal.as_ref().and_then(nigh_socket::Drain::reason) {
            Some(DrainReason::Replaced) => {
                let has_called = !matches!(self.agreement, Agreement::Open);
                self.stays && is_idle && has_called || self.patience.poll(cx).is_ready()
            }
            // What comes while calls are at work is refused in words, which is more than the kernel says.
            _ => is_idle,
        }
    }
}
