//! The two messages, Call and Response, with what later or foreign peers add to them.
//!
//! Encoded as every peer does it: fields in number order, zeroes left out. Decoded in any order, the last
//! value counts; fields that are not known are kept and written back. drpc §5

use std::ops::Range;
use std::time::Duration;

use bytes::{Buf as _, BufMut, Bytes, BytesMut};

use super::encoded::Encoded;
use super::extension::{
    CANCEL, DEADLINE, DESCRIPTORS, FEATURES, Features, REASON, Reason, TEXT, WINDOW,
};
use super::protobuf::{Field, Fields, Malformed, Value, put_bytes, put_number, put_prefix};
use super::status::Status;

/// A request to call one method. drpc §5.1
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Call {
    /// The module's id.
    pub module: i32,
    /// The method's id.
    pub method: i32,
    /// What the response is matched by; unique among the calls in flight.
    pub sequence: i64,
    /// The method's argument, mostly a protobuf message.
    pub body: Bytes,
    /// What peers of this project add.
    pub extensions: CallExtensions,
    /// All other fields, as they came.
    pub unknown: Bytes,
}

/// The extension fields of a [`Call`]. drpc §9
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallExtensions {
    /// On the first call of a connection: what the client would like to use.
    pub features: Features,
    /// How long the caller will wait, from the moment of sending.
    pub deadline: Option<Duration>,
    /// This is no call: the call of the same sequence need not go on.
    pub cancel: bool,
    /// Descriptors that came with the message.
    pub descriptors: u32,
}

/// The answer to one call. drpc §5.2
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The call's sequence, or -1 when the call could not be read.
    pub sequence: i64,
    /// How it ended.
    pub status: Status,
    /// The method's answer; empty unless the status is SUCCESS.
    pub body: Bytes,
    /// What peers of this project add.
    pub extensions: ResponseExtensions,
    /// All other fields, as they came.
    pub unknown: Bytes,
}

/// The extension fields of a [`Response`]. drpc §9
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResponseExtensions {
    /// In the answer to a call that offers features: those that hold from now on.
    pub features: Features,
    /// With PIPELINING granted: calls that may be in flight.
    pub window: u32,
    /// Descriptors that came with the message.
    pub descriptors: u32,
    /// Why the call failed, for people.
    pub text: String,
    /// Why the call failed, for programs.
    pub reason: Option<Reason>,
}

impl Call {
    /// Reads a call; the body shares the message's memory.
    ///
    /// # Errors
    /// What is wrong with the bytes, and where.
    pub fn decode(message: &Bytes) -> Result<Self, Malformed> {
        Self::read(message.clone())
    }

    /// As [`decode`](Self::decode); takes the message's memory over.
    pub(crate) fn read(message: Bytes) -> Result<Self, Malformed> {
        let mut call = Self::default();
        let mut unknown = BytesMut::new();
        let mut body = None;
        let mut fields = Fields::of(&message);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => call.module = low32(field.varint()?),
                2 => call.method = low32(field.varint()?),
                3 => call.sequence = field.varint()?.cast_signed(),
                4 => body = Some(field.bytes()?),
                _ if call.extensions.take(&field) => {}
                _ => unknown.extend_from_slice(field.raw),
            }
        }
        let body = body.map(|(bytes, at)| at..at + bytes.len());
        call.body = part(message, body);
        call.unknown = unknown.freeze();
        Ok(call)
    }

    /// Whether the bytes are a call: the check of [`decode`](Self::decode) alone. drpc §4.2
    #[must_use]
    pub fn is_valid(message: &[u8]) -> bool {
        let mut fields = Fields::of(message);
        loop {
            match fields.next() {
                Ok(None) => return true,
                Ok(Some(field)) if is_known_and_mistyped(&field) => return false,
                Ok(Some(_)) => {}
                Err(_) => return false,
            }
        }
    }

    /// The message's bytes, in one piece.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        self.encode_parts().to_bytes()
    }

    /// The message's bytes, sharing the body's memory.
    #[must_use]
    pub fn encode_parts(&self) -> Encoded {
        let head = |out: &mut &mut [u8]| {
            put_number(out, 1, i64::from(self.module).cast_unsigned());
            put_number(out, 2, i64::from(self.method).cast_unsigned());
            put_number(out, 3, self.sequence.cast_unsigned());
            put_prefix(out, 4, &self.body);
        };
        let mut tail = BytesMut::new();
        self.extensions.put(&mut tail);
        tail.extend_from_slice(&self.unknown);
        Encoded::new(head, self.body.clone(), tail.freeze())
    }
}

impl CallExtensions {
    /// Takes a field that it knows. One with another wire type is somebody else's, and left.
    fn take(&mut self, field: &Field<'_>) -> bool {
        let Value::Varint(value) = field.value else {
            return false;
        };
        match field.number {
            FEATURES => self.features = Features::from_bits(value),
            // Zero is what a field that is not there has.
            DEADLINE => self.deadline = (value > 0).then(|| Duration::from_micros(value)),
            CANCEL => self.cancel = value != 0,
            DESCRIPTORS => self.descriptors = u32::try_from(value).unwrap_or(u32::MAX),
            _ => return false,
        }
        true
    }

