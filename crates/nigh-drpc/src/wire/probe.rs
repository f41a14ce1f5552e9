//! How a client finds out which framing a server speaks. drpc §4.5
//!
//! Trap: a large first message could be taken for a bogus call by a legacy peer; a small one never can.

use bytes::Bytes;

use super::header::Header;
use super::message::{Call, Response};

/// Bytes of the largest message that, sent in one chunk, no legacy peer can take for a call.
pub const PROBE_BYTES_MAX: usize = 5_641;

/// A module that nobody has: what is called to find out how the peer answers.
const NOBODYS_MODULE: i32 = i32::MAX;

impl Call {
    /// A small call that every server answers with UNKNOWN_MODULE, for a peer that is to be sent
    /// something larger than [`PROBE_BYTES_MAX`] first.
    #[must_use]
    pub fn probe(sequence: i64) -> Self {
        Self {
            module: NOBODYS_MODULE,
            sequence,
            ..Self::default()
        }
    }
}

/// What the answer to a chunked first message of at most [`PROBE_BYTES_MAX`] bytes shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// The peer speaks in chunks; the packet is the first of its answer.
    Chunked,
    /// The peer speaks the legacy framing and executed nothing.
    Legacy,
    /// Neither.
    Neither,
}

impl ProbeAnswer {
    /// What `packet` shows.
    #[must_use]
    pub fn of(packet: &Bytes) -> Self {
        match Header::decode(packet) {
            Some((header, data)) => {
                let begins = header.index == 0 && header.count >= 1;
                if begins && header.length == data.len() as u64 {
                    Self::Chunked
                } else {
                    Self::Neither
                }
            }
            None if *packet == Response::unreadable().encode() => Self::Legacy,
            None => Self::Neither,
        }
    }
}
