//! Bytes in, frames out, however the bytes were split.
//!
//! [`Decoder::frame`] shows the next whole frame until it is taken or skipped, so that one frame can be looked at
//! before the one ahead of it has been handed on.

use bytes::{Buf as _, Bytes, BytesMut};

use super::varint::Cursor;
use super::{
    Accepted, DESCRIPTORS_MAX, FDS_BYTES, HEADER_BYTES, Header, Kind, TEXT_BYTES_MAX, Violation,
};

/// What a connection that is asked little reads at once.
const READ_BYTES_MIN: usize = 4 * 1024;
/// What it grows to when reads fill it.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Longer payloads keep the buffer they were read into; shorter ones are copied out, so that a few bytes that somebody
/// keeps do not keep a whole buffer alive.
const COPY_BYTES_MAX: usize = 4 * 1024;

#[derive(Debug)]
pub(crate) struct Decoder {
    buffer: BytesMut,
    accepted: Accepted,
    /// The header at the front of the buffer, once it has been checked.
    header: Option<Header>,
    read_bytes: usize,
    /// Offset in the stream of the frame at the front of the buffer.
    offset: u64,
}

impl Decoder {
    pub(crate) fn new(accepted: Accepted, buffer: BytesMut) -> Self {
        Self {
            buffer,
            accepted,
            header: None,
            read_bytes: READ_BYTES_MIN,
            offset: 0,
        }
    }

    /// As [`new`](Self::new), where the first byte of the buffer is so far into the stream.
    pub(crate) fn at(offset: u64, accepted: Accepted, buffer: BytesMut) -> Self {
        Self {
            offset,
            ..Self::new(accepted, buffer)
        }
    }

    /// Where in the stream the next frame begins: the one that [`frame`](Self::frame) shows.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Where to append what comes next; there is room for something.
    pub(crate) fn room(&mut self) -> &mut BytesMut {
        let missing = match self.header {
            Some(header) => (HEADER_BYTES + header.length).saturating_sub(self.buffer.len()),
            None => 0,
        };
        let spare = self.buffer.capacity() - self.buffer.len();
        if missing > spare || spare < READ_BYTES_MIN / 4 {
            self.buffer.reserve(missing.max(self.read_bytes));
        }
        &mut self.buffer
    }

    /// A read has filled the room: there is more traffic than the buffer was made for.
    pub(crate) fn grow(&mut self) {
        if self.buffer.len() == self.buffer.capacity() {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
        }
    }

    /// The next frame, if all of it is here.
    pub(crate) fn frame(&mut self) -> Result<Option<Header>, Violation> {
        let header = match self.header {
            Some(header) => header,
            None if self.buffer.len() < HEADER_BYTES => return Ok(None),
            None => {
                let header = self.check()?;
                self.header = Some(header);
                header
            }
        };
        Ok((self.buffer.len() >= HEADER_BYTES + header.length).then_some(header))
    }

    /// The content of the frame that [`frame`](Self::frame) has shown.
    pub(crate) fn payload(&self) -> &[u8] {
        let length = self.header.map_or(0, |header| header.length);
        self.buffer
            .get(HEADER_BYTES..HEADER_BYTES + length)
            .unwrap_or_default()
    }

    /// Leaves the frame behind that [`frame`](Self::frame) has shown.
    pub(crate) fn skip(&mut self) {
        if let Some(header) = self.header.take() {
            self.buffer.advance(HEADER_BYTES + header.length);
            self.offset += (HEADER_BYTES + header.length) as u64;
        }
    }

    /// Takes the content of the frame that [`frame`](Self::frame) has shown, and leaves it behind.
    pub(crate) fn take(&mut self) -> Bytes {
        let Some(header) = self.header else {
            return Bytes::new();
        };
        if header.length <= COPY_BYTES_MAX {
            let copy = Bytes::copy_from_slice(self.payload());
            self.skip();
            return copy;
        }
        self.header = None;
        self.buffer.advance(HEADER_BYTES);
        self.offset += (HEADER_BYTES + header.length) as u64;
        self.buffer.split_to(header.length).freeze()
    }

    /// Clauses 3.1 to 3.6.
    fn check(&self) -> Result<Header, Violation> {
        let mut cursor = Cursor(&self.buffer);
        let length = usize::try_from(cursor.u32()?).unwrap_or(usize::MAX);
        let stream = cursor.u32()?;
        let kind = Kind::of(cursor.byte()?)?;
        let flags = cursor.byte()?;
        let descriptors = cursor.u16()?;
        let (min, max) = self.lengths(kind);
        if length < min || length > max {
            return Err(Violation::FrameLength { kind, length, max });
        }
        if flags & !kind.flags() != 0 {
            return Err(Violation::Flags { kind, flags });
        }
        let count_max = match kind {
            Kind::Fds if self.accepted.descriptors => DESCRIPTORS_MAX,
            _ => 0,
        };
        // Only FDS may have some, and it must [13.3].
        if descriptors > count_max || (kind == Kind::Fds && descriptors == 0) {
            let count = descriptors;
            return Err(Violation::Descriptors { kind, count });
        }
        if kind
            .is_of_connection()
            .is_some_and(|own| own != (stream == 0))
        {
            return Err(Violation::Place { kind, stream });
        }
        Ok(Header {
            length,
            stream,
            kind,
            flags,
            descriptors,
        })
    }

    /// The shortest and the longest content of each kind.
    fn lengths(&self, kind: Kind) -> (usize, usize) {
        match kind {
            Kind::Headers | Kind::Trailers => (0, self.accepted.header_bytes_max),
            Kind::Data | Kind::Ignorable(_) => (0, self.accepted.frame_bytes_max),
            Kind::Cancel | Kind::GoAway => (4, 4 + TEXT_BYTES_MAX),
            Kind::Window => (4, 4),
            Kind::Ping | Kind::Pong => (8, 8),
            Kind::Unseen => (0, 0),
            Kind::Fds => (FDS_BYTES, FDS_BYTES),
        }
    }
}

/// What a WINDOW frame adds (clause 8.3).
pub(crate) fn window(payload: &[u8]) -> Result<u32, Violation> {
    Cursor(payload).u32()
}

/// The first index of so many descriptors, and why they did not leave, 0 if they did (clause 13.3).
pub(crate) fn fds(payload: &[u8], count: u16) -> Result<(u32, u8), Violation> {
    let mut cursor = Cursor(payload);
    let first = cursor.u32()?;
    if first.checked_add(u32::from(count)).is_none() {
        return Err(Violation::DescriptorIndex { first, count });
    }
    Ok((first, cursor.byte()?))
}

/// Code and text of a CANCEL or GOAWAY frame (clauses 9.3 and 10.2).
pub(crate) fn reason(payload: &[u8]) -> Result<(u32, String), Violation> {
    let mut cursor = Cursor(payload);
    let code = cursor.u32()?;
    Ok((code, String::from_utf8_lossy(cursor.0).into_owned()))
}
