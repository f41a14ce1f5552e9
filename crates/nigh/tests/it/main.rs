//! Integration tests of nigh, one binary: real sockets, the test service, nigh's and tonic's own clients.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a broken precondition is a failed test"
)]

mod between;
mod calls;
mod codec;
mod common;
mod deadlines;
mod drain;
mod fds;
mod frames;
mod greeting;
mod http1;
mod identity;
mod limits;
mod log;
mod panics;
mod reconnect;
mod refusal;
mod replaced;
mod retried;
mod shared_memory;
mod start;
mod suite;
mod tls;
mod wires;
