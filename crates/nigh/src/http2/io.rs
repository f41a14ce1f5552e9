//! A stream whose reader gets the client's bytes with the authority fixed. Trap: put it above TLS, below hyper.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::authority::AuthorityFix;

pin_project! {
    /// The server's end of one HTTP/2 connection, with an [`AuthorityFix`] between the client and whoever reads.
    ///
    /// While the watch lasts, a read goes straight into the reader's buffer, and what follows a header block that was
    /// changed or cut is copied once; afterwards reads cost two comparisons more than those of the stream itself.
    /// Writes are the stream's own.
    #[derive(Debug)]
    pub(crate) struct AuthorityFixed<S> {
        #[pin]
        stream: S,
        fix: AuthorityFix,
        // Fixed bytes that the reader's buffer had no room for; nothing is read before they are gone, so they are
        // at most one read and HELD_BYTES_MAX.
        pending: Vec<u8>,
        given: usize,
    }
}

impl<S> AuthorityFixed<S> {
    /// Wraps a stream of which nothing has been read, the preface neither.
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            fix: AuthorityFix::new(),
            pending: Vec::new(),
            given: 0,
        }
    }
}

impl<S: AsyncRead> AsyncRead for AuthorityFixed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut this = self.project();
        loop {
            if !this.pending.is_empty() {
                give(this.pending, this.given, buf);
                return Poll::Ready(Ok(()));
            }
            // A full buffer would make a read of nothing look like the end.
            if !this.fix.is_watching() || buf.remaining() == 0 {
                return this.stream.as_mut().poll_read(cx, buf);
            }
            let start = buf.filled().len();
            ready!(this.stream.as_mut().poll_read(cx, buf))?;
            let fresh = buf.filled().get(start..).unwrap_or_default();
            if fresh.is_empty() {
                this.fix.finish(this.pending);
                if this.pending.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let passed = this.fix.feed(fresh, this.pending);
            buf.set_filled(start + passed);
            give(this.pending, this.given, buf);
            if passed > 0 || buf.filled().len() > start {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Moves as much of `pending` into `buf` as fits, and frees it once all of it is given.
fn give(pending: &mut Vec<u8>, given: &mut usize, buf: &mut ReadBuf<'_>) {
    let left = pending.get(*given..).unwrap_or_default();
    let count = left.len().min(buf.remaining());
    buf.put_slice(left.get(..count).unwrap_or_default());
    *given += count;
    if *given == pending.len() {
        *pending = Vec::new();
        *given = 0;
    }
}

impl<S: AsyncWrite> AsyncWrite for AuthorityFixed<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(cx)
    }
}
