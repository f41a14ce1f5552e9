//! Packets of one connection become messages, in the framing that the first one shows. No input or output here.

use std::os::fd::OwnedFd;

use bytes::Bytes;

use crate::limits::Limits;
use crate::wire::{
    Assembler, Behind, Detector, FirstPacket, Framing, PACKET_BYTES_MAX, Violation, first_chunk,
};

/// Bytes of the buffer for rows that are kept for the next ones.
const KEPT_BYTES_MAX: usize = 8 * 1024;

/// A whole message with what came beside it.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) bytes: Bytes,
    /// The descriptors of its first packet.
    pub(crate) fds: Vec<OwnedFd>,
    /// All descriptors that came, with any packet.
    pub(crate) fds_received: usize,
    /// Whether descriptors were lost on the way.
    pub(crate) fds_lost: bool,
}

/// Where a packet was received to.
#[derive(Debug)]
pub(crate) enum Place<'a> {
    /// The front of a buffer.
    Buffer(&'a [u8]),
    /// Behind the message that it belongs to.
    Behind(Behind),
}

/// What ends a connection, and whether its peer is told so. drpc §4.4
#[derive(Debug)]
pub(crate) struct InboundError {
    pub(crate) violation: Violation,
    /// To be told unframed that it cannot be read.
    pub(crate) tell_legacy: bool,
}

impl From<Violation> for InboundError {
    fn from(violation: Violation) -> Self {
        Self {
            violation,
            tell_legacy: false,
        }
    }
}

/// The receiving side of one connection.
#[derive(Debug)]
pub(crate) struct Inbound {
    framing: Option<Framing>,
    detector: Option<Detector>,
    assembler: Assembler,
    legacy_bytes_max: usize,
    /// Whether packets may hold several chunks. drpc §9.9
    has_rows: bool,
    /// The last packet, from `row_at` on still to be looked at.
    row: Vec<u8>,
    row_at: usize,
    fds: Vec<OwnedFd>,
    fds_received: usize,
    fds_lost: bool,
}

impl Inbound {
    /// With a known framing, or with a detector to find out.
    pub(crate) fn new(framing: Result<Framing, Detector>, limits: &Limits) -> Self {
        let (framing, detector) = match framing {
            Ok(framing) => (Some(framing), None),
            Err(detector) => (None, Some(detector)),
        };
        Self {
            framing,
            detector,
            assembler: Assembler::new(limits.message_bytes_max),
            legacy_bytes_max: limits.legacy_bytes_max,
            has_rows: false,
            row: Vec::new(),
            row_at: 0,
            fds: Vec::new(),
            fds_received: 0,
            fds_lost: false,
        }
    }

    /// The framing, once it is known.
    pub(crate) fn framing(&self) -> Option<Framing> {
        self.framing
    }

    /// Whether a message has begun and is not complete.
    pub(crate) fn is_partial(&self) -> bool {
        self.assembler.is_partial()
    }

    /// Bytes of the incomplete message.
    pub(crate) fn received(&self) -> usize {
        self.assembler.received()
    }

