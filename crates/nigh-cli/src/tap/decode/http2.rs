//! HTTP/2 frames, and the gRPC calls in them: methods, metadata, message sizes, statuses, times. Pure.

use std::time::Duration;

use prost_reflect::DescriptorPool;

use super::calls::Calls;
use super::hpack::Table;
use super::note::{Note, Side, hex, text};

/// What every client says first.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const WIRE: &str = "HTTP/2";
/// Bytes of a frame's head.
const HEAD_BYTES: usize = 9;
/// Bytes of the longest frame, and of the longest header block, that are kept to be read.
const KEPT_BYTES_MAX: usize = 256 << 10;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

const SETTINGS: [&str; 9] = [
    "0",
    "HEADER_TABLE_SIZE",
    "ENABLE_PUSH",
    "MAX_CONCURRENT_STREAMS",
    "INITIAL_WINDOW_SIZE",
    "MAX_FRAME_SIZE",
    "MAX_HEADER_LIST_SIZE",
    "7",
    "ENABLE_CONNECT_PROTOCOL",
];
const ERRORS: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// Both directions of one connection.
#[derive(Debug)]
pub(super) struct Http2 {
    halves: [Half; 2],
    calls: Calls,
}

#[derive(Debug)]
struct Half {
    preface_left: usize,
    head: Vec<u8>,
    frame: Option<Frame>,
    payload: Vec<u8>,
    block: Option<Block>,
    table: Table,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    left: usize,
    way: Way,
}

/// What happens to a frame's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Kept until it is whole.
    Keep,
    /// Data, read as it comes.
    Read,
    /// Too long to be kept.
    Skip,
}

#[derive(Debug)]
struct Block {
    stream: u32,
    end: bool,
    bytes: Vec<u8>,
    too_long: bool,
}

impl Http2 {
    pub(super) fn new(schema: Option<DescriptorPool>) -> Self {
        let half = |preface_left| Half {
            preface_left,
            head: Vec::new(),
            frame: None,
            payload: Vec::new(),
            block: None,
            table: Table::new(),
        };
        Self {
            halves: [half(PREFACE.len()), half(0)],
            calls: Calls::new(schema),
        }
    }

    pub(super) fn feed(&mut self, side: Side, bytes: &[u8], at: Duration, notes: &mut Vec<Note>) {
        let half = &mut self.halves[side.index()];
        let skipped = half.preface_left.min(bytes.len());
        half.preface_left -= skipped;
        if skipped > 0 && half.preface_left == 0 {
            notes.push(Note::new(WIRE, "preface"));
        }
        let mut rest = &bytes[skipped..];
        while !rest.is_empty() {
            rest = self.step(side, rest, at, notes);
        }
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
                if frame.kind == DATA || frame.way == Way::Skip {
                    notes.push(frame.note());
                }
                self.proceed(side, frame, at, notes);
            }
            return &bytes[taken..];
        };
        let taken = frame.left.min(bytes.len());
        frame.left -= taken;
        match frame.way {
            Way::Keep => half.payload.extend_from_slice(&bytes[..taken]),
            Way::Read => self.calls.data(side, frame.stream, &bytes[..taken], notes),
            Way::Skip => {}
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
        match (frame.way, frame.kind) {
            (Way::Skip, HEADERS | CONTINUATION) => half.table.lose(),
            (Way::Keep, DATA) => {
                let data = unpadded(&frame, &payload).unwrap_or_default();
                self.calls.data(side, frame.stream, data, notes);
            }
            (Way::Keep, HEADERS | CONTINUATION) => {
                half.headers_frame(&frame, &payload);
                self.block(side, at, notes);
            }
            (Way::Keep, _) => notes.push(control(&frame, &payload)),
            _ => {}
        }
        if frame.kind == DATA && frame.flags & END_STREAM != 0 {
            self.calls.ended(side, frame.stream);
        }
        // RST_STREAM
        if frame.kind == 3 {
            self.calls.forget(frame.stream);
        }
    }

    /// Reads a header block once it is whole.
    fn block(&mut self, side: Side, at: Duration, notes: &mut Vec<Note>) {
        let half = &mut self.halves[side.index()];
        let Some(block) = half.block.take_if(|block| block.end) else {
            return;
        };
        let note = Note::new(WIRE, "HEADERS").with("stream", block.stream);
        let ends = block
            .bytes
            .first()
            .is_some_and(|flags| flags & END_STREAM != 0);
        let note = note.with_some("end", ends.then_some(true));
        if block.too_long {
            half.table.lose();
        }
        let Ok(headers) = half.table.decode(block.bytes.get(1..).unwrap_or_default()) else {
            notes.push(note.with("undecodable", true));
            return;
        };
        let headers: Vec<(String, String)> = headers
            .iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect();
        let lines: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        notes.push(note.with("headers", lines));
        self.calls
            .headers((side, block.stream), &headers, at, notes);
        if ends {
            self.calls.ended(side, block.stream);
        }
    }
}

