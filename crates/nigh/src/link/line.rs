//! The byte stream of a connection with its two ends: a decoder behind reads, a queue before writes.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};

use crate::fd::{FdSend as _, Unsent};
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
    /// `rest` is what was read behind the greeting.
    pub(crate) fn new(io: Io, accepted: Accepted, rest: BytesMut) -> Self {
        // Elsewhere nobody asks for offsets.
        let offset = io.received().saturating_sub(rest.len() as u64);
        Self {
            io,
            decoder: Decoder::at(offset, accepted, rest),
            writing: Out::default(),
            written: 0,
            reads: 0,
            needs_flush: false,
        }
    }

    /// Whether it is worth to look for what comes next before sleeping.
    pub(crate) fn set_eager(&mut self, is_eager: bool) {
        self.io.set_eager(is_eager);
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
            if self.writing.carried().is_some() {
                ready!(self.poll_carry(cx))?;
                continue;
            }
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

    /// Writes from a frame that carries descriptors to the next that does; they leave with its first byte (clause 13.4).
    fn poll_carry(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(carried) = self.writing.carried() else {
            return Poll::Ready(Ok(()));
        };
        let fds = carried.descriptors();
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = self.writing.slices(&mut slices);
        let slices = slices.get(..count).unwrap_or_default();
        match ready!(self.io.poll_send(cx, slices, &fds)) {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Ok(written) => {
                self.writing.have_left();
                self.writing.advance(written);
                self.written += written as u64;
                self.needs_flush = true;
                Poll::Ready(Ok(()))
            }
            Err(Unsent::Refused(loss)) => {
                self.writing.were_refused(loss);
                Poll::Ready(Ok(()))
            }
            Err(Unsent::Broken(error)) => Poll::Ready(Err(error)),
        }
    }
}
