//! Looking at what is next without taking it: never with its descriptors, which a look would duplicate.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::{Attempt, Packets, RecvError};
use crate::sys::msg::{self, Manner};

/// What is next on a socket of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peeked {
    /// A message, whose first bytes are at the front of the buffer.
    Message {
        /// Its true length in bytes, however little room there was.
        length: usize,
    },
    /// The end of the connection.
    End,
}

/// What is next on a stream: as many bytes as fit and are there.
pub(crate) fn peek_bytes(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    waits: bool,
) -> Attempt<Result<usize, RecvError>> {
    let manner = Manner {
        waits,
        is_stream: true,
    };
    outcome(msg::peek(socket, buffer, manner, false)).map(|done| done.map(|(length, _)| length))
}

/// The length of the next datagram.
pub(crate) fn peek_datagram(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    waits: bool,
) -> Attempt<Result<usize, RecvError>> {
    let manner = Manner {
        waits,
        is_stream: false,
    };
    outcome(msg::peek(socket, buffer, manner, false)).map(|done| done.map(|(length, _)| length))
}

impl Packets {
    /// What is next on a packet socket.
    pub(crate) fn peek(
        &self,
        socket: BorrowedFd<'_>,
        buffer: &mut [u8],
        waits: bool,
    ) -> Attempt<Result<Peeked, RecvError>> {
        let manner = Manner {
            waits,
            is_stream: false,
        };
        let seen = self.behind_reset(|| msg::peek(socket, buffer, manner, self.are_stamped()));
        outcome(seen).map(|done| match done? {
            (0, false) if self.ends(socket) => self.end().map(|()| Peeked::End),
            (length, _) => Ok(Peeked::Message { length }),
        })
    }
}

fn outcome<T>(done: Result<T, Errno>) -> Attempt<Result<T, RecvError>> {
    Attempt::of(done).map(|done| done.map_err(RecvError::from_errno))
}
