//! Messages on their way out: one after the other, so that chunks of two never interleave.
//!
//! Small messages are put into one buffer with their headers: one to a packet, or as many as are waiting where the peer
//! agreed on rows. drpc §9.9
//!
//! Trap: a full send buffer stops a message between two of its packets. What is left stays at the front.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytes::Bytes;
use nigh_socket::SendError;

use crate::wire::{
    CHUNK_BYTES_MAX, Chunk, Chunks, Encoded, Framing, HEADER_BYTES, Header, PACKET_BYTES_MAX,
};

/// Bytes of data per packet when the kernel has no memory for full ones: they need it in one piece.
const SMALL_CHUNK_BYTES: usize = 16 * 1024;

/// Bytes of a message that is copied rather than sent from where it is: a copy of it takes less time than a packet.
const COPIED_BYTES_MAX: usize = 8 * 1024;

/// Bytes of the buffer for rows that are kept for the next ones.
const KEPT_BYTES_MAX: usize = 8 * 1024;

/// A message to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) framing: Framing,
    pub(crate) message: Encoded,
    pub(crate) fds: Vec<OwnedFd>,
    /// What is sent instead when the descriptors cannot be.
    pub(crate) instead: Option<Encoded>,
    /// It has a packet of its own: what it says holds from the next packet on.
    pub(crate) is_alone: bool,
}

/// A message that the peer has not got, or not all of it: it will not act on it.
#[derive(Debug)]
pub(crate) struct Unsent {
    pub(crate) message: Encoded,
    /// The descriptors, unless they have left.
    pub(crate) fds: Vec<OwnedFd>,
    /// Its first packets are out.
    pub(crate) has_begun: bool,
}

/// How far sending came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    /// Everything is out.
    Done,
    /// The peer does not read, for now.
    Blocked,
}

/// The sending side of one connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    waiting: VecDeque<Outgoing>,
    /// Bytes of what is waiting.
    waiting_bytes: usize,
    current: Option<Current>,
    /// The packet that is next, unless it is empty: chunks of small messages.
    row: Vec<u8>,
    row_count: u64,
    /// Whether the peer takes several messages in a packet.
    has_rows: bool,
    row_bytes_max: usize,
    chunk_bytes_max: usize,
    /// Messages that were completely sent.
    sent: u64,
}

#[derive(Debug)]
struct Current {
    outgoing: Outgoing,
    /// The packet that is next, and the rest.
    next: Packet,
    rest: Option<Chunks>,
    is_first: bool,
}

#[derive(Debug)]
enum Packet {
    Chunk(Chunk),
    Whole(Encoded),
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            current: None,
            row: Vec::new(),
            row_count: 0,
            has_rows: false,
            row_bytes_max: PACKET_BYTES_MAX,
            chunk_bytes_max: CHUNK_BYTES_MAX,
            sent: 0,
        }
    }
}

impl Outbox {
    /// From now on the peer takes several messages in a packet.
    pub(crate) fn use_rows(&mut self) {
        self.has_rows = true;
    }

    /// Puts a message behind the others.
    pub(crate) fn push(&mut self, outgoing: Outgoing) {
        self.waiting_bytes += outgoing.message.len();
        self.waiting.push_back(outgoing);
    }

