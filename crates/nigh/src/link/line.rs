//! The byte stream of a connection with its two ends: a decoder behind reads, a queue before writes.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use crate::frame::{Accepted, Decoder, Out};
use crate::io::Io;

/// Slices of one write; a large message takes two, its header and itself.
const SLICES_MAX: usize = 32;

#[derive(Debug)]
pub(crate) struct Line<S> {
    io: S,
    pub(crate) decoder: Decoder,
    /// Being written, in order before whatever is queued.
    pub(crate) writing: Out,
    /// Bytes written so far.
    pub(crate) written: u64,
    /// Reads that brought something.
    pub(crate) reads: u64,
    needs_flush: bool,
}

impl Line<Io> {
    /// Whether it is worth to look for what comes next before sleeping.
    pub(crate) fn set_eager(&mut self, is_eager: bool) {
        self.io.set_eager(is_eager);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    /// `rest` is what was read behind the greeting.
    pub(crate) fn new(io: S, accepted: Accepted, rest: BytesMut) -> Self {
        Self {
            io,
            decoder: Decoder::new(accepted, rest),
            writing: Out::default(),
            written: 0,
            reads: 0,
            needs_flush: false,
        }
    }

    /// Reads once. 0: the peer has ended the stream.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let room = self.decoder.room();
        let read = ready!(pin!(self.io.read_buf(room)).poll(cx))?;
        self.decoder.grow();
        self.reads += 1;
        Poll::Ready(Ok(read))
    }

    /// Writes all of `writing`.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.writing.is_empty() {
            let io = Pin::new(&mut self.io);
            let written = if let Some(slice) = self.writing.single() {
                ready!(io.poll_write(cx, slice))?
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let count = self.writing.slices(&mut slices);
                let slices = slices.get(..count).unwrap_or_default();
                ready!(io.poll_write_vectored(cx, slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.writing.advance(written);
            self.written += written as u64;
            self.needs_flush = true;
        }
        if self.needs_flush {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }
}
