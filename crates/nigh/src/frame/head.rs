//! What HEADERS frames hold: a request's method and path, an answer's status, and their metadata
//! (clauses 5 and 6).

use std::collections::HashMap;

use bytes::{BufMut as _, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::fields::{self, Implied};
use super::varint::{self, Cursor};
use super::{PLAIN, Violation};

/// Clause 5.4: a longer path is not remembered.
pub(crate) const REMEMBERED_BYTES_MAX: usize = 512;

/// The sender's side of the table of paths (clause 5.3).
#[derive(Debug)]
pub(crate) struct SentPaths {
    numbers: HashMap<Box<str>, u32>,
    max: u32,
}

impl SentPaths {
    pub(crate) fn new(max: u32) -> Self {
        let numbers = HashMap::new();
        Self { numbers, max }
    }

    fn encode(&mut self, path: &str, out: &mut BytesMut) {
        if let Some(number) = self.numbers.get(path) {
            varint::put(out, *number);
            return;
        }
        let next = u32::try_from(self.numbers.len() + 1).unwrap_or(u32::MAX);
        if next > self.max || path.len() > REMEMBERED_BYTES_MAX {
            varint::put(out, 0);
        } else {
            varint::put(out, next);
            self.numbers.insert(path.into(), next);
        }
        varint::put_bytes(out, path.as_bytes());
    }
}

/// What the receiver knows from earlier requests: the table of paths, and what a client says each time.
#[derive(Debug)]
pub(crate) struct KnownPaths {
    paths: Vec<PathAndQuery>,
    max: usize,
    /// Shared by the calls that say the same, as a client's do.
    user_agent: Option<HeaderValue>,
}

impl KnownPaths {
    pub(crate) fn new(max: u32) -> Self {
        Self {
            paths: Vec::new(),
            max: usize::try_from(max).unwrap_or(usize::MAX),
            user_agent: None,
        }
    }

    /// The path and its number; 0 for one that is not remembered.
    fn decode(&mut self, cursor: &mut Cursor<'_>) -> Result<(PathAndQuery, usize), Violation> {
        let number = cursor.number()?;
        let known = self.paths.len();
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        if index != 0 && index <= known {
            let path = self.paths.get(index - 1).cloned();
            return Ok((path.ok_or(Violation::Path)?, index));
        }
        let is_next = index == known + 1 && known < self.max;
        if index != 0 && !is_next {
            return Err(Violation::PathNumber { number, known });
        }
        let text = cursor.bytes()?;
        if !text.starts_with(b"/") || (is_next && text.len() > REMEMBERED_BYTES_MAX) {
            return Err(Violation::Path);
        }
        let path = PathAndQuery::try_from(text).map_err(|_| Violation::Path)?;
        if is_next {
            self.paths.push(path.clone());
        }
        Ok((path, index))
    }
}

/// A call's beginning.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) path: PathAndQuery,
    pub(crate) fields: HeaderMap,
}

/// The flags of a request's HEADERS frame, without END.
pub(crate) fn request_flags(method: &Method, fields: &HeaderMap) -> u8 {
    if method == Method::POST && fields::is_grpc_request(fields) {
        0
    } else {
        PLAIN
    }
}

pub(crate) fn encode_request(
    (method, path, fields): (&Method, &str, &HeaderMap),
    flags: u8,
    paths: &mut SentPaths,
    out: &mut BytesMut,
) {
    let mut implied = Implied::Request;
    if flags & PLAIN != 0 {
        implied = Implied::Nothing;
        varint::put_bytes(out, method.as_str().as_bytes());
    }
    paths.encode(path, out);
    fields::encode(fields, implied, out);
}

/// The request, and the number of its path.
pub(crate) fn decode_request(
    payload: &[u8],
    is_plain: bool,
    paths: &mut KnownPaths,
    max: usize,
) -> Result<(Request, usize), Violation> {
    let mut cursor = Cursor(payload);
    let (method, implied) = if is_plain {
        let method = Method::from_bytes(cursor.bytes()?).map_err(|_| Violation::Method)?;
        (method, Implied::Nothing)
    } else {
        (Method::POST, Implied::Request)
    };
    let (path, number) = paths.decode(&mut cursor)?;
    let fields = fields::decode_knowing(cursor, implied, max, &mut paths.user_agent)?;
    let request = Request {
        method,
        path,
        fields,
    };
    Ok((request, number))
}

/// The flags of an answer's HEADERS frame, without END.
pub(crate) fn answer_flags(status: StatusCode, fields: &HeaderMap) -> u8 {
    if status == StatusCode::OK && fields::is_grpc(fields) {
        0
    } else {
        PLAIN
    }
}

pub(crate) fn encode_answer(status: StatusCode, fields: &HeaderMap, flags: u8, out: &mut BytesMut) {
    let mut implied = Implied::Answer;
    if flags & PLAIN != 0 {
        implied = Implied::Nothing;
        out.put_u16_le(status.as_u16());
    }
    fields::encode(fields, implied, out);
}

pub(crate) fn decode_answer(
    payload: &[u8],
    is_plain: bool,
    max: usize,
) -> Result<(StatusCode, HeaderMap), Violation> {
    let mut cursor = Cursor(payload);
    let (status, implied) = if is_plain {
        let status = StatusCode::from_u16(cursor.u16()?).map_err(|_| Violation::HttpStatus)?;
        (status, Implied::Nothing)
    } else {
        (StatusCode::OK, Implied::Answer)
    };
    Ok((status, fields::decode(cursor, implied, max)?))
}

/// Clause 6.4: a TRAILERS frame without content is `grpc-status: 0`.
pub(crate) fn encode_trailers(trailers: &HeaderMap, out: &mut BytesMut) {
    let is_plain_ok = trailers.len() == 1
        && trailers
            .get(fields::GRPC_STATUS)
            .is_some_and(|status| status == "0");
    if !is_plain_ok {
        fields::encode(trailers, Implied::Nothing, out);
    }
}

pub(crate) fn decode_trailers(payload: &[u8], max: usize) -> Result<HeaderMap, Violation> {
    if payload.is_empty() {
        let mut ok = HeaderMap::with_capacity(1);
        ok.insert(fields::GRPC_STATUS, HeaderValue::from_static("0"));
        return Ok(ok);
    }
    fields::decode(Cursor(payload), Implied::Nothing, max)
}
