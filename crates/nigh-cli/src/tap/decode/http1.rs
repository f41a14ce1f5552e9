//! HTTP/1.1: heads as they are, bodies by their length. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use super::note::{Note, Side, micros, text};

const WIRE: &str = "HTTP/1.1";
/// Bytes of the longest head that is shown.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Requests without a response that are remembered.
const PIPELINE_MAX: usize = 256;

/// Both directions of one connection.
#[derive(Debug)]
pub(super) struct Http1 {
    halves: [Half; 2],
    asked: VecDeque<Asked>,
    shown_max: usize,
}

#[derive(Debug)]
struct Asked {
    is_head: bool,
    at: Duration,
}

#[derive(Debug, Default)]
struct Half {
    state: State,
    line: Vec<u8>,
    body: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Length(u64),
    ChunkSize,
    Chunk(u64),
    Trailers,
    UntilEnd,
    Raw,
}

impl Http1 {
    pub(super) fn new(shown_max: usize) -> Self {
        Self {
            halves: [Half::default(), Half::default()],
            asked: VecDeque::new(),
            shown_max,
        }
    }

    pub(super) fn feed(&mut self, side: Side, bytes: &[u8], at: Duration, notes: &mut Vec<Note>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = self.step(side, rest, at, notes);
        }
    }

    pub(super) fn end(&mut self, side: Side, notes: &mut Vec<Note>) {
        let half = &mut self.halves[side.index()];
        if half.state == State::UntilEnd {
            half.finish(notes);
        } else if !half.line.is_empty() {
            notes.push(Note::bytes("cut off", &half.line, self.shown_max));
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
        match half.state {
            State::Raw => {
                notes.push(Note::bytes("piece", bytes, self.shown_max));
                &[]
            }
            State::UntilEnd => {
                half.body += bytes.len() as u64;
                &[]
            }
            State::Length(left) | State::Chunk(left) => {
                let taken = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                half.pass(taken as u64, notes);
                &bytes[taken..]
            }
            State::ChunkSize => half.chunk_size(bytes),
            State::Trailers => half.trailers(bytes, notes),
            State::Head => {
                let end = half.head_end(bytes);
                half.line.extend_from_slice(&bytes[..end]);
                if half.line.ends_with(b"\n\r\n") || half.line.ends_with(b"\n\n") {
                    let head = std::mem::take(&mut half.line);
                    self.head(side, &head, at, notes);
                } else if half.line.len() > HEAD_BYTES_MAX {
                    half.line.clear();
                    half.state = State::Raw;
                    notes.push(Note::new(WIRE, "a head too long to show"));
                }
                &bytes[end..]
            }
        }
    }

    fn head(&mut self, side: Side, head: &[u8], at: Duration, notes: &mut Vec<Note>) {
        let head = text(head);
        let mut lines = head.lines();
        let first = lines.next().unwrap_or_default().to_owned();
        let headers: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        let value = |name: &str| header(&headers, name);
        let chunked = value("transfer-encoding")
            .is_some_and(|value| value.to_ascii_lowercase().ends_with("chunked"));
        let length = value("content-length").and_then(|value| value.parse().ok());
        let mut note = Note::new(WIRE, first.clone()).with("headers", headers.clone());
        let state = match side {
            Side::Client => {
                if self.asked.len() == PIPELINE_MAX {
                    self.asked.pop_front();
                }
                let is_head = first.starts_with("HEAD ");
                self.asked.push_back(Asked { is_head, at });
                body_state(chunked, length, State::Head)
            }
            Side::Server => {
                let code = first.split(' ').nth(1).unwrap_or_default();
                let interim = code.len() == 3 && code.starts_with('1') && code != "101";
                let asked = if interim {
                    None
                } else {
                    self.asked.pop_front()
                };
                if let Some(asked) = &asked {
                    note = note.with("took_us", micros(at.saturating_sub(asked.at)));
                }
                match code {
                    "101" => {
                        self.halves[Side::Client.index()].state = State::Raw;
                        State::Raw
                    }
                    "204" | "304" => State::Head,
                    _ if interim || asked.is_some_and(|asked| asked.is_head) => State::Head,
                    _ => body_state(chunked, length, State::UntilEnd),
                }
            }
        };
        notes.push(note);
        let half = &mut self.halves[side.index()];
        half.state = state;
        half.body = 0;
    }
}

fn body_state(chunked: bool, length: Option<u64>, otherwise: State) -> State {
    match (chunked, length) {
        (true, _) => State::ChunkSize,
        (false, Some(0)) => State::Head,
        (false, Some(length)) => State::Length(length),
        (false, None) => otherwise,
    }
}

fn header<'a>(headers: &[&'a str], name: &str) -> Option<&'a str> {
    headers.iter().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

impl Half {
    /// How many of the bytes belong to the head: up to its empty line.
    fn head_end(&self, bytes: &[u8]) -> usize {
        let mut before = self.line.iter().rev().take(2).copied().collect::<Vec<_>>();
        before.reverse();
        for (place, byte) in bytes.iter().enumerate() {
            if *byte == b'\n' && (before.ends_with(b"\n") || before.ends_with(b"\n\r")) {
                return place + 1;
            }
            before.push(*byte);
        }
        bytes.len()
    }

    /// So many bytes of the body went by.
    fn pass(&mut self, count: u64, notes: &mut Vec<Note>) {
        match &mut self.state {
            State::Length(left) => {
                *left -= count;
                self.body += count;
                if *left == 0 {
                    self.finish(notes);
                }
            }
            State::Chunk(left) => {
                *left -= count;
                if *left == 0 {
                    self.state = State::ChunkSize;
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, notes: &mut Vec<Note>) {
        notes.push(Note::new(WIRE, "body").with("bytes", self.body));
        self.state = State::Head;
        self.body = 0;
    }

    /// A line, without its end, once it is whole.
    fn whole_line<'a>(&mut self, bytes: &'a [u8]) -> (Option<Vec<u8>>, &'a [u8]) {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.line.extend_from_slice(bytes);
            if self.line.len() > HEAD_BYTES_MAX {
                self.line.clear();
                self.state = State::Raw;
            }
            return (None, &[]);
        };
        self.line.extend_from_slice(&bytes[..end]);
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        (Some(line), &bytes[end + 1..])
    }

    fn chunk_size<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (line, rest) = self.whole_line(bytes);
        if let Some(line) = line {
            let line = text(&line);
            let digits = line.split(';').next().unwrap_or_default().trim();
            self.state = match u64::from_str_radix(digits, 16) {
                Ok(0) => State::Trailers,
                Ok(size) => {
                    self.body = self.body.saturating_add(size);
                    // The line's end behind the data counts.
                    State::Chunk(size.saturating_add(2))
                }
                Err(_) => State::Raw,
            };
        }
        rest
    }

    fn trailers<'a>(&mut self, bytes: &'a [u8], notes: &mut Vec<Note>) -> &'a [u8] {
        let (line, rest) = self.whole_line(bytes);
        match line {
            Some(line) if line.is_empty() => self.finish(notes),
            Some(line) => notes.push(Note::new(WIRE, "trailer").with("header", text(&line))),
            None => {}
        }
        rest
    }
}
