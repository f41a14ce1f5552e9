//! Metadata as bytes (clause 7): a name from the table or spelled out, then the value.

use bytes::BytesMut;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::Violation;
use super::varint::{self, Cursor};

/// Clause 7.4: what each field counts beside its name and value, as in RFC 9113 6.5.2.
const FIELD_BYTES: usize = 32;

pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Clause 7.3: names by number, from 1. New ones are appended in later versions only.
pub(crate) const NAMES: [HeaderName; 16] = [
    header::CONTENT_TYPE,
    header::TE,
    header::USER_AGENT,
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-accept-encoding"),
    GRPC_STATUS,
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
    header::AUTHORIZATION,
    header::ACCEPT,
    header::CONTENT_LENGTH,
    header::DATE,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
];

const GRPC: &[u8] = b"application/grpc";

/// What a frame that is not PLAIN says without spelling it out (clause 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Implied {
    Nothing,
    /// `content-type: application/grpc`.
    Answer,
    /// That, and `te: trailers`.
    Request,
}

impl Implied {
    fn covers(self, number: usize, value: &HeaderValue) -> bool {
        match (number, self) {
            (1, Self::Answer | Self::Request) => value.as_bytes() == GRPC,
            (2, Self::Request) => true,
            _ => false,
        }
    }
}

fn number(name: &HeaderName) -> usize {
    let found = match name.as_str() {
        "content-type" => 1,
        "te" => 2,
        "user-agent" => 3,
        "grpc-timeout" => 4,
        "grpc-encoding" => 5,
        "grpc-accept-encoding" => 6,
        "grpc-status" => 7,
        "grpc-message" => 8,
        "grpc-status-details-bin" => 9,
        "authorization" => 10,
        "accept" => 11,
        "content-length" => 12,
        "date" => 13,
        "traceparent" => 14,
        "tracestate" => 15,
        "baggage" => 16,
        _ => 0,
    };
    debug_assert!(found == 0 || NAMES.get(found - 1) == Some(name));
    found
}

/// Whether a request can go without PLAIN: its `content-type` and `te` are gRPC's.
pub(crate) fn is_grpc_request(fields: &HeaderMap) -> bool {
    is_grpc(fields) && one(fields, &header::TE).is_some_and(|value| value == "trailers")
}

/// Whether the `content-type` is gRPC's.
pub(crate) fn is_grpc(fields: &HeaderMap) -> bool {
    one(fields, &header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(GRPC))
}

fn one<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut all = fields.get_all(name).iter();
    all.next().filter(|_| all.next().is_none())
}

/// What these fields count against the other side's limit (clause 7.4).
pub(crate) fn size(fields: &HeaderMap) -> usize {
    let sizes = fields
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + FIELD_BYTES);
    sizes.sum()
}

pub(crate) fn encode(fields: &HeaderMap, implied: Implied, out: &mut BytesMut) {
    for (name, value) in fields {
        let number = number(name);
        if implied.covers(number, value) {
            continue;
        }
        varint::put(out, u32::try_from(number).unwrap_or_default());
        if number == 0 {
            varint::put_bytes(out, name.as_str().as_bytes());
        }
        varint::put_bytes(out, value.as_bytes());
    }
}

/// Decodes to the end of the frame; more than `max` bytes, as clause 7.4 counts them, are refused.
pub(crate) fn decode(
    cursor: Cursor<'_>,
    implied: Implied,
    max: usize,
) -> Result<HeaderMap, Violation> {
    decode_knowing(cursor, implied, max, &mut None)
}

/// As [`decode`], where the last `user-agent` is kept: the next is likely the same, and then costs no memory.
pub(crate) fn decode_knowing(
    mut cursor: Cursor<'_>,
    implied: Implied,
    max: usize,
    user_agent: &mut Option<HeaderValue>,
) -> Result<HeaderMap, Violation> {
    let mut fields = HeaderMap::with_capacity(if cursor.is_empty() { 2 } else { 6 });
    let mut size = 0;
    while !cursor.is_empty() {
        let name = name(&mut cursor)?;
        let value = cursor.bytes()?;
        size += name.as_str().len() + value.len() + FIELD_BYTES;
        if size > max {
            return Err(Violation::FieldsSize { max });
        }
        let made = || HeaderValue::from_bytes(value).map_err(|_| Violation::FieldValue);
        let value = match user_agent {
            _ if name != header::USER_AGENT => made()?,
            Some(known) if known.as_bytes() == value => known.clone(),
            _ => user_agent.insert(made()?).clone(),
        };
        fields
            .try_append(name, value)
            .map_err(|_| Violation::FieldsSize { max })?;
    }
    if implied == Implied::Request {
        fields.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if implied != Implied::Nothing {
        let kind = HeaderValue::from_static("application/grpc");
        fields.entry(header::CONTENT_TYPE).or_insert(kind);
    }
    Ok(fields)
}

fn name(cursor: &mut Cursor<'_>) -> Result<HeaderName, Violation> {
    let number = cursor.number()?;
    if number == 0 {
        return HeaderName::from_lowercase(cursor.bytes()?).map_err(|_| Violation::FieldName);
    }
    let index = usize::try_from(number).unwrap_or(usize::MAX) - 1;
    NAMES.get(index).cloned().ok_or(Violation::FieldName)
}
