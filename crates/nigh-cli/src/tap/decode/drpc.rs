//! dRPC: packets to calls and responses, in both framings, with DAOS's names. Pure.
//!
//! Trap: a message may be 64 MiB in 513 packets. Its first packet says all that is shown, so none is put together.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use nigh_drpc::modules;
use nigh_drpc::wire::{
    AUTO_MESSAGE_BYTES_MAX, Call, Detector, Features, FirstPacket, Framing, Header, Response,
    Status, first_chunk,
};

use super::note::{Note, Side, hex, micros};

const WIRE: &str = "dRPC";
/// Calls of one connection whose answers are awaited; of more the oldest are forgotten.
const CALLS_MAX: usize = 1024;

/// Both directions of one connection.
#[derive(Debug)]
pub(super) struct Drpc {
    framing: Option<Framing>,
    /// The server has said that packets may hold several chunks.
    has_rows: bool,
    partial: [Option<Partial>; 2],
    asked: BTreeMap<i64, Asked>,
    shown_max: usize,
}

#[derive(Debug, Clone)]
struct Asked {
    name: String,
    at: Duration,
}

/// A message of which more packets are to come.
#[derive(Debug, Clone, Copy)]
struct Partial {
    next: u32,
    count: u32,
    total: u64,
}

impl Drpc {
    pub(super) fn new(shown_max: usize) -> Self {
        Self {
            framing: None,
            has_rows: false,
            partial: [None, None],
            asked: BTreeMap::new(),
            shown_max,
        }
    }

    /// What a packet says; `None` when it is the first of its connection, and no dRPC.
    pub(super) fn feed(&mut self, side: Side, packet: &[u8], at: Duration) -> Option<Vec<Note>> {
        let framing = match self.framing {
            Some(framing) => framing,
            None => *self.framing.insert(first(side, packet)?),
        };
        Some(match framing {
            Framing::Legacy => vec![self.message(side, packet, None, at)],
            Framing::Chunked => self.row(side, packet, at),
        })
    }

    /// The chunks of a packet: several only between peers that agreed on it.
    fn row(&mut self, side: Side, mut packet: &[u8], at: Duration) -> Vec<Note> {
        if !self.has_rows {
            return vec![self.chunk(side, packet, at)];
        }
        let mut notes = Vec::new();
        loop {
            let (chunk, rest) = first_chunk(packet);
            notes.push(self.chunk(side, chunk, at));
            if rest.is_empty() {
                return notes;
            }
            packet = rest;
        }
    }

    fn chunk(&mut self, side: Side, packet: &[u8], at: Duration) -> Note {
        let partial = self.partial[side.index()].take();
        let Some((header, data)) = Header::decode(packet) else {
            return Note::bytes("packet too short for dRPC", packet, self.shown_max);
        };
        let Header {
            total,
            length,
            index,
            count,
        } = header;
        let expected = partial.map_or(0, |partial| partial.next);
        let agrees = partial.is_none_or(|partial| partial.total == total && partial.count == count);
        if length != data.len() as u64 || index != expected || index >= count || !agrees {
            return Note::new(WIRE, "packet out of order")
                .with("length", packet.len())
                .with("header", format!("{total}/{length}/{index}/{count}"));
        }
        if index + 1 < count {
            self.partial[side.index()] = Some(Partial {
                next: index + 1,
                count,
                total,
            });
        }
        if index == 0 {
            return self.message(side, data, Some(header), at);
        }
        Note::new(WIRE, "chunk")
            .with("chunk", format!("{} of {count}", index + 1))
            .with("bytes", length)
    }

    /// A whole message, or as much of it as its first packet has.
    fn message(&mut self, side: Side, bytes: &[u8], header: Option<Header>, at: Duration) -> Note {
        let note = match side {
            Side::Client => self.call(bytes, header, at),
            Side::Server => self.response(bytes, header, at),
        };
        let framing = match header {
            Some(_) => Framing::Chunked,
            None => Framing::Legacy,
        };
        let chunks = header.filter(|header| header.count > 1);
        let note = note.with("framing", framing.to_string());
        let note = note.with_some("message_bytes", chunks.map(|header| header.total));
        note.with_some("chunks", chunks.map(|header| header.count))
    }

    fn call(&mut self, bytes: &[u8], header: Option<Header>, at: Duration) -> Note {
        let Some((call, body)) = read_call(bytes, header) else {
            return self.unreadable("unreadable call", bytes);
        };
        let name = name(call.module, call.method);
        let cancels = call.extensions.cancel;
        if !cancels {
            if self.asked.len() == CALLS_MAX {
                self.asked.pop_first();
            }
            let asked = Asked {
                name: name.clone(),
                at,
            };
            self.asked.insert(call.sequence, asked);
        }
        let note = Note::new(WIRE, if cancels { "cancel" } else { "call" })
            .with("method", name)
            .with("module_id", call.module)
            .with("method_id", call.method)
            .with("sequence", call.sequence);
        let note = self.body(note, &call.body, body);
        let extensions = call.extensions;
        let offers = extensions.features.bits();
        note.with_some("deadline_us", extensions.deadline.map(micros))
            .with_some("offers", (offers > 0).then_some(offers))
            .with_some(
                "descriptors",
                Some(extensions.descriptors).filter(|count| *count > 0),
            )
    }

