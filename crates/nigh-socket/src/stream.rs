//! Byte streams a connection runs on: a Unix stream of our own, or TCP.
//!
//! Trap: a Unix socket registered for writability gets an edge each time its peer *reads*, one wake-up per message.
//! So [`UnixStream`] registers for reading alone, and for writing only while a send buffer is full.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::sys::receive::receive;
use crate::sys::register::register;

/// A connected stream socket of the `AF_UNIX` family, non-blocking and close-on-exec.
#[derive(Debug)]
pub struct UnixStream {
    // The writer is a second registration of the same descriptor's duplicate: epoll keys on (descriptor, file).
    writer: Option<AsyncFd<OwnedFd>>,
    reader: AsyncFd<OwnedFd>,
    bytes_only: bool,
}

impl UnixStream {
    /// Takes over a connected, non-blocking stream socket.
    ///
    /// # Errors
    /// Fails when the reactor cannot register it. Must be called inside a tokio runtime.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            reader: register(socket, Interest::READABLE)?,
            writer: None,
            bytes_only: false,
        })
    }

    /// Takes a short read for the end of what is there, which saves a system call per message. A peer that sends
    /// descriptors all the same may then wait for an answer in vain; it harms nobody else.
    pub fn expect_bytes_only(&mut self) {
        self.bytes_only = true;
    }

    /// Asks the kernel to queue this many bytes that the peer has not read (`SO_SNDBUF`); it doubles the number, for
    /// its own books, and cuts it at `net.core.wmem_max`.
    ///
    /// # Errors
    /// What `setsockopt(2)` reports.
    pub fn set_send_buffer(&self, bytes: usize) -> io::Result<()> {
        Ok(rustix::net::sockopt::set_socket_send_buffer_size(
            &self.reader,
            bytes,
        )?)
    }

    /// Two connected streams, both owned by this process.
    ///
    /// # Errors
    /// What `socketpair(2)` reports, or the reactor.
    pub fn pair() -> io::Result<(Self, Self)> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType};
        let (a, b) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        Ok((Self::new(a)?, Self::new(b)?))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        mut send: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(writer) = &self.writer {
                let mut ready = ready!(writer.poll_write_ready(cx))?;
                match send(writer.get_ref().as_fd()) {
                    Err(Errno::AGAIN) => ready.clear_ready(),
                    Err(Errno::INTR) => {}
                    done => {
                        drop(ready);
                        self.writer = None;
                        return Poll::Ready(done.map_err(Into::into));
                    }
                }
            } else {
                match send(self.reader.get_ref().as_fd()) {
                    Err(Errno::AGAIN) => {
                        let duplicate = self.reader.get_ref().try_clone()?;
                        self.writer = Some(register(duplicate, Interest::WRITABLE)?);
                    }
                    Err(Errno::INTR) => {}
                    done => return Poll::Ready(done.map_err(Into::into)),
                }
            }
        }
    }
}

impl AsFd for UnixStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.get_ref().as_fd()
    }
}

impl AsyncRead for UnixStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.reader.poll_read_ready(cx))?;
            let room = buf.remaining();
            match receive(self.reader.get_ref().as_fd(), buf) {
                // In general a short read does not mean that nothing is left: data may be queued behind descriptors.
                Ok(length) => {
                    if self.bytes_only && length < room {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl AsyncWrite for UnixStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        self.poll_send(cx, |fd| rustix::net::send(fd, buf, flags))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        // The kernel refuses more than 1024 slices with EMSGSIZE.
        let bufs = &bufs[..bufs.len().min(1024)];
        self.poll_send(cx, |fd| {
            rustix::net::sendmsg(
                fd,
                bufs,
                &mut rustix::net::SendAncillaryBuffer::default(),
                flags,
            )
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match rustix::net::shutdown(self.reader.get_ref(), Shutdown::Write) {
            Ok(()) | Err(Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

/// The byte stream of a connection, local or not.
#[derive(Debug)]
pub enum Stream {
    /// A Unix socket: its peer is known to the kernel.
    Unix(UnixStream),
    /// TCP: its peer is an address, or what TLS proves.
    Tcp(tokio::net::TcpStream),
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
