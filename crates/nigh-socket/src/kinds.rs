//! Code written once: over every stream of bytes, TCP included, and over every socket of messages.

use std::fmt::Debug;
use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::datagram::UnixDatagram;
use crate::message::{Packet, Received, RecvError, SendError};
use crate::peer::{LocalPeer, Peer};
use crate::seqpacket::UnixSeqpacket;
use crate::stream::{Stream, UnixStream};

/// A connected stream of bytes, of whichever family.
pub trait ByteStream: AsyncRead + AsyncWrite + AsFd + Debug + Unpin + Send + 'static {
    /// The stream as one that carries descriptors, where it can.
    fn as_unix(&self) -> Option<&UnixStream>;

    /// Who is at the other end.
    ///
    /// # Errors
    /// What the kernel reports: over TCP, that the connection is gone.
    fn peer(&self) -> io::Result<Peer>;
}

impl ByteStream for UnixStream {
    fn as_unix(&self) -> Option<&UnixStream> {
        Some(self)
    }

    fn peer(&self) -> io::Result<Peer> {
        Ok(Peer::Local(LocalPeer::of(self)?))
    }
}

impl ByteStream for TcpStream {
    fn as_unix(&self) -> Option<&UnixStream> {
        None
    }

    fn peer(&self) -> io::Result<Peer> {
        Ok(Peer::remote(self.peer_addr()?))
    }
}

impl ByteStream for Stream {
    fn as_unix(&self) -> Option<&UnixStream> {
        Self::as_unix(self)
    }

    fn peer(&self) -> io::Result<Peer> {
        match self {
            Self::Unix(stream) => stream.peer(),
            Self::Tcp(stream) => stream.peer(),
        }
    }
}

/// A connected socket of messages, of whichever type.
pub trait MessageSocket: AsFd + Debug + Send + Sync + 'static {
    /// Sends the slices as one message, with at most 253 descriptors; waits while the queue is full. Cancel safe.
    ///
    /// # Errors
    /// See [`SendError`]: nothing was sent then.
    fn send_message(
        &self,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> impl Future<Output = Result<(), SendError>> + Send;

    /// Receives one message to the front of `buffer`, with its descriptors. Datagrams never end. Cancel safe.
    ///
    /// # Errors
    /// See [`RecvError`]: a message that does not fit is an error with its true length, and is gone.
    fn recv_message(
        &self,
        buffer: &mut [u8],
    ) -> impl Future<Output = Result<Received, RecvError>> + Send;

    /// The longest message in bytes that can be sent, with the send buffer as it is now.
    ///
    /// # Errors
    /// What `getsockopt(2)` reports.
    fn message_bytes_max(&self) -> io::Result<usize>;
}

impl MessageSocket for UnixSeqpacket {
    async fn send_message(
        &self,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), SendError> {
        self.send(slices, fds).await
    }

    async fn recv_message(&self, buffer: &mut [u8]) -> Result<Received, RecvError> {
        self.recv(buffer).await
    }

    fn message_bytes_max(&self) -> io::Result<usize> {
        Self::message_bytes_max(self)
    }
}

impl MessageSocket for UnixDatagram {
    async fn send_message(
        &self,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), SendError> {
        self.send(slices, fds).await
    }

    async fn recv_message(&self, buffer: &mut [u8]) -> Result<Received, RecvError> {
        let datagram = self.recv(buffer).await?;
        Ok(Received::Packet(Packet::from(datagram)))
    }

    fn message_bytes_max(&self) -> io::Result<usize> {
        Self::message_bytes_max(self)
    }
}
