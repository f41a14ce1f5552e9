//! Packets over a connection, blocking: for programs without a runtime.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::net::sockopt::Timeout;

use super::patience::{set_timeout, until_done};
use crate::message::{Asked, Packets, Received, RecvError, SendError, nonblocking};
use crate::options::{Asks, socket_options};
use crate::seqpacket::{checked, pair, shutdown};

/// A connected socket of type `SOCK_SEQPACKET`, blocking and close-on-exec: [`crate::UnixSeqpacket`] without a runtime.
///
/// Several threads may send and receive at once; each message goes to one of them.
#[derive(Debug)]
pub struct UnixSeqpacket {
    socket: OwnedFd,
    pub(super) packets: Packets,
    pub(super) read_timeout: Option<Duration>,
    pub(super) write_timeout: Option<Duration>,
}

socket_options!(UnixSeqpacket, message);

impl Asks for UnixSeqpacket {
    fn asked(&self) -> Option<&Asked> {
        Some(self.packets.asked())
    }
}

impl UnixSeqpacket {
    /// Takes over a connected packet socket; makes it blocking, without timeouts.
    ///
    /// Trap: whether a socket blocks belongs to the open file: whoever else holds it sees that change.
    ///
    /// # Errors
    /// `InvalidInput` when it is not one; otherwise what the kernel reports.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        checked(socket.as_fd())?;
        Self::from_checked(socket)
    }

    pub(super) fn from_checked(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, false)?;
        let mut this = Self {
            packets: Packets::on(socket.as_fd())?,
            socket,
            read_timeout: None,
            write_timeout: None,
        };
        this.set_read_timeout(None)?;
        this.set_write_timeout(None)?;
        Ok(this)
    }

    /// Two connected sockets, both owned by this process.
    ///
    /// # Errors
    /// What `socketpair(2)` reports.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = pair(false)?;
        Ok((Self::from_checked(a)?, Self::from_checked(b)?))
    }

    /// How long [`recv`](Self::recv) waits for a message; `None`, the default, is for ever.
    ///
    /// # Errors
    /// `InvalidInput` when it is zero; use [`try_recv`](Self::try_recv) for that.
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        set_timeout(self.as_fd(), Timeout::Recv, timeout)?;
        self.read_timeout = timeout;
        Ok(())
    }

    /// How long [`send`](Self::send) waits while the queue is full; `None`, the default, is for ever.
    ///
    /// # Errors
    /// `InvalidInput` when it is zero; use [`try_send`](Self::try_send) for that.
    pub fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        set_timeout(self.as_fd(), Timeout::Send, timeout)?;
        self.write_timeout = timeout;
        Ok(())
    }

    /// Sends the slices as one message, with at most 253 descriptors; waits while the queue is full.
    ///
    /// # Errors
    /// See [`SendError`]: nothing was sent then. [`SendError::TimedOut`] after the write timeout.
    pub fn send(&self, slices: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        let (socket, timeout) = (self.as_fd(), self.write_timeout);
        until_done(socket, Some(PollFlags::OUT), timeout, |waits| {
            self.packets.send(socket, slices, fds, waits)
        })
        .unwrap_or(Err(SendError::TimedOut))
    }

    /// As [`send`](Self::send), without waiting.
    ///
    /// # Errors
    /// [`SendError::WouldBlock`] when the queue is full; otherwise as for [`send`](Self::send).
    pub fn try_send(
        &self,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), SendError> {
        nonblocking(|| self.packets.send(self.as_fd(), slices, fds, false))
            .unwrap_or(Err(SendError::WouldBlock))
    }

    /// Receives one message to the front of `buffer`, with its descriptors.
    ///
    /// # Errors
    /// See [`RecvError`]: a message that does not fit is an error with its true length, and is gone.
    /// [`RecvError::TimedOut`] after the read timeout.
    pub fn recv(&self, buffer: &mut [u8]) -> Result<Received, RecvError> {
        self.recv_vectored(&mut [IoSliceMut::new(buffer)])
    }

    /// As [`recv`](Self::recv), into several buffers (at most 1024), each filled before the next.
    ///
    /// # Errors
    /// As for [`recv`](Self::recv).
    pub fn recv_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> Result<Received, RecvError> {
        let (socket, timeout) = (self.as_fd(), self.read_timeout);
        until_done(socket, Some(PollFlags::IN), timeout, |waits| {
            self.packets.receive(socket, buffers, waits)
        })
        .unwrap_or(Err(RecvError::TimedOut))
    }

    /// As [`recv`](Self::recv), to behind what `memory` holds: as much as its spare capacity takes, which is not cleared
    /// before.
    ///
    /// # Errors
    /// As for [`recv`](Self::recv). `memory` is then as it was, but for [`RecvError::DescriptorsLost`].
    pub fn recv_behind(&self, memory: &mut Vec<u8>) -> Result<Received, RecvError> {
        let (socket, timeout) = (self.as_fd(), self.read_timeout);
        until_done(socket, Some(PollFlags::IN), timeout, |waits| {
            self.packets.receive_behind(socket, memory, waits)
        })
        .unwrap_or(Err(RecvError::TimedOut))
    }

    /// As [`recv`](Self::recv), without waiting.
    ///
    /// # Errors
    /// [`RecvError::WouldBlock`] when there is no message; otherwise as for [`recv`](Self::recv).
    pub fn try_recv(&self, buffer: &mut [u8]) -> Result<Received, RecvError> {
        let mut buffers = [IoSliceMut::new(buffer)];
        nonblocking(|| self.packets.receive(self.as_fd(), &mut buffers, false))
            .unwrap_or(Err(RecvError::WouldBlock))
    }

    /// Whether the peer may send empty packets. Default true: then each packet is stamped, so that an empty one is never
    /// taken for the end; that takes a tenth of the time of a send and a receive. Where the protocol has no empty
    /// packets, turn it off: one that comes all the same is then taken for the end if the peer has left by then.
    ///
    /// # Errors
    /// What `setsockopt(2)` reports.
    pub fn set_empty_packets(&self, expected: bool) -> io::Result<()> {
        self.packets.stamp(self.as_fd(), expected)
    }

    /// Ends one direction, or both. The peer receives what was sent before, and then the end.
    ///
    /// # Errors
    /// What `shutdown(2)` reports.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        shutdown(self.as_fd(), how)
    }
}

impl AsFd for UnixSeqpacket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<UnixSeqpacket> for OwnedFd {
    /// The socket, still blocking, and with its timeouts.
    fn from(socket: UnixSeqpacket) -> Self {
        socket.socket
    }
}
