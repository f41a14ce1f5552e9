//! Messages without a connection, on tokio.
//!
//! Traps: a receiver's queue takes 11 messages, whoever they are from, so one sender that is not read stops all others. A
//! sender that is not connected is told that it may send while that queue is full. And nobody is told that a peer died.

pub(crate) mod name;
mod several;
pub(crate) mod socket;

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::Interest;

use crate::address::Address;
use crate::inherit;
use crate::listener::{Listener, SocketKind};
use crate::message::{Asked, Datagram, RecvError, SendError, nonblocking};
use crate::options::{Asks, socket_options};
use crate::registered::Registered;
use crate::sys::register::register;
use socket::Target;

/// A socket of type `SOCK_DGRAM`, non-blocking and close-on-exec.
///
/// One send is one message, received whole or with an error that tells its true length, in the order of each sender.
/// Between local sockets nothing is lost: a full queue makes [`send`](Self::send) wait and [`try_send`](Self::try_send)
/// say so. The death of a peer cannot be noticed by receiving, not even on a [`pair`](Self::pair): only a send says that
/// nobody receives. For a child process or a server, [`UnixSeqpacket`](crate::UnixSeqpacket) is the better choice.
#[derive(Debug)]
pub struct UnixDatagram {
    socket: Registered,
    asked: Asked,
    /// Gives the name back.
    listener: Option<Listener>,
}

socket_options!(UnixDatagram, message);

impl Asks for UnixDatagram {
    fn asked(&self) -> Option<&Asked> {
        Some(&self.asked)
    }
}

impl UnixDatagram {
    /// Takes over a datagram socket; makes it non-blocking.
    ///
    /// # Errors
    /// `InvalidInput` when it is not one; otherwise what the kernel or the reactor reports. Must be called inside a
    /// tokio runtime, as everything that makes one.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        inherit::check_listener(socket.as_fd(), SocketKind::Datagram)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        Self::from_checked(socket)
    }

    fn from_checked(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            asked: Asked::on(socket.as_fd()),
            socket: Registered::new(socket)?,
            listener: None,
        })
    }

    /// The socket of a [`Listener`] of kind [`SocketKind::Datagram`]; its name is given back when this is dropped.
    ///
    /// # Errors
    /// `InvalidInput` when it is of another kind; otherwise what the kernel or the reactor reports.
    pub fn bound(listener: Listener) -> io::Result<Self> {
        let socket = socket::of(&listener)?;
        Ok(Self {
            asked: Asked::on(socket.as_fd()),
            socket: Registered::new(socket)?,
            listener: Some(listener),
        })
    }

    /// A socket without a name: nobody can reply to what it sends.
    ///
    /// # Errors
    /// What `socket(2)` reports, or the reactor.
    pub fn unbound() -> io::Result<Self> {
        Self::from_checked(socket::new(true)?)
    }

    /// A socket with an abstract name that the kernel chose, to be replied to.
    ///
    /// # Errors
    /// What `socket(2)` or `bind(2)` reports, or the reactor.
    pub fn autobound() -> io::Result<Self> {
        Self::from_checked(socket::named(true)?)
    }

    /// Two connected sockets, both owned by this process.
    ///
    /// # Errors
    /// What `socketpair(2)` reports, or the reactor.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socket::pair(true)?;
        Ok((Self::from_checked(a)?, Self::from_checked(b)?))
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
    /// See [`SendError`]: nothing was sent then.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is ready, nothing was sent.
    pub async fn send(
        &self,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), SendError> {
        let sending = self
            .socket
            .write(|fd| nonblocking(|| socket::attempt_send(fd, slices, fds, false)));
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
        nonblocking(|| socket::attempt_send(self.as_fd(), slices, fds, false))
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
            .poll_write(cx, |fd| {
                nonblocking(|| socket::attempt_send(fd, slices, fds, false))
            })
            .map(|done| done.map_err(SendError::System)?)
    }

    /// Sends one message to the socket at that address; waits while its queue is full.
    ///
    /// # Errors
    /// See [`SendError`]: nothing was sent then.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is ready, nothing was sent.
    pub async fn send_to(
        &self,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
        to: &Address,
    ) -> Result<(), SendError> {
        let target = Target::new(to)?;
        loop {
            match nonblocking(|| target.attempt(self.as_fd(), slices, fds, false)) {
                Some(done) => return done,
                None => self.room_at(&target).await?,
            }
        }
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
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is ready, nothing was received.
    pub async fn recv(&self, buffer: &mut [u8]) -> Result<Datagram, RecvError> {
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
    ) -> Result<Datagram, RecvError> {
        let receiving = self
            .socket
            .read(|fd| nonblocking(|| socket::attempt_recv(fd, buffers, &self.asked, false)));
        receiving.await.map_err(RecvError::System)?
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

    /// As [`recv`](Self::recv), for one task at a time: the last that polled is woken.
    pub fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<Datagram, RecvError>> {
        let mut buffers = [IoSliceMut::new(buffer)];
        self.socket
            .poll_read(cx, |fd| {
                nonblocking(|| socket::attempt_recv(fd, &mut buffers, &self.asked, false))
            })
            .map(|done| done.map_err(RecvError::System)?)
    }

    /// Waits until a message may fit where the last one did not: into the receiver's queue, or our own buffer.
    ///
    /// Of the former only a socket that is connected to it is told.
    async fn room_at(&self, target: &Target) -> Result<(), SendError> {
        let probe = socket::new(true).map_err(SendError::System)?;
        match target.connect(probe.as_fd()) {
            Ok(()) => {}
            // It is connected to us, then, and has room for all that our buffer has.
            Err(SendError::NotThePeer) => return self.own_room().await,
            Err(error) => return Err(error),
        }
        if may_send(probe.as_fd()) {
            return self.own_room().await;
        }
        let probe = register(probe, Interest::WRITABLE).map_err(SendError::System)?;
        loop {
            let mut ready = probe.writable().await.map_err(SendError::System)?;
            // To ask is also what makes the kernel tell the next time.
            if may_send(ready.get_inner().as_fd()) {
                return Ok(());
            }
            ready.clear_ready();
        }
    }

    async fn own_room(&self) -> Result<(), SendError> {
        let writable = self.socket.write(|fd| may_send(fd).then_some(()));
        writable.await.map_err(SendError::System)
    }
}

fn may_send(socket: BorrowedFd<'_>) -> bool {
    let mut asked = [PollFd::from_borrowed_fd(socket, PollFlags::OUT)];
    // Whatever keeps it from answering, the send will say.
    rustix::event::poll(&mut asked, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

impl AsFd for UnixDatagram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
