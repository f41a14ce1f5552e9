//! The golden vectors of docs/wire/drpc.md §10, both ways: bytes that real peers send or accept.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use bytes::Bytes;
use nigh_drpc::wire::{Assembler, Call, Response, Status};
use sha2::{Digest as _, Sha256};

use crate::bytes_of::{body, hex, packets, rows};

const CALLS: &str = include_str!("../golden/calls.txt");
const RESPONSES: &str = include_str!("../golden/responses.txt");
const PACKETS: &str = include_str!("../golden/packets.txt");
const LARGE: &str = include_str!("../golden/large.txt");

pub(crate) fn calls() -> Vec<(&'static str, Call, Bytes)> {
    let call = |row: Vec<&'static str>| {
        let call = Call {
            module: row[1].parse().unwrap(),
            method: row[2].parse().unwrap(),
            sequence: row[3].parse().unwrap(),
            body: hex(row[4]).into(),
            ..Call::default()
        };
        (row[0], call, hex(row[5]).into())
    };
    rows(CALLS).map(call).collect()
}

fn responses() -> Vec<(&'static str, Response, Bytes)> {
    let response = |row: Vec<&'static str>| {
        let status: i32 = row[2].parse().unwrap();
        let mut response = Response::new(row[1].parse().unwrap(), status.into());
        response.body = hex(row[3]).into();
        (row[0], response, hex(row[4]).into())
    };
    rows(RESPONSES).map(response).collect()
}

#[test]
fn every_golden_call_both_ways() {
    for (name, call, message) in calls() {
        assert_eq!(call.encode(), message, "{name}");
        assert_eq!(Call::decode(&message), Ok(call), "{name}");
    }
    assert_eq!(calls().len(), 16);
}

#[test]
fn every_golden_response_both_ways() {
    for (name, response, message) in responses() {
        assert_eq!(response.encode(), message, "{name}");
        assert_eq!(Response::decode(&message), Ok(response), "{name}");
    }
    assert_eq!(responses().len(), 13);
    assert_eq!(Response::unreadable().encode(), responses()[3].2);
    assert_eq!(responses()[12].1.status, Status::Other(99));
}

/// C15: fields that nobody knows, behind and before the known ones.
#[test]
fn unknown_fields_are_kept_and_written_back() {
    let known = hex("08 4d 10 01 18 01 22 05 00 01 02 03 04");
    let unknown = hex("a0 06 dc 0b aa 06 05 68 65 6c 6c 6f b1 06 01 01 01 01 01 01 01 01");
    for message in [
        [known.clone(), unknown.clone()].concat(),
        [unknown.clone(), known.clone()].concat(),
    ] {
        let call = Call::decode(&message.into()).unwrap();
        assert_eq!(call.unknown, unknown);
        assert_eq!(call.encode(), [&known[..], &unknown].concat());
        let call = Call {
            unknown: Bytes::new(),
            ..call
        };
        assert_eq!(call.encode(), known);
    }
    let response = hex("08 01 1a 01 78 a0 06 dc 0b");
    let response = Response::decode(&response.into()).unwrap();
    assert_eq!(response.unknown, hex("a0 06 dc 0b"));
}

#[test]
fn every_golden_packet_both_ways() {
    let mut messages: Vec<(&str, Bytes)> = Vec::new();
    messages.extend(
        calls()
            .into_iter()
            .map(|(name, _, message)| (name, message)),
    );
    messages.extend(
        responses()
            .into_iter()
            .map(|(name, _, message)| (name, message)),
    );
    for row in rows(PACKETS) {
        let (_, message) = messages.iter().find(|(name, _)| *name == row[0]).unwrap();
        assert_eq!(packets(message), [hex(row[1])], "{}", row[0]);
    }
    for (name, message) in messages {
        let mut assembler = Assembler::new(64 << 20);
        let [packet] = &packets(&message)[..] else {
            panic!("{name} is more than one packet");
        };
        assert_eq!(assembler.push(packet), Ok(Some(message)), "{name}");
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

#[test]
fn three_chunks_both_ways() {
    let call = Call {
        module: 77,
        method: 1,
        sequence: 1,
        body: body(300_000),
        ..Call::default()
    };
    let mut response = Response::new(1, Status::Success);
    response.body = body(300_000);
    let mut message = Bytes::new();
    let mut left: Vec<Vec<u8>> = Vec::new();
    let mut assembler = Assembler::new(64 << 20);
    let mut seen = 0;
    for row in rows(LARGE) {
        if row[0] == "+" {
            let packet = left.remove(0);
            assert_eq!(packet.len(), row[1].parse::<usize>().unwrap());
            assert_eq!(packet[..24], hex(row[2]));
            assert_eq!(sha256(&packet), hex(row[3]));
            let whole = assembler.push(&packet).unwrap();
            assert_eq!(whole, left.is_empty().then(|| message.clone()));
            seen += 1;
        } else {
            let is_call = row[0].starts_with("call");
            message = if is_call {
                call.encode()
            } else {
                response.encode()
            };
            let first = hex(row[1]);
            assert_eq!(message[..first.len()], first);
            assert_eq!(sha256(&message), hex(row[2]));
            left = packets(&message);
        }
    }
    assert_eq!((seen, left.len()), (6, 0));
    let back = Call::decode(&packets_joined(&call.encode())).unwrap();
    assert_eq!(back, call);
}

fn packets_joined(message: &Bytes) -> Bytes {
    let mut assembler = Assembler::new(64 << 20);
    let last = packets(message)
        .iter()
        .map(|packet| assembler.push(packet).unwrap())
        .last();
    last.flatten().unwrap()
}

#[test]
fn messages_are_cut_at_the_known_lengths() {
    for (length, count, last) in [
        (0, 1, 0),
        (4, 1, 4),
        (131_043, 1, 131_043),
        (131_047, 1, 131_047),
        (131_048, 1, 131_048),
        (131_049, 2, 1),
        (262_096, 2, 131_048),
        (262_097, 3, 1),
        (393_144, 3, 131_048),
        (393_145, 4, 1),
        (1 << 20, 9, 192),
        (64 << 20, 513, 12_288),
    ] {
        let packets = packets(&Bytes::from(vec![7; length]));
        assert_eq!(packets.len(), count, "{length}");
        assert_eq!(packets[count - 1].len() - 24, last, "{length}");
        assert!(packets[..count - 1].iter().all(|p| p.len() == 131_072));
    }
    let two = packets(&Bytes::from(vec![7; 131_049]));
    let first = hex("e9 ff 01 00 00 00 00 00 e8 ff 01 00 00 00 00 00 00 00 00 00 02 00 00 00");
    let last = hex("e9 ff 01 00 00 00 00 00 01 00 00 00 00 00 00 00 01 00 00 00 02 00 00 00");
    assert_eq!((&two[0][..24], &two[1][..24]), (&first[..], &last[..]));
}
