//! What a message is on its way in: its length, its descriptors, its sender; or the end of the connection.
//!
//! Trap: the kernel answers 0 for an empty packet and at the end alike. Each packet comes with a time stamp here, and
//! the end comes with nothing.

mod error;
mod sender;
mod transfer;

use std::os::fd::OwnedFd;

pub use error::{Blame, RecvError, SendError};
pub use sender::Sender;
pub(crate) use transfer::{Attempt, Packets, nonblocking};

/// What was received on a socket that can end.
#[derive(Debug)]
pub enum Received {
    /// A message, maybe an empty one.
    Packet(Packet),
    /// The peer has closed the connection, or its sending side, and everything it sent has been received.
    End,
}

/// A whole message; its bytes are at the front of the buffer that was given.
#[derive(Debug)]
#[non_exhaustive]
pub struct Packet {
    /// Bytes.
    pub length: usize,
    /// The descriptors that came with it, in order, close-on-exec; at most 253. Those not taken are closed.
    pub fds: Vec<OwnedFd>,
    /// Who sent this very message, where the socket was told to ask (`pass_credentials`).
    pub sender: Option<Sender>,
}

impl Received {
    /// The packet; `None` at the end.
    #[must_use]
    pub fn into_packet(self) -> Option<Packet> {
        match self {
            Self::Packet(packet) => Some(packet),
            Self::End => None,
        }
    }

    /// Whether it is the end.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self, Self::End)
    }
}
