//! JSON text to messages of a given type. Pure.
//!
//! Trap: the protobuf library's own errors do not say which field is wrong, and it rounds 2^64 down to what fits; so
//! [`fit`](super::fit) walks the value first.

use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor};
use serde_json::Value;

use super::fit::{self, Misfit};

/// Why a text is not a message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// Not JSON.
    #[error("not JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    /// JSON, but not of this type.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// JSON that the type's own rules forbid, at a place that is not known.
    #[error("does not fit {message}: {source}")]
    Unlocated {
        /// Full name of the message type.
        message: String,
        /// The library's words.
        #[source]
        source: serde_json::Error,
    },
}

impl JsonError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Misfit(misfit) => misfit.hint(),
            Self::Syntax(_) | Self::Unlocated { .. } => None,
        }
    }
}

/// The messages in `text`, one JSON value after the other; stops at the first that is wrong.
pub(super) fn messages(
    descriptor: &MessageDescriptor,
    text: &[u8],
) -> impl Iterator<Item = Result<DynamicMessage, JsonError>> {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<Value>();
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed {
            return None;
        }
        let value = values.next()?;
        let message = value
            .map_err(JsonError::from)
            .and_then(|value| message(descriptor, &value));
        failed = message.is_err();
        Some(message)
    })
}

