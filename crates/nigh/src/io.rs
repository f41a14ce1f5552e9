//! The byte stream a wire is served on: plain or TLS, with what was read while telling the wires apart.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use nigh_socket::lane::{Lane, LaneStream};
use nigh_socket::{Spin, Stream, UnixStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::fd::{Carrier, FdSend, FdSocket, Link, Reception, Unsent};

/// A connection's socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Bare(Stream),
    /// One whose connection may carry descriptors.
    WithFds(Box<FdSocket>),
    /// In memory, as tests script it.
    #[cfg(test)]
    Memory(Box<FdSocket<Box<dyn Memory>>>),
}

/// A stream that is no socket.
#[cfg(test)]
pub(crate) trait Memory: Carrier + FdSend + Send + Sync + std::fmt::Debug {}

#[cfg(test)]
impl Carrier for Box<dyn Memory> {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<Reception>> {
        (**self).poll_receive(cx, buf)
    }
}

#[cfg(test)]
impl FdSend for Box<dyn Memory> {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Poll<Result<usize, Unsent>> {
        (**self).poll_send(cx, bytes, fds)
    }
}

macro_rules! either {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            Socket::Bare($stream) => $call,
            Socket::WithFds($stream) => $call,
            #[cfg(test)]
            Socket::Memory($stream) => $call,
        }
    };
}

/// A connection's transport.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(Socket),
    ServerTls(Box<tokio_rustls::server::TlsStream<Socket>>),
    ClientTls(Box<tokio_rustls::client::TlsStream<Socket>>),
    Lane(Box<LaneStream>),
}

macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            Transport::Plain($stream) => $call,
            Transport::ServerTls($stream) => $call,
            Transport::ClientTls($stream) => $call,
            Transport::Lane($stream) => $call,
        }
    };
}

/// A type whose variants are streams is one, too.
macro_rules! stream {
    ($type:ty, $each:ident) => {
        impl AsyncRead for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                $each!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
            }
        }

        impl AsyncWrite for $type {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                $each!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, buf))
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                $each!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, bufs))
            }

            fn is_write_vectored(&self) -> bool {
                $each!(self, stream => stream.is_write_vectored())
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                $each!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                $each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
            }
        }
    };
}

stream!(Socket, either);
stream!(Transport, each);

impl Carrier for UnixStream {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<Reception>> {
        self.poll_recv_with_fds(cx, buf).map(|received| {
            let chunk = received.map_err(io::Error::other)?;
            Ok(Reception {
                length: chunk.length,
                fds: chunk.fds,
                truncated: chunk.fds_lost,
            })
        })
    }
}

impl FdSend for UnixStream {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Poll<Result<usize, Unsent>> {
        self.poll_send_with_fds(cx, bytes, fds)
            .map_err(Unsent::from)
    }
}

impl FdSend for Io {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Poll<Result<usize, Unsent>> {
        match &mut self.transport {
            Transport::Plain(Socket::WithFds(socket)) => socket.poll_send(cx, bytes, fds),
            #[cfg(test)]
            Transport::Plain(Socket::Memory(socket)) => socket.poll_send(cx, bytes, fds),
            // Nothing is queued on such a connection; if it were, the call would fail and not the connection.
            _ => Poll::Ready(Err(Unsent::Refused(crate::fd::Loss::SendFailed))),
        }
    }
}

/// A transport whose first bytes may have been read already, and whose reading may be limited.
#[derive(Debug)]
pub(crate) struct Io {
    first: Bytes,
    transport: Transport,
    /// Bytes that may still be read, for a caller that was refused.
    allowance: Option<usize>,
}

impl Io {
    pub(crate) fn new(transport: Transport, allowance: Option<usize>) -> Self {
        Self {
            first: Bytes::new(),
            transport,
            allowance,
        }
    }

    /// What sorts the descriptors of this connection, if it is a plain one that may carry some.
    pub(crate) fn link(&self) -> Option<Arc<Link>> {
        match &self.transport {
            Transport::Plain(Socket::WithFds(socket)) => Some(Arc::clone(socket.link())),
            #[cfg(test)]
            Transport::Plain(Socket::Memory(socket)) => Some(Arc::clone(socket.link())),
            _ => None,
        }
    }

    /// Bytes that came over the socket and were handed on, where descriptors are told apart by that; 0 elsewhere.
    pub(crate) fn received(&self) -> u64 {
        match &self.transport {
            Transport::Plain(Socket::WithFds(socket)) => {
                socket.received() - self.first.len() as u64
            }
            #[cfg(test)]
            Transport::Plain(Socket::Memory(socket)) => socket.received() - self.first.len() as u64,
            _ => 0,
        }
    }

    /// Goes on without descriptors, as a connection that never could carry any; what sorted them ends.
    pub(crate) fn shed_descriptors(self) -> Self {
        let transport = match self.transport {
            Transport::Plain(Socket::WithFds(socket)) => {
                Transport::Plain(Socket::Bare(Stream::Unix(socket.into_carrier())))
            }
            other => other,
        };
        Self { transport, ..self }
    }

