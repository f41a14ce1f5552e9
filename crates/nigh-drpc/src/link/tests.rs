//! Rows by value: what is put together arrives as it was, however chunks share packets.

use bytes::Bytes;
use nigh_socket::SendError;
use proptest::prelude::*;

use super::{Flush, Inbound, Message, Outbox, Outgoing};
use crate::limits::Limits;
use crate::wire::{Chunk, Chunks, Framing, HEADER_BYTES, PACKET_BYTES_MAX, Violation};

fn outgoing(message: impl Into<Bytes>) -> Outgoing {
    Outgoing {
        framing: Framing::Chunked,
        message: message.into().into(),
        fds: Vec::new(),
        instead: None,
        is_alone: false,
    }
}

fn inbound(has_rows: bool) -> Inbound {
    let mut inbound = Inbound::new(Ok(Framing::Chunked), &Limits::default());
    if has_rows {
        inbound.use_rows();
    }
    inbound
}

/// All messages that a packet completes.
fn all(inbound: &mut Inbound, packet: &[u8]) -> Result<Vec<Bytes>, Violation> {
    let accepted = inbound.accept(packet, Vec::new(), false);
    let first = accepted.map_err(|error| error.violation)?;
    let mut messages: Vec<Message> = first.into_iter().collect();
    while inbound.has_more() {
        messages.extend(inbound.next()?);
    }
    Ok(messages.into_iter().map(|message| message.bytes).collect())
}

/// Flushes into packets, as a socket does that takes `limit` bytes per packet.
fn packets(outbox: &mut Outbox, limit: usize) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let flushed = outbox.flush(|slices, _| {
        let packet: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        let length = packet.len();
        if length > limit {
            return Err(SendError::TooLong { length, limit });
        }
        packets.push(packet);
        Ok(())
    });
    assert_eq!(flushed.unwrap(), Flush::Done);
    packets
}

#[test]
fn waiting_messages_share_a_packet_where_that_was_agreed() {
    let mut outbox = Outbox::default();
    for message in ["a", "b", "c"] {
        outbox.push(outgoing(message));
    }
    assert_eq!(packets(&mut outbox, PACKET_BYTES_MAX).len(), 3);
    outbox.use_rows();
    outbox.push(Outgoing {
        is_alone: true,
        ..outgoing("grant")
    });
    for message in ["a", "", "c"] {
        outbox.push(outgoing(message));
    }
    outbox.push(outgoing(vec![7; 20_000]));
    outbox.push(outgoing("last"));
    let sent = packets(&mut outbox, PACKET_BYTES_MAX);
    let lengths: Vec<usize> = sent.iter().map(Vec::len).collect();
    let row = 3 * HEADER_BYTES + 2;
    let large = HEADER_BYTES + 20_000;
    assert_eq!(lengths, [HEADER_BYTES + 5, row, large, HEADER_BYTES + 4]);
    assert_eq!(outbox.sent(), 9);
    let row = all(&mut inbound(true), &sent[1]);
    assert_eq!(row.unwrap(), ["a", "", "c"]);
}

#[test]
fn a_row_is_no_larger_than_a_packet() {
    let mut outbox = Outbox::default();
    outbox.use_rows();
    for _ in 0..100 {
        outbox.push(outgoing(vec![7; 8000]));
    }
    assert!(!outbox.has_room());
    let mut inbound = inbound(true);
    let mut count = 0;
    for packet in packets(&mut outbox, PACKET_BYTES_MAX) {
        assert!(packet.len() <= PACKET_BYTES_MAX);
        count += all(&mut inbound, &packet).unwrap().len();
    }
    assert_eq!(count, 100);
    assert!(outbox.has_room());
}

#[test]
fn a_row_too_long_for_the_socket_is_taken_apart() {
    let mut outbox = Outbox::default();
    outbox.use_rows();
    let messages: Vec<Bytes> = (0..20_u8).map(|i| vec![i; 700].into()).collect();
    for message in &messages {
        outbox.push(outgoing(message.clone()));
    }
    let mut inbound = inbound(true);
    let mut found = Vec::new();
    for packet in packets(&mut outbox, 500) {
        found.extend(all(&mut inbound, &packet).unwrap());
    }
    assert_eq!(found, messages);
}

