//! What systemd and supervisors like it give a service: sockets that are open already, and an ear for how it is doing.
//!
//! The variables are read once and never removed, because other threads may be reading them too. Their descriptors are
//! closed on exec from then on, `LISTEN_PID` names this process alone, and [`spawn`](crate::spawn) leaves all of it out of
//! a child's environment; with another way to start children remove [`VARIABLES`].

mod announcement;
mod error;
mod notify;
mod passed;
mod state;
mod store;
mod watchdog;

pub use error::{ActivationError, NotifyError};
pub use notify::Notifier;
pub use passed::{Descriptor, descriptors, take};
pub(crate) use passed::{take_for, take_number};
pub use state::State;
pub use store::KeepError;
pub use watchdog::Watchdog;

/// The environment variables that are meant for one service and not for its children.
pub const VARIABLES: [&str; 8] = [
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "FDSTORE",
];
