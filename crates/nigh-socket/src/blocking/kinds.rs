//! Code written once over both blocking sockets of messages.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use super::{UnixDatagram, UnixSeqpacket};
use crate::message::{Packet, Received, RecvError, SendError};

/// A connected socket of messages, of whichever type: [`crate::MessageSocket`] without a runtime.
pub trait MessageSocket: AsFd + Debug + Send + Sync + 'static {
    /// Sends the slices as one message, with at most 253 descriptors; waits while the queue is full.
    ///
    /// # Errors
    /// See [`SendError`]: nothing was sent then.
    fn send_message(&self, slices: &[IoSlice<'_>], fds: &[BorrowedFd<'_>])
    -> Result<(), SendError>;

    /// Receives one message to the front of `buffer`, with its descriptors. Datagrams never end.
    ///
    /// # Errors
    /// See [`RecvError`]: a message that does not fit is an error with its true length, and is gone.
    fn recv_message(&self, buffer: &mut [u8]) -> Result<Received, RecvError>;

    /// The longest message in bytes that can be sent, with the send buffer as it is now.
    ///
    /// # Errors
    /// What `getsockopt(2)` reports.
    fn message_bytes_max(&self) -> io::Result<usize>;
}

impl MessageSocket for UnixSeqpacket {
    fn send_message(
        &self,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), SendError> {
        self.send(slices, fds)
    }

    fn recv_message(&self, buffer: &mut [u8]) -> Result<Received, RecvError> {
        self.recv(buffer)
    }

    fn message_bytes_max(&self) -> io::Result<usize> {
        Self::message_bytes_max(self)
    }
}

impl MessageSocket for UnixDatagram {
    fn send_message(
        &self,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), SendError> {
        self.send(slices, fds)
    }

    fn recv_message(&self, buffer: &mut [u8]) -> Result<Received, RecvError> {
        Ok(Received::Packet(Packet::from(self.recv(buffer)?)))
    }

    fn message_bytes_max(&self) -> io::Result<usize> {
        Self::message_bytes_max(self)
    }
}
