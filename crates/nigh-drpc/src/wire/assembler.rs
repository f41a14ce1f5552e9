//! Puts a message together from its packets, and names whatever is wrong with one.
//!
//! Trap: a header costs its sender nothing. Memory grows with the bytes received (at most twice as much),
//! never with the bytes claimed.

use bytes::Bytes;

use super::header::{CHUNK_BYTES_MAX, Header, PACKET_BYTES_MAX};
use super::violation::Violation;

/// The receiving side of one connection's chunked messages. drpc §2.4
#[derive(Debug)]
pub struct Assembler {
    message_bytes_max: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Idle,
    Partial(Partial),
    Poisoned,
}

#[derive(Debug)]
struct Partial {
    total: u64,
    count: u32,
    next: u32,
    data: Vec<u8>,
}

impl Assembler {
    /// Accepts messages of at most `message_bytes_max` bytes.
    #[must_use]
    pub fn new(message_bytes_max: u64) -> Self {
        Self {
            message_bytes_max,
            state: State::Idle,
        }
    }

    /// Whether a message has begun and is not complete.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        matches!(self.state, State::Partial(_))
    }

    /// Bytes of the incomplete message that have been received.
    #[must_use]
    pub fn received(&self) -> usize {
        match &self.state {
            State::Partial(partial) => partial.data.len(),
            State::Idle | State::Poisoned => 0,
        }
    }

    /// Bytes of memory held for the incomplete message.
    #[must_use]
    pub fn capacity(&self) -> usize {
        match &self.state {
            State::Partial(partial) => partial.data.capacity(),
            State::Idle | State::Poisoned => 0,
        }
    }

    /// Takes one packet; returns the message that it completes.
    ///
    /// # Errors
    /// The rule that the packet breaks. After it every packet is one too many.
    pub fn push(&mut self, packet: &[u8]) -> Result<Option<Bytes>, Violation> {
        match self.accept(packet) {
            Ok(message) => Ok(message),
            Err(violation) => {
                self.state = State::Poisoned;
                Err(violation)
            }
        }
    }

    fn accept(&mut self, packet: &[u8]) -> Result<Option<Bytes>, Violation> {
        let (header, data) = self.check(packet)?;
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Poisoned => Err(Violation::AfterViolation),
            State::Idle if header.count == 1 => {
                complete(header.total, data.len() as u64)?;
                Ok(Some(Bytes::copy_from_slice(data)))
            }
            State::Idle => {
                let partial = Partial {
                    total: header.total,
                    count: header.count,
                    next: 0,
                    data: Vec::new(),
                };
                self.extend(partial, header, data)
            }
            State::Partial(partial) => self.extend(partial, header, data),
        }
    }

    /// What a packet must be by itself, whatever came before.
    fn check<'a>(&self, packet: &'a [u8]) -> Result<(Header, &'a [u8]), Violation> {
        let length = packet.len();
        if length > PACKET_BYTES_MAX {
            let max = PACKET_BYTES_MAX;
            return Err(Violation::PacketTooLarge { length, max });
        }
        let (header, data) = Header::decode(packet).ok_or(Violation::PacketTooShort { length })?;
        let Header {
            total,
            length: claimed,
            index,
            count,
        } = header;
        if claimed > CHUNK_BYTES_MAX as u64 {
            return Err(Violation::ChunkTooLarge { length: claimed });
        }
        if claimed != data.len() as u64 {
            let received = data.len();
            return Err(Violation::ChunkLength { claimed, received });
        }
        if count == 0 {
            return Err(Violation::NoChunks);
        }
        if index >= count {
            return Err(Violation::IndexBeyondCount { index, count });
        }
        if total > self.message_bytes_max {
            return Err(Violation::MessageTooLarge {
                claimed: total,
                max: self.message_bytes_max,
            });
        }
        let expected = match &self.state {
            State::Partial(partial) => partial.next,
            State::Idle | State::Poisoned => 0,
        };
        if index != expected {
            let found = index;
            return Err(Violation::Index { expected, found });
        }
        if count > 1 && data.is_empty() {
            return Err(Violation::EmptyChunk { index, count });
        }
        Ok((header, data))
    }

    /// Adds a chunk to the message that it belongs to.
    fn extend(
        &mut self,
        mut partial: Partial,
        header: Header,
        data: &[u8],
    ) -> Result<Option<Bytes>, Violation> {
        let index = header.index;
        if header.total != partial.total {
            let (first, now) = (partial.total, header.total);
            return Err(Violation::TotalChanged { first, now, index });
        }
        if header.count != partial.count {
            let (first, now) = (partial.count, header.count);
            return Err(Violation::CountChanged { first, now, index });
        }
        let total = partial.total;
        let received = (partial.data.len() + data.len()) as u64;
        let bytes = total
            .checked_sub(received)
            .ok_or(Violation::Overflow { received, total })?;
        let chunks = partial.count - index - 1;
        if chunks == 0 {
            complete(total, received)?;
        } else if bytes < u64::from(chunks) {
            return Err(Violation::ChunksWithoutData { chunks, bytes });
        }
        reserve(&mut partial.data, data.len(), total);
        partial.data.extend_from_slice(data);
        partial.next += 1;
        if chunks == 0 {
            return Ok(Some(partial.data.into()));
        }
        self.state = State::Partial(partial);
        Ok(None)
    }
}

/// Makes room for `more`: twice what has been received, but no more than the message needs.
fn reserve(data: &mut Vec<u8>, more: usize, total: u64) {
    let needed = data.len() + more;
    if needed > data.capacity() {
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        let room = needed.saturating_mul(2).min(total).max(needed);
        data.reserve_exact(room - data.len());
    }
}

fn complete(total: u64, received: u64) -> Result<(), Violation> {
    match received.cmp(&total) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(Violation::Incomplete { received, total }),
        std::cmp::Ordering::Greater => Err(Violation::Overflow { received, total }),
    }
}
