//! Packets over a connection, on tokio: each message arrives whole, in order, and nothing is lost between.
//!
//! Trap: the longest message follows from the sender's buffer, 212,960 bytes by default: ask, do not assume.

mod several;

use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll};

use crate::inherit;
use crate::listener::SocketKind;
use crate::message::{Asked, Packets, Received, RecvError, SendError, nonblocking};
use crate::options::{Asks, socket_options};
use crate::registered::Registered;

/// A connected socket of type `SOCK_SEQPACKET`, non-blocking and close-on-exec.
///
/// One send is one message, and is received by one receive, or the receiver is told the true length of what it had no
/// room for. Several tasks may send and receive at once; each message goes to one of them.
///
/// There is no out-of-band data: the kernel has none for packets, and on streams it loses bytes and descriptors.
#[derive(Debug)]
pub struct UnixSeqpacket {
    socket: Registered,
    packets: Packets,
}

socket_options!(UnixSeqpacket, message);

impl Asks for UnixSeqpacket {
    fn asked(&self) -> Option<&Asked> {
        Some(self.packets.asked())
    }
}

impl UnixSeqpacket {
    /// Takes over a connected packet socket; makes it non-blocking.
    ///
    /// # Errors
    /// `InvalidInput` when it is not one; otherwise what the kernel or the reactor reports. Must be called inside a
    /// tokio runtime.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        checked(socket.as_fd())?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        Self::from_checked(socket)
    }

    pub(crate) fn from_checked(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            packets: Packets::on(socket.as_fd())?,
            socket: Registered::new(socket)?,
        })
    }

    /// Two connected sockets, both owned by this process.
    ///
    /// # Errors
    /// What `socketpair(2)` reports, or the reactor.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = pair(true)?;
        Ok((Self::from_checked(a)?, Self::from_checked(b)?))
    }

    /// Sends the slices as one message, with at most 253 descriptors; waits while the queue is full.
    ///
    /// # Errors
    /// See [`SendError`]: nothing was sent then.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is ready, nothing was sent.
    pub async fn send(
        &self,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), SendError> {
        let sending = self.socket.write(|fd| self.attempt_send(fd, slices, fds));
        sending.await.map_err(SendError::System)?
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
        self.attempt_send(self.as_fd(), slices, fds)
            .unwrap_or(Err(SendError::WouldBlock))
    }

    /// As [`send`](Self::send), for one task at a time: the last that polled is woken.
    pub fn poll_send(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Poll<Result<(), SendError>> {
        self.socket
            .poll_write(cx, |fd| self.attempt_send(fd, slices, fds))
            .map(|done| done.map_err(SendError::System)?)
    }

    /// Receives one message to the front of `buffer`, with its descriptors.
    ///
    /// # Errors
    /// See [`RecvError`]: a message that does not fit is an error with its true length, and is gone.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is ready, nothing was received.
    pub async fn recv(&self, buffer: &mut [u8]) -> Result<Received, RecvError> {
        self.recv_vectored(&mut [IoSliceMut::new(buffer)]).await
    }

    /// As [`recv`](Self::recv), into several buffers (at most 1024), each filled before the next.
    ///
    /// # Errors
    /// As for [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// As for [`recv`](Self::recv).
    pub async fn recv_vectored(
        &self,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Result<Received, RecvError> {
        let receiving = self.socket.read(|fd| self.attempt_recv(fd, buffers));
        receiving.await.map_err(RecvError::System)?
    }

    /// As [`recv`](Self::recv), without waiting.
    ///
    /// # Errors
    /// [`RecvError::WouldBlock`] when there is no message; otherwise as for [`recv`](Self::recv).
    pub fn try_recv(&self, buffer: &mut [u8]) -> Result<Received, RecvError> {
        self.attempt_recv(self.as_fd(), &mut [IoSliceMut::new(buffer)])
            .unwrap_or(Err(RecvError::WouldBlock))
    }

    /// As [`recv`](Self::recv), for one task at a time: the last that polled is woken.
    pub fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<Received, RecvError>> {
        let mut buffers = [IoSliceMut::new(buffer)];
        self.socket
            .poll_read(cx, |fd| self.attempt_recv(fd, &mut buffers))
            .map(|done| done.map_err(RecvError::System)?)
    }

    /// As [`poll_recv`](Self::poll_recv), to behind what `memory` holds: as much as its spare capacity takes, which is
    /// not cleared before. After an error it is as it was, but for [`RecvError::DescriptorsLost`].
    pub fn poll_recv_behind(
        &self,
        cx: &mut Context<'_>,
        memory: &mut Vec<u8>,
    ) -> Poll<Result<Received, RecvError>> {
        self.socket
            .poll_read(cx, |fd| {
                nonblocking(|| self.packets.receive_behind(fd, memory, false))
            })
            .map(|done| done.map_err(RecvError::System)?)
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

    fn attempt_send(
        &self,
        socket: BorrowedFd<'_>,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Option<Result<(), SendError>> {
        nonblocking(|| self.packets.send(socket, slices, fds, false))
    }

    fn attempt_recv(
        &self,
        socket: BorrowedFd<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Option<Result<Received, RecvError>> {
        nonblocking(|| self.packets.receive(socket, buffers, false))
    }
}

impl AsFd for UnixSeqpacket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Checks that it is a connected packet socket.
pub(crate) fn checked(socket: BorrowedFd<'_>) -> io::Result<()> {
    match inherit::check_connection(socket, SocketKind::Seqpacket) {
        Ok(_) => Ok(()),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
    }
}

/// A connected pair, close-on-exec.
pub(crate) fn pair(nonblocking: bool) -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let mut flags = SocketFlags::CLOEXEC;
    flags.set(SocketFlags::NONBLOCK, nonblocking);
    let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
    Ok(pair?)
}

/// A peer that is gone has ended both directions already.
pub(crate) fn shutdown(socket: BorrowedFd<'_>, how: Shutdown) -> io::Result<()> {
    use rustix::io::Errno;
    let how = match how {
        Shutdown::Read => rustix::net::Shutdown::Read,
        Shutdown::Write => rustix::net::Shutdown::Write,
        Shutdown::Both => rustix::net::Shutdown::Both,
    };
    match rustix::net::shutdown(socket, how) {
        Ok(()) | Err(Errno::NOTCONN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
