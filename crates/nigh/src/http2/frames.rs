//! HTTP/2 frame heads, and which part of a payload is header block. Lengths are the peer's claim until bytes are there.

use std::ops::Range;

/// Length of every frame head (RFC 9113 §4.1).
pub(super) const HEAD_BYTES: usize = 9;

const HEADERS: u8 = 0x1;
const PUSH_PROMISE: u8 = 0x5;
const CONTINUATION: u8 = 0x9;

const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

const STREAM_MASK: u32 = 0x7fff_ffff;

/// What a frame means to somebody who only follows header blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Opens a header block.
    Headers,
    /// Goes on with the open header block.
    Continuation,
    /// Opens a header block that no client may send.
    PushPromise,
    /// Carries no header block.
    Other,
}

/// The nine bytes before every payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// Bytes of payload that follow the head.
    pub(super) length: usize,
    pub(super) kind: Kind,
    /// Stream the frame belongs to, without the reserved bit.
    pub(super) stream: u32,
    flags: u8,
}

impl Head {
    /// Reads the head at the start of `bytes`; `None` if fewer than nine are there.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = *bytes.first_chunk::<HEAD_BYTES>()?;
        Some(Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind: match kind {
                HEADERS => Kind::Headers,
                CONTINUATION => Kind::Continuation,
                PUSH_PROMISE => Kind::PushPromise,
                _ => Kind::Other,
            },
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & STREAM_MASK,
            flags,
        })
    }

    /// Head and payload together, in bytes.
    pub(super) fn frame_bytes(&self) -> usize {
        HEAD_BYTES + self.length
    }

    /// Whether the header block ends with this frame.
    pub(super) fn ends_block(&self) -> bool {
        self.flags & END_HEADERS != 0
    }

    /// Where in `payload` the header block is. `None` if h2 would refuse the frame without decoding its block.
    pub(super) fn fragment(&self, payload: &[u8]) -> Option<Range<usize>> {
        if self.stream == 0 {
            return None;
        }
        if self.kind == Kind::Continuation {
            return Some(0..payload.len());
        }
        let mut start = 0;
        let mut padding = 0;
        if self.flags & PADDED != 0 {
            padding = usize::from(*payload.first()?);
            start = 1;
        }
        if self.flags & PRIORITY != 0 {
            let dependency = payload.get(start..start + 5)?.first_chunk::<4>()?;
            if u32::from_be_bytes(*dependency) & STREAM_MASK == self.stream {
                return None;
            }
            start += 5;
        }
        let end = payload.len().checked_sub(padding)?;
        (start <= end).then_some(start..end)
    }
}

/// One whole frame, cut out of bytes that hold it.
#[derive(Debug, Clone)]
pub(super) struct Frame<'a> {
    head: &'a [u8],
    payload: &'a [u8],
    fragment: Range<usize>,
}

impl<'a> Frame<'a> {
    /// Cuts the frame at the start of `bytes` and returns what follows it. `None` if it is not whole or not well formed.
    pub(super) fn cut(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let head = Head::parse(bytes)?;
        let (frame, rest) = bytes.split_at_checked(head.frame_bytes())?;
        let (head_bytes, payload) = frame.split_at_checked(HEAD_BYTES)?;
        let fragment = head.fragment(payload)?;
        let frame = Self {
            head: head_bytes,
            payload,
            fragment,
        };
        Some((frame, rest))
    }

    /// The part of the header block that this frame carries.
    pub(super) fn fragment(&self) -> &'a [u8] {
        self.payload.get(self.fragment.clone()).unwrap_or_default()
    }

    /// Writes this frame with as much of `block` as its fragment had room for, and returns the rest of `block`.
    pub(super) fn write_with<'b>(&self, block: &'b [u8], out: &mut Vec<u8>) -> &'b [u8] {
        let room = self.fragment.len();
        let (fragment, rest) = block.split_at(room.min(block.len()));
        let length = self.payload.len() - room + fragment.len();
        let [.., a, b, c] = length.to_be_bytes();
        out.extend_from_slice(&[a, b, c]);
        out.extend_from_slice(self.head.get(3..).unwrap_or_default());
        out.extend_from_slice(self.payload.get(..self.fragment.start).unwrap_or_default());
        out.extend_from_slice(fragment);
        out.extend_from_slice(self.payload.get(self.fragment.end..).unwrap_or_default());
        rest
    }
}
