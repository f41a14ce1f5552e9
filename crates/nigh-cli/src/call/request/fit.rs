//! Finds the field at which a JSON value stops fitting a message type. Pure.
//!
//! Bounded: the JSON parser has already refused values nested deeper than 128.

use std::fmt::{self, Write as _};

use prost_reflect::{
    DeserializeOptions, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor,
};
use serde_json::{Map, Value};

use super::super::near::{near, question};

/// Longest piece of the user's own value that is repeated in an error, in characters.
const QUOTED_MAX: usize = 40;

/// A place in a JSON value and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", .0.path, .0.wrong)]
pub struct Misfit(Box<Place>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    path: Path,
    wrong: Wrong,
}

impl Misfit {
    fn at(path: &Path, wrong: Wrong) -> Self {
        Self(Box::new(Place {
            path: path.clone(),
            wrong,
        }))
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match &self.0.wrong {
            Wrong::NoField { near, offered, .. } | Wrong::NoValue { near, offered, .. } => {
                question(near).or_else(|| {
                    (!offered.is_empty()).then(|| format!("known: {}", offered.join(", ")))
                })
            }
            Wrong::Expected { .. } | Wrong::Twice { .. } | Wrong::Rule(_) => None,
        }
    }
}

/// Names and indices from the outermost message inwards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Path(String);

impl Path {
    fn field(&self, name: &str) -> Self {
        let dot = if self.0.is_empty() { "" } else { "." };
        Self(format!("{}{dot}{name}", self.0))
    }

    fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key:?}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() {
            "the message"
        } else {
            &self.0
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Wrong {
    Expected {
        expected: &'static str,
        got: String,
    },
    NoField {
        message: String,
        near: Vec<String>,
        offered: Vec<String>,
    },
    NoValue {
        kind: String,
        got: String,
        near: Vec<String>,
        offered: Vec<String>,
    },
    Twice {
        oneof: String,
        other: String,
    },
    Rule(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expected { expected, got } => write!(f, "expected {expected}, got {got}"),
            Self::NoField { message, .. } => write!(f, "{message} has no such field"),
            Self::NoValue { kind, got, .. } => write!(f, "{kind} has no value {got}"),
            Self::Twice { oneof, other } => {
                write!(f, "`{oneof}` can hold one field, and has `{other}` already")
            }
            Self::Rule(rule) => f.write_str(rule),
        }
    }
}

/// The first place where `value` does not fit `descriptor`.
pub(super) fn misfit(descriptor: &MessageDescriptor, value: &Value) -> Option<Misfit> {
    in_message(&Path::default(), descriptor, value).err()
}

fn in_message(path: &Path, descriptor: &MessageDescriptor, value: &Value) -> Result<(), Misfit> {
    if descriptor.full_name().starts_with("google.protobuf.") {
        return in_well_known(path, descriptor, value);
    }
    let Value::Object(object) = value else {
        return expected(path, "an object", value);
    };
    for (name, value) in object {
        let path = path.field(name);
        let field = descriptor
            .get_field_by_json_name(name)
            .or_else(|| descriptor.get_field_by_name(name));
        match field {
            Some(_) if value.is_null() => {}
            Some(field) => {
                once(&path, &field, name, object)?;
                in_field(&path, &field, value)?;
            }
            // Extensions are in brackets; the library knows them and has its own words.
            None if name.starts_with('[') => {}
            None => return Err(no_field(&path, descriptor, name)),
        }
    }
    Ok(())
}

fn no_field(path: &Path, descriptor: &MessageDescriptor, name: &str) -> Misfit {
    let offered: Vec<String> = descriptor
        .fields()
        .map(|field| field.json_name().to_owned())
        .collect();
    Misfit::at(
        path,
        Wrong::NoField {
            message: descriptor.full_name().to_owned(),
            near: near(name, offered.iter().map(String::as_str)),
            offered,
        },
    )
}

