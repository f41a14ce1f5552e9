//! Descriptors and senders on a stream of bytes.
//!
//! Traps: descriptors leave with the first byte of a send, so after a partial one they are gone and must not be attached
//! again. They arrive with the *last* segment that a receive returns, plain bytes glued in front: where one receive ends
//! says nothing about which message they belong to. Say so in the bytes, and take them in order.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};

use super::UnixStream;
use crate::message::{
    Chunk, Cork, Exactly, Filled, RecvError, SendError, nonblocking, peek_bytes, receive_bytes,
    send_bytes,
};

impl UnixStream {
    /// Sends at least one byte of the slices, and with it all the descriptors, at most 253; waits while the buffer is
    /// full. Returns how many bytes went: the rest is to be sent without the descriptors.
    ///
    /// # Errors
    /// See [`SendError`]: nothing was sent then. [`SendError::NothingToCarry`] when there are descriptors and no byte.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is ready, nothing was sent.
    pub async fn send_with_fds(
        &self,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Result<usize, SendError> {
        let sending = self
            .socket
            .write(|socket| nonblocking(|| send_bytes(socket, slices, fds, false)));
        sending.await.map_err(SendError::System)?
    }

    /// As [`send_with_fds`](Self::send_with_fds), for one task at a time: the last that polled is woken.
    pub fn poll_send_with_fds(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Poll<Result<usize, SendError>> {
        let sent = ready!(self.socket.poll_write(cx, |socket| {
            nonblocking(|| send_bytes(socket, slices, fds, false))
        }));
        Poll::Ready(sent.map_err(SendError::System)?)
    }

    /// As [`send_with_fds`](Self::send_with_fds), without waiting.
    ///
    /// # Errors
    /// [`SendError::WouldBlock`] when the buffer is full; otherwise as for [`send_with_fds`](Self::send_with_fds).
    pub fn try_send_with_fds(
        &self,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Result<usize, SendError> {
        nonblocking(|| send_bytes(self.as_fd(), slices, fds, false))
            .unwrap_or(Err(SendError::WouldBlock))
    }

    /// Receives some bytes to the front of `buffer`, and the descriptors of one send at most.
    ///
    /// Reading the same stream as [`AsyncRead`](tokio::io::AsyncRead) closes the descriptors unseen.
    ///
    /// # Errors
    /// See [`RecvError`]. Lost descriptors are none, for the bytes still count: see [`Chunk::fds_lost`].
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is ready, nothing was received.
    pub async fn recv_with_fds(&self, buffer: &mut [u8]) -> Result<Chunk, RecvError> {
        let mut buffers = [IoSliceMut::new(buffer)];
        let receiving = self
            .socket
            .read(|socket| nonblocking(|| receive_bytes(socket, &mut buffers, false)));
        receiving.await.map_err(RecvError::System)?
    }

    /// As [`recv_with_fds`](Self::recv_with_fds), for one task at a time: the last that polled is woken.
    pub fn poll_recv_with_fds(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<Chunk, RecvError>> {
        let mut buffers = [IoSliceMut::new(buffer)];
        // Readiness stays after a descriptor boundary: a receive ends there with more behind it.
        let received = ready!(self.socket.poll_read(cx, |socket| {
            nonblocking(|| receive_bytes(socket, &mut buffers, false))
        }));
        Poll::Ready(received.map_err(RecvError::System)?)
    }

    /// As [`recv_with_fds`](Self::recv_with_fds), without waiting.
    ///
    /// # Errors
    /// [`RecvError::WouldBlock`] when nothing is there; otherwise as for [`recv_with_fds`](Self::recv_with_fds).
    pub fn try_recv_with_fds(&self, buffer: &mut [u8]) -> Result<Chunk, RecvError> {
        let mut buffers = [IoSliceMut::new(buffer)];
        nonblocking(|| receive_bytes(self.as_fd(), &mut buffers, false))
            .unwrap_or(Err(RecvError::WouldBlock))
    }

    /// Fills all of `buffer`, or stops early behind descriptors or at the end, and says which. Bytes without descriptors
    /// may come before those that have some: the descriptors belong to the *last* send of what was received.
    ///
    /// # Errors
    /// As for [`recv_with_fds`](Self::recv_with_fds); what had been received before is lost then.
    ///
    /// # Cancel safety
    /// Not cancel safe: what was received before it was dropped is lost.
    pub async fn recv_exact_with_fds(&self, buffer: &mut [u8]) -> Result<Filled, RecvError> {
        let mut filling = Exactly::new(buffer);
        while let Some(room) = filling.room() {
            let chunk = self.recv_with_fds(room).await?;
            filling.take(chunk);
        }
        Ok(filling.done())
    }

    /// Copies what is next to the front of `buffer` and leaves it where it is; returns how many bytes, 0 at the end. No
    /// descriptor is duplicated.
    ///
    /// # Errors
    /// See [`RecvError`].
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is received in any case.
    pub async fn peek(&self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        let looking = self
            .socket
            .read(|socket| nonblocking(|| peek_bytes(socket, buffer, false)));
        looking.await.map_err(RecvError::System)?
    }

    /// As [`peek`](Self::peek), without waiting.
    ///
    /// # Errors
    /// [`RecvError::WouldBlock`] when nothing is there; otherwise as for [`peek`](Self::peek).
    pub fn try_peek(&self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        nonblocking(|| peek_bytes(self.as_fd(), buffer, false))
            .unwrap_or(Err(RecvError::WouldBlock))
    }

    /// Sends all that is in the cork, in one call if there is room, the descriptors with the first byte.
    ///
    /// # Errors
    /// See [`SendError`]; what was sent before is no longer in the cork.
    ///
    /// # Cancel safety
    /// Cancel safe: what was not sent is still in the cork.
    pub async fn send_corked(&self, cork: &mut Cork) -> Result<(), SendError> {
        while !(cork.bytes().is_empty() && cork.fds().is_empty()) {
            let slices = [IoSlice::new(cork.bytes())];
            let sent = self.send_with_fds(&slices, &cork.borrowed_fds()).await?;
            cork.advance(sent);
        }
        Ok(())
    }
}