    /// Whether nothing is left to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.current.is_none() && self.row.is_empty() && self.waiting.is_empty()
    }

    /// Whether one more message may come before these are sent: they still fit into one packet.
    pub(crate) fn has_room(&self) -> bool {
        self.is_empty()
            || self.has_rows
                && self.current.is_none()
                && self.row.is_empty()
                && self.waiting_bytes + self.waiting.len() * HEADER_BYTES < self.row_bytes_max
    }

    /// Empties it, after a send that the kernel refused because nobody receives any more.
    pub(crate) fn abandon(&mut self) -> Vec<Unsent> {
        let mut unsent: Vec<Unsent> = self
            .take_row()
            .into_iter()
            .map(|message| Unsent {
                message: message.into(),
                fds: Vec::new(),
                has_begun: false,
            })
            .collect();
        if let Some(current) = self.current.take() {
            unsent.push(Unsent {
                message: current.outgoing.message,
                fds: current.outgoing.fds,
                has_begun: !current.is_first,
            });
        }
        self.waiting_bytes = 0;
        unsent.extend(self.waiting.drain(..).map(|outgoing| Unsent {
            message: outgoing.message,
            fds: outgoing.fds,
            has_begun: false,
        }));
        unsent
    }

    /// Messages sent so far: to see whether anything moves.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends as much as `send` takes. It answers [`SendError::WouldBlock`] when it takes no more.
    ///
    /// # Errors
    /// What ends the connection.
    pub(crate) fn flush(
        &mut self,
        mut send: impl FnMut(&[IoSlice<'_>], &[BorrowedFd<'_>]) -> Result<(), SendError>,
    ) -> Result<Flush, SendError> {
        loop {
            if self.current.is_none() && self.row.is_empty() {
                self.take_next();
            }
            if !self.row.is_empty() {
                match send(&[IoSlice::new(&self.row)], &[]) {
                    Ok(()) => self.row_is_sent(),
                    Err(SendError::WouldBlock) => return Ok(Flush::Blocked),
                    Err(error @ (SendError::Closed | SendError::Reset)) => return Err(error),
                    Err(error) => self.take_apart(error)?,
                }
                continue;
            }
            let Some(current) = self.current.take() else {
                return Ok(Flush::Done);
            };
            match current.send(&mut send) {
                Ok(()) => {
                    self.current = current.advance();
                    if self.current.is_none() {
                        self.sent += 1;
                    }
                }
                Err(SendError::WouldBlock) => {
                    self.current = Some(current);
                    return Ok(Flush::Blocked);
                }
                // Kept, for whoever asks what was not sent.
                Err(error @ (SendError::Closed | SendError::Reset)) => {
                    self.current = Some(current);
                    return Err(error);
                }
                Err(error) => self.repair(current, error)?,
            }
        }
    }

    /// Makes what is waiting the next packet, or the next message.
    fn take_next(&mut self) {
        while let Some(next) = self.waiting.front() {
            let length = next.message.len();
            let is_small = next.framing == Framing::Chunked
                && next.fds.is_empty()
                && length <= COPIED_BYTES_MAX.min(self.chunk_bytes_max);
            let is_first = self.row.is_empty();
            let fits = self.row.len() + HEADER_BYTES + length <= self.row_bytes_max;
            if is_first && !is_small {
                break;
            }
            let may_follow = self.has_rows && is_small && fits && !next.is_alone;
            if !is_first && !may_follow {
                return;
            }
            let header = Header {
                total: length as u64,
                length: length as u64,
                index: 0,
                count: 1,
            };
            self.row.extend_from_slice(&header.encode());
            next.message.put(&mut self.row);
            self.row_count += 1;
            self.waiting_bytes -= length;
            let is_alone = next.is_alone;
            self.waiting.pop_front();
            if is_alone {
                return;
            }
        }
        if self.row.is_empty()
            && let Some(outgoing) = self.waiting.pop_front()
        {
            self.waiting_bytes -= outgoing.message.len();
            self.current = Some(Current::of(outgoing, self.chunk_bytes_max));
        }
    }

    fn row_is_sent(&mut self) {
        self.sent += self.row_count;
        self.row_count = 0;
        self.row.clear();
        self.row.shrink_to(KEPT_BYTES_MAX);
    }

    /// The row is longer than the socket takes: its messages wait again, for shorter packets.
    fn take_apart(&mut self, error: SendError) -> Result<(), SendError> {
        let limit = match error {
            SendError::TooLong { limit, .. } => limit,
            SendError::Memory { .. } => SMALL_CHUNK_BYTES,
            _ => return Err(error),
        };
        if limit <= HEADER_BYTES || limit >= self.row.len() {
            return Err(error);
        }
        self.row_bytes_max = limit;
        self.chunk_bytes_max = self.chunk_bytes_max.min(limit - HEADER_BYTES);
        let is_alone = self.row_count == 1;
        for message in self.take_row().into_iter().rev() {
            self.waiting_bytes += message.len();
            self.waiting.push_front(Outgoing {
                framing: Framing::Chunked,
                message: message.into(),
                fds: Vec::new(),
                instead: None,
                is_alone,
            });
        }
        Ok(())
    }

    /// The messages of the row, which is empty then.
    fn take_row(&mut self) -> Vec<Bytes> {
        let row = Bytes::from(std::mem::take(&mut self.row));
        self.row_count = 0;
        let mut messages = Vec::new();
        let mut at = 0;
        while let Some((header, data)) = row.get(at..).and_then(Header::decode) {
            let length = usize::try_from(header.length).unwrap_or(usize::MAX);
            let length = length.min(data.len());
            let from = at + HEADER_BYTES;
            at = from + length;
            messages.push(row.slice(from..at));
        }
        messages
    }

    /// What can be helped when the first packet of a message is refused.
    fn repair(&mut self, current: Current, error: SendError) -> Result<(), SendError> {
        let mut outgoing = current.outgoing;
        if !current.is_first {
            return Err(error);
        }
        match error {
            SendError::TooLong { limit, .. } if limit > HEADER_BYTES => {
                self.shrink(&outgoing, limit - HEADER_BYTES, error)?;
            }
            SendError::Memory { .. } => self.shrink(&outgoing, SMALL_CHUNK_BYTES, error)?,
            SendError::InFlight | SendError::Unsendable | SendError::DescriptorsRefused => {
                let Some(instead) = outgoing.instead.take() else {
                    return Err(error);
                };
                outgoing.message = instead;
                outgoing.fds.clear();
            }
            _ => return Err(error),
        }
        self.current = Some(Current::of(outgoing, self.chunk_bytes_max));
        Ok(())
    }

    fn shrink(
        &mut self,
        outgoing: &Outgoing,
        bytes: usize,
        error: SendError,
    ) -> Result<(), SendError> {
        if outgoing.framing == Framing::Legacy || bytes >= self.chunk_bytes_max {
            return Err(error);
        }
        self.chunk_bytes_max = bytes;
        Ok(())
    }
}