impl Half {
    /// The frame whose head is complete.
    fn begin(&mut self) -> Option<Frame> {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = *self.head.as_slice() else {
            return None;
        };
        self.head.clear();
        let left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let way = match (kind, flags & PADDED) {
            (DATA, 0) => Way::Read,
            _ if left > KEPT_BYTES_MAX => Way::Skip,
            _ => Way::Keep,
        };
        Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
            left,
            way,
        })
    }

    /// Adds a frame's part to the header block; its first byte are the flags of its first frame.
    fn headers_frame(&mut self, frame: &Frame, payload: &[u8]) {
        let part = if frame.kind == HEADERS {
            unprioritised(frame, payload).unwrap_or_default()
        } else {
            payload
        };
        let fresh = Block {
            stream: frame.stream,
            end: false,
            bytes: vec![frame.flags],
            too_long: false,
        };
        let block = match frame.kind {
            HEADERS => self.block.insert(fresh),
            _ => self.block.get_or_insert(fresh),
        };
        if block.bytes.len() + part.len() > KEPT_BYTES_MAX {
            block.too_long = true;
        } else {
            block.bytes.extend_from_slice(part);
        }
        block.end = frame.flags & END_HEADERS != 0;
    }
}

impl Frame {
    /// The frame by its head alone.
    fn note(&self) -> Note {
        let what = match self.kind {
            DATA => "DATA".to_owned(),
            HEADERS => "HEADERS".to_owned(),
            2 => "PRIORITY".to_owned(),
            3 => "RST_STREAM".to_owned(),
            4 => "SETTINGS".to_owned(),
            5 => "PUSH_PROMISE".to_owned(),
            6 => "PING".to_owned(),
            7 => "GOAWAY".to_owned(),
            8 => "WINDOW_UPDATE".to_owned(),
            CONTINUATION => "CONTINUATION".to_owned(),
            other => format!("frame of type {other}"),
        };
        let note = Note::new(WIRE, what).with("stream", self.stream);
        let note = note.with_some("length", (self.kind == DATA).then_some(self.left));
        let ends = self.kind == DATA && self.flags & END_STREAM != 0;
        let note = note.with_some("end", ends.then_some(true));
        note.with_some("not_shown", (self.way == Way::Skip).then_some(self.left))
    }
}

fn control(frame: &Frame, payload: &[u8]) -> Note {
    let note = frame.note();
    let number = |at: usize| {
        let bytes = payload.get(at..at + 4)?.first_chunk()?;
        Some(u32::from_be_bytes(*bytes))
    };
    let error = |at: usize| {
        number(at).map(|code| {
            let name = usize::try_from(code).ok().and_then(|code| ERRORS.get(code));
            name.map_or_else(|| code.to_string(), |name| (*name).to_owned())
        })
    };
    let ack = (frame.flags & ACK != 0).then_some(true);
    match frame.kind {
        3 => note.with_some("error", error(0)),
        4 => note
            .with_some("ack", ack)
            .with("settings", settings(payload)),
        6 => note.with_some("ack", ack).with("opaque", hex(payload)),
        7 => {
            let debug = payload.get(8..).filter(|debug| !debug.is_empty());
            note.with_some("last_stream", number(0).map(|last| last & 0x7fff_ffff))
                .with_some("error", error(4))
                .with_some("debug", debug.map(text))
        }
        8 => note.with_some("increment", number(0)),
        _ => note.with("payload", payload.len()),
    }
}

fn settings(payload: &[u8]) -> Vec<String> {
    let (settings, _) = payload.as_chunks::<6>();
    let settings = settings.iter().map(|[a, b, c, d, e, f]| {
        let id = u16::from_be_bytes([*a, *b]);
        let value = u32::from_be_bytes([*c, *d, *e, *f]);
        match SETTINGS.get(usize::from(id)) {
            Some(name) => format!("{name}={value}"),
            None => format!("{id}={value}"),
        }
    });
    settings.collect()
}

fn unpadded<'a>(frame: &Frame, payload: &'a [u8]) -> Option<&'a [u8]> {
    if frame.flags & PADDED == 0 {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}

fn unprioritised<'a>(frame: &Frame, payload: &'a [u8]) -> Option<&'a [u8]> {
    let rest = unpadded(frame, payload)?;
    match frame.flags & PRIORITY {
        0 => Some(rest),
        _ => rest.get(5..),
    }
}
