//! Messages without a connection, blocking: for programs without a runtime.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::net::sockopt::Timeout;

use super::patience::{set_timeout, until_done};
use crate::address::Address;
use crate::datagram::socket::{self, Target};
use crate::inherit;
use crate::listener::{Listener, SocketKind};
use crate::message::{Asked, Datagram, RecvError, SendError, nonblocking};
use crate::options::{Asks, socket_options};

/// A socket of type `SOCK_DGRAM`, blocking and close-on-exec: [`crate::UnixDatagram`] without a runtime.
#[derive(Debug)]
pub struct UnixDatagram {
    socket: OwnedFd,
    asked: Asked,
    /// Gives the name back.
    listener: Option<Listener>,
    pub(super) read_timeout: Option<Duration>,
    pub(super) write_timeout: Option<Duration>,
}

socket_options!(UnixDatagram, message);

impl Asks for UnixDatagram {
    fn asked(&self) -> Option<&Asked> {
        Some(&self.asked)
    }
}

impl UnixDatagram {
    /// Takes over a datagram socket; makes it blocking, without timeouts.
    ///
    /// Trap: whether a socket blocks belongs to the open file: whoever else holds it sees that change.
    ///
    /// # Errors
    /// `InvalidInput` when it is not one; otherwise what the kernel reports.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        inherit::check_listener(socket.as_fd(), SocketKind::Datagram)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Self::from_checked(socket, None)
    }

    fn from_checked(socket: OwnedFd, listener: Option<Listener>) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, false)?;
        let mut this = Self {
            asked: Asked::on(socket.as_fd()),
            socket,
            listener,
            read_timeout: None,
            write_timeout: None,
        };
        this.set_read_timeout(None)?;
        this.set_write_timeout(None)?;
        Ok(this)
    }

    /// The socket of a [`Listener`] of kind [`SocketKind::Datagram`]; its name is given back when this is dropped.
    ///
    /// # Errors
    /// `InvalidInput` when it is of another kind; otherwise what the kernel reports.
    pub fn bound(listener: Listener) -> io::Result<Self> {
        Self::from_checked(socket::of(&listener)?, Some(listener))
    }

    /// A socket without a name: nobody can reply to what it sends.
    ///
    /// # Errors
    /// What `socket(2)` reports.
    pub fn unbound() -> io::Result<Self> {
        Self::from_checked(socket::new(false)?, None)
    }

    /// A socket with an abstract name that the kernel chose, to be replied to.
    ///
    /// # Errors
    /// What `socket(2)` or `bind(2)` reports.
    pub fn autobound() -> io::Result<Self> {
        Self::from_checked(socket::named(false)?, None)
    }

    /// Two connected sockets, both owned by this process.
    ///
    /// # Errors
    /// What `socketpair(2)` reports.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socket::pair(false)?;
        Ok((Self::from_checked(a, None)?, Self::from_checked(b, None)?))
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

    /// Sends to that address from now on, without naming it, and receives from there only. A server that was bound
    /// anew has to be connected to anew.
    ///
    /// # Errors
    /// [`SendError::NoReceiver`] when there is no socket, [`SendError::NotThePeer`] when it is connected to another.
    pub fn connect(&self, address: &Address) -> Result<(), SendError> {
        Target::new(address)?.connect(self.as_fd())
    }

    /// The name that others reply to, if it has one.
    ///
    /// # Errors
    /// What `getsockname(2)` reports.
    pub fn local_address(&self) -> io::Result<Option<Address>> {
        match &self.listener {
            // The kernel knows the name it was bound by, which is not the one it was published by.
            Some(listener) => Ok(Some(listener.address().clone())),
            None => socket::local_address(self.as_fd()),
        }
    }

    /// Sends the slices as one message, with at most 253 descriptors, to the socket it is connected to; waits while its
    /// queue is full.
    ///
    /// # Errors
    /// See [`SendError`]: nothing was sent then. [`SendError::TimedOut`] after the write timeout.
    pub fn send(&self, slices: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        let (socket, timeout) = (self.as_fd(), self.write_timeout);
        until_done(socket, Some(PollFlags::OUT), timeout, |waits| {
            socket::attempt_send(socket, slices, fds, waits)
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
        nonblocking(|| socket::attempt_send(self.as_fd(), slices, fds, false))
            .unwrap_or(Err(SendError::WouldBlock))
    }

    /// Sends one message to the socket at that address; waits while its queue is full.
    ///
    /// # Errors
    /// See [`SendError`]: nothing was sent then. [`SendError::TimedOut`] after the write timeout.
    pub fn send_to(
        &self,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
        to: &Address,
    ) -> Result<(), SendError> {
        let target = Target::new(to)?;
        let (socket, timeout) = (self.as_fd(), self.write_timeout);
        // Not being connected it is always told that it may send.
        until_done(socket, None, timeout, |waits| {
            target.attempt(socket, slices, fds, waits)
        })
        .unwrap_or(Err(SendError::TimedOut))
    }

    /// As [`send_to`](Self::send_to), without waiting.
    ///
    /// # Errors
    /// [`SendError::WouldBlock`] when the queue is full; otherwise as for [`send_to`](Self::send_to).
    pub fn try_send_to(
        &self,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
        to: &Address,
    ) -> Result<(), SendError> {
        let target = Target::new(to)?;
        nonblocking(|| target.attempt(self.as_fd(), slices, fds, false))
            .unwrap_or(Err(SendError::WouldBlock))
    }

    /// Receives one message to the front of `buffer`, with its descriptors.
    ///
    /// # Errors
    /// See [`RecvError`]: a message that does not fit is an error with its true length, and is gone.
    /// [`RecvError::TimedOut`] after the read timeout.
    pub fn recv(&self, buffer: &mut [u8]) -> Result<Datagram, RecvError> {
        self.recv_vectored(&mut [IoSliceMut::new(buffer)])
    }

    /// As [`recv`](Self::recv), into several buffers (at most 1024), each filled before the next.
    ///
    /// # Errors
    /// As for [`recv`](Self::recv).
    pub fn recv_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> Result<Datagram, RecvError> {
        let (socket, timeout) = (self.as_fd(), self.read_timeout);
        until_done(socket, Some(PollFlags::IN), timeout, |waits| {
            socket::attempt_recv(socket, buffers, &self.asked, waits)
        })
        .unwrap_or(Err(RecvError::TimedOut))
    }

    /// As [`recv`](Self::recv), without waiting.
    ///
    /// # Errors
    /// [`RecvError::WouldBlock`] when there is no message; otherwise as for [`recv`](Self::recv).
    pub fn try_recv(&self, buffer: &mut [u8]) -> Result<Datagram, RecvError> {
        let mut buffers = [IoSliceMut::new(buffer)];
        nonblocking(|| socket::attempt_recv(self.as_fd(), &mut buffers, &self.asked, false))
            .unwrap_or(Err(RecvError::WouldBlock))
    }
}

impl AsFd for UnixDatagram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<UnixDatagram> for OwnedFd {
    /// The socket, still blocking, and with its timeouts. The name of a listener is given back.
    fn from(socket: UnixDatagram) -> Self {
        socket.socket
    }
}
