//! Packets of one connection become messages, in the framing that the first one shows. No input or output here.

use std::os::fd::OwnedFd;

use bytes::Bytes;

use crate::limits::Limits;
use crate::wire::{Assembler, Detector, FirstPacket, Framing, PACKET_BYTES_MAX, Violation};

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

    /// Bytes of memory held for the incomplete message.
    #[cfg(fuzzing)]
    pub(crate) fn capacity(&self) -> usize {
        self.assembler.capacity()
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
            Framing::Chunked => self.assembler.push(packet)?,
            Framing::Legacy => Some(self.legacy(packet)?),
        };
        Ok(bytes.map(|bytes| Message {
            bytes,
            fds: std::mem::take(&mut self.fds),
            fds_received: std::mem::take(&mut self.fds_received),
            fds_lost: std::mem::take(&mut self.fds_lost),
        }))
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
