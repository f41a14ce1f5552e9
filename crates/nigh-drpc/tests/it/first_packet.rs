//! The first packet of every length class, in both framings and in neither. drpc §4
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use bytes::Bytes;
use nigh_drpc::wire::{
    AUTO_MESSAGE_BYTES_MAX, Call, CapTooLarge, Detector, FirstPacket, PROBE_BYTES_MAX, ProbeAnswer,
    Response,
};

use crate::bytes_of::{hex, packet, packets};
use crate::golden::calls;

fn detector() -> Detector {
    Detector::new(64 << 20).unwrap()
}

#[test]
fn golden_calls_are_told_apart() {
    for (name, _, message) in calls() {
        assert_eq!(detector().decide(&message), FirstPacket::Legacy, "{name}");
        let first = &packets(&message)[0];
        assert_eq!(detector().decide(first), FirstPacket::Chunked, "{name}");
    }
    let c15 = "08 4d 10 01 18 01 22 05 00 01 02 03 04 a0 06 dc 0b aa 06 05 68 65 6c 6c 6f";
    assert_eq!(detector().decide(&hex(c15)), FirstPacket::Legacy);
}

/// Lengths on both sides of every border: of a header, of varints, of chunks, of the limit.
fn lengths() -> impl Iterator<Item = usize> {
    let borders = [
        0,
        24,
        127,
        128,
        5_641,
        16_384,
        65_536,
        131_024,
        131_048,
        131_072,
        262_096,
        300_010,
        1 << 20,
        64 << 20,
    ];
    let around = |border: usize| border.saturating_sub(3)..=border + 3;
    borders
        .into_iter()
        .flat_map(around)
        .filter(|length| *length <= 64 << 20)
}

/// A call whose message has exactly this length, or nearly: a body's length prefix makes gaps.
fn call_of(length: usize, module: i32) -> Bytes {
    let mut call = Call {
        module,
        ..Call::default()
    };
    let over = call.encode().len();
    let prefix = |body: usize| 2 + (body.max(1).ilog2() / 7) as usize;
    let body = (0..=10).map(|less| length.saturating_sub(over + less));
    let exact = body
        .clone()
        .find(|body| over + prefix(*body) + body == length);
    call.body = vec![0; exact.or(body.max()).unwrap()].into();
    call.encode()
}

#[test]
fn every_length_class_in_both_framings() {
    let mut classes = 0;
    for length in lengths() {
        for module in [0, 1, 77, -1] {
            let message = call_of(length, module);
            let first = &packets(&message)[0];
            assert_eq!(detector().decide(first), FirstPacket::Chunked, "{length}");
            if message.len() <= 131_072 {
                let found = detector().decide(&message);
                assert_eq!(found, FirstPacket::Legacy, "{length} {module}");
            }
            classes += 1;
        }
    }
    assert!(classes > 300, "{classes}");
}

/// The one call that looks like a first chunk, and only under a larger limit than is allowed.
#[test]
fn the_only_collision_is_out_of_reach() {
    let mut packet = hex("22 fc ff 07 00 00 00 00 e8 ff 01 00 00 00 00 00 00 00 00 00 01 04 00 00");
    packet.resize(131_072, 0);
    for cap in [64 << 20, AUTO_MESSAGE_BYTES_MAX] {
        let detector = Detector::new(cap).unwrap();
        assert_eq!(detector.decide(&packet), FirstPacket::Legacy);
    }
    let limit = AUTO_MESSAGE_BYTES_MAX + 1;
    let error = Detector::new(limit).unwrap_err();
    assert_eq!(error, CapTooLarge { limit });
    assert!(error.to_string().contains("134216738") && error.hint().is_some());
}

#[test]
fn what_is_neither_is_told_so_if_it_looks_legacy() {
    let neither = |looks_legacy| FirstPacket::Neither { looks_legacy };
    for (name, packet, expected) in [
        ("zeroes", vec![0; 23], neither(true)),
        ("text", b"GET / HTTP/1.1\r\n".to_vec(), neither(true)),
        (
            "text",
            b"GET / HTTP/1.1\r\nHost: example.org\r\n".to_vec(),
            neither(false),
        ),
        ("a call cut off", hex("22 ff 01 00 00"), neither(true)),
        (
            "a long call cut off",
            [hex("22 ff 01"), vec![0; 99]].concat(),
            neither(true),
        ),
        ("no chunks", packet(5, 5, 0, 0, 5), neither(false)),
        ("index 1", packet(5, 5, 1, 2, 5), neither(false)),
        (
            "a length that lies",
            packet(12, 12, 0, 1, 3),
            neither(false),
        ),
        (
            "a small first chunk",
            packet(12, 4, 0, 3, 4),
            neither(false),
        ),
        (
            "over the limit",
            packet(1 << 40, 131_048, 0, 8_390_144, 131_048),
            neither(false),
        ),
        ("wrong wire type", hex("0a 01 00"), neither(true)),
    ] {
        assert_eq!(detector().decide(&packet), expected, "{name}");
    }
}

#[test]
fn a_probes_answer_shows_the_peers_framing() {
    let answer = |packet: Vec<u8>| ProbeAnswer::of(&packet.into());
    let refused = Response::unreadable().encode();
    assert_eq!(answer(refused.to_vec()), ProbeAnswer::Legacy);
    assert_eq!(answer(packets(&refused)[0].clone()), ProbeAnswer::Chunked);
    assert_eq!(answer(packet(9, 4, 0, 3, 4)), ProbeAnswer::Chunked);
    for neither in [
        vec![],
        hex("08 01"),
        packet(9, 4, 1, 3, 4),
        packet(9, 9, 0, 1, 3),
        packet(9, 9, 0, 0, 9),
    ] {
        assert_eq!(answer(neither), ProbeAnswer::Neither);
    }
    let probe = Call::probe(1).encode();
    assert!(probe.len() < PROBE_BYTES_MAX);
}

/// A chunked message of a probe's size is no call to any legacy reader: it executes nothing there.
#[test]
fn no_small_chunk_is_a_legacy_call() {
    for length in 0..=PROBE_BYTES_MAX {
        let [packet] = &packets(&vec![0; length].into())[..] else {
            panic!("{length} bytes are one packet");
        };
        assert!(!Call::is_valid(packet), "{length}");
    }
}