/// A oneof takes one of its fields.
fn once(
    path: &Path,
    field: &FieldDescriptor,
    name: &str,
    object: &Map<String, Value>,
) -> Result<(), Misfit> {
    let Some(oneof) = field.containing_oneof() else {
        return Ok(());
    };
    let other = oneof.fields().filter(|other| other != field).find(|other| {
        [other.json_name(), other.name()]
            .iter()
            .any(|&key| key != name && object.get(key).is_some_and(|value| !value.is_null()))
    });
    match other {
        Some(other) => fail(
            path,
            Wrong::Twice {
                oneof: oneof.name().to_owned(),
                other: other.json_name().to_owned(),
            },
        ),
        None => Ok(()),
    }
}

fn in_field(path: &Path, field: &FieldDescriptor, value: &Value) -> Result<(), Misfit> {
    let kind = field.kind();
    if let (true, Kind::Message(entry)) = (field.is_map(), &kind) {
        let Value::Object(object) = value else {
            return expected(path, "an object", value);
        };
        let (keys, values) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        for (key, value) in object {
            let path = path.key(key);
            in_key(&path, &keys.kind(), key)?;
            in_kind(&path, &values.kind(), value)?;
        }
        return Ok(());
    }
    if field.is_list() {
        let Value::Array(array) = value else {
            return expected(path, "a list", value);
        };
        for (index, value) in array.iter().enumerate() {
            in_kind(&path.index(index), &kind, value)?;
        }
        return Ok(());
    }
    in_kind(path, &kind, value)
}

fn in_key(path: &Path, kind: &Kind, key: &str) -> Result<(), Misfit> {
    let good = match kind {
        Kind::String => true,
        Kind::Bool => matches!(key, "true" | "false"),
        // A key is always text, so a whole number is one that parses as its type.
        kind => in_kind(path, kind, &Value::String(key.to_owned())).is_ok(),
    };
    if good {
        return Ok(());
    }
    let wanted = match kind {
        Kind::Bool => "a key that is true or false",
        _ => "a key that is an integer of the field's range",
    };
    expected(path, wanted, &Value::String(key.to_owned()))
}

fn in_kind(path: &Path, kind: &Kind, value: &Value) -> Result<(), Misfit> {
    match kind {
        Kind::Message(message) => in_message(path, message, value),
        Kind::Enum(values) => in_enum(path, values, value),
        Kind::String => need(path, value.is_string(), "a string", value),
        Kind::Bool => need(path, value.is_boolean(), "true or false", value),
        Kind::Bytes => need(path, is_base64(value), "a string of base64", value),
        Kind::Double | Kind::Float => {
            let wanted = "a number, \"NaN\", \"Infinity\" or \"-Infinity\"";
            let top = if matches!(kind, Kind::Float) {
                f64::from(f32::MAX)
            } else {
                f64::MAX
            };
            need(path, is_float(value, top), wanted, value)
        }
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => integer(
            path,
            value,
            i32::MIN.into(),
            i32::MAX.into(),
            "an integer of 32 bits",
        ),
        Kind::Uint32 | Kind::Fixed32 => integer(
            path,
            value,
            0,
            u32::MAX.into(),
            "an integer of 32 bits, not negative",
        ),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => integer(
            path,
            value,
            i64::MIN.into(),
            i64::MAX.into(),
            "an integer of 64 bits",
        ),
        Kind::Uint64 | Kind::Fixed64 => integer(
            path,
            value,
            0,
            u64::MAX.into(),
            "an integer of 64 bits, not negative",
        ),
    }
}

