//! Frames waiting to be written: small ones in one buffer, large payloads as they are.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::{END, FDS_BYTES, HEADER_BYTES, Header, Kind, TEXT_BYTES_MAX};
use crate::fd::{Loss, Outbound};

/// Payloads from here on are not copied into the buffer; a slice of their own costs less.
const OWN_SLICE_BYTES_MIN: usize = 16 * 1024;

/// Buffers above this size are not kept for the next frames.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// A queue of bytes that are frames, whole until [`advance`](Self::advance) begins to eat them.
#[derive(Debug, Default)]
pub(crate) struct Out {
    ready: VecDeque<Chunk>,
    tail: BytesMut,
    bytes: usize,
    /// Bytes that were ever appended here, whoever wrote them.
    appended: u64,
}

/// Bytes with a slice of their own.
#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    /// The descriptors that leave with the first of them: a system call of its own begins here.
    fds: Option<Box<Outbound>>,
}

impl From<Bytes> for Chunk {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, fds: None }
    }
}

/// The bytes of an FDS frame (clause 13.3).
pub(crate) fn fds(stream: u32, count: u16, first: u32, loss: u8) -> [u8; HEADER_BYTES + FDS_BYTES] {
    let header = Header {
        length: FDS_BYTES,
        stream,
        kind: Kind::Fds,
        flags: 0,
        descriptors: count,
    };
    let mut bytes = [loss; HEADER_BYTES + FDS_BYTES];
    let all = header.write().into_iter().chain(first.to_le_bytes());
    bytes.iter_mut().zip(all).for_each(|(to, from)| *to = from);
    bytes
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
            descriptors: 0,
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
            descriptors: 0,
        };
        self.tail.put_slice(&header.write());
        self.ready.push_back(self.tail.split().freeze().into());
        self.count(HEADER_BYTES + payload.len());
        self.ready.push_back(payload.into());
    }

    /// Appends an FDS frame, whose first byte is to be the first of a system call that carries its descriptors
    /// (clause 13.4).
    pub(crate) fn fds(&mut self, mut outbound: Box<Outbound>) {
        if !self.tail.is_empty() {
            self.ready.push_back(self.tail.split().freeze().into());
        }
        let bytes = Bytes::from(std::mem::take(&mut outbound.bytes));
        self.count(bytes.len());
        let fds = Some(outbound);
        self.ready.push_back(Chunk { bytes, fds });
    }

    /// What has to leave with the next byte.
    pub(crate) fn carried(&self) -> Option<&Outbound> {
        self.ready.front()?.fds.as_deref()
    }

    /// The descriptors of the next byte have left with it.
    pub(crate) fn have_left(&mut self) {
        let fds = self.ready.front_mut().and_then(|chunk| chunk.fds.take());
        if let Some(mut fds) = fds {
            fds.left();
        }
    }

    /// The kernel refused the descriptors of the next byte: their frame goes without them and says so (clause 13.7).
    pub(crate) fn were_refused(&mut self, loss: Loss) {
        if let Some(chunk) = self.ready.front_mut()
            && let Some(mut fds) = chunk.fds.take()
        {
            fds.refused(loss);
            chunk.bytes = Bytes::from(std::mem::take(&mut fds.bytes));
        }
    }

    /// Gives back the descriptors that have not left: another connection may carry them.
    pub(crate) fn give_back(&mut self) {
        for chunk in &mut self.ready {
            chunk.fds = None;
        }
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

    /// The first slices, as many as fit and may go in one system call.
    pub(crate) fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let mut is_first = true;
        let chunks = self
            .ready
            .iter()
            .map(|chunk| (&chunk.bytes[..], chunk.fds.is_some()));
        let all = chunks.chain(std::iter::once((&self.tail[..], false)));
        let all = all
            .take_while(|(_, begins)| std::mem::take(&mut is_first) || !begins)
            .map(|(slice, _)| slice);
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
            if written < first.bytes.len() {
                first.bytes.advance(written);
                return;
            }
            written -= first.bytes.len();
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
