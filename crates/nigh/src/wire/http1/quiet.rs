//! Whether an HTTP/1.1 connection is between two requests: then it can go to another process, or end without a loss.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::Status;
use tonic::body::Body;

use crate::io::Io;

/// What is known of one connection. All of it happens on the connection's task.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    /// Bytes that were read, and how many when the last answer ended.
    read: AtomicU64,
    answered: AtomicU64,
    /// Calls whose answers have not ended.
    calls: AtomicUsize,
    /// The caller does not read what is being written.
    is_blocked: AtomicBool,
}

impl Quiet {
    /// Nothing has been read since the last answer, and that is out. To be asked after the connection was polled and has
    /// to wait.
    pub(super) fn is_idle(&self) -> bool {
        self.calls.load(Ordering::Relaxed) == 0
            && !self.is_blocked.load(Ordering::Relaxed)
            && self.read.load(Ordering::Relaxed) == self.answered.load(Ordering::Relaxed)
    }

    pub(super) fn watch(self: &Arc<Self>, io: Io) -> Watched {
        Watched {
            io,
            quiet: Arc::clone(self),
        }
    }

    /// A call begins; it lasts until this is dropped.
    pub(super) fn call(self: &Arc<Self>) -> InCall {
        self.calls.fetch_add(1, Ordering::Relaxed);
        InCall(Arc::clone(self))
    }
}

/// A call whose answer has not ended.
#[derive(Debug)]
pub(super) struct InCall(Arc<Quiet>);

impl InCall {
    /// Lasts as long as the answer's body.
    pub(super) fn over(self, body: Body) -> Body {
        match body.is_end_stream() {
            true => body,
            false => Body::new(Answer {
                body,
                _in_call: self,
            }),
        }
    }
}

impl Drop for InCall {
    fn drop(&mut self) {
        let read = self.0.read.load(Ordering::Relaxed);
        self.0.answered.store(read, Ordering::Relaxed);
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer, and its call.
struct Answer {
    body: Body,
    _in_call: InCall,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The connection's bytes, counted.
#[derive(Debug)]
pub(super) struct Watched {
    io: Io,
    quiet: Arc<Quiet>,
}

impl Watched {
    pub(super) fn into_io(self) -> Io {
        self.io
    }

    fn note<T>(&self, written: Poll<T>) -> Poll<T> {
        let is_blocked = written.is_pending();
        self.quiet.is_blocked.store(is_blocked, Ordering::Relaxed);
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        self.quiet.read.fetch_add(read as u64, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if flushed.is_pending() {
            return self.note(flushed);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
