//! Bytes over a connection, blocking: for programs without a runtime.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::sockopt::Timeout;

use super::patience::{set_timeout, until_done};
use crate::inherit;
use crate::listener::SocketKind;
use crate::message::{
    Asked, Attempt, Chunk, Cork, Exactly, Filled, RecvError, SendError, nonblocking, peek_bytes,
    receive_bytes, send_bytes,
};
use crate::moving::{MoveError, Movement, send_file_once};
use crate::options::{Asks, socket_options};
use crate::seqpacket::shutdown;

/// A connected stream socket, blocking and close-on-exec: [`crate::UnixStream`] without a runtime.
///
/// There is no out-of-band data: see there.
#[derive(Debug)]
pub struct UnixStream {
    socket: OwnedFd,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

socket_options!(UnixStream, stream);

impl Asks for UnixStream {
    fn asked(&self) -> Option<&Asked> {
        None
    }
}

impl UnixStream {
    /// Takes over a connected stream socket; makes it blocking, without timeouts.
    ///
    /// Trap: whether a socket blocks belongs to the open file: whoever else holds it sees that change.
    ///
    /// # Errors
    /// `InvalidInput` when it is not one; otherwise what the kernel reports.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        match inherit::check_connection(socket.as_fd(), SocketKind::Stream) {
            Ok(found) if found.is_local => Self::from_checked(socket),
            Ok(_) => Err(io::ErrorKind::InvalidInput.into()),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
        }
    }

    pub(super) fn from_checked(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, false)?;
        let mut this = Self {
            socket,
            read_timeout: None,
            write_timeout: None,
        };
        this.set_read_timeout(None)?;
        this.set_write_timeout(None)?;
        Ok(this)
    }

    /// Two connected streams, both owned by this process.
    ///
    /// # Errors
    /// What `socketpair(2)` reports.
    pub fn pair() -> io::Result<(Self, Self)> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType};
        let (kind, flags) = (SocketType::STREAM, SocketFlags::CLOEXEC);
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, kind, flags, None)?;
        Ok((Self::from_checked(a)?, Self::from_checked(b)?))
    }

    /// How long a read waits; `None`, the default, is for ever.
    ///
    /// # Errors
    /// `InvalidInput` when it is zero; use the forms that begin with `try_` for that.
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        set_timeout(self.as_fd(), Timeout::Recv, timeout)?;
        self.read_timeout = timeout;
        Ok(())
    }

    /// How long a write waits while the buffer is full; `None`, the default, is for ever.
    ///
    /// # Errors
    /// `InvalidInput` when it is zero; use the forms that begin with `try_` for that.
    pub fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        set_timeout(self.as_fd(), Timeout::Send, timeout)?;
        self.write_timeout = timeout;
        Ok(())
    }

    /// Sends at least one byte of the slices, and with it all the descriptors, at most 253; waits while the buffer is
    /// full. Returns how many bytes went: the rest is to be sent without the descriptors.
    ///
    /// # Errors
    /// See [`SendError`]: nothing was sent then. [`SendError::TimedOut`] after the write timeout.
    pub fn send_with_fds(
        &self,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Result<usize, SendError> {
        self.writing(|socket, waits| send_bytes(socket, slices, fds, waits))
            .unwrap_or(Err(SendError::TimedOut))
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
    /// Reading the same stream as [`Read`] closes the descriptors unseen.
    ///
    /// # Errors
    /// See [`RecvError`]; [`RecvError::TimedOut`] after the read timeout. Lost descriptors are none, for the bytes still
    /// count: see [`Chunk::fds_lost`].
    pub fn recv_with_fds(&self, buffer: &mut [u8]) -> Result<Chunk, RecvError> {
        let mut buffers = [IoSliceMut::new(buffer)];
        self.reading(|socket, waits| receive_bytes(socket, &mut buffers, waits))
            .unwrap_or(Err(RecvError::TimedOut))
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

    /// Fills all of `buffer`, or stops early behind descriptors or at the end, and says which:
    /// [`crate::UnixStream::recv_exact_with_fds`].
    ///
    /// # Errors
    /// As for [`recv_with_fds`](Self::recv_with_fds); what had been received before is lost then.
    pub fn recv_exact_with_fds(&self, buffer: &mut [u8]) -> Result<Filled, RecvError> {
        let mut filling = Exactly::new(buffer);
        while let Some(room) = filling.room() {
            let chunk = self.recv_with_fds(room)?;
            filling.take(chunk);
        }
        Ok(filling.done())
    }

    /// Copies what is next to the front of `buffer` and leaves it where it is; returns how many bytes, 0 at the end. No
    /// descriptor is duplicated.
    ///
    /// # Errors
    /// See [`RecvError`]; [`RecvError::TimedOut`] after the read timeout.
    pub fn peek(&self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.reading(|socket, waits| peek_bytes(socket, buffer, waits))
            .unwrap_or(Err(RecvError::TimedOut))
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
    /// See [`SendError`]; what was sent before is no longer in the cork. [`SendError::TimedOut`] after the write timeout.
    pub fn send_corked(&self, cork: &mut Cork) -> Result<(), SendError> {
        while !(cork.bytes().is_empty() && cork.fds().is_empty()) {
            let slices = [IoSlice::new(cork.bytes())];
            let sent = self.send_with_fds(&slices, &cork.borrowed_fds())?;
            cork.advance(sent);
        }
        Ok(())
    }

    /// Sends at most `count` bytes of the file, from `offset` on: [`crate::UnixStream::send_file`].
    ///
    /// # Errors
    /// As there; [`MoveError::TimedOut`] after the write timeout.
    pub fn send_file(
        &self,
        file: impl AsFd,
        offset: u64,
        count: usize,
    ) -> Result<usize, MoveError> {
        // The call has no flag that says whether to wait: the socket does, which blocks.
        self.writing(|socket, _| Attempt::of(send_file_once(socket, file.as_fd(), offset, count)))
            .map_or(Err(MoveError::TimedOut(Movement::SendFile)), |done| {
                done.map_err(|errno| MoveError::from_errno(Movement::SendFile, errno))
            })
    }

    /// As [`send_file`](Self::send_file), all of the range; returns how many bytes went, fewer than `count` only where the
    /// file has no more.
    ///
    /// # Errors
    /// As for [`send_file`](Self::send_file); some of it may have been sent.
    pub fn send_file_all(
        &self,
        file: impl AsFd,
        offset: u64,
        count: usize,
    ) -> Result<usize, MoveError> {
        let mut sent = 0;
        while sent < count {
            let from = offset.saturating_add(sent.try_into().unwrap_or(u64::MAX));
            match self.send_file(file.as_fd(), from, count - sent)? {
                0 => break,
                more => sent += more,
            }
        }
        Ok(sent)
    }

    /// Ends one direction, or both. The peer receives what was sent before, and then the end.
    ///
    /// # Errors
    /// What `shutdown(2)` reports.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        shutdown(self.as_fd(), how)
    }

    fn reading<T>(&self, mut attempt: impl FnMut(BorrowedFd<'_>, bool) -> Attempt<T>) -> Option<T> {
        let socket = self.as_fd();
        let readiness = Some(PollFlags::IN);
        until_done(socket, readiness, self.read_timeout, |waits| {
            attempt(socket, waits)
        })
        .ok()
    }

    fn writing<T>(&self, mut attempt: impl FnMut(BorrowedFd<'_>, bool) -> Attempt<T>) -> Option<T> {
        let socket = self.as_fd();
        let readiness = Some(PollFlags::OUT);
        until_done(socket, readiness, self.write_timeout, |waits| {
            attempt(socket, waits)
        })
        .ok()
    }
}

impl Read for &UnixStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use rustix::net::{RecvFlags, recv};
        let received = self.reading(|socket, waits| {
            let mut flags = RecvFlags::empty();
            flags.set(RecvFlags::DONTWAIT, !waits);
            Attempt::of(recv(socket, &mut *buffer, flags).map(|(length, _)| length))
        });
        done(received)
    }
}

impl Write for &UnixStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        // The kernel refuses more.
        let slices = slices.get(..crate::sys::msg::SLICES_MAX).unwrap_or(slices);
        let sent = self.writing(|socket, waits| {
            Attempt::of(crate::sys::msg::send(socket, slices, &[], None, waits))
        });
        done(sent)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn done(done: Option<Result<usize, Errno>>) -> io::Result<usize> {
    done.map_or(Err(io::ErrorKind::TimedOut.into()), |done| Ok(done?))
}

impl Read for UnixStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for UnixStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for UnixStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<UnixStream> for OwnedFd {
    /// The socket, still blocking, and with its timeouts.
    fn from(stream: UnixStream) -> Self {
        stream.socket
    }
}

/// The byte stream of a connection, local or not.
#[derive(Debug)]
pub enum Stream {
    /// A Unix socket: its peer is known to the kernel.
    Unix(UnixStream),
    /// TCP: its peer is an address.
    Tcp(TcpStream),
}

impl Stream {
    /// The Unix stream, which can carry descriptors; `None` over TCP.
    #[must_use]
    pub fn as_unix(&self) -> Option<&UnixStream> {
        match self {
            Self::Unix(stream) => Some(stream),
            Self::Tcp(_) => None,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}
