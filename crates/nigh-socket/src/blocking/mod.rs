//! The same sockets without a runtime: calls block their thread, for as long as the timeouts say.

mod patience;
mod seqpacket;

pub use seqpacket::{UnixSeqpacket, connect_packet};
