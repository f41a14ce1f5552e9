//! Messages on their way out: one after the other, so that chunks of two never interleave.
//!
//! Trap: a full send buffer stops a message between two of its packets. What is left stays at the front.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nigh_socket::SendError;

use crate::wire::{CHUNK_BYTES_MAX, Chunk, Chunks, Encoded, Framing, HEADER_BYTES};

/// Bytes of data per packet when the kernel has no memory for full ones: they need it in one piece.
const SMALL_CHUNK_BYTES: usize = 16 * 1024;

/// A message to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) framing: Framing,
    pub(crate) message: Encoded,
    pub(crate) fds: Vec<OwnedFd>,
    /// What is sent instead when the descriptors cannot be.
    pub(crate) instead: Option<Encoded>,
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
    current: Option<Current>,
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
            current: None,
            chunk_bytes_max: CHUNK_BYTES_MAX,
            sent: 0,
        }
    }
}

impl Outbox {
    /// Puts a message behind the others.
    pub(crate) fn push(&mut self, outgoing: Outgoing) {
        self.waiting.push_back(outgoing);
    }

    /// Whether nothing is left to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
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
            let current = match self.current.take() {
                Some(current) => current,
                None => match self.waiting.pop_front() {
                    Some(outgoing) => Current::of(outgoing, self.chunk_bytes_max),
                    None => return Ok(Flush::Done),
                },
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
                Err(error) => self.repair(current, error)?,
            }
        }
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
