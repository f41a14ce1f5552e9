//! How a socket gets its public name and loses it again, so that there is never a moment with the wrong one.
//!
//! bind to a temporary name -> permissions -> listen -> publish (atomic) .. unpublish (only what is still ours).
//! Trap: what `getsockname` says is the temporary name, for ever; the published one is only known here.

pub(crate) mod address_file;
pub(crate) mod directory;
pub(crate) mod entry;
pub(crate) mod leftovers;
pub(crate) mod lock;
pub(crate) mod names;
mod temporary;
mod unpublish;

pub use address_file::{PublishedError, PublishedFault};
pub(crate) use temporary::{Outcome, Temporary};
pub(crate) use unpublish::Published;
pub use unpublish::{UnpublishError, UnpublishFault};