    /// Bytes of memory held for the incomplete message, and for messages not yet looked at.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn capacity(&self) -> usize {
        self.assembler.capacity() + self.row.capacity()
    }

    /// From now on packets may hold several chunks.
    pub(crate) fn use_rows(&mut self) {
        self.has_rows = true;
    }

    /// Whether the last packet holds more: [`next`](Self::next) comes before [`accept`](Self::accept).
    pub(crate) fn has_more(&self) -> bool {
        !self.row.is_empty()
    }

    /// Whether a packet that was cut off, beginning so, was probably a legacy message.
    pub(crate) fn may_be_legacy(&self, beginning: &[u8]) -> bool {
        self.framing == Some(Framing::Legacy)
            || self.framing.is_none() && Detector::begins_a_field(beginning)
    }

    /// Bytes to receive into: room for every packet that is not an error.
    pub(crate) fn room(&self) -> usize {
        match self.framing {
            Some(Framing::Chunked) => PACKET_BYTES_MAX,
            Some(Framing::Legacy) => self.legacy_bytes_max,
            None => self.legacy_bytes_max.max(PACKET_BYTES_MAX),
        }
    }

    /// Receives a packet right behind the message that it belongs to, where that can be: no copy is made then. What
    /// `receive` answers is returned, and the packet for [`accept_behind`](Self::accept_behind).
    pub(crate) fn receive<T>(
        &mut self,
        receive: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> Option<(T, Behind)> {
        self.assembler.receive(receive)
    }

    /// Takes the packet that [`receive`](Self::receive) brought.
    pub(crate) fn accept_behind(
        &mut self,
        behind: Behind,
        fds: &[OwnedFd],
        fds_lost: bool,
    ) -> Result<Option<Message>, Violation> {
        self.fds_received += fds.len();
        self.fds_lost |= fds_lost;
        let (bytes, rest) = self.assembler.push_behind(behind, self.has_rows)?;
        if rest.is_empty() || bytes.is_some() {
            self.row = rest;
            return Ok(bytes.map(|bytes| self.message(bytes)));
        }
        // Smaller chunks than there could be: of one packet all the same.
        let (bytes, rest) = self.assemble(&rest)?;
        self.row.extend_from_slice(rest);
        Ok(bytes.map(|bytes| self.message(bytes)))
    }

    /// Takes one packet.
    pub(crate) fn accept(
        &mut self,
        packet: &[u8],
        fds: Vec<OwnedFd>,
        fds_lost: bool,
    ) -> Result<Option<Message>, InboundError> {
        let framing = match self.framing {
            Some(framing) => framing,
            None => {
                let framing = self.detect(packet)?;
                *self.framing.insert(framing)
            }
        };
        self.fds_received += fds.len();
        self.fds_lost |= fds_lost;
        if !self.assembler.is_partial() {
            self.fds = fds;
        }
        let bytes = match framing {
            Framing::Chunked => {
                let (bytes, rest) = self.assemble(packet)?;
                self.row.extend_from_slice(rest);
                bytes
            }
            Framing::Legacy => Some(self.legacy(packet)?),
        };
        Ok(bytes.map(|bytes| self.message(bytes)))
    }

    /// The next message that the last packet completes.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, Violation> {
        let mut row = std::mem::take(&mut self.row);
        let left = row.get(self.row_at..).unwrap_or_default();
        let (bytes, rest) = self.assemble(left)?;
        self.row_at = row.len() - rest.len();
        if rest.is_empty() {
            row.clear();
            row.shrink_to(KEPT_BYTES_MAX);
            self.row_at = 0;
        }
        self.row = row;
        Ok(bytes.map(|bytes| self.message(bytes)))
    }

    /// The first message that the packet's chunks complete, and the chunks behind it.
    fn assemble<'a>(
        &mut self,
        mut packet: &'a [u8],
    ) -> Result<(Option<Bytes>, &'a [u8]), Violation> {
        loop {
            let (chunk, rest) = if self.has_rows {
                first_chunk(packet)
            } else {
                (packet, &[][..])
            };
            let bytes = self.assembler.push(chunk)?;
            if bytes.is_some() || rest.is_empty() {
                return Ok((bytes, rest));
            }
            packet = rest;
        }
    }

    fn message(&mut self, bytes: Bytes) -> Message {
        Message {
            bytes,
            fds: std::mem::take(&mut self.fds),
            fds_received: std::mem::take(&mut self.fds_received),
            fds_lost: std::mem::take(&mut self.fds_lost),
        }
    }

    fn detect(&mut self, packet: &[u8]) -> Result<Framing, InboundError> {
        let Some(detector) = self.detector else {
            return Ok(Framing::Chunked);
        };
        match detector.decide(packet) {
            FirstPacket::Chunked => Ok(Framing::Chunked),
            FirstPacket::Legacy => Ok(Framing::Legacy),
            FirstPacket::Neither { looks_legacy } => {
                let length = packet.len();
                // A chunk that breaks a rule has a better name than "neither".
                let violation = match self.assembler.push(packet) {
                    Err(violation) if !looks_legacy => violation,
                    _ => Violation::NoFraming { length },
                };
                Err(InboundError {
                    violation,
                    tell_legacy: looks_legacy,
                })
            }
        }
    }

    /// drpc §3.1, §3.2
    fn legacy(&self, packet: &[u8]) -> Result<Bytes, Violation> {
        let (length, max) = (packet.len(), self.legacy_bytes_max);
        if length > max {
            return Err(Violation::PacketTooLarge { length, max });
        }
        Ok(Bytes::copy_from_slice(packet))
    }
}
