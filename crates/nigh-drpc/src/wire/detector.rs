//! Tells the framings apart on a connection's first packet. drpc §4
//!
//! Trap: both framings begin with bytes that a peer chooses. Up to a message limit of
//! [`AUTO_MESSAGE_BYTES_MAX`] no message that a real peer encodes looks like a first chunk; above it one does.

use super::header::{CHUNK_BYTES_MAX, Header};
use super::message::Call;

/// Bytes of the largest message with which telling framings apart is exact. drpc §4.3
pub const AUTO_MESSAGE_BYTES_MAX: u64 = 134_216_737;

/// How messages are put into packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A 24-byte header in each packet, any number of packets per message: DAOS 2.8 and later.
    Chunked,
    /// One packet is one message: DAOS up to 2.6.
    Legacy,
}

impl std::fmt::Display for Framing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Chunked => "chunked",
            Self::Legacy => "legacy",
        })
    }
}

/// What a connection's first packet shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstPacket {
    /// The first chunk of a message.
    Chunked,
    /// A whole message without header.
    Legacy,
    /// Neither. A peer that probably speaks the legacy framing is told that it cannot be read.
    Neither {
        /// Whether it looks like a legacy message that was damaged or cut off.
        looks_legacy: bool,
    },
}

/// A message limit under which the framings cannot be told apart with certainty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a message limit of {limit} bytes is too large for detecting the framing: {AUTO_MESSAGE_BYTES_MAX} at most"
)]
pub struct CapTooLarge {
    /// The limit that was asked for, in bytes.
    pub limit: u64,
}

impl CapTooLarge {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some("lower message_bytes_max, or say which framing the callers speak")
    }
}

/// Decides on the first packet of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Detector {
    message_bytes_max: u64,
}

impl Detector {
    /// For messages of at most `message_bytes_max` bytes.
    ///
    /// # Errors
    /// Refuses a limit above [`AUTO_MESSAGE_BYTES_MAX`].
    pub fn new(message_bytes_max: u64) -> Result<Self, CapTooLarge> {
        if message_bytes_max > AUTO_MESSAGE_BYTES_MAX {
            return Err(CapTooLarge {
                limit: message_bytes_max,
            });
        }
        Ok(Self { message_bytes_max })
    }

    /// The framing of a connection that begins with `packet`. An empty packet (which a socket must not
    /// confuse with the end) is the legacy form of a call whose fields are all zero. drpc §3.3
    #[must_use]
    pub fn decide(&self, packet: &[u8]) -> FirstPacket {
        if self.is_first_chunk(packet) {
            return FirstPacket::Chunked;
        }
        if Call::is_valid(packet) {
            return FirstPacket::Legacy;
        }
        FirstPacket::Neither {
            looks_legacy: Self::begins_a_field(packet) || Header::decode(packet).is_none(),
        }
    }

    /// Whether a packet begins as a field of a call does.
    pub(crate) fn begins_a_field(packet: &[u8]) -> bool {
        matches!(packet.first(), Some(0x08 | 0x10 | 0x18 | 0x22))
    }

    /// Whether every sender of chunks would begin a message so. drpc §4.1
    fn is_first_chunk(&self, packet: &[u8]) -> bool {
        let Some((header, data)) = Header::decode(packet) else {
            return false;
        };
        let Header {
            total,
            length,
            index,
            count,
        } = header;
        let full = CHUNK_BYTES_MAX as u64;
        let fits = match count {
            0 => false,
            1 => length == total,
            _ => length == full && u64::from(count) == total.div_ceil(full),
        };
        length == data.len() as u64 && index == 0 && total <= self.message_bytes_max && fits
    }
}
