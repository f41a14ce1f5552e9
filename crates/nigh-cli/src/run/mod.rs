//! The supervisor behind `nigh run`: holds sockets for a command, starts it, and replaces it without losing a caller.
//!
//! ```text
//! Plan ─► Sockets ─► Supervisor (one loop: signals, what instances say, ends, deadlines, who asks for the status)
//!                      ├─ current   serves            ├─ old       have SIGTERM, end by themselves or at their deadline
//!                      └─ next      is getting ready  └─ leftovers what an ended one has left behind
//! ```

mod backoff;
mod control;
mod error;
mod inbox;
mod instance;
mod reap;
mod report;
mod signals;
mod sockets;
mod stage;
mod store;
mod supervisor;

use std::ffi::OsString;
use std::time::Duration;

pub(crate) use control::{all, ask, serve_status};
pub use error::RunError;
pub(crate) use report::render;
pub(crate) use sockets::Sockets;
pub(crate) use stage::run as stage;
pub(crate) use supervisor::Supervisor;

/// What is run, and how patiently.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) command: Vec<OsString>,
    pub(crate) waits_for_ready: bool,
    pub(crate) grace: Duration,
    pub(crate) start_time: Duration,
    pub(crate) stop_time: Duration,
    pub(crate) watchdog: Option<Duration>,
    pub(crate) backoff: Duration,
    pub(crate) backoff_max: Duration,
    pub(crate) always: bool,
    pub(crate) stored_max: usize,
}
