//! Messages of flagd's protocols as protobuf and as proto3 JSON, by hand: there are few, and the server's
//! own types do not speak JSON.
//!
//! v1 and v2 have the same protobuf form, except that v2 tells a zero from nothing. The JSON is what flagd
//! writes: v1 has every field, v2 leaves absent ones out, and a 64-bit integer is a string.

use bytes::Bytes;
use connectrpc::{CodecFormat, ConnectError};
use prost::Message;
use prost_types::Struct;
use serde_json::{Map, Value, json};

use super::proto::evaluation::v1::{AnyFlag, ResolveAllRequest, ResolveAllResponse, any_flag};
use super::proto::evaluation::v2;
use super::resolve::{Answer, Any, Kind, Plain};
use crate::eval::Attributes;
use crate::value;

/// The two versions of the evaluation protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// A request's flag key and attributes.
#[derive(Debug)]
pub(super) struct ResolveRequest {
    pub(super) key: String,
    context: Carried,
}

/// Attributes as they came.
#[derive(Debug)]
pub(super) enum Carried {
    None,
    Proto(Struct),
    Json(Map<String, Value>),
}

impl Carried {
    pub(super) fn attributes(&self) -> Attributes<'_> {
        match self {
            Self::None => Attributes::None,
            Self::Proto(message) => Attributes::Proto(message),
            Self::Json(members) => Attributes::Json(members),
        }
    }
}

impl ResolveRequest {
    pub(super) fn attributes(&self) -> Attributes<'_> {
        self.context.attributes()
    }
}

fn malformed(error: impl std::fmt::Display) -> ConnectError {
    ConnectError::invalid_argument(format!("the request cannot be decoded: {error}"))
}

/// The five requests are one and the same.
pub(super) fn resolve_request(
    bytes: Bytes,
    format: CodecFormat,
) -> Result<ResolveRequest, ConnectError> {
    if format == CodecFormat::Proto {
        let request = v2::ResolveBooleanRequest::decode(bytes).map_err(malformed)?;
        return Ok(ResolveRequest {
            key: request.flag_key,
            context: request.context.map_or(Carried::None, Carried::Proto),
        });
    }
    let mut members = json_members(&bytes)?;
    Ok(ResolveRequest {
        key: text(&mut members, "flagKey", "flag_key")?,
        context: json_context(&mut members)?,
    })
}

pub(super) fn resolve_all_request(
    bytes: Bytes,
    format: CodecFormat,
) -> Result<Carried, ConnectError> {
    if format == CodecFormat::Proto {
        let request = ResolveAllRequest::decode(bytes).map_err(malformed)?;
        return Ok(request.context.map_or(Carried::None, Carried::Proto));
    }
    json_context(&mut json_members(&bytes)?)
}

/// A member by its JSON or its protobuf name; absent and null are empty.
pub(super) fn text(
    members: &mut Map<String, Value>,
    name: &str,
    other: &str,
) -> Result<String, ConnectError> {
    match members.remove(name).or_else(|| members.remove(other)) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(malformed(format_args!("{name} is no string"))),
    }
}

pub(super) fn json_members(bytes: &[u8]) -> Result<Map<String, Value>, ConnectError> {
    match serde_json::from_slice(bytes).map_err(malformed)? {
        Value::Object(members) => Ok(members),
        _ => Err(malformed("it is no JSON object")),
    }
}

fn json_context(members: &mut Map<String, Value>) -> Result<Carried, ConnectError> {
    match members.remove("context") {
        None | Some(Value::Null) => Ok(Carried::None),
        Some(Value::Object(context)) => Ok(Carried::Json(context)),
        Some(_) => Err(malformed("context is no object")),
    }
}

pub(super) fn resolve_response(
    version: Version,
    kind: Kind,
    answer: Answer,
    format: CodecFormat,
) -> Bytes {
    if format == CodecFormat::Proto {
        return Bytes::from(resolve_proto(kind, answer));
    }
    let mut members = Map::new();
    match (answer.value, version) {
        (Some(plain), _) => drop(members.insert("value".into(), plain_json(plain))),
        (None, Version::V1) => drop(members.insert("value".into(), zero(kind))),
        (None, Version::V2) => {}
    }
    members.insert("reason".into(), answer.reason.into());
    match (answer.variant, version) {
        (Some(variant), _) => drop(members.insert("variant".into(), variant.into())),
        (None, Version::V1) => drop(members.insert("variant".into(), "".into())),
        (None, Version::V2) => {}
    }
    let metadata = value::to_members(&answer.metadata);
    members.insert("metadata".into(), Value::Object(metadata));
    json_bytes(&Value::Object(members))
}

