//! The same sockets without a runtime: calls block their thread, for as long as the timeouts say.

mod datagram;
mod kinds;
mod patience;
mod seqpacket;

pub use datagram::UnixDatagram;
pub use kinds::MessageSocket;
pub use seqpacket::{UnixSeqpacket, connect_packet};
