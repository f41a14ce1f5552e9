//! The nigh wire (docs/wire/nigh.md): greetings, frames, and the gRPC calls in them. Pure.
//!
//! Trap: a path is sent once and a number after that; a frame that cannot be read may have had one, so from there on new
//! numbers mean nothing here.

use std::time::Duration;

use prost_reflect::DescriptorPool;
use tonic::Code;

use super::calls::Calls;
use super::note::{Note, Side, hex, text};
use crate::call::status::code_name;

/// Clause 2.2: what every client says first.
pub(super) const MAGIC: &[u8; 8] = b"\0nigh\r\n\x1a";

const WIRE: &str = "nigh";
/// Clause 3.1: bytes of a frame's header.
const HEAD_BYTES: usize = 12;
/// Clause 2.3: the shortest and the longest greeting.
const GREETING_BYTES: std::ops::RangeInclusive<usize> = 40..=1024;
/// Bytes of the longest frame that is kept to be read. Of data nothing is kept.
const KEPT_BYTES_MAX: usize = 256 << 10;
/// Paths of one connection that are remembered, and bytes of the longest (clause 5.4).
const PATHS_MAX: usize = 1024;
const PATH_BYTES_MAX: usize = 512;

const HEADERS: u8 = 1;
const DATA: u8 = 2;
const TRAILERS: u8 = 3;
const CANCEL: u8 = 4;
const UNSEEN: u8 = 128;
const END: u8 = 1;
const PLAIN: u8 = 2;

/// Clause 7.3, from 1.
const NAMES: [&str; 16] = [
    "content-type",
    "te",
    "user-agent",
    "grpc-timeout",
    "grpc-encoding",
    "grpc-accept-encoding",
    "grpc-status",
    "grpc-message",
    "grpc-status-details-bin",
    "authorization",
    "accept",
    "content-length",
    "date",
    "traceparent",
    "tracestate",
    "baggage",
];

/// Both directions of one connection.
#[derive(Debug)]
pub(super) struct Nigh {
    halves: [Half; 2],
    paths: Paths,
    calls: Calls,
    shown_max: usize,
}

#[derive(Debug, Default)]
struct Half {
    is_greeted: bool,
    /// This side does not speak the wire after all.
    is_foreign: bool,
    /// A greeting or a header that is not whole.
    head: Vec<u8>,
    frame: Option<Frame>,
    payload: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    descriptors: u16,
    length: usize,
    left: usize,
}

/// The paths that the client has given numbers to (clause 5.3).
#[derive(Debug, Default)]
struct Paths {
    known: Vec<String>,
    is_lost: bool,
}

impl Nigh {
    pub(super) fn new(schema: Option<DescriptorPool>, shown_max: usize) -> Self {
        Self {
            halves: [Half::default(), Half::default()],
            paths: Paths::default(),
            calls: Calls::new(schema),
            shown_max,
        }
    }

