//! What a message is on its way in: its length, its descriptors, its sender; or the end of the connection.
//!
//! Trap: the kernel answers 0 for an empty packet and at the end alike. Each packet comes with a time stamp here, and
//! the end comes with nothing.

mod asked;
mod batch;
mod cork;
mod error;
mod exact;
mod peek;
mod sender;
mod transfer;

use std::os::fd::OwnedFd;

use crate::address::Address;

pub use batch::{Batch, Outgoing};
pub use cork::Cork;
pub use error::{Blame, RecvError, SendError};
pub use exact::{Filled, Stop};
pub use peek::Peeked;
pub use sender::Sender;

pub(crate) use asked::Asked;
pub(crate) use batch::{receive_datagrams, send_batch};
pub(crate) use exact::Exactly;
pub(crate) use peek::{peek_bytes, peek_datagram};
pub(crate) use transfer::{
    Attempt, Packets, nonblocking, receive_bytes, receive_datagram, send, send_bytes,
};

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

/// Some bytes of a stream; they are at the front of the buffer that was given.
#[derive(Debug)]
#[non_exhaustive]
pub struct Chunk {
    /// Bytes; 0 at the end of the stream, or when there was no room for any.
    pub length: usize,
    /// Descriptors, in the order they were sent, close-on-exec; at most 253, all of one send. Those not taken are closed.
    pub fds: Vec<OwnedFd>,
    /// Further descriptors of that send are missing: this process can open no more. Those that came are the first.
    pub fds_lost: bool,
    /// Who wrote these very bytes, where the socket was told to ask (`set_pass_credentials`).
    pub sender: Option<Sender>,
}

/// A whole datagram; its bytes are at the front of the buffer that was given.
#[derive(Debug)]
#[non_exhaustive]
pub struct Datagram {
    /// Bytes.
    pub length: usize,
    /// The descriptors that came with it, in order, close-on-exec; at most 253. Those not taken are closed.
    pub fds: Vec<OwnedFd>,
    /// Who sent it, where the socket was told to ask (`pass_credentials`).
    pub sender: Option<Sender>,
    /// The name of the socket it came from, to reply to; `None` when that has none.
    ///
    /// Trap: a path is the one that its owner gave to `bind`. It may be relative to another directory, or renamed since,
    /// as a [`Listener`](crate::Listener)'s own always is: send to that one by the address you know.
    pub from: Option<Address>,
}

impl From<Datagram> for Packet {
    /// Forgets where it came from.
    fn from(datagram: Datagram) -> Self {
        Self {
            length: datagram.length,
            fds: datagram.fds,
            sender: datagram.sender,
        }
    }
}
