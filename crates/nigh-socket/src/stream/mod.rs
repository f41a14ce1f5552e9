//! Byte streams a connection runs on: a Unix stream of our own, or TCP.

mod descriptors;
mod eager;
mod file;

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::eager::Eager;
use crate::message::Asked;
use crate::options::{Asks, socket_options};
use crate::registered::Registered;
use crate::spin::Spin;
use crate::sys::msg;
use crate::sys::receive::receive;

/// A connected stream socket of the `AF_UNIX` family, non-blocking and close-on-exec.
///
/// There is no out-of-band data, and no way to ask for it: the kernel drops an urgent byte that is read past, with the
/// descriptors that came with it, and its handling has had one security hole after the other.
#[derive(Debug)]
pub struct UnixStream {
    socket: Registered,
    bytes_only: bool,
    eager: Eager,
}

socket_options!(UnixStream, stream);

impl Asks for UnixStream {
    fn asked(&self) -> Option<&Asked> {
        None
    }
}

impl UnixStream {
    /// Takes over a connected, non-blocking stream socket.
    ///
    /// # Errors
    /// Fails when the reactor cannot register it. Must be called inside a tokio runtime.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            socket: Registered::new(socket)?,
            bytes_only: false,
            eager: Eager::default(),
        })
    }

    /// Takes a short read for the end of what is there, which saves a system call per message. A peer that sends
    /// descriptors all the same may then wait for an answer in vain; it harms nobody else.
    pub fn expect_bytes_only(&mut self) {
        self.bytes_only = true;
    }

    /// Whether a read that [`set_eager`](Self::set_eager) allows looks again for a moment before it waits. Default
    /// [`Spin::Off`]. Between two processors it saves the wake-up, 20 µs on a virtual machine; it keeps the thread for as long,
    /// and so happens only where this socket is the one that the thread reads from.
    pub fn set_spin(&mut self, spin: Spin) {
        self.eager.spin = spin;
    }

    /// Whether the next reads are what the thread waits for. Default no.
    pub fn set_eager(&mut self, is_eager: bool) {
        self.eager.is_eager = is_eager;
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
}

impl UnixStream {
    /// Waits until there is something to read, or the end; reads nothing.
    ///
    /// # Errors
    /// When the reactor is gone.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.read(|_| Some(())).await
    }

    /// Ends one or both directions. With [`Read`](std::net::Shutdown::Read) the kernel refuses what the peer sends from then
    /// on (EPIPE); what it had sent is still received.
    ///
    /// # Errors
    /// What `shutdown(2)` reports; never that the peer has gone.
    pub fn shut(&self, how: std::net::Shutdown) -> io::Result<()> {
        crate::seqpacket::shutdown(self.as_fd(), how)
    }

    /// Waits until the peer has sent something, which is left there, or has ended its side: 0.
    pub(crate) fn poll_peek(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        let peeked = ready!(self.socket.poll_read(cx, |fd| {
            let mut first = [0_u8];
            attempt(|| rustix::net::recv(fd, &mut first, flags))
        }))?;
        Poll::Ready(peeked.map(|(length, _)| length))
    }
}

/// `None` when it would have to wait; a signal is no reason to stop.
fn attempt<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> Option<io::Result<T>> {
    loop {
        match call() {
            Err(Errno::AGAIN) => return None,
            Err(Errno::INTR) => {}
            done => return Some(done.map_err(Into::into)),
        }
    }
}

impl AsFd for UnixStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsyncRead for UnixStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (room, bytes_only) = (buf.remaining(), this.bytes_only);
        let polled = this.socket.poll_read_to_end(
            cx,
            |fd| attempt(|| receive(fd, buf)),
            |received| {
                // In general a short read does not mean that nothing is left: data may be queued behind descriptors.
                bytes_only && matches!(received, Ok(length) if *length < room)
            },
        );
        let socket = this.socket.as_fd();
        let received = match polled {
            Poll::Ready(received) => received?,
            Poll::Pending => ready!(
                this.eager
                    .look(socket, || attempt(|| receive(socket, buf)))
                    .map_or(Poll::Pending, Poll::Ready)
            ),
        };
        this.eager.note(socket);
        Poll::Ready(received.map(drop))
    }
}

impl AsyncWrite for UnixStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = self
            .socket
            .poll_write(cx, |fd| attempt(|| rustix::net::send(fd, buf, flags)));
        sent.map(|done| done?)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // The kernel refuses more with EMSGSIZE.
        let bufs = &bufs[..bufs.len().min(msg::SLICES_MAX)];
        let sent = self
            .socket
            .poll_write(cx, |fd| attempt(|| msg::send(fd, bufs, &[], None, false)));
        sent.map(|done| done?)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match rustix::net::shutdown(&self.socket, Shutdown::Write) {
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

impl Stream {
    /// Waits until there is something to read, or the end; reads nothing.
    ///
    /// # Errors
    /// When the reactor is gone.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.readable().await,
            Self::Tcp(stream) => stream.readable().await,
        }
    }

    /// The Unix stream, which can carry descriptors; `None` over TCP.
    #[must_use]
    pub fn as_unix(&self) -> Option<&UnixStream> {
        match self {
            Self::Unix(stream) => Some(stream),
            Self::Tcp(_) => None,
        }
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
