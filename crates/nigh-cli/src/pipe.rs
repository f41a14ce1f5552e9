//! One end of a connection of any kind: bytes, packets or datagrams, with their descriptors, in and out.
//!
//! Trap: a packet that does not fit the send buffer here fitted the one of its sender: the buffer grows before it is given up.
//! And the kernel glues a stream's bytes in front of those that have descriptors, whose place a receiver may depend on.

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

/// Bytes that the kernel keeps together, and a little: descriptors are no further from the end of what one look shows.
const SEGMENT_BYTES_MAX: usize = 40 << 10;

/// What was received in one go; its bytes are at the front of the buffer.
#[derive(Debug)]
<<<<<<< HEAD:crates/nigh-cli/src/tap/pipe.rs
pub(super) struct Piece {
    pub(super) length: usize,
    pub(super) fds: Vec<OwnedFd>,
    /// The byte that they came with.
    pub(super) fds_at: usize,
=======
pub(crate) struct Piece {
    pub(crate) length: usize,
    pub(crate) fds: Vec<OwnedFd>,
>>>>>>> main:crates/nigh-cli/src/pipe.rs
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

impl Piece {
    pub(super) fn has_fds(&self) -> bool {
        self.fds_lost || !self.fds.is_empty()
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

<<<<<<< HEAD:crates/nigh-cli/src/tap/pipe.rs
    /// The next piece; none at the end.
    pub(super) async fn recv(&self, buffer: &mut [u8]) -> Result<Option<Piece>, PipeError> {
        let piece = |length| Piece {
            length,
            fds: Vec::new(),
            fds_at: 0,
            fds_lost: false,
        };
        match self {
            Self::Unix(stream) => recv_stream(stream, buffer).await,
            Self::Packet(packets) => match packets.recv(buffer).await {
                Ok(Received::Packet(packet)) => Ok(Some(Piece {
                    fds: packet.fds,
                    ..piece(packet.length)
=======
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
>>>>>>> main:crates/nigh-cli/src/pipe.rs
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

/// The next bytes of a stream. Where descriptors wait behind some of them, those are read one by one: nothing else tells
/// which byte the descriptors came with.
async fn recv_stream(stream: &UnixStream, buffer: &mut [u8]) -> Result<Option<Piece>, PipeError> {
    let Some((first, rest)) = buffer.split_at_mut_checked(1) else {
        return Ok(None);
    };
    let begun = stream.recv_with_fds(first).await?;
    if begun.length == 0 {
        return Ok(None);
    }
    let mut piece = Piece {
        length: begun.length,
        fds: begun.fds,
        fds_at: 0,
        fds_lost: begun.fds_lost,
    };
    let (there, has_fds) = peek(stream.as_fd(), rest)?;
    let mut bare = there;
    if has_fds {
        bare = there.saturating_sub(SEGMENT_BYTES_MAX);
        if bare == 0 && !piece.has_fds() {
            find_fds(stream, &mut rest[..there], &mut piece)?;
            bare = there + 1 - piece.length;
        }
    }
    if bare > 0 {
        let at = piece.length;
        let chunk = stream.try_recv_with_fds(&mut buffer[at..at + bare])?;
        piece.length += chunk.length;
    }
    Ok(Some(piece))
}

/// Reads up to the first byte with descriptors.
fn find_fds(stream: &UnixStream, rest: &mut [u8], piece: &mut Piece) -> Result<(), PipeError> {
    for byte in rest.chunks_mut(1) {
        let chunk = stream.try_recv_with_fds(byte)?;
        piece.fds_at = piece.length;
        piece.length += chunk.length;
        if chunk.length == 0 || chunk.fds_lost || !chunk.fds.is_empty() {
            piece.fds = chunk.fds;
            piece.fds_lost = chunk.fds_lost;
            break;
        }
    }
    Ok(())
}

/// How many bytes are there, and whether there are descriptors with them: without room for control messages the kernel
/// installs none, and says that they do not fit. It looks for descriptors beyond the buffer, too.
fn peek(stream: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
    use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, recvmsg};
    let mut none = RecvAncillaryBuffer::default();
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let mut slices = [io::IoSliceMut::new(buffer)];
    loop {
        match recvmsg(stream, &mut slices, &mut none, flags) {
            Ok(seen) => return Ok((seen.bytes, seen.flags.contains(ReturnFlags::CTRUNC))),
            Err(rustix::io::Errno::AGAIN) => return Ok((0, false)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn descriptors_stay_with_their_byte() {
        let (from, to) = UnixStream::pair().unwrap();
        let to = Pipe::Unix(to);
        let (_, passed) = UnixStream::pair().unwrap();
        let long = vec![7; 5000];
        for (bytes, has_fd) in [
            (&b"aaa"[..], false),
            (b"bbb", true),
            (&long, false),
            (b"c", true),
            (b"d", true),
        ] {
            let fds: &[BorrowedFd<'_>] = if has_fd { &[passed.as_fd()] } else { &[] };
            let sent = from
                .send_with_fds(&[IoSlice::new(bytes)], fds)
                .await
                .unwrap();
            assert_eq!(sent, bytes.len());
        }
        drop(from);
        let mut buffer = to.buffer();
        let mut seen = Vec::new();
        while let Some(piece) = to.recv(&mut buffer).await.unwrap() {
            let has_fds = piece.has_fds();
            seen.push((piece.length, has_fds.then_some(piece.fds_at)));
        }
        // Found behind other bytes, or first; what follows is one piece up to the next that has some.
        assert_eq!(seen[0], (6, Some(3)));
        let at: Vec<usize> = seen
            .iter()
            .scan(0, |begin, (length, at)| {
                let at = at.map(|at| *begin + at);
                *begin += length;
                Some(at)
            })
            .flatten()
            .collect();
        assert_eq!(at, [3, 5006, 5007]);
        assert_eq!(seen.iter().map(|(length, _)| length).sum::<usize>(), 5008);
    }
}
