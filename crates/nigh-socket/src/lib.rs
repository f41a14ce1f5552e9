//! Unix sockets held right: addresses, bind life cycle, kernel-verified identity, policy, admission and drain.

mod stream;
mod sys;

pub use stream::{Stream, UnixStream};
