//! Bytes for tests: from hexadecimal text, from header numbers, and large bodies by rule.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a helper's broken precondition is a failed test"
)]

use bytes::Bytes;
use nigh_drpc::wire::{Chunk, Chunks, Header};

/// The bytes of hexadecimal text; blanks are ignored.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    let (pairs, []) = digits.as_chunks::<2>() else {
        panic!("half a byte in {text:?}");
    };
    let byte = |[high, low]: &[u32; 2]| u8::try_from(high << 4 | low).unwrap();
    pairs.iter().map(byte).collect()
}

/// The rows of a golden file, split at `|`; lines with `#` are comments.
pub(crate) fn rows(file: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    let rows = file.lines().filter(|line| !line.starts_with('#'));
    rows.map(|line| line.split('|').map(str::trim).collect())
}

/// A packet with this header, whatever it says, and `data` bytes after it.
pub(crate) fn packet(total: u64, length: u64, index: u32, count: u32, data: usize) -> Vec<u8> {
    let header = Header {
        total,
        length,
        index,
        count,
    };
    let mut packet = header.encode().to_vec();
    packet.resize(packet.len() + data, b'x');
    packet
}

/// The packets of a message as they go over the socket.
pub(crate) fn packets(message: &Bytes) -> Vec<Vec<u8>> {
    let joined = |Chunk { header, data }: Chunk| [&header[..], &data.to_bytes()].concat();
    Chunks::of(message.clone()).map(joined).collect()
}

/// `length` bytes, byte i being i mod 251.
pub(crate) fn body(length: usize) -> Bytes {
    (0..length).map(|i| (i % 251) as u8).collect()
}