#[test]
fn a_row_without_an_agreement_is_a_chunk_that_lies() {
    let chunk = |message: &'static [u8]| {
        let Chunk { header, data } = Chunks::of(Bytes::from_static(message)).next().unwrap();
        [&header[..], &data.to_bytes()].concat()
    };
    let row = [chunk(b"one"), chunk(b"three")].concat();
    assert_eq!(
        all(&mut inbound(false), &row).unwrap_err(),
        Violation::ChunkLength {
            claimed: 3,
            received: 3 + HEADER_BYTES + 5
        }
    );
    assert_eq!(all(&mut inbound(true), &row).unwrap(), ["one", "three"]);
    // Found by fuzzing: adding the header's length to this one overflowed.
    let mut boundless = row.clone();
    boundless[8..16].fill(0xff);
    let violation = all(&mut inbound(true), &boundless).unwrap_err();
    assert_eq!(violation, Violation::ChunkTooLarge { length: u64::MAX });
    let torn = &row[..row.len() - 6];
    let violation = all(&mut inbound(true), torn).unwrap_err();
    assert_eq!(violation, Violation::PacketTooShort { length: 23 });
}

proptest! {
    #[test]
    fn any_row_of_chunks_gives_the_same_messages(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..12),
        data_max in 1_usize..200,
        ends in prop::collection::vec(any::<bool>(), 1..40),
    ) {
        let messages: Vec<Bytes> = messages.into_iter().map(Bytes::from).collect();
        let chunks = messages.iter().flat_map(|message| Chunks::with_data_max(message.clone(), data_max));
        let mut ends = ends.into_iter().cycle();
        let mut packets = vec![Vec::new()];
        for Chunk { header, data } in chunks {
            let Some(packet) = packets.last_mut() else { continue };
            packet.extend_from_slice(&header);
            packet.extend_from_slice(&data.to_bytes());
            if ends.next() == Some(true) {
                packets.push(Vec::new());
            }
        }
        let mut inbound = inbound(true);
        let mut found = Vec::new();
        for packet in packets.iter().filter(|packet| !packet.is_empty()) {
            found.extend(all(&mut inbound, packet).unwrap());
        }
        prop_assert_eq!(found, messages);
        prop_assert!(!inbound.is_partial());
    }

    #[test]
    fn what_is_put_into_rows_comes_out(
        messages in prop::collection::vec((0_usize..20_000, any::<u8>(), any::<bool>()), 0..30),
        limit in 100_usize..PACKET_BYTES_MAX,
    ) {
        let mut outbox = Outbox::default();
        outbox.use_rows();
        let mut sent = Vec::new();
        for (length, byte, is_alone) in messages {
            let message = Bytes::from(vec![byte; length]);
            sent.push(message.clone());
            outbox.push(Outgoing { is_alone, ..outgoing(message) });
        }
        let mut inbound = inbound(true);
        let mut found = Vec::new();
        for packet in packets(&mut outbox, limit) {
            prop_assert!(packet.len() <= limit);
            found.extend(all(&mut inbound, &packet).unwrap());
        }
        prop_assert_eq!(found, sent);
        prop_assert!(outbox.is_empty() && outbox.has_room());
    }
}

#[test]
fn a_full_socket_keeps_the_row_for_later() {
    let mut outbox = Outbox::default();
    outbox.use_rows();
    outbox.push(outgoing("a"));
    let blocked = outbox.flush(|_, _| Err(SendError::WouldBlock));
    assert_eq!(blocked.unwrap(), Flush::Blocked);
    assert!(!outbox.is_empty());
    outbox.push(outgoing("b"));
    let mut inbound = inbound(true);
    let sent = packets(&mut outbox, PACKET_BYTES_MAX);
    let found = sent.iter().flat_map(|packet| all(&mut inbound, packet));
    let found: Vec<Bytes> = found.flatten().collect();
    assert_eq!(found, ["a", "b"]);
}

