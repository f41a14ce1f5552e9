//! The same sockets without a runtime: calls block their thread, for as long as the timeouts say.

mod accept;
mod connect;
mod datagram;
mod kinds;
mod patience;
mod seqpacket;
mod several_datagrams;
mod several_packets;
mod stream;

pub use accept::{Acceptor, Connection, Incoming, Refused, Transport};
pub use connect::{connect, connect_fd, connect_packet};
pub use datagram::UnixDatagram;
pub use kinds::{ByteStream, MessageSocket};
pub use seqpacket::UnixSeqpacket;
pub use stream::{Stream, UnixStream};