    pub(super) fn feed(&mut self, side: Side, bytes: &[u8], at: Duration, notes: &mut Vec<Note>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let half = &mut self.halves[side.index()];
            if half.is_foreign {
                return notes.push(Note::bytes("piece", rest, self.shown_max));
            }
            rest = if half.is_greeted {
                self.step(side, rest, at, notes)
            } else {
                self.greet(side, rest, notes)
            };
        }
    }

    /// `side` will send no more; shows a greeting that was not whole.
    pub(super) fn end(&mut self, side: Side, notes: &mut Vec<Note>) {
        let half = &mut self.halves[side.index()];
        if !half.is_greeted && !half.head.is_empty() {
            let head = std::mem::take(&mut half.head);
            notes.push(Note::bytes("piece", &head, self.shown_max));
        }
    }

    /// Takes bytes of a greeting; returns the rest.
    fn greet<'a>(&mut self, side: Side, bytes: &'a [u8], notes: &mut Vec<Note>) -> &'a [u8] {
        let half = &mut self.halves[side.index()];
        // The first twelve bytes have the length of the whole.
        let wanted = match half.head.get(10..12) {
            Some(&[low, high]) => usize::from(u16::from_le_bytes([low, high])),
            _ => 12,
        };
        let taken = (wanted - half.head.len()).min(bytes.len());
        half.head.extend_from_slice(&bytes[..taken]);
        let same = half.head.iter().zip(MAGIC).all(|(a, b)| a == b);
        let length = half.head.get(10..12).map(|length| match length {
            &[low, high] => usize::from(u16::from_le_bytes([low, high])),
            _ => 0,
        });
        if !same || length.is_some_and(|length| !GREETING_BYTES.contains(&length)) {
            half.is_foreign = true;
            let head = std::mem::take(&mut half.head);
            notes.push(Note::new(
                WIRE,
                "no greeting: this side does not speak nigh",
            ));
            notes.push(Note::bytes("piece", &head, self.shown_max));
        } else if length == Some(half.head.len()) {
            half.is_greeted = true;
            notes.push(greeting(&half.head));
            half.head.clear();
        }
        &bytes[taken..]
    }

    /// Takes some bytes, at least one; returns the rest.
    fn step<'a>(
        &mut self,
        side: Side,
        bytes: &'a [u8],
        at: Duration,
        notes: &mut Vec<Note>,
    ) -> &'a [u8] {
        let half = &mut self.halves[side.index()];
        let Some(mut frame) = half.frame.take() else {
            let taken = (HEAD_BYTES - half.head.len()).min(bytes.len());
            half.head.extend_from_slice(&bytes[..taken]);
            if let Some(frame) = half.begin() {
                if frame.kind == DATA || !frame.is_kept() {
                    notes.push(frame.note());
                }
                self.proceed(side, frame, at, notes);
            }
            return &bytes[taken..];
        };
        let taken = frame.left.min(bytes.len());
        frame.left -= taken;
        if frame.kind == DATA {
            self.calls.data(side, frame.stream, &bytes[..taken], notes);
        } else if frame.is_kept() {
            half.payload.extend_from_slice(&bytes[..taken]);
        }
        self.proceed(side, frame, at, notes);
        &bytes[taken..]
    }

    /// Waits for the rest of a frame, or reads it.
    fn proceed(&mut self, side: Side, frame: Frame, at: Duration, notes: &mut Vec<Note>) {
        let half = &mut self.halves[side.index()];
        if frame.left > 0 {
            half.frame = Some(frame);
            return;
        }
        let payload = std::mem::take(&mut half.payload);
        match frame.kind {
            DATA => {}
            HEADERS if !frame.is_kept() => self.paths.is_lost |= side == Side::Client,
            _ if !frame.is_kept() => {}
            HEADERS | TRAILERS => self.head(side, &frame, &payload, at, notes),
            CANCEL => {
                let note = cancel(&frame, &payload);
                let path = self.calls.path(frame.stream).map(str::to_owned);
                let note = note.with_some("method", path);
                notes.push(note.with_some("took_us", self.calls.took(frame.stream, at)));
            }
            // Clause 9.4: which call the answer behind it stands for.
            UNSEEN => {
                let path = self.calls.path(frame.stream).map(str::to_owned);
                notes.push(frame.note().with_some("method", path));
            }
            _ => notes.push(control(&frame, &payload)),
        }
        // Clause 4.4: the call is over with the server's direction.
        if frame.kind == CANCEL || (side == Side::Server && frame.is_last()) {
            self.calls.forget(frame.stream);
        }
    }

    /// HEADERS and TRAILERS.
    fn head(
        &mut self,
        side: Side,
        frame: &Frame,
        payload: &[u8],
        at: Duration,
        notes: &mut Vec<Note>,
    ) {
        let note = frame.note();
        let Some(head) = self.read(side, frame, payload) else {
            // What it would have added to the paths is not known.
            self.paths.is_lost |= side == Side::Client;
            return notes.push(note.with("undecodable", true));
        };
        let note = note.with_some("http_method", head.method);
        let note = note.with_some("path", head.path.as_ref().map(|(path, _)| path.clone()));
        let number = head.path.as_ref().map(|(_, number)| *number);
        let note = note.with_some("path_number", number.filter(|number| *number > 0));
        let note = note.with_some("http_status", head.status);
        let lines: Vec<String> = head
            .fields
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        notes.push(note.with("fields", lines));
        let mut headers = head.fields;
        if frame.kind == HEADERS && frame.flags & PLAIN == 0 {
            headers.push(("content-type".into(), "application/grpc".into()));
        }
        // Clause 6.4.
        if frame.kind == TRAILERS && payload.is_empty() {
            headers.push(("grpc-status".into(), "0".into()));
        }
        headers.extend(head.path.map(|(path, _)| (":path".to_owned(), path)));
        self.calls
            .headers((side, frame.stream), &headers, at, notes);
    }

    fn read(&mut self, side: Side, frame: &Frame, payload: &[u8]) -> Option<Head> {
        let mut rest = payload;
        let mut head = Head::default();
        let is_plain = frame.flags & PLAIN != 0;
        if frame.kind == HEADERS && side == Side::Client {
            if is_plain {
                head.method = Some(text(bytes(&mut rest)?));
            }
            head.path = Some(self.paths.read(&mut rest)?);
        } else if is_plain {
            head.status = Some(u16::from_le_bytes(*take(&mut rest)?));
        }
        while !rest.is_empty() {
            let number = usize::try_from(number(&mut rest)?).ok()?;
            let name = match number.checked_sub(1) {
                None => text(bytes(&mut rest)?),
                Some(index) => (*NAMES.get(index)?).to_owned(),
            };
            head.fields.push((name, text(bytes(&mut rest)?)));
        }
        Some(head)
    }
}

