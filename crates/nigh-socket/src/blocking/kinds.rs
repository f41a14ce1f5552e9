//! Code written once, without a runtime: over every stream of bytes, TCP included, and over both sockets of messages.

use std::fmt::Debug;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use super::{Stream, UnixDatagram, UnixSeqpacket, UnixStream};
use crate::message::{Packet, Received, RecvError, SendError};
use crate::peer::{LocalPeer, Peer};

/// A connected stream of bytes, of whichever family: [`crate::ByteStream`] without a runtime.
pub trait ByteStream: Read + Write + AsFd + Debug + Send + 'static {
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

/// A connected socket of messages, of whichever type: [`crate::MessageSocket`] without a runtime.
pub trait MessageSocket: AsFd + Debug + Send + Sync + 'static {
    /// Sends the slices as one message, with at most 253 descriptors; waits while the queue is full.
    ///
    /// # Errors
    /// See [`SendError`]: nothing was sent then.
    fn send_message(&self, slices: &[IoSlice<'_>], fds: &[BorrowedFd<'_>])
    -> Result<(), SendError>;

    /// Receives one message to the front of `buffer`, with its descriptors. Datagrams never end.
    ///
    /// # Errors
    /// See [`RecvError`]: a message that does not fit is an error with its true length, and is gone.
    fn recv_message(&self, buffer: &mut [u8]) -> Result<Received, RecvError>;

    /// The longest message in bytes that can be sent, with the send buffer as it is now.
    ///
    /// # Errors
    /// What `getsockopt(2)` reports.
    fn message_bytes_max(&self) -> io::Result<usize>;
}

impl MessageSocket for UnixSeqpacket {
    fn send_message(
        &self,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), SendError> {
        self.send(slices, fds)
    }

    fn recv_message(&self, buffer: &mut [u8]) -> Result<Received, RecvError> {
        self.recv(buffer)
    }

    fn message_bytes_max(&self) -> io::Result<usize> {
        Self::message_bytes_max(self)
    }
}

impl MessageSocket for UnixDatagram {
    fn send_message(
        &self,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), SendError> {
        self.send(slices, fds)
    }

    fn recv_message(&self, buffer: &mut [u8]) -> Result<Received, RecvError> {
        Ok(Received::Packet(Packet::from(self.recv(buffer)?)))
    }

    fn message_bytes_max(&self) -> io::Result<usize> {
        Self::message_bytes_max(self)
    }
}