/// All five messages have these fields; only the value's type differs.
macro_rules! response {
    ($message:ident, $answer:ident, $kind:ident) => {
        v2::$message {
            value: match $answer.value {
                Some(Plain::$kind(value)) => Some(value),
                _ => None,
            },
            reason: $answer.reason.to_owned(),
            variant: $answer.variant,
            metadata: Some($answer.metadata),
        }
        .encode_to_vec()
    };
}

fn resolve_proto(kind: Kind, answer: Answer) -> Vec<u8> {
    match kind {
        Kind::Boolean => response!(ResolveBooleanResponse, answer, Boolean),
        Kind::String => response!(ResolveStringResponse, answer, String),
        Kind::Float => response!(ResolveFloatResponse, answer, Float),
        Kind::Integer => response!(ResolveIntResponse, answer, Integer),
        Kind::Object => response!(ResolveObjectResponse, answer, Object),
    }
}

/// `answers` by key; a failed flag is there with a zero value and the reason ERROR.
pub(super) fn resolve_all_response(
    answers: Vec<Any>,
    metadata: Map<String, Value>,
    format: CodecFormat,
) -> Bytes {
    let flags = answers.into_iter().map(|(key, answer)| {
        let flag = match answer {
            Ok((plain, answer)) => AnyFlag {
                reason: answer.reason.to_owned(),
                variant: answer.variant.unwrap_or_default(),
                value: Some(any_value(plain)),
                metadata: Some(answer.metadata),
            },
            Err(_) => AnyFlag {
                reason: "ERROR".to_owned(),
                ..AnyFlag::default()
            },
        };
        (key, flag)
    });
    if format == CodecFormat::Proto {
        let response = ResolveAllResponse {
            flags: flags.collect(),
            metadata: Some(value::to_struct(&metadata)),
        };
        return Bytes::from(response.encode_to_vec());
    }
    let flags: Map<String, Value> = flags.map(|(key, flag)| (key, any_json(flag))).collect();
    json_bytes(&json!({"flags": flags, "metadata": metadata}))
}

fn any_value(plain: Plain) -> any_flag::Value {
    match plain {
        Plain::Boolean(truth) => any_flag::Value::BoolValue(truth),
        Plain::String(text) => any_flag::Value::StringValue(text),
        Plain::Float(number) => any_flag::Value::DoubleValue(number),
        // Nothing of this kind comes from a flag: its numbers are doubles.
        Plain::Integer(_) => any_flag::Value::DoubleValue(0.0),
        Plain::Object(members) => any_flag::Value::ObjectValue(members),
    }
}

fn any_json(flag: AnyFlag) -> Value {
    let mut members = Map::new();
    members.insert("reason".into(), flag.reason.into());
    members.insert("variant".into(), flag.variant.into());
    let named = flag.value.map(|value| match value {
        any_flag::Value::BoolValue(truth) => ("boolValue", Value::from(truth)),
        any_flag::Value::StringValue(text) => ("stringValue", text.into()),
        any_flag::Value::DoubleValue(number) => ("doubleValue", value::json_number(number)),
        any_flag::Value::ObjectValue(object) => {
            ("objectValue", Value::Object(value::to_members(&object)))
        }
    });
    members.extend(named.map(|(name, value)| (name.to_owned(), value)));
    let metadata = flag.metadata.as_ref().map(value::to_members);
    members.insert(
        "metadata".into(),
        metadata.map_or(Value::Null, Value::Object),
    );
    Value::Object(members)
}

/// An event; `data` as JSON members.
pub(super) fn event(kind: &str, data: Option<Map<String, Value>>, format: CodecFormat) -> Bytes {
    if format == CodecFormat::Proto {
        let event = v2::EventStreamResponse {
            r#type: kind.to_owned(),
            data: data.as_ref().map(value::to_struct),
        };
        return Bytes::from(event.encode_to_vec());
    }
    json_bytes(&json!({"type": kind, "data": data}))
}

fn plain_json(plain: Plain) -> Value {
    match plain {
        Plain::Boolean(truth) => truth.into(),
        Plain::String(text) => text.into(),
        Plain::Float(number) => value::json_number(number),
        Plain::Integer(number) => number.to_string().into(),
        Plain::Object(members) => Value::Object(value::to_members(&members)),
    }
}

fn zero(kind: Kind) -> Value {
    match kind {
        Kind::Boolean => false.into(),
        Kind::String => "".into(),
        Kind::Float => 0.into(),
        Kind::Integer => "0".into(),
        Kind::Object => Value::Null,
    }
}

pub(super) fn json_bytes(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}
