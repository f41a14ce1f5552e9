//! Every rule of receiving, broken by bytes that are written out. drpc §2.4

use nigh_drpc::wire::{Assembler, CHUNK_BYTES_MAX, Violation};

use crate::bytes_of::packet;

const CAP: u64 = 64 << 20;
const FULL: u64 = CHUNK_BYTES_MAX as u64;

#[expect(clippy::too_many_lines, reason = "a table")]
/// Packets of which the last breaks a rule.
pub(crate) fn cases() -> Vec<(&'static str, Vec<Vec<u8>>, Violation)> {
    let first = |total, count| packet(total, 4, 0, count, 4);
    vec![
        (
            "23 bytes",
            vec![vec![0; 23]],
            Violation::PacketTooShort { length: 23 },
        ),
        (
            "no chunks",
            vec![packet(5, 5, 0, 0, 5)],
            Violation::NoChunks,
        ),
        (
            "no chunks, no bytes",
            vec![packet(0, 0, 0, 0, 0)],
            Violation::NoChunks,
        ),
        (
            "first index 1",
            vec![packet(5, 5, 1, 2, 5)],
            Violation::Index {
                expected: 0,
                found: 1,
            },
        ),
        (
            "index 3 of 2",
            vec![packet(5, 5, 3, 2, 5)],
            Violation::IndexBeyondCount { index: 3, count: 2 },
        ),
        (
            "no data",
            vec![packet(1, 1, 0, 1, 0)],
            Violation::ChunkLength {
                claimed: 1,
                received: 0,
            },
        ),
        (
            "less data than claimed",
            vec![packet(12, 12, 0, 1, 3)],
            Violation::ChunkLength {
                claimed: 12,
                received: 3,
            },
        ),
        (
            "more data than claimed",
            vec![packet(8, 8, 0, 1, 12)],
            Violation::ChunkLength {
                claimed: 8,
                received: 12,
            },
        ),
        (
            "one byte more than claimed",
            vec![packet(8, 7, 0, 1, 8)],
            Violation::ChunkLength {
                claimed: 7,
                received: 8,
            },
        ),
        (
            "a chunk larger than its message",
            vec![packet(4, 8, 0, 1, 8)],
            Violation::Overflow {
                received: 8,
                total: 4,
            },
        ),
        (
            "2^63 bytes claimed",
            vec![packet(1 << 63, 0, 0, 1, 0)],
            Violation::MessageTooLarge {
                claimed: 1 << 63,
                max: CAP,
            },
        ),
        (
            "2^64 - 1 bytes claimed",
            vec![packet(u64::MAX, 0, 0, 1, 0)],
            Violation::MessageTooLarge {
                claimed: u64::MAX,
                max: CAP,
            },
        ),
        (
            "2^40 bytes claimed",
            vec![packet(1 << 40, 0, 0, 1, 0)],
            Violation::MessageTooLarge {
                claimed: 1 << 40,
                max: CAP,
            },
        ),
        (
            "a chunk of 2^63 claimed",
            vec![packet(10, 1 << 63, 0, 1, 1)],
            Violation::ChunkTooLarge { length: 1 << 63 },
        ),
        (
            "one byte over the limit",
            vec![packet(CAP + 1, FULL, 0, 513, CHUNK_BYTES_MAX)],
            Violation::MessageTooLarge {
                claimed: CAP + 1,
                max: CAP,
            },
        ),
        (
            "a chunk left out",
            vec![first(12, 3), packet(12, 4, 2, 3, 4)],
            Violation::Index {
                expected: 1,
                found: 2,
            },
        ),
        (
            "a chunk twice",
            vec![first(12, 3), first(12, 3)],
            Violation::Index {
                expected: 1,
                found: 0,
            },
        ),
        (
            "the total changes",
            vec![first(12, 3), packet(13, 4, 1, 3, 4)],
            Violation::TotalChanged {
                first: 12,
                now: 13,
                index: 1,
            },
        ),
        (
            "the count changes",
            vec![first(12, 3), packet(12, 4, 1, 4, 4)],
            Violation::CountChanged {
                first: 3,
                now: 4,
                index: 1,
            },
        ),
        (
            "more than the total",
            vec![first(12, 2), packet(12, 12, 1, 2, 12)],
            Violation::Overflow {
                received: 16,
                total: 12,
            },
        ),
        (
            "complete after one of two",
            vec![packet(12, 12, 0, 2, 12)],
            Violation::ChunksWithoutData {
                chunks: 1,
                bytes: 0,
            },
        ),
        (
            "2^32 - 1 chunks for 12 bytes",
            vec![packet(12, 4, 0, u32::MAX, 4)],
            Violation::ChunksWithoutData {
                chunks: u32::MAX - 1,
                bytes: 8,
            },
        ),
        (
            "an empty chunk",
            vec![first(12, 3), packet(12, 0, 1, 3, 0)],
            Violation::EmptyChunk { index: 1, count: 3 },
        ),
        (
            "the last chunk ends early",
            vec![first(12, 2), packet(12, 4, 1, 2, 4)],
            Violation::Incomplete {
                received: 8,
                total: 12,
            },
        ),
        (
            "one chunk ends early",
            vec![packet(12, 4, 0, 1, 4)],
            Violation::Incomplete {
                received: 4,
                total: 12,
            },
        ),
        (
            "a packet too large",
            vec![packet(FULL + 1, FULL + 1, 0, 1, CHUNK_BYTES_MAX + 1)],
            Violation::PacketTooLarge {
                length: 131_073,
                max: 131_072,
            },
        ),
    ]
}

#[test]
fn each_rule_has_its_name_and_numbers() {
    for (name, packets, expected) in cases() {
        let mut assembler = Assembler::new(CAP);
        let (last, before) = packets.split_last().unwrap();
        for packet in before {
            assert_eq!(assembler.push(packet), Ok(None), "{name}");
        }
        assert_eq!(assembler.push(last), Err(expected), "{name}");
        assert_eq!(assembler.capacity(), 0, "{name}");
        let after = assembler.push(&packet(1, 1, 0, 1, 1));
        assert_eq!(after, Err(Violation::AfterViolation), "{name}");
    }
}

#[test]
fn memory_follows_what_came_not_what_is_claimed() {
    let mut assembler = Assembler::new(CAP);
    for index in 0..1000 {
        assembler.push(&packet(CAP, 1, index, 2000, 1)).unwrap();
        assert!(assembler.capacity() <= 2 * assembler.received());
    }
    let mut assembler = Assembler::new(CAP);
    let data = CHUNK_BYTES_MAX;
    for index in 0..512 {
        assembler
            .push(&packet(CAP, FULL, index, 513, data))
            .unwrap();
        assert!(assembler.capacity() <= 2 * assembler.received());
        assert!(assembler.capacity() as u64 <= CAP);
    }
}

#[test]
fn smaller_chunks_than_necessary_are_fine() {
    let mut assembler = Assembler::new(CAP);
    assert_eq!(assembler.push(&packet(9, 4, 0, 3, 4)), Ok(None));
    assert_eq!(assembler.push(&packet(9, 4, 1, 3, 4)), Ok(None));
    let whole = assembler.push(&packet(9, 1, 2, 3, 1)).unwrap().unwrap();
    assert_eq!(whole, "xxxxxxxxx");
}
