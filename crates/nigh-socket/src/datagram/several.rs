//! Several messages at once, in pieces, or only looked at: what is beside sending and receiving one.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use super::UnixDatagram;
use crate::message::{
    Batch, Cork, Datagram, Outgoing, RecvError, SendError, nonblocking, peek_datagram,
    receive_datagrams, send_batch,
};

impl UnixDatagram {
    /// Sends the messages, one after the other, in one call; waits while there is room for none. Returns how many went, at
    /// least one: what is wrong with the next, the next try says.
    ///
    /// # Errors
    /// See [`SendError`]: what is wrong with the first; nothing was sent then.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is ready, nothing was sent.
    pub async fn send_batch(&self, messages: &[Outgoing<'_>]) -> Result<usize, SendError> {
        let trying = self
            .socket
            .write(|socket| nonblocking(|| send_batch(socket, messages, false)));
        trying.await.map_err(SendError::System)?
    }

    /// As [`send_batch`](Self::send_batch), without waiting.
    ///
    /// # Errors
    /// [`SendError::WouldBlock`] when the queue is full; otherwise as for [`send_batch`](Self::send_batch).
    pub fn try_send_batch(&self, messages: &[Outgoing<'_>]) -> Result<usize, SendError> {
        nonblocking(|| send_batch(self.as_fd(), messages, false))
            .unwrap_or(Err(SendError::WouldBlock))
    }

    /// Receives as many messages as are there and the batch has room for, in one call; waits for the first. Returns how
    /// many, at least one.
    ///
    /// # Errors
    /// See [`RecvError`]: nothing was received then. What is wrong with one message is said in its place.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is ready, nothing was received.
    pub async fn recv_batch(&self, batch: &mut Batch<Datagram>) -> Result<usize, RecvError> {
        let trying = self
            .socket
            .read(|socket| nonblocking(|| receive_datagrams(socket, batch, false)));
        trying.await.map_err(RecvError::System)?
    }

    /// As [`recv_batch`](Self::recv_batch), without waiting.
    ///
    /// # Errors
    /// [`RecvError::WouldBlock`] when there is no message; otherwise as for [`recv_batch`](Self::recv_batch).
    pub fn try_recv_batch(&self, batch: &mut Batch<Datagram>) -> Result<usize, RecvError> {
        nonblocking(|| receive_datagrams(self.as_fd(), batch, false))
            .unwrap_or(Err(RecvError::WouldBlock))
    }

    /// Copies what fits of the next message to the front of `buffer`, and leaves it where it is; returns its
    /// true length in bytes. No descriptor is duplicated.
    ///
    /// # Errors
    /// See [`RecvError`].
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is ready, nothing was received.
    pub async fn peek(&self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        let trying = self
            .socket
            .read(|socket| nonblocking(|| peek_datagram(socket, buffer, false)));
        trying.await.map_err(RecvError::System)?
    }

    /// As [`peek`](Self::peek), without waiting.
    ///
    /// # Errors
    /// [`RecvError::WouldBlock`] when there is no message; otherwise as for [`peek`](Self::peek).
    pub fn try_peek(&self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        nonblocking(|| peek_datagram(self.as_fd(), buffer, false))
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
    /// See [`SendError`]: nothing was sent then, and the cork is as it was.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is ready, nothing was sent, and the cork is as it was.
    pub async fn send_corked(&self, cork: &mut Cork) -> Result<(), SendError> {
        let slices = [IoSlice::new(cork.bytes())];
        self.send(&slices, &cork.borrowed_fds()).await?;
        cork.clear();
        Ok(())
    }
}
