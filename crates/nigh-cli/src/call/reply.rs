//! A reply as JSON.
//!
//! Trap: a `google.protobuf.Any` holds a message that may hold another one, and so on; the JSON serialiser follows them by
//! recursion, and the wire's own limit on nesting starts anew in each. So they are counted before.

use prost_reflect::{DynamicMessage, ReflectMessage as _, SerializeOptions, Value};
use serde_json::Serializer;

/// Most `google.protobuf.Any` inside each other.
const ANY_DEPTH_MAX: usize = 8;

/// Why a reply has no JSON form.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// A type that the description leaves out, a time out of range.
    #[error("the reply has no JSON form")]
    Json(#[from] serde_json::Error),
    /// Messages in messages in messages.
    #[error("the reply has more than {ANY_DEPTH_MAX} google.protobuf.Any inside each other")]
    TooDeep,
}

impl ReplyError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Json(_) => Some("if a type is missing: describe all of them with --proto"),
            Self::TooDeep => None,
        }
    }
}

/// How to write a reply.
#[derive(Debug, Clone, Copy, Default)]
pub struct Form {
    /// With fields that have their default value.
    pub defaults: bool,
    /// Over several lines.
    pub pretty: bool,
}

/// Writes `message` as JSON.
///
/// # Errors
/// It has no JSON form.
pub fn to_json(message: &DynamicMessage, form: Form) -> Result<String, ReplyError> {
    let pool = message.descriptor().parent_pool().clone();
    if pool.get_message_by_name("google.protobuf.Any").is_some() {
        check(message, ANY_DEPTH_MAX)?;
    }
    let options = SerializeOptions::new().skip_default_fields(!form.defaults);
    let mut text = Vec::new();
    if form.pretty {
        message.serialize_with_options(&mut Serializer::pretty(&mut text), &options)?;
    } else {
        message.serialize_with_options(&mut Serializer::new(&mut text), &options)?;
    }
    // JSON is UTF-8.
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Refuses a message with more than `left` levels of `Any`. Between two levels the wire's limit bounds the recursion.
fn check(message: &DynamicMessage, left: usize) -> Result<(), ReplyError> {
    if message.descriptor().full_name() == "google.protobuf.Any" {
        let Some(inner) = unpack(message) else {
            // The serialiser has the words for a type that it does not know.
            return Ok(());
        };
        let left = left.checked_sub(1).ok_or(ReplyError::TooDeep)?;
        return check(&inner, left);
    }
    message
        .fields()
        .try_for_each(|(_, value)| check_value(value, left))
}

fn check_value(value: &Value, left: usize) -> Result<(), ReplyError> {
    match value {
        Value::Message(message) => check(message, left),
        Value::List(values) => values.iter().try_for_each(|value| check_value(value, left)),
        Value::Map(values) => values
            .values()
            .try_for_each(|value| check_value(value, left)),
        _ => Ok(()),
    }
}

fn unpack(any: &DynamicMessage) -> Option<DynamicMessage> {
    let url = any.get_field_by_name("type_url")?;
    let (_, name) = url.as_str()?.rsplit_once('/')?;
    let descriptor = any.descriptor().parent_pool().get_message_by_name(name)?;
    let bytes = any.get_field_by_name("value")?.as_bytes()?.clone();
    DynamicMessage::decode(descriptor, bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use prost_reflect::DescriptorPool;

    /// `Any` inside `Any`, so many times, around an empty message.
    fn nested(times: usize) -> DynamicMessage {
        let mut any = prost_types::Any {
            type_url: "type.googleapis.com/google.protobuf.Empty".to_owned(),
            value: Vec::new(),
        };
        for _ in 1..times {
            any = prost_types::Any {
                type_url: "type.googleapis.com/google.protobuf.Any".to_owned(),
                value: any.encode_to_vec(),
            };
        }
        let pool = DescriptorPool::global();
        let descriptor = pool.get_message_by_name("google.protobuf.Any").unwrap();
        DynamicMessage::decode(descriptor, any.encode_to_vec().as_slice()).unwrap()
    }

    #[test]
    fn nesting_that_would_overflow_the_stack_is_refused() {
        to_json(&nested(ANY_DEPTH_MAX), Form::default()).unwrap();
        for times in [ANY_DEPTH_MAX + 1, 1000] {
            let error = to_json(&nested(times), Form::default()).unwrap_err();
            assert!(matches!(error, ReplyError::TooDeep), "{times}: {error}");
        }
    }

    #[test]
    fn an_unknown_type_is_an_error_with_a_hint() {
        let mut any = nested(1);
        any.set_field_by_name("type_url", Value::String("x/no.Such".to_owned()));
        let error = to_json(&any, Form::default()).unwrap_err();
        assert!(error.hint().unwrap().contains("--proto"), "{error}");
    }
}
