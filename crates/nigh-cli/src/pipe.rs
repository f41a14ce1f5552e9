//! One end of a connection of any kind: bytes, packets or datagrams, with their descriptors, in and out.
//!
//! Trap: a packet that does not fit the send buffer here fitted the one of its sender: the buffer grows before it is given up.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nigh_socket::{
    Address, Received, RecvError, SendError, Sender, Stream, Transport, UnixDatagram,
    UnixSeqpacket, UnixStream,
};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Bytes of the longest packet that any send buffer takes (4 MiB and a little), and of one read of a stream.
const PACKET_BYTES_MAX: usize = (4 << 20) + (128 << 10);
const PIECE_BYTES_MAX: usize = 64 << 10;

/// One end.
#[derive(Debug)]
pub(crate) enum Pipe {
    Unix(UnixStream),
    Tcp(TcpStream),
    Packet(UnixSeqpacket),
    /// Boxed: it knows its name, and is several times the others' size.
    Datagram(Box<UnixDatagram>),
}

/// What was received in one go; its bytes are at the front of the buffer.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) length: usize,
    pub(crate) fds: Vec<OwnedFd>,
    /// Descriptors are missing.
    pub(crate) fds_lost: bool,
    /// Who wrote it, where the socket was told to ask.
    pub(crate) sender: Option<Sender>,
    /// The name of the socket it came from, of datagrams.
    pub(crate) from: Option<Address>,
}

impl Piece {
    /// Bytes and nothing else.
    pub(crate) fn bare(length: usize) -> Self {
        Self {
            length,
            fds: Vec::new(),
            fds_lost: false,
            sender: None,
            from: None,
        }
    }
}

/// Why an end can be used no more in one direction.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PipeError {
    #[error(transparent)]
    Recv(#[from] RecvError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("tcp: {0}")]
    Tcp(#[from] io::Error),
    #[error("TCP carries no descriptors")]
    NoDescriptors,
}

impl TryFrom<Transport> for Pipe {
    type Error = Transport;

    fn try_from(transport: Transport) -> Result<Self, Transport> {
        match transport {
            Transport::Stream(stream) => Ok(stream.into()),
            Transport::Packet(packets) => Ok(Self::Packet(packets)),
            other => Err(other),
        }
    }
}

impl From<Stream> for Pipe {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Unix(stream) => Self::Unix(stream),
            Stream::Tcp(stream) => Self::Tcp(stream),
        }
    }
}

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
            Self::Packet(packets) => packets.as_fd(),
            Self::Datagram(datagrams) => datagrams.as_fd(),
        }
    }
}

impl Pipe {
    /// A buffer that takes whatever comes in one go. Its pages are used as they are written to.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        match self {
            Self::Packet(_) | Self::Datagram(_) => vec![0; PACKET_BYTES_MAX],
            Self::Unix(_) | Self::Tcp(_) => vec![0; PIECE_BYTES_MAX],
        }
    }

    /// The next piece; none at the end, which datagrams do not have.
    pub(crate) async fn recv(&self, buffer: &mut [u8]) -> Result<Option<Piece>, PipeError> {
        match self {
            Self::Unix(stream) => {
                let chunk = stream.recv_with_fds(buffer).await?;
                Ok((chunk.length > 0).then_some(Piece {
                    fds: chunk.fds,
                    fds_lost: chunk.fds_lost,
                    sender: chunk.sender,
                    ..Piece::bare(chunk.length)
                }))
            }
            Self::Packet(packets) => match packets.recv(buffer).await {
                Ok(Received::Packet(packet)) => Ok(Some(Piece {
                    fds: packet.fds,
                    sender: packet.sender,
                    ..Piece::bare(packet.length)
                })),
                Ok(Received::End) => Ok(None),
                Err(RecvError::DescriptorsLost { length, .. }) => Ok(Some(Piece {
                    fds_lost: true,
                    ..Piece::bare(length)
                })),
                Err(error) => Err(error.into()),
            },
            Self::Datagram(datagrams) => match datagrams.recv(buffer).await {
                Ok(datagram) => Ok(Some(Piece {
                    fds: datagram.fds,
                    sender: datagram.sender,
                    from: datagram.from,
                    ..Piece::bare(datagram.length)
                })),
                Err(RecvError::DescriptorsLost { length, .. }) => Ok(Some(Piece {
                    fds_lost: true,
                    ..Piece::bare(length)
                })),
                Err(error) => Err(error.into()),
            },
            Self::Tcp(stream) => loop {
                stream.readable().await?;
                match stream.try_read(buffer) {
                    Ok(length) => return Ok((length > 0).then(|| Piece::bare(length))),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            },
        }
    }

    /// Sends all of it, the descriptors with the first byte.
    pub(crate) async fn send(&self, bytes: &[u8], fds: &[OwnedFd]) -> Result<(), PipeError> {
        let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        match self {
            Self::Unix(stream) => {
                let mut sent = stream
                    .send_with_fds(&[IoSlice::new(bytes)], &borrowed)
                    .await?;
                while sent < bytes.len() {
                    let rest = [IoSlice::new(&bytes[sent..])];
                    sent += stream.send_with_fds(&rest, &[]).await?;
                }
                Ok(())
            }
            Self::Packet(packets) => {
                let slices = [IoSlice::new(bytes)];
                match packets.send(&slices, &borrowed).await {
                    Err(SendError::TooLong { .. }) => {
                        // Twice: the kernel counts what it needs for itself, too.
                        packets.set_send_buffer(bytes.len() * 2)?;
                        Ok(packets.send(&slices, &borrowed).await?)
                    }
                    sent => Ok(sent?),
                }
            }
            Self::Datagram(datagrams) => {
                let slices = [IoSlice::new(bytes)];
                match datagrams.send(&slices, &borrowed).await {
                    Err(SendError::TooLong { .. }) => {
                        datagrams.set_send_buffer(bytes.len() * 2)?;
                        Ok(datagrams.send(&slices, &borrowed).await?)
                    }
                    sent => Ok(sent?),
                }
            }
            Self::Tcp(_) if !fds.is_empty() => Err(PipeError::NoDescriptors),
            Self::Tcp(stream) => {
                let mut rest = bytes;
                while !rest.is_empty() {
                    stream.writable().await?;
                    match stream.try_write(rest) {
                        Ok(sent) => rest = &rest[sent..],
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(())
            }
        }
    }

    /// Ends one direction. A peer that is gone has ended both already.
    pub(crate) fn shutdown(&self, how: Shutdown) {
        let how = match how {
            Shutdown::Read => rustix::net::Shutdown::Read,
            Shutdown::Write => rustix::net::Shutdown::Write,
            Shutdown::Both => rustix::net::Shutdown::Both,
        };
        let _ = rustix::net::shutdown(self.as_fd(), how);
    }

    /// Completes when nothing can go either way any more: the peer is gone, and has not only ended its sending.
    pub(crate) async fn hung_up(&self) -> io::Result<()> {
        let socket = self.as_fd().try_clone_to_owned()?;
        // Only watched, never written to: what kind of socket it is does not matter.
        let watch = tokio::net::UnixStream::from_std(socket.into())?;
        loop {
            let ready = watch.ready(Interest::WRITABLE).await?;
            if ready.is_write_closed() {
                return Ok(());
            }
            // Forgets that it is ready, so that the next change is waited for.
            let forget = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = watch.try_io(Interest::WRITABLE, forget);
        }
    }
}