fn message(descriptor: &MessageDescriptor, value: &Value) -> Result<DynamicMessage, JsonError> {
    if let Some(misfit) = fit::misfit(descriptor, value) {
        return Err(misfit.into());
    }
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    DynamicMessage::deserialize_with_options(descriptor.clone(), value, &options).map_err(
        |source| JsonError::Unlocated {
            message: descriptor.full_name().to_owned(),
            source,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_reflect::DescriptorPool;

    const TYPES: &str = r#"
        syntax = "proto3";
        package t;
        import "google/protobuf/duration.proto";
        import "google/protobuf/struct.proto";
        import "google/protobuf/wrappers.proto";
        enum Colour { NONE = 0; RED = 1; }
        message Payload { uint32 size = 1; bytes data = 2; repeated int64 long_list = 3; }
        message M {
            Payload payload = 1;
            repeated Payload payloads = 2;
            map<string, Payload> by_name = 3;
            map<int32, bool> by_number = 4;
            Colour colour = 5;
            oneof choice { string left = 6; string right = 7; }
            google.protobuf.Duration pause = 8;
            google.protobuf.Int32Value maybe = 9;
            google.protobuf.Struct any = 10;
            float real = 11;
            bool flag = 12;
            uint64 huge = 13;
        }
    "#;

    fn descriptor() -> MessageDescriptor {
        let file = protox::file::File::from_source("t.proto", TYPES).unwrap();
        let mut pool = DescriptorPool::global();
        pool.add_file_descriptor_proto(file.file_descriptor_proto().clone())
            .unwrap();
        pool.get_message_by_name("t.M").unwrap()
    }

    fn first(text: &str) -> Result<DynamicMessage, JsonError> {
        messages(&descriptor(), text.as_bytes()).next().unwrap()
    }

    const MISFITS: &[(&str, &str)] = &[
        (
            r#"{"payload": {"size": "x"}}"#,
            r#"payload.size: expected an integer of 32 bits, not negative, got "x""#,
        ),
        (
            r#"{"payload": {"size": -1}}"#,
            "payload.size: expected an integer of 32 bits, not negative, got -1",
        ),
        (
            r#"{"payload": {"size": 4294967296}}"#,
            "payload.size: expected an integer of 32 bits, not negative, got 4294967296",
        ),
        (
            r#"{"payload": {"size": 1.5}}"#,
            "payload.size: expected an integer of 32 bits, not negative, got 1.5",
        ),
        (
            r#"{"payload": {"siz": 1}}"#,
            "payload.siz: t.Payload has no such field",
        ),
        (r#"{"payload": 3}"#, "payload: expected an object, got 3"),
        (
            r#"{"payload": {"data": "*"}}"#,
            r#"payload.data: expected a string of base64, got "*""#,
        ),
        (
            r#"{"payload": {"long_list": ["1", 2, true]}}"#,
            "payload.long_list[2]: expected an integer of 64 bits, got true",
        ),
        (r#"{"payloads": {}}"#, "payloads: expected a list, got {}"),
        (
            r#"{"payloads": [{}, {"size": []}]}"#,
            "payloads[1].size: expected an integer of 32 bits, not negative, got []",
        ),
        (
            r#"{"payloads": [{}, null]}"#,
            "payloads[1]: expected an object, got null",
        ),
        (
            r#"{"byName": {"a b": {"size": {"b": 1}}}}"#,
            r#"byName["a b"].size: expected an integer of 32 bits, not negative, got an object"#,
        ),
        (
            r#"{"byNumber": {"1x": true}}"#,
            r#"byNumber["1x"]: expected a key that is an integer of the field's range, got "1x""#,
        ),
        (
            r#"{"byNumber": {"1": 1}}"#,
            r#"byNumber["1"]: expected true or false, got 1"#,
        ),
        (
            r#"{"colour": "REDD"}"#,
            r#"colour: t.Colour has no value "REDD""#,
        ),
        (
            r#"{"colour": {}}"#,
            "colour: expected the name or the number of an enum value, got {}",
        ),
        (
            r#"{"left": "a", "right": "b"}"#,
            "left: `choice` can hold one field, and has `right` already",
        ),
        (
            r#"{"pause": 1}"#,
            r#"pause: expected a duration such as "1.5s", got 1"#,
        ),
        (
            r#"{"maybe": "x"}"#,
            r#"maybe: expected an integer of 32 bits, got "x""#,
        ),
        (r#"{"any": 1}"#, "any: expected an object, got 1"),
        (
            r#"{"real": 1e300}"#,
            r#"real: expected a number, "NaN", "Infinity" or "-Infinity", got 1e+300"#,
        ),
        (
            r#"{"flag": "yes"}"#,
            r#"flag: expected true or false, got "yes""#,
        ),
        (r#"{"left": 1}"#, "left: expected a string, got 1"),
        (
            r#"{"huge": 18446744073709551616}"#,
            "huge: expected an integer of 64 bits, not negative, got 1.8446744073709552e+19",
        ),
        ("[]", "the message: expected an object, got []"),
    ];

    #[test]
    fn an_error_names_the_field() {
        for (text, expected) in MISFITS {
            let error = first(text).unwrap_err();
            assert!(matches!(error, JsonError::Misfit(_)), "{text}: {error}");
            assert_eq!(error.to_string(), *expected, "{text}");
        }
    }

    #[test]
    fn what_fits_is_not_called_a_misfit() {
        for text in [
            r#"{"payload": {"size": "7", "data": "AAEC", "longList": ["-9223372036854775808", 1e3]}}"#,
            r#"{"payload": null, "payloads": [{}], "by_name": {"a": {}}, "byNumber": {"-1": true}}"#,
            r#"{"colour": 1, "left": null, "right": "x", "pause": "1.5s", "maybe": 3, "any": {"a": [null]}}"#,
            r#"{"real": "NaN", "huge": 18446744073709551615, "flag": true, "colour": "RED"}"#,
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            first(text).unwrap();
            assert_eq!(fit::misfit(&descriptor(), &value), None, "{text}");
        }
    }

    #[test]
    fn hints_give_near_names() {
        let hint = |text| first(text).unwrap_err().hint().unwrap();
        assert_eq!(hint(r#"{"payload": {"siz": 1}}"#), "did you mean size?");
        assert_eq!(hint(r#"{"colour": "REDD"}"#), "did you mean RED?");
        assert_eq!(
            hint(r#"{"payload": {"w": 1}}"#),
            "known: size, data, longList"
        );
    }

    #[test]
    fn several_values_and_the_place_of_a_syntax_error() {
        let all: Vec<_> = messages(&descriptor(), b"{} {}\n{\"flag\": tru}\n{}").collect();
        assert_eq!(all.len(), 3);
        let error = all.into_iter().next_back().unwrap().unwrap_err();
        assert!(error.to_string().contains("line 2 column"), "{error}");
    }

    #[test]
    fn deep_nesting_is_a_syntax_error() {
        let deep = format!("{}1{}", r#"{"any":"#.repeat(200), "}".repeat(200));
        assert!(matches!(first(&deep), Err(JsonError::Syntax(_))));
    }
}
