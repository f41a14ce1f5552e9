//! Open files inside calls: which descriptor belongs to which call, on both sides of a connection.
//!
//! ```text
//! attach ─► Call ─► Link queue ─► Tap: FDS frame between two of h2's ─sendmsg─► FdSocket ─► Tap ─► Link ─► Call ─► take
//! ```
//! A frame's descriptors travel with its first byte, so the receiver knows by the offset whose they are; the frame says
//! which call and which indices. Against another peer the frames would mean nothing (RFC 9113 §5.5), and none is sent.

mod arrivals;
mod attachment;
mod call;
mod closer;
mod descriptors;
mod error;
mod frame;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod incoming;
mod inode;
mod limits;
mod link;
mod outbound;
mod outgoing;
mod quota;
mod sealed;
mod serving;
mod socket;
mod tap;
#[cfg(test)]
mod tests;

pub use descriptors::{Descriptors, DescriptorsExt, FdIndex, reopen};
pub use error::{AttachError, Incapable, Loss, TakeError, UnsentError};
pub use inode::{BadInodeUrl, InodeUrl};
pub use limits::FdLimits;
pub(crate) use link::{Announced, Link, Side, Terms};
pub(crate) use outbound::Outbound;
pub use sealed::{SealedError, sealed};
pub(crate) use serving::{CALL_HEADER, ClientCall, Receivers, ServerCall};
pub(crate) use socket::{Carrier, FdSend, FdSocket, Reception, Unsent};
pub(crate) use tap::Tap;