fn integer(
    path: &Path,
    value: &Value,
    least: i128,
    most: i128,
    wanted: &'static str,
) -> Result<(), Misfit> {
    let number = match value {
        Value::Number(number) => number.as_i128().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let fits = number.is_some_and(|number| (least..=most).contains(&number));
    need(path, fits, wanted, value)
}

/// `1e3` and `2.0` are integers too.
fn whole(number: f64) -> Option<i128> {
    (number.fract() == 0.0).then(|| format!("{number:.0}").parse().ok())?
}

fn is_float(value: &Value, top: f64) -> bool {
    match value {
        Value::Number(number) => number.as_f64().is_some_and(|number| number.abs() <= top),
        Value::String(text) => text.parse::<f64>().is_ok(),
        _ => false,
    }
}

fn is_base64(value: &Value) -> bool {
    let Value::String(text) = value else {
        return false;
    };
    let digits = text.trim_end_matches('=');
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    let standard = digits
        .bytes()
        .all(|byte| plain(byte) || matches!(byte, b'+' | b'/'));
    let url_safe = digits
        .bytes()
        .all(|byte| plain(byte) || matches!(byte, b'-' | b'_'));
    (standard || url_safe) && digits.len() % 4 != 1
}

fn in_enum(path: &Path, values: &EnumDescriptor, value: &Value) -> Result<(), Misfit> {
    if values.full_name() == "google.protobuf.NullValue" {
        return need(
            path,
            value.is_null() || value == "NULL_VALUE",
            "null",
            value,
        );
    }
    let Value::String(name) = value else {
        let wanted = "the name or the number of an enum value";
        return integer(path, value, i32::MIN.into(), i32::MAX.into(), wanted);
    };
    if values.get_value_by_name(name).is_some() {
        return Ok(());
    }
    let offered: Vec<String> = values
        .values()
        .map(|value| value.name().to_owned())
        .collect();
    fail(
        path,
        Wrong::NoValue {
            kind: values.full_name().to_owned(),
            got: quoted(value),
            near: near(name, offered.iter().map(String::as_str)),
            offered,
        },
    )
}

/// Google's types have JSON forms of their own, which the library checks.
fn in_well_known(path: &Path, descriptor: &MessageDescriptor, value: &Value) -> Result<(), Misfit> {
    let wanted = match descriptor.full_name() {
        "google.protobuf.Duration" => "a duration such as \"1.5s\"",
        "google.protobuf.Timestamp" => "a time such as \"2006-01-02T15:04:05Z\"",
        "google.protobuf.FieldMask" => "field names separated by commas",
        "google.protobuf.Empty" => "an empty object",
        "google.protobuf.Struct" => "an object",
        "google.protobuf.ListValue" => "a list",
        // A wrapper fits what its one field fits.
        name if name.ends_with("Value") && name != "google.protobuf.Value" => {
            return match descriptor.get_field_by_name("value") {
                Some(field) => in_field(path, &field, value),
                None => Ok(()),
            };
        }
        _ => "",
    };
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    match DynamicMessage::deserialize_with_options(descriptor.clone(), value, &options) {
        Ok(_) => Ok(()),
        Err(_) if !wanted.is_empty() => expected(path, wanted, value),
        Err(error) => fail(path, Wrong::Rule(error.to_string())),
    }
}

fn need(path: &Path, fits: bool, wanted: &'static str, value: &Value) -> Result<(), Misfit> {
    if fits {
        return Ok(());
    }
    expected(path, wanted, value)
}

fn expected(path: &Path, wanted: &'static str, value: &Value) -> Result<(), Misfit> {
    fail(
        path,
        Wrong::Expected {
            expected: wanted,
            got: quoted(value),
        },
    )
}

fn fail(path: &Path, wrong: Wrong) -> Result<(), Misfit> {
    Err(Misfit::at(path, wrong))
}

/// The value as JSON, cut short.
fn quoted(value: &Value) -> String {
    match value {
        Value::Object(object) if !object.is_empty() => return "an object".to_owned(),
        Value::Array(array) if !array.is_empty() => return "a list".to_owned(),
        _ => {}
    }
    let text = value.to_string();
    if text.chars().count() <= QUOTED_MAX {
        return text;
    }
    let mut short: String = text.chars().take(QUOTED_MAX).collect();
    // Writing to a string cannot fail.
    let _ = write!(short, "… ({} characters)", text.chars().count());
    short
}