impl Current {
    fn of(outgoing: Outgoing, chunk_bytes_max: usize) -> Self {
        let message = outgoing.message.clone();
        let (next, rest) = match outgoing.framing {
            Framing::Legacy => (Packet::Whole(message), None),
            Framing::Chunked => {
                let mut chunks = Chunks::with_data_max(message.clone(), chunk_bytes_max);
                let first = chunks.next();
                (
                    first.map_or(Packet::Whole(message), Packet::Chunk),
                    Some(chunks),
                )
            }
        };
        Self {
            outgoing,
            next,
            rest,
            is_first: true,
        }
    }

    fn send(
        &self,
        send: &mut impl FnMut(&[IoSlice<'_>], &[BorrowedFd<'_>]) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        let fds: Vec<BorrowedFd<'_>> = if self.is_first {
            self.outgoing.fds.iter().map(AsFd::as_fd).collect()
        } else {
            Vec::new()
        };
        let (header, data): (&[u8], _) = match &self.next {
            Packet::Whole(message) => (&[], message),
            Packet::Chunk(Chunk { header, data }) => (header, data),
        };
        let [before, body, behind] = data.parts();
        let slices = [header, before, body, behind].map(IoSlice::new);
        send(&slices, &fds)
    }

    /// What is left after the packet was sent; the descriptors went with the first one.
    fn advance(mut self) -> Option<Self> {
        self.next = Packet::Chunk(self.rest.as_mut()?.next()?);
        self.is_first = false;
        self.outgoing.fds.clear();
        Some(self)
    }
}