    fn response(&mut self, bytes: &[u8], header: Option<Header>, at: Duration) -> Note {
        let Some((response, body)) = read_response(bytes, header) else {
            return self.unreadable("unreadable response", bytes);
        };
        let asked = self.asked.remove(&response.sequence);
        let note = Note::new(WIRE, "response")
            .with_some("method", asked.as_ref().map(|asked| asked.name.clone()))
            .with("sequence", response.sequence)
            .with("status", response.status.to_string());
        let note = self.body(note, &response.body, body);
        let extensions = response.extensions;
        self.has_rows |= extensions.features.has(Features::ROWS);
        let grants = extensions.features.bits();
        let took = asked.map(|asked| micros(at.saturating_sub(asked.at)));
        note.with_some(
            "text",
            Some(extensions.text).filter(|text| !text.is_empty()),
        )
        .with_some("reason", extensions.reason.map(|reason| reason.to_string()))
        .with_some("grants", (grants > 0).then_some(grants))
        .with_some(
            "descriptors",
            Some(extensions.descriptors).filter(|count| *count > 0),
        )
        .with_some("took_us", took)
    }

    fn body(&self, note: Note, body: &[u8], length: u64) -> Note {
        let shown = &body[..body.len().min(self.shown_max)];
        let left = length.saturating_sub(shown.len() as u64);
        let note = note.with("body_bytes", length);
        let note = note.with_some("body", (!shown.is_empty()).then(|| hex(shown)));
        note.with_some("not_shown", (left > 0).then_some(left))
    }

    fn unreadable(&self, what: &str, bytes: &[u8]) -> Note {
        let mut note = Note::bytes(what, bytes, self.shown_max);
        note.wire = WIRE;
        note
    }
}

/// The framing that a connection's first packet shows, whoever sent it.
fn first(side: Side, packet: &[u8]) -> Option<Framing> {
    let detector = Detector::new(AUTO_MESSAGE_BYTES_MAX).ok()?;
    match detector.decide(packet) {
        FirstPacket::Chunked => Some(Framing::Chunked),
        FirstPacket::Legacy if side == Side::Client => Some(Framing::Legacy),
        FirstPacket::Neither { looks_legacy: true } if side == Side::Client => {
            Some(Framing::Legacy)
        }
        _ => None,
    }
}

/// The names of a method, or its numbers.
fn name(module: i32, method: i32) -> String {
    let (known, found) = modules::names(module, method);
    let module = known.map_or_else(|| module.to_string(), str::to_owned);
    let method = found.map_or_else(|| method.to_string(), str::to_owned);
    format!("{module}/{method}")
}

/// A call, and the length of its body.
fn read_call(bytes: &[u8], header: Option<Header>) -> Option<(Call, u64)> {
    if header.is_none_or(|header| header.count == 1) {
        let call = Call::decode(&Bytes::copy_from_slice(bytes)).ok()?;
        let length = call.body.len() as u64;
        return Some((call, length));
    }
    let beginning = Beginning::of(bytes, 4);
    let call = Call {
        module: low32(beginning.number(1)),
        method: low32(beginning.number(2)),
        sequence: beginning.number(3).cast_signed(),
        body: Bytes::copy_from_slice(beginning.body),
        ..Call::default()
    };
    Some((call, beginning.body_length))
}

/// A response, and the length of its body.
fn read_response(bytes: &[u8], header: Option<Header>) -> Option<(Response, u64)> {
    if header.is_none_or(|header| header.count == 1) {
        let response = Response::decode(&Bytes::copy_from_slice(bytes)).ok()?;
        let length = response.body.len() as u64;
        return Some((response, length));
    }
    let beginning = Beginning::of(bytes, 3);
    let status = Status::from(low32(beginning.number(2)));
    let mut response = Response::new(beginning.number(1).cast_signed(), status);
    response.body = Bytes::copy_from_slice(beginning.body);
    Some((response, beginning.body_length))
}

/// The numbers before the body, and the beginning of the body, of a message that is not whole.
#[derive(Debug, Default)]
struct Beginning<'a> {
    numbers: [u64; 4],
    body: &'a [u8],
    body_length: u64,
}

impl<'a> Beginning<'a> {
    /// Encoders write fields in order, so the numbers come before field `body`. What comes otherwise is left out.
    fn of(mut bytes: &'a [u8], body: u64) -> Self {
        let mut found = Self::default();
        while let Some(tag) = varint(&mut bytes) {
            let Some(value) = varint(&mut bytes) else {
                break;
            };
            if tag == body << 3 | 2 {
                found.body_length = value;
                let length = usize::try_from(value).unwrap_or(usize::MAX);
                found.body = &bytes[..bytes.len().min(length)];
                break;
            }
            let place = usize::try_from(tag >> 3).unwrap_or(usize::MAX);
            match found.numbers.get_mut(place) {
                Some(number) if tag & 7 == 0 => *number = value,
                _ => break,
            }
        }
        found
    }

    fn number(&self, place: usize) -> u64 {
        self.numbers.get(place).copied().unwrap_or(0)
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The low half, as every protobuf reader takes an int32 from a longer number.
fn low32(value: u64) -> i32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}