/// What HEADERS or TRAILERS hold.
#[derive(Default)]
struct Head {
    method: Option<String>,
    /// A request's path and its number.
    path: Option<(String, usize)>,
    status: Option<u16>,
    fields: Vec<(String, String)>,
}

impl Paths {
    fn read(&mut self, rest: &mut &[u8]) -> Option<(String, usize)> {
        let number = usize::try_from(number(rest)?).ok()?;
        if let Some(known) = number
            .checked_sub(1)
            .and_then(|index| self.known.get(index))
        {
            return Some((known.clone(), number));
        }
        if number > 0 && (self.is_lost || number != self.known.len() + 1) {
            return None;
        }
        let path = bytes(rest)?;
        if number > 0 {
            if number > PATHS_MAX || path.len() > PATH_BYTES_MAX {
                self.is_lost = true;
            } else {
                self.known.push(text(path));
            }
        }
        Some((text(path), number))
    }
}

impl Half {
    /// The frame whose header is complete.
    fn begin(&mut self) -> Option<Frame> {
        let [l0, l1, l2, l3, s0, s1, s2, s3, kind, flags, d0, d1] = *self.head.as_slice() else {
            return None;
        };
        self.head.clear();
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Some(Frame {
            kind,
            flags,
            stream: u32::from_le_bytes([s0, s1, s2, s3]),
            descriptors: u16::from_le_bytes([d0, d1]),
            length,
            left: length,
        })
    }
}

impl Frame {
    fn is_kept(&self) -> bool {
        self.length <= KEPT_BYTES_MAX
    }

    fn is_last(&self) -> bool {
        self.kind == TRAILERS || (matches!(self.kind, HEADERS | DATA) && self.flags & END != 0)
    }