    /// Prepares the socket for frames: room for a large message, and fewer receives where no descriptors come.
    pub(crate) fn suit_frames(&mut self, spin: Spin) {
        /// `net.core.wmem_max` of stock kernels; more is not given, and more brings nothing.
        const SEND_BUFFER_BYTES: usize = 212_992;
        let stream = match &mut self.transport {
            Transport::Plain(Socket::Bare(Stream::Unix(stream))) => {
                stream.expect_bytes_only();
                stream.set_spin(spin);
                &*stream
            }
            Transport::Plain(Socket::WithFds(socket)) => socket.carrier(),
            _ => return,
        };
        if let Err(error) = stream.set_send_buffer(SEND_BUFFER_BYTES) {
            tracing::debug!("the send buffer stays as it is: {error}");
        }
    }

    /// The Unix socket, if nothing lies between it and this.
    pub(crate) fn unix(&self) -> Option<&UnixStream> {
        match &self.transport {
            _ if !self.first.is_empty() || self.allowance.is_some() => None,
            Transport::Plain(Socket::Bare(stream)) => stream.as_unix(),
            Transport::Plain(Socket::WithFds(socket)) => Some(socket.carrier()),
            _ => None,
        }
    }

    /// Whether it is a socket, of an admitted caller, and nothing lies between it and this.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.transport, Transport::Plain(_)) && self.allowance.is_none()
    }

    /// The socket, if nothing lies between it and this, and nothing that was read is still here.
    pub(crate) fn socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.transport {
            _ if !self.first.is_empty() || self.allowance.is_some() => None,
            Transport::Plain(Socket::Bare(stream)) => Some(stream.as_fd()),
            Transport::Plain(Socket::WithFds(socket)) => Some(socket.carrier().as_fd()),
            _ => None,
        }
    }

    /// Waits until there is something to read, or the end; for a plain socket.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match &self.transport {
            _ if !self.first.is_empty() => Ok(()),
            Transport::Plain(Socket::Bare(stream)) => stream.readable().await,
            Transport::Plain(Socket::WithFds(socket)) => socket.carrier().readable().await,
            _ => std::future::pending().await,
        }
    }

    /// Has the kernel refuse what the peer sends from now on, where it does so for certain: on a Unix socket. What was
    /// sent is still read.
    pub(crate) fn shut(&self) -> bool {
        let shut = |unix: &UnixStream| match unix.shut(Shutdown::Read) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!("a connection is left without notice: {error}");
                false
            }
        };
        self.unix().is_some_and(shut)
    }

    /// Goes on over `lane`, beside a duplicate of the Unix socket.
    pub(crate) fn switch(&mut self, lane: Lane, spin: Spin) -> io::Result<()> {
        let socket = self.unix().ok_or(io::ErrorKind::Unsupported)?;
        let socket = UnixStream::new(socket.as_fd().try_clone_to_owned()?)?;
        self.transport = Transport::Lane(Box::new(lane.open(socket, spin)?));
        Ok(())
    }

    /// Whether it is worth to look for what comes next before sleeping.
    pub(crate) fn set_eager(&mut self, is_eager: bool) {
        match &mut self.transport {
            Transport::Lane(lane) => lane.set_eager(is_eager),
            Transport::Plain(Socket::Bare(Stream::Unix(stream))) => stream.set_eager(is_eager),
            _ => {}
        }
    }

    /// Puts bytes back that were read while telling the wires apart.
    pub(crate) fn unread(&mut self, first: Bytes) {
        self.first = first;
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let length = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let Some(allowance) = self.allowance else {
            return Pin::new(&mut self.transport).poll_read(cx, buf);
        };
        if allowance == 0 {
            return Poll::Ready(Err(io::Error::other("a refused caller sent too much")));
        }
        // A slice of our own keeps the reader's buffer free of unsafe bookkeeping; refusals are rare.
        let mut bounce = [0; 4096];
        let length = allowance.min(buf.remaining()).min(bounce.len());
        let mut limited = ReadBuf::new(&mut bounce[..length]);
        let polled = Pin::new(&mut self.transport).poll_read(cx, &mut limited);
        let read = limited.filled().len();
        buf.put_slice(limited.filled());
        self.allowance = Some(allowance - read);
        polled
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

impl Io {
    /// Answers bytes that no wire knows, in the protocol that most tools show to people.
    pub(crate) async fn reject(&mut self) -> io::Result<()> {
        use tokio::io::AsyncWriteExt as _;
        const ANSWER: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\n\
            content-length: 56\r\nconnection: close\r\n\r\n\
            this socket speaks gRPC over HTTP/2, and plain HTTP/1.1\n";
        self.write_all(ANSWER.as_bytes()).await?;
        self.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn pair(allowance: Option<usize>) -> (Io, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (
            Io::new(
                Transport::Plain(Socket::Bare(Stream::Unix(ours))),
                allowance,
            ),
            theirs,
        )
    }

    #[tokio::test]
    async fn unread_bytes_come_first() {
        let (mut io, mut peer) = pair(None);
        peer.write_all(b"def").await.unwrap();
        drop(peer);
        io.unread(Bytes::from_static(b"abc"));
        let mut all = Vec::new();
        io.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"abcdef");
    }

    #[tokio::test]
    async fn a_refused_caller_is_read_no_further_than_its_allowance() {
        let (mut io, mut peer) = pair(Some(5));
        peer.write_all(b"abcdefgh").await.unwrap();
        let mut all = [0; 5];
        io.read_exact(&mut all).await.unwrap();
        assert_eq!(&all, b"abcde");
        assert!(io.read(&mut all).await.is_err());
    }

    #[tokio::test]
    async fn the_rejection_is_well_formed() {
        let (mut io, mut peer) = pair(None);
        io.reject().await.unwrap();
        let mut text = String::new();
        peer.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{head}"
        );
    }
}
