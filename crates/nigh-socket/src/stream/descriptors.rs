//! Descriptors and senders on a stream of bytes.
//!
//! Traps: descriptors leave with the first byte of a send, so after a partial one they are gone and must not be attached
//! again. They arrive with the *last* segment that a receive returns, plain bytes glued in front: where one receive ends
//! says nothing about which message they belong to. Say so in the bytes, and take them in order.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};

use super::UnixStream;
use crate::buffer;
use crate::message::{Chunk, RecvError, SendError, nonblocking, receive_bytes, send_bytes};
use crate::sys::opt;

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

    /// Whether the peer may send descriptors; answers whether this kernel can be told so (Linux 6.16).
    ///
    /// # Errors
    /// What `setsockopt(2)` reports.
    pub fn set_pass_rights(&self, pass: bool) -> io::Result<bool> {
        Ok(opt::pass_rights(self.as_fd(), pass)?)
    }

    /// Whether [`Chunk::sender`] is to say who wrote what is received from now on: how to notice that another process
    /// writes on this stream. Bytes of two writers never come in one chunk then. What was written before says that it
    /// does not know: on a server, ask the listener instead ([`ListenerOptions::pass_credentials`]).
    ///
    /// [`ListenerOptions::pass_credentials`]: crate::ListenerOptions::pass_credentials
    ///
    /// # Errors
    /// What `setsockopt(2)` reports.
    pub fn set_pass_credentials(&self, pass: bool) -> io::Result<()> {
        Ok(opt::pass_credentials(self.as_fd(), pass)?)
    }

    /// The send buffer in bytes. It alone decides how much is on its way; the receiver's has no say.
    ///
    /// # Errors
    /// What `getsockopt(2)` reports.
    pub fn send_buffer(&self) -> io::Result<usize> {
        buffer::send_buffer(self.as_fd())
    }

    /// Asks for a send buffer of so many bytes; returns what it is now: more for very small ones, and no more than
    /// the system allows (twice `net.core.wmem_max`).
    ///
    /// # Errors
    /// What `setsockopt(2)` reports.
    pub fn set_send_buffer(&self, bytes: usize) -> io::Result<usize> {
        buffer::set_send_buffer(self.as_fd(), bytes)
    }
}
