//! Which wire a stream of bytes speaks, by what its client says first, and the decoder for it. Pure.

use std::time::Duration;

use prost_reflect::DescriptorPool;

use super::http1::Http1;
use super::http2::{Http2, PREFACE};
use super::nigh::{MAGIC, Nigh};
use super::note::{Note, Side};

/// Bytes of one side that are kept until the wire is known.
const PENDING_BYTES_MAX: usize = 64 << 10;
/// Letters of the longest HTTP method that is recognised.
const METHOD_BYTES_MAX: usize = 20;

/// Both directions of one stream.
#[derive(Debug)]
pub struct Bytes {
    wire: Wire,
    pending: [Vec<u8>; 2],
    schema: Option<DescriptorPool>,
    shown_max: usize,
}

#[derive(Debug)]
enum Wire {
    Unknown,
    Http1(Http1),
    Http2(Box<Http2>),
    Nigh(Box<Nigh>),
    Raw,
}

enum Guess {
    Http1,
    Http2,
    Nigh,
    Raw,
    More,
}

impl Bytes {
    /// A new connection. Messages of methods that `schema` describes are shown as JSON; of other bytes the first
    /// `shown_max` of each piece are shown.
    #[must_use]
    pub fn new(schema: Option<DescriptorPool>, shown_max: usize) -> Self {
        Self {
            wire: Wire::Unknown,
            pending: [Vec::new(), Vec::new()],
            schema,
            shown_max,
        }
    }

    /// What the bytes that `side` sent `at` that time mean, and what was waiting for them.
    pub fn feed(&mut self, side: Side, bytes: &[u8], at: Duration) -> Vec<(Side, Note)> {
        if !matches!(self.wire, Wire::Unknown) {
            return self.decode(side, bytes, at);
        }
        self.pending[side.index()].extend_from_slice(bytes);
        let full = self.pending[side.index()].len() > PENDING_BYTES_MAX;
        match guess(&self.pending[Side::Client.index()]) {
            Guess::More if !full => return Vec::new(),
            Guess::More | Guess::Raw => self.wire = Wire::Raw,
            Guess::Http1 => self.wire = Wire::Http1(Http1::new(self.shown_max)),
            Guess::Http2 => self.wire = Wire::Http2(Box::new(Http2::new(self.schema.take()))),
            Guess::Nigh => {
                let nigh = Nigh::new(self.schema.take(), self.shown_max);
                self.wire = Wire::Nigh(Box::new(nigh));
            }
        }
        self.flush(at)
    }

    /// `side` will send no more; shows what was waiting for more.
    pub fn end(&mut self, side: Side, at: Duration) -> Vec<(Side, Note)> {
        if matches!(self.wire, Wire::Unknown) && !self.pending[side.index()].is_empty() {
            self.wire = Wire::Raw;
            return self.flush(at);
        }
        let mut notes = Vec::new();
        match &mut self.wire {
            Wire::Http1(http1) => http1.end(side, &mut notes),
            Wire::Nigh(nigh) => nigh.end(side, &mut notes),
            Wire::Unknown | Wire::Http2(_) | Wire::Raw => {}
        }
        notes.into_iter().map(|note| (side, note)).collect()
    }

    fn flush(&mut self, at: Duration) -> Vec<(Side, Note)> {
        let mut notes = Vec::new();
        for side in [Side::Client, Side::Server] {
            let bytes = std::mem::take(&mut self.pending[side.index()]);
            if !bytes.is_empty() {
                notes.extend(self.decode(side, &bytes, at));
            }
        }
        notes
    }

    fn decode(&mut self, side: Side, bytes: &[u8], at: Duration) -> Vec<(Side, Note)> {
        let mut notes = Vec::new();
        match &mut self.wire {
            Wire::Http1(http1) => http1.feed(side, bytes, at, &mut notes),
            Wire::Http2(http2) => http2.feed(side, bytes, at, &mut notes),
            Wire::Nigh(nigh) => nigh.feed(side, bytes, at, &mut notes),
            Wire::Unknown | Wire::Raw => notes.push(Note::bytes("piece", bytes, self.shown_max)),
        }
        notes.into_iter().map(|note| (side, note)).collect()
    }
}

fn guess(client: &[u8]) -> Guess {
    if client.starts_with(PREFACE) {
        return Guess::Http2;
    }
    if client.starts_with(MAGIC) {
        return Guess::Nigh;
    }
    if PREFACE.starts_with(client) || MAGIC.starts_with(client) {
        return Guess::More;
    }
    let letters = client.iter().take_while(|byte| byte.is_ascii_uppercase());
    let letters = letters.count();
    if letters > METHOD_BYTES_MAX {
        return Guess::Raw;
    }
    match (letters, client.get(letters)) {
        (1.., None) => Guess::More,
        (1.., Some(b' ')) => Guess::Http1,
        _ => Guess::Raw,
    }
}
