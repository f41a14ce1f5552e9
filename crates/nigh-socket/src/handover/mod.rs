//! Restarts that lose nobody: a new process gets every listener of the running one, and takes over when it is prepared.
//!
//! ```text
//! successor    Succession::begin ──────────► listen ─► take_over ─────────► Tenure ─► serve
//!                   │ HELLO      ▲ OFFER, LISTENER..       │ READY ▲ GO  │ SERVING
//! predecessor  Tenure::request ─► Request::offer ───────► Prepared::give ──► Given ─► drain, exit
//! ```
//! The protocol, each failure and what follows from it: docs/restarts.md. Trap: a listener that two processes hold is one
//! socket: what one sets on it, the other's next connections have too.

mod error;
mod give;
mod leash;
mod message;
mod options;
mod predecessor;
mod take;
mod tenure;

pub use error::{ClaimError, HandoverError, Step};
pub(crate) use give::Said;
pub use give::{Given, Prepared, Request, Watched};
pub(crate) use message::{Claim, FileClaim, STATE_BYTES_MAX, is_name};
pub use message::{MalformedMessage, RefusalReason};
pub use options::HandoverOptions;
pub(crate) use predecessor::Moving;
pub use predecessor::{Farewell, Predecessor};
pub use take::Succession;
pub use tenure::Tenure;
