//! What a peer's packets can break, each rule with its name and numbers.

use super::header::{CHUNK_BYTES_MAX, HEADER_BYTES, PACKET_BYTES_MAX};
use super::protobuf::Malformed;

/// A rule of the wire that the peer broke. The connection is of no further use. drpc §2.4
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A packet too short for a header.
    #[error("a packet of {length} bytes, shorter than the {HEADER_BYTES} of a chunk's header")]
    PacketTooShort {
        /// Bytes received.
        length: usize,
    },
    /// A packet larger than any sender makes, or cut off by the kernel because of its size.
    #[error("a packet of {length} bytes, {max} at most")]
    PacketTooLarge {
        /// Bytes received, or that were to be received.
        length: usize,
        /// The limit of the framing, [`PACKET_BYTES_MAX`] for chunks.
        max: usize,
    },
    /// The header's length is not that of the packet.
    #[error("a chunk that claims {claimed} bytes and has {received}")]
    ChunkLength {
        /// Bytes that the header claims.
        claimed: u64,
        /// Bytes after the header.
        received: usize,
    },
    /// A chunk larger than any sender makes.
    #[error("a chunk of {length} bytes, {CHUNK_BYTES_MAX} at most")]
    ChunkTooLarge {
        /// Bytes that the header claims.
        length: u64,
    },
    /// A message of no chunks.
    #[error("a message of 0 chunks")]
    NoChunks,
    /// A message larger than is accepted.
    #[error("a message of {claimed} bytes, {max} at most")]
    MessageTooLarge {
        /// Bytes that the header claims.
        claimed: u64,
        /// The limit.
        max: u64,
    },
    /// A chunk number that the message does not have.
    #[error("chunk {index} of a message of {count}")]
    IndexBeyondCount {
        /// The chunk's number, from 0.
        index: u32,
        /// Chunks that the header claims.
        count: u32,
    },
    /// A chunk out of order.
    #[error("chunk {found} where chunk {expected} is next")]
    Index {
        /// The number that is next.
        expected: u32,
        /// The number that came.
        found: u32,
    },
    /// The message's length changed between its chunks.
    #[error("a message of {first} bytes that claims {now} in chunk {index}")]
    TotalChanged {
        /// What chunk 0 claimed.
        first: u64,
        /// What this chunk claims.
        now: u64,
        /// This chunk's number.
        index: u32,
    },
    /// The message's number of chunks changed between its chunks.
    #[error("a message of {first} chunks that claims {now} in chunk {index}")]
    CountChanged {
        /// What chunk 0 claimed.
        first: u32,
        /// What this chunk claims.
        now: u32,
        /// This chunk's number.
        index: u32,
    },
    /// More bytes than the message has.
    #[error("{received} bytes of a message of {total}")]
    Overflow {
        /// Bytes received with this chunk.
        received: u64,
        /// Bytes that the header claims in all.
        total: u64,
    },
    /// A chunk without data that is not a whole empty message.
    #[error("chunk {index} of {count} is empty")]
    EmptyChunk {
        /// The chunk's number.
        index: u32,
        /// Chunks that the header claims.
        count: u32,
    },
    /// More chunks are claimed than bytes are left for them.
    #[error("{chunks} further chunks are claimed for {bytes} further bytes")]
    ChunksWithoutData {
        /// Chunks left.
        chunks: u32,
        /// Bytes left.
        bytes: u64,
    },
    /// The last chunk came and bytes are missing.
    #[error("a message of {total} bytes that ends after {received}")]
    Incomplete {
        /// Bytes received.
        received: u64,
        /// Bytes that the header claims in all.
        total: u64,
    },
    /// Another packet after one that broke a rule.
    #[error("a packet after a violation")]
    AfterViolation,
    /// A first packet that is neither a chunk nor a message.
    #[error("a first packet of {length} bytes that begins no known framing")]
    NoFraming {
        /// Bytes received.
        length: usize,
    },
    /// The peer said that it could not read a call of ours. drpc §6.4
    #[error("the peer says that it cannot read our calls")]
    CannotReadUs,
    /// The peer speaks the old framing and was addressed in the new one. drpc §4.5
    #[error("the peer speaks the legacy framing")]
    LegacyPeer,
    /// A response that is not a protobuf message.
    #[error("a response that cannot be read")]
    Response(#[source] Malformed),
    /// A response to no call in flight. drpc §6.3
    #[error("a response to call {sequence}, which was not made or was answered before")]
    Sequence {
        /// The response's sequence.
        sequence: i64,
    },
    /// A use of an extension that was not agreed on. drpc §9.2
    #[error("the peer uses or grants an extension that was not agreed on")]
    Extension,
    /// Descriptors with a message that announces another number of them. drpc §9.6
    #[error("{received} descriptors with a message that announces {announced}")]
    Descriptors {
        /// Descriptors received with the message.
        received: usize,
        /// What the message announces.
        announced: u32,
    },
    /// The peer closed in the middle of a message.
    #[error("the peer left after {received} bytes of a message")]
    EndInMessage {
        /// Bytes received.
        received: usize,
    },
    /// A message was not completed in time.
    #[error("a message was not complete after {} ms, with {received} bytes", waited.as_millis())]
    Stalled {
        /// Bytes received.
        received: usize,
        /// The time that it had.
        waited: std::time::Duration,
    },
}

const _: () = assert!(PACKET_BYTES_MAX == HEADER_BYTES + CHUNK_BYTES_MAX);
