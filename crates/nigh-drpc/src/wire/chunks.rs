//! Cuts a message into the packets that carry it.

use super::encoded::Encoded;
use super::header::{CHUNK_BYTES_MAX, HEADER_BYTES, Header};

/// One packet: a header and the part of the message behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The header's bytes.
    pub header: [u8; HEADER_BYTES],
    /// The part of the message; no copy.
    pub data: Encoded,
}

/// The packets of one message, in order. drpc §2.3
///
/// They must be sent without another message's packets between them.
#[derive(Debug, Clone)]
pub struct Chunks {
    rest: Encoded,
    total: u64,
    index: u32,
    count: u32,
    data_max: usize,
}

impl Chunks {
    /// Full packets, the last one with the rest; an empty message is one packet without data.
    #[must_use]
    pub fn of(message: impl Into<Encoded>) -> Self {
        Self::with_data_max(message, CHUNK_BYTES_MAX)
    }

    /// As [`of`](Self::of), with at most `data_max` bytes in each packet (at least 1, at most
    /// [`CHUNK_BYTES_MAX`]), for a socket whose send buffer takes no full packet.
    #[must_use]
    pub fn with_data_max(message: impl Into<Encoded>, data_max: usize) -> Self {
        let message = message.into();
        let data_max = data_max.clamp(1, CHUNK_BYTES_MAX);
        let count = message.len().div_ceil(data_max).max(1);
        Self {
            total: message.len() as u64,
            rest: message,
            index: 0,
            // A message of 2^32 chunks does not fit the address space of a process at full chunks.
            count: u32::try_from(count).unwrap_or(u32::MAX),
            data_max,
        }
    }
}

impl Iterator for Chunks {
    type Item = Chunk;

    fn next(&mut self) -> Option<Chunk> {
        if self.index == self.count {
            return None;
        }
        let data = self.rest.split_to(self.data_max);
        let header = Header {
            total: self.total,
            length: data.len() as u64,
            index: self.index,
            count: self.count,
        };
        self.index += 1;
        Some(Chunk {
            header: header.encode(),
            data,
        })
    }
}
