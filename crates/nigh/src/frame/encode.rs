//! Frames waiting to be written: small ones in one buffer, large payloads as they are.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::{END, HEADER_BYTES, Header, Kind, TEXT_BYTES_MAX};

/// Payloads from here on are not copied into the buffer; a slice of their own costs less.
const OWN_SLICE_BYTES_MIN: usize = 16 * 1024;

/// Buffers above this size are not kept for the next frames.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// A queue of bytes that are frames, whole until [`advance`](Self::advance) begins to eat them.
#[derive(Debug, Default)]
pub(crate) struct Out {
    ready: VecDeque<Bytes>,
    tail: BytesMut,
    bytes: usize,
    /// Bytes that were ever appended here, whoever wrote them.
    appended: u64,
}

impl Out {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn appended(&self) -> u64 {
        self.appended
    }

    fn count(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.appended += bytes as u64;
    }

    /// Appends a frame whose content `write` produces.
    pub(crate) fn frame(
        &mut self,
        kind: Kind,
        flags: u8,
        stream: u32,
        write: impl FnOnce(&mut BytesMut),
    ) {
        let start = self.tail.len();
        self.tail.put_bytes(0, HEADER_BYTES);
        write(&mut self.tail);
        let length = self.tail.len() - start - HEADER_BYTES;
        let header = Header {
            length,
            stream,
            kind,
            flags,
        };
        if let Some(place) = self.tail.get_mut(start..start + HEADER_BYTES) {
            place.copy_from_slice(&header.write());
        }
        self.count(HEADER_BYTES + length);
    }

    pub(crate) fn data(&mut self, stream: u32, payload: Bytes, last: bool) {
        let flags = if last { END } else { 0 };
        if payload.len() < OWN_SLICE_BYTES_MIN {
            self.frame(Kind::Data, flags, stream, |out| out.put_slice(&payload));
            return;
        }
        let header = Header {
            length: payload.len(),
            stream,
            kind: Kind::Data,
            flags,
        };
        self.tail.put_slice(&header.write());
        self.ready.push_back(self.tail.split().freeze());
        self.count(HEADER_BYTES + payload.len());
        self.ready.push_back(payload);
    }

    pub(crate) fn window(&mut self, stream: u32, credit: u32) {
        self.frame(Kind::Window, 0, stream, |out| out.put_u32_le(credit));
    }

    /// CANCEL or GOAWAY; the text is cut at its limit.
    pub(crate) fn reason(&mut self, kind: Kind, stream: u32, code: u32, text: &str) {
        let end = text.floor_char_boundary(TEXT_BYTES_MAX);
        self.frame(kind, 0, stream, |out| {
            out.put_u32_le(code);
            out.put_slice(text.get(..end).unwrap_or_default().as_bytes());
        });
    }

    pub(crate) fn ping(&mut self, kind: Kind, payload: &[u8]) {
        self.frame(kind, 0, 0, |out| out.put_slice(payload));
    }

    /// Moves everything to `writing`, which must be empty, and takes over its buffer.
    pub(crate) fn hand_over(&mut self, writing: &mut Self) {
        std::mem::swap(self, writing);
        std::mem::swap(&mut self.appended, &mut writing.appended);
        if self.tail.capacity() <= KEPT_BYTES_MAX {
            self.tail.clear();
        } else {
            self.tail = BytesMut::new();
        }
    }

    /// The one slice there is, if there is just one.
    pub(crate) fn single(&self) -> Option<&[u8]> {
        self.ready.is_empty().then_some(&self.tail[..])
    }

    /// The first slices, as many as fit.
    pub(crate) fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let all = self.ready.iter().map(|bytes| &bytes[..]);
        let all = all.chain(std::iter::once(&self.tail[..]));
        let mut count = 0;
        for (place, slice) in into.iter_mut().zip(all.filter(|slice| !slice.is_empty())) {
            *place = IoSlice::new(slice);
            count += 1;
        }
        count
    }

    /// Forgets bytes that have been written.
    pub(crate) fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.ready.front_mut() {
            if written < first.len() {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.ready.pop_front();
        }
        if written == self.tail.len() {
            // Keeps the memory, where advancing would eat it.
            self.tail.clear();
        } else {
            self.tail.advance(written);
        }
    }
}
