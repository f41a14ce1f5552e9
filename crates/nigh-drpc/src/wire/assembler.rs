//! Puts a message together from its packets, and names whatever is wrong with one.
//!
//! Trap: a header costs its sender nothing. Memory grows with the bytes received (at most twice as much),
//! never with the bytes claimed.

use bytes::Bytes;

use super::header::{CHUNK_BYTES_MAX, HEADER_BYTES, Header, PACKET_BYTES_MAX};
use super::violation::Violation;

/// The receiving side of one connection's chunked messages. drpc §2.4
#[derive(Debug)]
pub struct Assembler {
    message_bytes_max: u64,
    state: State,
}

/// A packet whose data was received behind the message that it belongs to.
#[derive(Debug)]
pub(crate) struct Behind {
    /// `None` when the packet is shorter than a header.
    header: Option<Header>,
    /// Bytes of the packet.
    length: usize,
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

    /// Receives the next packet right behind the message's bytes, where a full chunk belongs there: `None` where one
    /// does not, or not yet by the rule that memory follows the bytes received.
    ///
    /// The packet's header comes to lie on the last bytes of the message, which are put back after. `receive` appends a
    /// packet to the memory it gets, or leaves it as it is. What it answers is returned, and if it brought a packet, that is
    /// for [`push_behind`](Self::push_behind).
    pub(crate) fn receive<T>(
        &mut self,
        receive: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> Option<(T, Behind)> {
        let State::Partial(partial) = &mut self.state else {
            return None;
        };
        let data = &mut partial.data;
        let received = data.len();
        let room = usize::try_from(partial.total).unwrap_or(usize::MAX);
        let room = room.min(received.saturating_mul(2));
        if room < received + CHUNK_BYTES_MAX {
            return None;
        }
        if data.capacity() < received + CHUNK_BYTES_MAX {
            data.reserve_exact(room - received);
        }
        let (front, covered) = data.split_last_chunk::<HEADER_BYTES>()?;
        let (front, covered) = (front.len(), *covered);
        data.truncate(front);
        let outcome = receive(data);
        let packet = data.get(front..).unwrap_or_default();
        let behind = Behind {
            header: Header::decode(packet).map(|(header, _)| header),
            length: packet.len(),
        };
        match data.get_mut(front..received) {
            Some(place) => place.copy_from_slice(&covered),
            None => {
                data.truncate(front);
                data.extend_from_slice(&covered);
            }
        }
        Some((outcome, behind))
    }

    /// Takes the packet that [`receive`](Self::receive) brought. `is_row`: more chunks may stand behind its first one;
    /// they are returned beside the message that it completes.
    ///
    /// # Errors
    /// As for [`push`](Self::push).
    pub(crate) fn push_behind(
        &mut self,
        behind: Behind,
        is_row: bool,
    ) -> Result<(Option<Bytes>, Vec<u8>), Violation> {
        let pushed = self.accept_behind(behind, is_row);
        if pushed.is_err() {
            self.state = State::Poisoned;
        }
        pushed
    }

    fn accept_behind(
        &mut self,
        behind: Behind,
        is_row: bool,
    ) -> Result<(Option<Bytes>, Vec<u8>), Violation> {
        let Behind { header, length } = behind;
        let header = header.ok_or(Violation::PacketTooShort { length })?;
        let State::Partial(partial) = &mut self.state else {
            return Err(Violation::AfterViolation);
        };
        let came = length - HEADER_BYTES;
        let before = partial.data.len() - came;
        let mut rest = Vec::new();
        let mut data = came;
        if is_row
            && let Ok(claimed) = usize::try_from(header.length)
            && claimed < came
        {
            data = claimed;
            rest = partial.data.split_off(before + claimed);
        }
        self.check(header, data, length)?;
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Partial(partial) => {
                partial.follow(header, (before + data) as u64)?;
                Ok((self.keep(partial, header), rest))
            }
            State::Idle | State::Poisoned => Err(Violation::AfterViolation),
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
        let length = packet.len();
        let (header, data) = Header::decode(packet).ok_or(Violation::PacketTooShort { length })?;
        self.check(header, data.len(), length)?;
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

    /// What a packet of `length` bytes, with so many bytes of `data`, must be by itself, whatever came before.
    fn check(&self, header: Header, data: usize, length: usize) -> Result<(), Violation> {
        if length > PACKET_BYTES_MAX {
            let max = PACKET_BYTES_MAX;
            return Err(Violation::PacketTooLarge { length, max });
        }
        let Header {
            total,
            length: claimed,
            index,
            count,
        } = header;
        if claimed > CHUNK_BYTES_MAX as u64 {
            return Err(Violation::ChunkTooLarge { length: claimed });
        }
        if claimed != data as u64 {
            let received = data;
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
        if count > 1 && data == 0 {
            return Err(Violation::EmptyChunk { index, count });
        }
        Ok(())
    }

    /// Adds a chunk to the message that it belongs to.
    fn extend(
        &mut self,
        mut partial: Partial,
        header: Header,
        data: &[u8],
    ) -> Result<Option<Bytes>, Violation> {
        partial.follow(header, (partial.data.len() + data.len()) as u64)?;
        reserve(&mut partial.data, data.len(), partial.total);
        partial.data.extend_from_slice(data);
        Ok(self.keep(partial, header))
    }

    /// The message if it is complete; else it is kept for its next chunk.
    fn keep(&mut self, mut partial: Partial, header: Header) -> Option<Bytes> {
        partial.next += 1;
        if header.index + 1 == partial.count {
            return Some(partial.data.into());
        }
        self.state = State::Partial(partial);
        None
    }
}

impl Partial {
    /// Whether a chunk with which `received` bytes are there belongs to the message.
    fn follow(&self, header: Header, received: u64) -> Result<(), Violation> {
        let index = header.index;
        if header.total != self.total {
            let (first, now) = (self.total, header.total);
            return Err(Violation::TotalChanged { first, now, index });
        }
        if header.count != self.count {
            let (first, now) = (self.count, header.count);
            return Err(Violation::CountChanged { first, now, index });
        }
        let total = self.total;
        let bytes = total
            .checked_sub(received)
            .ok_or(Violation::Overflow { received, total })?;
        let chunks = self.count - index - 1;
        if chunks == 0 {
            return complete(total, received);
        }
        if bytes < u64::from(chunks) {
            return Err(Violation::ChunksWithoutData { chunks, bytes });
        }
        Ok(())
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