    /// The frame by its header alone.
    fn note(&self) -> Note {
        let what = match self.kind {
            HEADERS => "HEADERS".to_owned(),
            DATA => "DATA".to_owned(),
            TRAILERS => "TRAILERS".to_owned(),
            CANCEL => "CANCEL".to_owned(),
            5 => "WINDOW".to_owned(),
            6 => "GOAWAY".to_owned(),
            7 => "PING".to_owned(),
            8 => "PONG".to_owned(),
            9 => "FDS".to_owned(),
            UNSEEN => "UNSEEN".to_owned(),
            other => format!("frame of kind {other}"),
        };
        let note = Note::new(WIRE, what).with("stream", self.stream);
        let note = note.with_some("length", (self.kind == DATA).then_some(self.length));
        let has_end = matches!(self.kind, HEADERS | DATA) && self.flags & END != 0;
        let is_plain = self.kind == HEADERS && self.flags & PLAIN != 0;
        let note = note.with_some("end", has_end.then_some(true));
        let note = note.with_some("plain", is_plain.then_some(true));
        let descriptors = Some(self.descriptors).filter(|count| *count > 0);
        let note = note.with_some("descriptors", descriptors);
        let is_left_out = self.kind != DATA && !self.is_kept();
        note.with_some("not_shown", is_left_out.then_some(self.length))
    }
}

fn greeting(bytes: &[u8]) -> Note {
    let number = |at: usize| {
        let four = bytes.get(at..at + 4).and_then(|four| four.first_chunk());
        four.map_or(0, |four| u32::from_le_bytes(*four))
    };
    let version = number(8) & 0xffff;
    let features = number(12);
    // Clause 13.1: said only where the features speak of them.
    let descriptors = (features & 1 != 0).then(|| number(40) & 0xffff);
    let note = Note::new(WIRE, "greeting")
        .with("version", version)
        .with("features", features)
        .with("frame_bytes", number(16))
        .with("header_bytes", number(20))
        .with("stream_window", number(24))
        .with("connection_window", number(28))
        .with("calls", number(32))
        .with("paths", number(36));
    note.with_some("descriptors_per_frame", descriptors)
}

fn cancel(frame: &Frame, payload: &[u8]) -> Note {
    let mut rest = payload;
    let note = frame.note();
    let Some(code) = take(&mut rest).map(|code| u32::from_le_bytes(*code)) else {
        return note;
    };
    let name = i32::try_from(code).map(Code::from).map_or("?", code_name);
    let note = note.with("code", code).with("status", name);
    note.with_some("text", (!rest.is_empty()).then(|| text(rest)))
}

fn control(frame: &Frame, payload: &[u8]) -> Note {
    let mut rest = payload;
    let note = frame.note();
    match frame.kind {
        5 => note.with_some("credit", take(&mut rest).map(|c| u32::from_le_bytes(*c))),
        6 => {
            let code = take(&mut rest).map(|code| u32::from_le_bytes(*code));
            let reason = code.map(|code| match code {
                0 => "leaving".to_owned(),
                1 => "violation".to_owned(),
                2 => "no sign of life".to_owned(),
                other => other.to_string(),
            });
            let said = (!rest.is_empty()).then(|| text(rest));
            note.with_some("reason", reason).with_some("text", said)
        }
        // Clause 13.3.
        9 => {
            let first = take(&mut rest).map(|first| u32::from_le_bytes(*first));
            let loss = rest.first().copied().filter(|loss| *loss > 0);
            let loss = loss.map(|loss| match loss {
                1 => "too many in flight".to_owned(),
                2 => "not permitted".to_owned(),
                other => other.to_string(),
            });
            note.with_some("first_index", first).with_some("lost", loss)
        }
        7 | 8 => note.with("opaque", hex(payload.get(..8).unwrap_or(payload))),
        _ => note.with("payload", payload.len()),
    }
}

/// The next bytes, if there are as many.
fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(taken)
}

/// Clause 7.1.
fn number(rest: &mut &[u8]) -> Option<u32> {
    let mut value = 0_u64;
    for shift in [0, 7, 14, 21, 28] {
        let [byte] = *take(rest)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(value).ok();
        }
    }
    None
}

/// Clause 7.2.
fn bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(number(rest)?).ok()?;
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}
