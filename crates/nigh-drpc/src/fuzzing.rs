//! What fuzz targets reach and programs do not: the receiving side of a connection, without a socket.

use bytes::Bytes;

use crate::limits::Limits;
use crate::link::Inbound;
use crate::wire::{CapTooLarge, Detector, Framing, Violation};

/// What the receiver expects.
#[derive(Debug, Clone, Copy)]
pub enum Speaking {
    /// The chunked framing.
    Chunked,
    /// The chunked framing with several chunks in a packet.
    Rows,
    /// The legacy framing.
    Legacy,
    /// Whatever the first packet shows.
    Unknown,
}

/// The receiving side of one connection.
#[derive(Debug)]
pub struct Receiver(Inbound);

impl Receiver {
    /// For messages of at most `message_bytes_max` bytes.
    ///
    /// # Errors
    /// For [`Speaking::Unknown`], a limit with which the framings cannot be told apart.
    pub fn new(speaking: Speaking, message_bytes_max: u64) -> Result<Self, CapTooLarge> {
        let framing = match speaking {
            Speaking::Chunked | Speaking::Rows => Ok(Framing::Chunked),
            Speaking::Legacy => Ok(Framing::Legacy),
            Speaking::Unknown => Err(Detector::new(message_bytes_max)?),
        };
        let limits = Limits {
            message_bytes_max,
            ..Limits::default()
        };
        let mut inbound = Inbound::new(framing, &limits);
        if matches!(speaking, Speaking::Rows) {
            inbound.use_rows();
        }
        Ok(Self(inbound))
    }

    /// Takes a packet; returns the messages that it completes.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn push(&mut self, packet: &[u8]) -> Result<Vec<Bytes>, Violation> {
        let accepted = self.0.accept(packet, Vec::new(), false);
        let first = accepted.map_err(|error| error.violation)?;
        let mut messages: Vec<_> = first.into_iter().collect();
        while self.0.has_more() {
            messages.extend(self.0.next()?);
        }
        Ok(messages.into_iter().map(|message| message.bytes).collect())
    }

    /// Bytes of memory held for the incomplete message.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }
}
