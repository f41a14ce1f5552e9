//! What fuzz targets reach and programs do not: the decoders of both wires, without a socket. They judge; nothing here does.

use bytes::BytesMut;
use http::HeaderMap;

use crate::fd::fuzzing as fd;
use crate::frame::head::{self, KnownPaths, SentPaths};
use crate::frame::varint::Cursor;
use crate::frame::{Accepted, Decoder, Greeting, PLAIN, decode, fields};
use crate::http2::authority::AuthorityFix;

/// What the decoders are told to accept, in bytes.
const ACCEPTED: Accepted = Accepted {
    frame_bytes_max: 4096,
    header_bytes_max: 1024,
    descriptors: true,
};

/// The frames of the nigh wire in these pieces of a stream, in words, and how it ended; every second one is taken, not looked at.
#[must_use]
pub fn nigh_frames(pieces: &[&[u8]]) -> Vec<String> {
    let mut decoder = Decoder::new(ACCEPTED, BytesMut::new());
    let mut seen = Vec::new();
    for piece in pieces {
        decoder.room().extend_from_slice(piece);
        decoder.grow();
        loop {
            let header = match decoder.frame() {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(violation) => {
                    seen.push(violation.to_string());
                    return seen;
                }
            };
            let at = decoder.offset();
            let content = if seen.len() % 2 == 0 {
                let content = decoder.payload().to_vec();
                decoder.skip();
                content
            } else {
                decoder.take().to_vec()
            };
            seen.push(format!("{at} {header:?} {content:?}"));
        }
    }
    seen
}

/// A greeting at the beginning of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeted {
    /// It may become one.
    More,
    /// It is none.
    None(String),
    /// It is one: as this side would write it, and the bytes that it had.
    Is(Vec<u8>, usize),
}

/// Reads a greeting.
#[must_use]
pub fn nigh_greeting(bytes: &[u8]) -> Greeted {
    match Greeting::decode(bytes) {
        Ok(None) => Greeted::More,
        Ok(Some((greeting, length))) => Greeted::Is(greeting.encode(), length),
        Err(violation) => Greeted::None(violation.to_string()),
    }
}

/// A content that was understood: in words, and as this side would write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// What it says.
    pub words: String,
    /// Whether it is spelled out (flag PLAIN).
    pub is_plain: bool,
    /// As this side would write it.
    pub bytes: Vec<u8>,
}

/// Reads what a request's HEADERS hold, on a connection that knows one path.
#[must_use]
pub fn nigh_request(content: &[u8], is_plain: bool) -> Option<Content> {
    let mut known = KnownPaths::new(2);
    // Number 1 is "/a".
    head::decode_request(&[1, 2, b'/', b'a'], false, &mut known, 1024).ok()?;
    let (request, _) = head::decode_request(content, is_plain, &mut known, 1024).ok()?;
    let flags = head::request_flags(&request.method, &request.fields);
    let mut out = BytesMut::new();
    let parts = (&request.method, request.path.as_str(), &request.fields);
    head::encode_request(parts, flags, &mut SentPaths::new(0), &mut out);
    Some(Content {
        words: format!(
            "{} {} {}",
            request.method,
            request.path,
            words(&request.fields)
        ),
        is_plain: flags & PLAIN != 0,
        bytes: out.to_vec(),
    })
}

/// Reads what an answer's HEADERS hold.
#[must_use]
pub fn nigh_answer(content: &[u8], is_plain: bool) -> Option<Content> {
    let (status, fields) = head::decode_answer(content, is_plain, 1024).ok()?;
    let flags = head::answer_flags(status, &fields);
    let mut out = BytesMut::new();
    head::encode_answer(status, &fields, flags, &mut out);
    Some(Content {
        words: format!("{status} {}", words(&fields)),
        is_plain: flags & PLAIN != 0,
        bytes: out.to_vec(),
    })
}

/// Reads what TRAILERS hold.
#[must_use]
pub fn nigh_trailers(content: &[u8]) -> Option<Content> {
    let fields = head::decode_trailers(content, 1024).ok()?;
    let mut out = BytesMut::new();
    head::encode_trailers(&fields, &mut out);
    Some(Content {
        words: words(&fields),
        is_plain: false,
        bytes: out.to_vec(),
    })
}

/// Reads metadata alone; the bytes they count, too, which are at most 1024.
#[must_use]
pub fn nigh_fields(content: &[u8]) -> Option<usize> {
    let found = fields::decode(Cursor(content), fields::Implied::Nothing, 1024).ok()?;
    Some(fields::size(&found))
}

/// Reads the contents of CANCEL, GOAWAY and WINDOW.
pub fn nigh_control(content: &[u8]) {
    let _ = decode::reason(content);
    let _ = decode::window(content);
    let _ = decode::fds(content, 1);
}

/// Names are in no order of their own; values of one name are.
fn words(fields: &HeaderMap) -> String {
    let mut lines: Vec<String> = fields
        .keys()
        .map(|name| {
            let values: Vec<_> = fields.get_all(name).iter().collect();
            format!("{name}: {values:?}")
        })
        .collect();
    lines.sort();
    lines.join("; ")
}

/// What a client's bytes become behind the authority fix, and whether it still watches.
#[must_use]
pub fn authority(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut fix = AuthorityFix::new();
    let mut out = Vec::new();
    for piece in pieces {
        let mut moved = Vec::new();
        let passed = fix.feed(piece, &mut moved);
        out.extend_from_slice(piece.get(..passed).unwrap_or_default());
        out.append(&mut moved);
    }
    let is_watching = fix.is_watching();
    fix.finish(&mut out);
    (out, is_watching)
}

/// What passes of a stream with extension frames, and those frames in words.
#[must_use]
pub fn extension_frames(pieces: &[&[u8]], preface_bytes: usize) -> (Vec<u8>, Vec<String>) {
    fd::extension_frames(pieces, preface_bytes)
}
