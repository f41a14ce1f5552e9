//! Several messages at once, in pieces, or only looked at, blocking.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use rustix::event::PollFlags;

use super::UnixSeqpacket;
use super::patience::until_done;
use crate::message::{Batch, Cork, Outgoing, Peeked, Received, RecvError, SendError, nonblocking};

impl UnixSeqpacket {
    /// Sends the messages, one after the other, in one call; waits while there is room for none. Returns how many went, at
    /// least one: what is wrong with the next, the next try says.
    ///
    /// # Errors
    /// See [`SendError`]: what is wrong with the first; nothing was sent then. [`SendError::TimedOut`] after the write timeout.
    pub fn send_batch(&self, messages: &[Outgoing<'_>]) -> Result<usize, SendError> {
        let (socket, timeout) = (self.as_fd(), self.write_timeout);
        until_done(socket, Some(PollFlags::OUT), timeout, |waits| {
            self.packets.send_batch(socket, messages, waits)
        })
        .unwrap_or(Err(SendError::TimedOut))
    }

    /// As [`send_batch`](Self::send_batch), without waiting.
    ///
    /// # Errors
    /// [`SendError::WouldBlock`] when the queue is full; otherwise as for [`send_batch`](Self::send_batch).
    pub fn try_send_batch(&self, messages: &[Outgoing<'_>]) -> Result<usize, SendError> {
        nonblocking(|| self.packets.send_batch(self.as_fd(), messages, false))
            .unwrap_or(Err(SendError::WouldBlock))
    }

    /// Receives as many messages as are there and the batch has room for, in one call; waits for the first. Returns how
    /// many, the end included.
    ///
    /// # Errors
    /// See [`RecvError`]: nothing was received then. What is wrong with one message is said in its place. [`RecvError::TimedOut`] after the read timeout.
    pub fn recv_batch(&self, batch: &mut Batch<Received>) -> Result<usize, RecvError> {
        let (socket, timeout) = (self.as_fd(), self.read_timeout);
        until_done(socket, Some(PollFlags::IN), timeout, |waits| {
            self.packets.receive_batch(socket, batch, waits)
        })
        .unwrap_or(Err(RecvError::TimedOut))
    }

    /// As [`recv_batch`](Self::recv_batch), without waiting.
    ///
    /// # Errors
    /// [`RecvError::WouldBlock`] when there is no message; otherwise as for [`recv_batch`](Self::recv_batch).
    pub fn try_recv_batch(&self, batch: &mut Batch<Received>) -> Result<usize, RecvError> {
        nonblocking(|| self.packets.receive_batch(self.as_fd(), batch, false))
            .unwrap_or(Err(RecvError::WouldBlock))
    }

    /// Copies what fits of the next message to the front of `buffer`, and leaves it where it is. No descriptor is
    /// duplicated.
    ///
    /// # Errors
    /// See [`RecvError`]. [`RecvError::TimedOut`] after the read timeout.
    pub fn peek(&self, buffer: &mut [u8]) -> Result<Peeked, RecvError> {
        let (socket, timeout) = (self.as_fd(), self.read_timeout);
        until_done(socket, Some(PollFlags::IN), timeout, |waits| {
            self.packets.peek(socket, buffer, waits)
        })
        .unwrap_or(Err(RecvError::TimedOut))
    }

    /// As [`peek`](Self::peek), without waiting.
    ///
    /// # Errors
    /// [`RecvError::WouldBlock`] when there is no message; otherwise as for [`peek`](Self::peek).
    pub fn try_peek(&self, buffer: &mut [u8]) -> Result<Peeked, RecvError> {
        nonblocking(|| self.packets.peek(self.as_fd(), buffer, false))
            .unwrap_or(Err(RecvError::WouldBlock))
    }

    /// An empty [`Cork`] for as long a message as can be sent now.
    ///
    /// # Errors
    /// What `getsockopt(2)` reports.
    pub fn cork(&self) -> io::Result<Cork> {
        Ok(Cork::new(self.message_bytes_max()?))
    }

    /// Sends what is in the cork as one message, and empties it; waits while the queue is full.
    ///
    /// # Errors
    /// See [`SendError`]: nothing was sent then, and the cork is as it was. [`SendError::TimedOut`] after the write timeout.
    pub fn send_corked(&self, cork: &mut Cork) -> Result<(), SendError> {
        let slices = [IoSlice::new(cork.bytes())];
        self.send(&slices, &cork.borrowed_fds())?;
        cork.clear();
        Ok(())
    }
}
