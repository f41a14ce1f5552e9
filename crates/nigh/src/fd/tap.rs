//! Between h2 and the socket: puts our frames between h2's, and takes the other end's out.
//!
//! Trap: h2 hands over many frames at once and stops anywhere. What waits is written at the first boundary that comes,
//! and that is early enough: a message's bytes reach this place only after what it refers to was queued.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::error::Incapable;
use super::incoming::{Found, Incoming};
use super::link::{Link, Peering, Side};
use super::outbound::Outbound;
use super::outgoing::Outgoing;
use super::socket::{FdSend, Unsent};

/// RFC 9113 §3.4.
const PREFACE_BYTES: usize = 24;

/// The stream that h2 reads and writes.
#[derive(Debug)]
pub(crate) struct Tap<S> {
    stream: S,
    link: Arc<Link>,
    incoming: Incoming,
    outgoing: Outgoing,
    outbound: Option<Outbound>,
    /// Bytes for h2 that its buffer had no room for, and how many of them it has.
    pending: Vec<u8>,
    given: usize,
    found: Vec<Found>,
    /// The other end speaks no extension: nothing is looked at any more.
    is_idle: bool,
}

impl<S> Tap<S> {
    pub(crate) fn new(stream: S, link: Arc<Link>) -> Self {
        let (theirs, ours) = match link.side() {
            Side::Server => (PREFACE_BYTES, 0),
            Side::Client => (0, PREFACE_BYTES),
        };
        link.offer();
        Self {
            stream,
            link,
            incoming: Incoming::new(theirs),
            outgoing: Outgoing::new(ours),
            outbound: None,
            pending: Vec::new(),
            given: 0,
            found: Vec::new(),
            is_idle: false,
        }
    }

    /// Looks at what was found, and draws conclusions from what was not.
    fn conclude(&mut self) -> io::Result<()> {
        for found in self.found.drain(..) {
            match found {
                Found::Ours { at, frame } => {
                    let said = self.link.found(at, frame);
                    said.map_err(|malformed| {
                        io::Error::new(io::ErrorKind::InvalidData, malformed)
                    })?;
                }
                // A nigh server says HELLO before it answers the PING.
                Found::Pong => self.link.is_foreign(Incapable::NotNigh),
            }
        }
        self.link.settle(self.incoming.settled());
        // A nigh client says HELLO right after its SETTINGS.
        let too_late = self.link.side() == Side::Server && self.incoming.frames() >= 2;
        if too_late && !self.incoming.holds() {
            self.link.is_foreign(Incapable::NotNigh);
        }
        self.is_idle = !self.incoming.holds()
            && self.link.inodes().is_none()
            && matches!(self.link.peering(), Peering::Not(_));
        Ok(())
    }

    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let left = self.pending.get(self.given..).unwrap_or_default();
        let count = left.len().min(buf.remaining());
        buf.put_slice(left.get(..count).unwrap_or_default());
        self.given += count;
        if self.given == self.pending.len() {
            self.pending.clear();
            self.given = 0;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.pending.is_empty() {
                this.give(buf);
                return Poll::Ready(Ok(()));
            }
            // A full buffer would make a read of nothing look like the end.
            if this.is_idle || buf.remaining() == 0 {
                return Pin::new(&mut this.stream).poll_read(cx, buf);
            }
            let start = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            let fresh = buf.filled().get(start..).unwrap_or_default();
            if fresh.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let passed = this
                .incoming
                .feed(fresh, &mut this.pending, &mut this.found);
            buf.set_filled(start + passed);
            this.conclude()?;
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + FdSend + Unpin> Tap<S> {
    /// Writes what waits, at a boundary.
    fn poll_inject(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.outbound.is_none() {
                if !self.link.has_waiting() {
                    return Poll::Ready(Ok(()));
                }
                self.outbound = self.link.next_frame();
            }
            let Some(outbound) = &mut self.outbound else {
                return Poll::Ready(Ok(()));
            };
            let written = if outbound.carried.is_empty() {
                ready!(Pin::new(&mut self.stream).poll_write(cx, &outbound.bytes))?
            } else {
                let fds = outbound.descriptors();
                match ready!(
                    self.stream
                        .poll_send(cx, &[IoSlice::new(&outbound.bytes)], &fds)
                ) {
                    Ok(written) => written,
                    Err(Unsent::Refused(loss)) => {
                        outbound.refused(loss);
                        continue;
                    }
                    Err(Unsent::Broken(error)) => return Poll::Ready(Err(error)),
                }
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            outbound.left();
            outbound.bytes.drain(..written);
            if outbound.bytes.is_empty() {
                self.outbound = None;
            }
        }
    }

    /// Whether one of our frames is on its way or could be.
    fn may_inject(&self) -> bool {
        self.outbound.is_some() || self.outgoing.is_boundary()
    }
}

impl<S: AsyncWrite + FdSend + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_idle {
            return Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        }
        let first = bufs.iter().find(|buf| !buf.is_empty());
        let first = first.map_or(&[][..], |buf| buf);
        let written = loop {
            if this.may_inject() {
                ready!(this.poll_inject(cx))?;
            }
            if first.is_empty() || !this.link.has_waiting() {
                break ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, bufs))?;
            }
            // In the middle of a frame: no further than to where ours may stand.
            let most = this.outgoing.until_boundary(first);
            let piece = first.get(..most).unwrap_or_default();
            // Nothing when another thread attached since, at this very boundary: a write of nothing would end HTTP/2.
            if !piece.is_empty() {
                break ready!(Pin::new(&mut this.stream).poll_write(cx, piece))?;
            }
        };
        let mut left = written;
        for buf in bufs {
            let here = buf.len().min(left);
            this.outgoing.advance(buf.get(..here).unwrap_or_default());
            left -= here;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_idle {
            this.link.writer.register(cx.waker());
            if this.may_inject() {
                ready!(this.poll_inject(cx))?;
            }
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
