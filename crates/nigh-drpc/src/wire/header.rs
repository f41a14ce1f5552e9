//! The 24 bytes before each chunk of a message.
//!
//! Trap: the peers write their memory as it is (native byte order and `size_t`). Every 64-bit platform that
//! DAOS runs on is little-endian; a 32-bit peer would have a 16-byte header and is not supported.

/// Bytes of a chunk's header. drpc §2.1
pub const HEADER_BYTES: usize = 24;
/// Bytes of the largest packet, header included. drpc §2.2
pub const PACKET_BYTES_MAX: usize = 131_072;
/// Bytes of message in the largest chunk. drpc §2.2
pub const CHUNK_BYTES_MAX: usize = PACKET_BYTES_MAX - HEADER_BYTES;

/// What a packet claims about itself and its message; nothing in it is believed before the bytes are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the whole message, over all its chunks.
    pub total: u64,
    /// Bytes of the message in this packet.
    pub length: u64,
    /// Number of this chunk, from 0.
    pub index: u32,
    /// Chunks of the message, at least 1.
    pub count: u32,
}

impl Header {
    /// The header's bytes. drpc §2.1
    #[must_use]
    pub fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let (total, rest) = bytes.split_at_mut(8);
        let (length, rest) = rest.split_at_mut(8);
        let (index, count) = rest.split_at_mut(4);
        total.copy_from_slice(&self.total.to_le_bytes());
        length.copy_from_slice(&self.length.to_le_bytes());
        index.copy_from_slice(&self.index.to_le_bytes());
        count.copy_from_slice(&self.count.to_le_bytes());
        bytes
    }

    /// The header of a packet, and what follows it. `None` when the packet is shorter than a header.
    #[must_use]
    pub fn decode(packet: &[u8]) -> Option<(Self, &[u8])> {
        let (total, rest) = packet.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (index, rest) = rest.split_first_chunk()?;
        let (count, data) = rest.split_first_chunk()?;
        let header = Self {
            total: u64::from_le_bytes(*total),
            length: u64::from_le_bytes(*length),
            index: u32::from_le_bytes(*index),
            count: u32::from_le_bytes(*count),
        };
        Some((header, data))
    }
}

/// A packet's first chunk, and what is behind it, where a packet may be a row of chunks. One whose header claims more
/// than there is stays whole, for the assembler to name what is wrong. drpc §9.9
#[must_use]
pub fn first_chunk(packet: &[u8]) -> (&[u8], &[u8]) {
    let length = Header::decode(packet).and_then(|(header, data)| {
        let length = usize::try_from(header.length).ok()?;
        (length < data.len()).then(|| HEADER_BYTES + length)
    });
    packet.split_at(length.unwrap_or(packet.len()))
}
