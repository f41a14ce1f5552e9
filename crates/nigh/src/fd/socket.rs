//! The socket under a connection that may carry descriptors: it receives them with the bytes, and sends them with a byte.
//!
//! Until the other end has said HELLO, or where there is an inode table, bytes are read and written as on any connection.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use nigh_socket::UnixStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::arrivals::Arrival;
use super::closer;
use super::error::Loss;
use super::link::Link;
use super::outbound::Loose;

/// What a socket received at once.
#[derive(Debug)]
pub(crate) struct Reception {
    pub(crate) length: usize,
    pub(crate) fds: Vec<OwnedFd>,
    pub(crate) truncated: bool,
}

/// Why nothing was sent.
#[derive(Debug)]
pub(crate) enum Unsent {
    /// The kernel refused the descriptors; the bytes can go without them.
    Refused(Loss),
    Broken(io::Error),
}

impl From<nigh_socket::SendError> for Unsent {
    fn from(error: nigh_socket::SendError) -> Self {
        use nigh_socket::SendError;
        match error {
            SendError::InFlight => Self::Refused(Loss::TooManyInFlight),
            SendError::DescriptorsRefused => Self::Refused(Loss::NotPermitted),
            SendError::Unsendable
            | SendError::Memory { .. }
            | SendError::NothingToCarry
            | SendError::TooManyDescriptors { .. } => Self::Refused(Loss::SendFailed),
            SendError::Closed | SendError::Reset => Self::Broken(io::ErrorKind::BrokenPipe.into()),
            other => Self::Broken(io::Error::other(other)),
        }
    }
}

/// A stream socket that carries descriptors.
pub(crate) trait Carrier: AsyncRead + AsyncWrite + Unpin {
    fn poll_receive(&mut self, cx: &mut Context<'_>, buf: &mut [u8])
    -> Poll<io::Result<Reception>>;
}

/// A byte stream that can send descriptors with its next bytes.
pub(crate) trait FdSend {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Poll<Result<usize, Unsent>>;
}

/// A socket and the [`Link`] that sorts what comes over it.
#[derive(Debug)]
pub(crate) struct FdSocket<C = UnixStream> {
    carrier: C,
    // Before the link, which ends what waits for it.
    leaving: Leaving,
    link: Closing,
    /// Bytes received so far.
    received: u64,
    /// Nobody above sees frames: TLS is in between, or the other end speaks no extension.
    is_opaque: bool,
    /// Bytes of the last reception.
    last: usize,
}

/// The link, which ends with its socket.
#[derive(Debug)]
struct Closing(Arc<Link>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What leaves in grpcfd's way with the next byte; put back when the socket goes.
#[derive(Debug, Default)]
struct Leaving(Vec<(Loose, OwnedFd)>);

impl Drop for Leaving {
    fn drop(&mut self) {
        for (loose, fd) in self.0.drain(..) {
            loose.attachment.put_back(fd);
        }
    }
}

/// Room of a reception at least. The buffers of HTTP/2 are large, and what is received into is zeroed first: that cost a
/// fifth of a small call's instructions. So the room follows what comes.
const ROOM_BYTES_MIN: usize = 4096;

impl<C> FdSocket<C> {
    pub(crate) fn new(carrier: C, link: Arc<Link>, is_opaque: bool) -> Self {
        Self {
            carrier,
            link: Closing(link),
            received: 0,
            is_opaque,
            leaving: Leaving::default(),
            last: 0,
        }
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link.0
    }

    pub(crate) fn carrier(&self) -> &C {
        &self.carrier
    }

    /// Bytes received so far.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// The socket alone: both ends know that no descriptors travel here.
    pub(crate) fn into_carrier(self) -> C {
        self.carrier
    }
}

impl<C: Carrier> AsyncRead for FdSocket<C> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.link.0.receives() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.carrier).poll_read(cx, buf))?;
            this.received += (buf.filled().len() - before) as u64;
            return Poll::Ready(Ok(()));
        }
        let room = this.last.saturating_mul(2).max(ROOM_BYTES_MIN);
        let room = buf.initialize_unfilled_to(room.min(buf.remaining()));
        let reception = ready!(this.carrier.poll_receive(cx, room))?;
        this.last = reception.length;
        buf.advance(reception.length);
        let start = this.received;
        this.received += reception.length as u64;
        if !reception.fds.is_empty() || reception.truncated {
            let arrival = Arrival {
                start,
                end: this.received,
                fds: reception.fds,
                truncated: reception.truncated,
            };
            if this.is_opaque {
                this.link.0.stray(arrival);
            } else {
                this.link.0.arrived(arrival);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<C: FdSend> FdSocket<C> {
    /// Sends the first of `bytes` with what is to leave in grpcfd's way; `None` when nothing is.
    fn poll_loose(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<Option<usize>>> {
        loop {
            if self.leaving.0.is_empty() {
                self.leaving.0 = self.link.0.loose.next();
            }
            let (Some(first), false) = (bytes.get(..1), self.leaving.0.is_empty()) else {
                return Poll::Ready(Ok(None));
            };
            let fds: Vec<_> = self.leaving.0.iter().map(|(_, fd)| fd.as_fd()).collect();
            match ready!(self.carrier.poll_send(cx, &[IoSlice::new(first)], &fds)) {
                Ok(length) => {
                    for (loose, _) in &self.leaving.0 {
                        loose.attachment.left();
                        loose.call.loose_has_left();
                    }
                    closer::drop_off(std::mem::take(&mut self.leaving.0));
                    return Poll::Ready(Ok(Some(length)));
                }
                Err(Unsent::Refused(loss)) => {
                    for (loose, _) in &self.leaving.0 {
                        loose.attachment.failed(loss);
                        loose.call.lose(loss);
                    }
                    closer::drop_off(std::mem::take(&mut self.leaving.0));
                }
                Err(Unsent::Broken(error)) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl<C: Carrier + FdSend> AsyncWrite for FdSocket<C> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(sent) = ready!(this.poll_loose(cx, buf))? {
            return Poll::Ready(Ok(sent));
        }
        Pin::new(&mut this.carrier).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let first = bufs.iter().find(|buf| !buf.is_empty());
        if let Some(first) = first
            && let Some(sent) = ready!(this.poll_loose(cx, first))?
        {
            return Poll::Ready(Ok(sent));
        }
        Pin::new(&mut this.carrier).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.carrier.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().carrier).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().carrier).poll_shutdown(cx)
    }
}

impl<C: FdSend> FdSend for FdSocket<C> {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Poll<Result<usize, Unsent>> {
        self.carrier.poll_send(cx, bytes, fds)
    }
}