/// Receives `packet` as a socket would: behind the message where that can be.
fn arrive(inbound: &mut Inbound, packet: &[u8]) -> Result<Option<Message>, Violation> {
    let behind = inbound.receive(|memory| memory.extend_from_slice(packet));
    if let Some(((), behind)) = behind {
        return inbound.accept_behind(behind, &[], false);
    }
    let accepted = inbound.accept(packet, Vec::new(), false);
    accepted.map_err(|error| error.violation)
}

fn large(length: usize) -> Bytes {
    (0..length)
        .map(|i| u8::try_from(i % 251).unwrap_or_default())
        .collect()
}

/// The packets of a large message, to be spoiled.
fn large_packets(length: usize) -> Vec<Vec<u8>> {
    Chunks::of(large(length))
        .map(|Chunk { header, data }| [&header[..], &data.to_bytes()].concat())
        .collect()
}

#[test]
fn large_messages_are_received_in_their_own_memory() {
    for length in [300_000, 1 << 20, 3 * 131_048, 3 * 131_048 + 1, 5_000_000] {
        let mut inbound = inbound(false);
        let (mut found, mut copied) = (None, 0);
        let packets = large_packets(length);
        for packet in &packets {
            // Nothing came: the message is as it was.
            let none = inbound.receive(|_| ());
            copied += usize::from(none.is_none());
            found = arrive(&mut inbound, packet).unwrap();
        }
        assert!(copied <= 2, "{copied} of {} were copied", packets.len());
        assert_eq!(found.unwrap().bytes, large(length));
        assert!(!inbound.is_partial());
    }
}

#[test]
fn what_is_wrong_with_a_packet_has_its_name_behind_a_message_too() {
    let spoiled = |at: usize, value: u64| {
        move |packet: &mut Vec<u8>| packet[at..at + 8].copy_from_slice(&value.to_le_bytes())
    };
    let of_two = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    type Spoil = Box<dyn Fn(&mut Vec<u8>)>;
    let cases: [(Spoil, &str); 10] = [
        (Box::new(|packet| packet.truncate(0)), "PacketTooShort"),
        (Box::new(|packet| packet.truncate(23)), "PacketTooShort"),
        (Box::new(|packet| packet.truncate(24)), "ChunkLength"),
        (Box::new(|packet| packet.extend([0; 9])), "PacketTooLarge"),
        (Box::new(spoiled(0, 999_999)), "TotalChanged"),
        (Box::new(spoiled(8, 1)), "ChunkLength"),
        (Box::new(spoiled(8, u64::MAX)), "ChunkTooLarge"),
        (Box::new(spoiled(16, of_two(2, 8))), "Index"),
        (Box::new(spoiled(16, of_two(1, 7))), "CountChanged"),
        (Box::new(spoiled(16, of_two(1, 0))), "NoChunks"),
    ];
    for (spoil, name) in cases {
        let mut inbound = inbound(false);
        let mut packets = large_packets(1_000_000);
        assert!(arrive(&mut inbound, &packets[0]).unwrap().is_none());
        spoil(&mut packets[1]);
        let violation = arrive(&mut inbound, &packets[1]).unwrap_err();
        let shown = format!("{violation:?}");
        assert!(shown.starts_with(name), "{shown} where {name} was expected");
        assert!(arrive(&mut inbound, &packets[2]).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn however_packets_arrive_messages_are_the_same_and_memory_is_what_came(
        lengths in prop::collection::vec(0_usize..700_000, 1..4),
        has_rows in any::<bool>(),
    ) {
        let mut outbox = Outbox::default();
        if has_rows {
            outbox.use_rows();
        }
        let messages: Vec<Bytes> = lengths.into_iter().map(large).collect();
        for message in &messages {
            outbox.push(outgoing(message.clone()));
        }
        let mut inbound = inbound(has_rows);
        let mut found = Vec::new();
        for packet in packets(&mut outbox, PACKET_BYTES_MAX) {
            found.extend(arrive(&mut inbound, &packet).unwrap());
            while inbound.has_more() {
                found.extend(inbound.next().unwrap());
            }
            prop_assert!(inbound.capacity() <= 2 * inbound.received() + PACKET_BYTES_MAX);
        }
        let found: Vec<Bytes> = found.into_iter().map(|message| message.bytes).collect();
        prop_assert_eq!(found, messages);
    }
}