    fn put(&self, out: &mut impl BufMut) {
        put_number(out, FEATURES, self.features.bits());
        if let Some(deadline) = self.deadline {
            // Zero would not be written, and none left is something else than no deadline.
            let micros = u64::try_from(deadline.as_micros()).unwrap_or(u64::MAX);
            put_number(out, DEADLINE, micros.max(1));
        }
        put_number(out, CANCEL, self.cancel.into());
        put_number(out, DESCRIPTORS, self.descriptors.into());
    }
}

impl Response {
    /// An answer without body and extensions.
    #[must_use]
    pub fn new(sequence: i64, status: Status) -> Self {
        Self {
            sequence,
            status,
            body: Bytes::new(),
            extensions: ResponseExtensions::default(),
            unknown: Bytes::new(),
        }
    }

    /// What is answered to bytes that are no call: nobody knows its sequence. drpc §6.4
    #[must_use]
    pub fn unreadable() -> Self {
        Self::new(-1, Status::FailedUnmarshalCall)
    }

    /// Whether the server says that it could not read a call. drpc §6.4
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        self.sequence == -1 && self.status == Status::FailedUnmarshalCall
    }

    /// Reads a response; the body shares the message's memory.
    ///
    /// # Errors
    /// What is wrong with the bytes, and where.
    pub fn decode(message: &Bytes) -> Result<Self, Malformed> {
        Self::read(message.clone())
    }

    /// As [`decode`](Self::decode); takes the message's memory over.
    pub(crate) fn read(message: Bytes) -> Result<Self, Malformed> {
        let mut response = Self::new(0, Status::Success);
        let mut unknown = BytesMut::new();
        let mut body = None;
        let mut fields = Fields::of(&message);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => response.sequence = field.varint()?.cast_signed(),
                2 => response.status = low32(field.varint()?).into(),
                3 => body = Some(field.bytes()?),
                _ if response.extensions.take(&field) => {}
                _ => unknown.extend_from_slice(field.raw),
            }
        }
        let body = body.map(|(bytes, at)| at..at + bytes.len());
        response.body = part(message, body);
        response.unknown = unknown.freeze();
        Ok(response)
    }

    /// The message's bytes, in one piece.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        self.encode_parts().to_bytes()
    }

    /// The message's bytes, sharing the body's memory.
    #[must_use]
    pub fn encode_parts(&self) -> Encoded {
        let head = |out: &mut &mut [u8]| {
            put_number(out, 1, self.sequence.cast_unsigned());
            let status = i64::from(i32::from(self.status));
            put_number(out, 2, status.cast_unsigned());
            put_prefix(out, 3, &self.body);
        };
        let mut tail = BytesMut::new();
        self.extensions.put(&mut tail);
        tail.extend_from_slice(&self.unknown);
        Encoded::new(head, self.body.clone(), tail.freeze())
    }
}

impl ResponseExtensions {
    fn take(&mut self, field: &Field<'_>) -> bool {
        match (field.number, field.value) {
            (FEATURES, Value::Varint(bits)) => self.features = Features::from_bits(bits),
            (WINDOW, Value::Varint(calls)) => {
                self.window = u32::try_from(calls).unwrap_or(u32::MAX);
            }
            (DESCRIPTORS, Value::Varint(count)) => {
                self.descriptors = u32::try_from(count).unwrap_or(u32::MAX);
            }
            (REASON, Value::Varint(number)) => {
                self.reason = (number > 0).then(|| Reason::from_number(number));
            }
            (TEXT, Value::Bytes(text, _)) => {
                self.text = String::from_utf8_lossy(text).into_owned();
            }
            _ => return false,
        }
        true
    }

    fn put(&self, out: &mut impl BufMut) {
        put_number(out, FEATURES, self.features.bits());
        put_number(out, DESCRIPTORS, self.descriptors.into());
        put_bytes(out, TEXT, self.text.as_bytes());
        put_number(out, REASON, self.reason.map_or(0, Reason::number));
        put_number(out, WINDOW, self.window.into());
    }
}

fn is_known_and_mistyped(field: &Field<'_>) -> bool {
    match field.number {
        1..=3 => field.varint().is_err(),
        4 => field.bytes().is_err(),
        _ => false,
    }
}

/// The low half, as every protobuf reader takes an int32 from a longer number.
fn low32(value: u64) -> i32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

/// A part of the message, without copying it. At the message's end, where a body mostly is, its memory is taken over;
/// anywhere else it is shared, which needs some.
fn part(mut message: Bytes, range: Option<Range<usize>>) -> Bytes {
    match range {
        None => Bytes::new(),
        Some(range) if range.end == message.len() => {
            message.advance(range.start);
            message
        }
        Some(range) => message.slice(range),
    }
}
