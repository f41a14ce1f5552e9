//! What the beginning of a first packet says about its call: enough to refuse it, without receiving the rest.

use super::detector::Framing;
use super::extension::{FEATURES, Features};
use super::header::{HEADER_BYTES, Header};
use super::protobuf::{Fields, Value};

/// How a caller that is to be refused must be answered. drpc §7.8
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstCall {
    /// The framing of the answer.
    pub framing: Framing,
    /// The sequence of the answer.
    pub sequence: i64,
    /// What the caller offers, as far as the beginning shows it.
    pub features: Features,
}

impl FirstCall {
    /// Reads the `beginning` of a packet of `length` bytes. A wrong guess of the framing harms nobody but a caller
    /// that is turned away anyway.
    #[must_use]
    pub fn of(beginning: &[u8], length: usize) -> Self {
        let chunk = Header::decode(beginning).filter(|(header, _)| {
            let data = length.saturating_sub(HEADER_BYTES) as u64;
            header.index == 0 && header.count > 0 && header.length == data
        });
        let (framing, message) = match chunk {
            Some((_, data)) => (Framing::Chunked, data),
            None => (Framing::Legacy, beginning),
        };
        let mut call = Self {
            framing,
            sequence: 0,
            features: Features::NONE,
        };
        let mut fields = Fields::of(message);
        while let Ok(Some(field)) = fields.next() {
            match (field.number, field.value) {
                (3, Value::Varint(sequence)) => call.sequence = sequence.cast_signed(),
                (FEATURES, Value::Varint(bits)) => call.features = Features::from_bits(bits),
                _ => {}
            }
        }
        call
    }
}
