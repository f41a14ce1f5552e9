//! What nigh's tests share: private directories, children under another user, skips that are never silent,
//! a descriptor-leak guard, scripted streams, a service to call, and the house rules.
//!
//! Private to the workspace: it is a dev-dependency only, and it panics where a test should fail.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "in a test's helper a broken precondition is a failed test"
)]

mod child;
mod dir;
mod fds;
pub mod scripted;
pub mod service;
mod skip;
pub mod tidy;

pub use child::{Child, Outcome, Running, child_variable};
pub use dir::TempSocket;
pub use fds::{OpenFds, inherited, limit_descriptors};
pub use skip::{is_root, skip};
