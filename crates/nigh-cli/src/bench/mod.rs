//! `nigh bench` behind its arguments: calls of one method, made over and over, and how long they took.
//!
//! ```text
//! Load (one request) ─► closed: workers, one call after the other   ─► Tally ─► table, JSON, picture
//!                    └► open: a clock, a call whenever one is due   ─┘
//! ```

mod clock;
pub(crate) mod histogram;
pub(crate) mod load;
pub(crate) mod picture;
pub(crate) mod tally;

use std::path::PathBuf;

/// Why a measurement was not made, or is not worth much.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// A stream has no latency of a call.
    #[error("bench: {method} is not unary")]
    NotUnary {
        /// Full name of the method.
        method: String,
    },
    /// A service, and no method of it.
    #[error("bench: {service} is a service; name one of its methods")]
    NoMethod {
        /// Full name of the service.
        service: String,
    },
    /// The picture cannot be written.
    #[error("bench: cannot write {}", .path.display())]
    Picture {
        /// Where to.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The thread that keeps the rate cannot be started.
    #[error("bench: cannot start the clock's thread")]
    Clock(#[source] std::io::Error),
    /// Not all calls were answered with success; what was measured was shown.
    #[error("bench: {failed} of {calls} calls failed, the first with {first}")]
    Failed {
        /// Calls without success.
        failed: u64,
        /// All calls.
        calls: u64,
        /// What the first of them ended with.
        first: String,
    },
}

impl BenchError {
    /// 2 for what the arguments ask and cannot be done, 1 otherwise.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NotUnary { .. } | Self::NoMethod { .. } => 2,
            Self::Picture { .. } | Self::Clock(_) | Self::Failed { .. } => 1,
        }
    }
}
