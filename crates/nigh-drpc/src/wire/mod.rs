//! The wire, by value: headers, chunks, messages, framings. No socket, no clock, no runtime.
//!
//! The rules are numbered in `docs/wire/drpc.md`; code cites them as `drpc §2.4`.
#![warn(
    clippy::indexing_slicing,
    reason = "what a peer sends never decides an index"
)]

mod assembler;
mod chunks;
mod detector;
mod encoded;
mod extension;
mod first;
mod header;
mod message;
mod probe;
mod protobuf;
mod status;
mod violation;

pub use assembler::Assembler;
pub(crate) use assembler::Behind;
pub use chunks::{Chunk, Chunks};
pub use detector::{AUTO_MESSAGE_BYTES_MAX, CapTooLarge, Detector, FirstPacket, Framing};
pub use encoded::Encoded;
pub use extension::{Features, Reason};
pub use first::FirstCall;
pub use header::{CHUNK_BYTES_MAX, HEADER_BYTES, Header, PACKET_BYTES_MAX, first_chunk};
pub use message::{Call, CallExtensions, Response, ResponseExtensions};
pub use probe::{PROBE_BYTES_MAX, ProbeAnswer};
pub use protobuf::{GROUP_DEPTH_MAX, Malformed};
pub use status::Status;
pub use violation::Violation;
