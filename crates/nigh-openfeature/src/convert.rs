//! Between OpenFeature's types and flagd's messages.

use std::collections::{BTreeMap, HashMap};

use open_feature::provider::ResolutionDetails;
use open_feature::{
    EvaluationContext, EvaluationContextFieldValue, EvaluationError, EvaluationErrorCode,
    EvaluationReason, FlagMetadata, FlagMetadataValue, StructValue, Value,
};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use tonic::{Code, Status};

/// Depth of nested values: a daemon cannot make us run out of stack.
const DEPTH_MAX: usize = 64;

/// A value of any of the five types.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Plain {
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
    Struct(StructValue),
}

impl Default for Plain {
    fn default() -> Self {
        Self::Bool(false)
    }
}

/// An answer that says something.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Answer {
    pub(crate) value: Plain,
    pub(crate) variant: Option<String>,
    pub(crate) reason: String,
    pub(crate) metadata: FlagMetadata,
}

/// A type that flags are asked as.
pub(crate) trait Typed: Sized {
    fn of(plain: Plain) -> Option<Self>;
}

macro_rules! typed {
    ($($kind:ident $type:ty)*) => { $(
        impl Typed for $type {
            fn of(plain: Plain) -> Option<Self> {
                match plain {
                    Plain::$kind(value) => Some(value),
                    _ => None,
                }
            }
        }
    )* };
}
typed!(Bool bool Int i64 Float f64 String String Struct StructValue);

/// What the caller gets; `None` where the answer is of another type.
pub(crate) fn details<T: Typed>(answer: Answer, is_kept: bool) -> Option<ResolutionDetails<T>> {
    Some(ResolutionDetails {
        value: T::of(answer.value)?,
        variant: answer.variant,
        reason: Some(match answer.reason.as_str() {
            _ if is_kept => EvaluationReason::Cached,
            "STATIC" => EvaluationReason::Static,
            "DEFAULT" => EvaluationReason::Default,
            "TARGETING_MATCH" => EvaluationReason::TargetingMatch,
            "SPLIT" => EvaluationReason::Split,
            "DISABLED" => EvaluationReason::Disabled,
            other => EvaluationReason::Other(other.to_owned()),
        }),
        flag_metadata: Some(answer.metadata),
    })
}

pub(crate) fn error(code: EvaluationErrorCode, message: impl Into<String>) -> EvaluationError {
    EvaluationError {
        code,
        message: Some(message.into()),
    }
}

/// The daemon leaves the value to the code that asks, which is an error to the SDK: it has no default to give.
pub(crate) fn no_value(key: &str, reason: &str) -> EvaluationError {
    let why = match reason {
        "DISABLED" => "is disabled",
        _ => "has no default variant",
    };
    let text = format!("flag {key:?} {why}: the default in your code counts");
    error(EvaluationErrorCode::FlagNotFound, text)
}

pub(crate) fn failure(status: &Status, was_ready: bool) -> EvaluationError {
    let code = match status.code() {
        Code::NotFound => EvaluationErrorCode::FlagNotFound,
        Code::InvalidArgument => EvaluationErrorCode::TypeMismatch,
        Code::DataLoss => EvaluationErrorCode::ParseError,
        Code::Unavailable if !was_ready => EvaluationErrorCode::ProviderNotReady,
        other => EvaluationErrorCode::General(format!("{other:?}")),
    };
    error(code, status.message())
}

/// The attributes as the daemon takes them.
pub(crate) fn context(context: &EvaluationContext) -> Result<Struct, EvaluationError> {
    let mut fields = BTreeMap::new();
    for (key, field) in &context.custom_fields {
        let kind = match field {
            EvaluationContextFieldValue::Bool(truth) => Kind::BoolValue(*truth),
            #[expect(
                clippy::cast_precision_loss,
                reason = "numbers are doubles on the wire, and in rules"
            )]
            EvaluationContextFieldValue::Int(number) => Kind::NumberValue(*number as f64),
            EvaluationContextFieldValue::Float(number) => Kind::NumberValue(*number),
            EvaluationContextFieldValue::String(text) => Kind::StringValue(text.clone()),
            EvaluationContextFieldValue::DateTime(time) => {
                let ((year, month, day), (hour, minute, second)) =
                    (time.to_calendar_date(), time.to_hms());
                let (east, minutes, _) = time.offset().as_hms();
                let sign = if time.offset().is_negative() {
                    '-'
                } else {
                    '+'
                };
                let (nanosecond, month) = (time.nanosecond(), u8::from(month));
                let (east, minutes) = (east.unsigned_abs(), minutes.unsigned_abs());
                Kind::StringValue(format!(
                    "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanosecond:09}{sign}{east:02}:{minutes:02}"
                ))
            }
            EvaluationContextFieldValue::Struct(any) => {
                let structure = any.downcast_ref::<StructValue>().map(to_struct);
                let structure = structure.map(Kind::StructValue);
                let other = || any.downcast_ref::<Value>().map(to_kind);
                structure.or_else(other).ok_or_else(|| {
                    let text =
                        format!("attribute {key:?} is no open_feature::StructValue or Value");
                    error(EvaluationErrorCode::InvalidContext, text)
                })?
            }
        };
        fields.insert(key.clone(), prost_types::Value { kind: Some(kind) });
    }
    if let Some(key) = &context.targeting_key {
        let kind = Some(Kind::StringValue(key.clone()));
        fields.insert("targetingKey".to_owned(), prost_types::Value { kind });
    }
    Ok(Struct { fields })
}

fn to_struct(value: &StructValue) -> Struct {
    let fields = value.fields.iter();
    let fields = fields.map(|(key, value)| {
        let kind = Some(to_kind(value));
        (key.clone(), prost_types::Value { kind })
    });
    Struct {
        fields: fields.collect(),
    }
}

fn to_kind(value: &Value) -> Kind {
    match value {
        Value::Bool(truth) => Kind::BoolValue(*truth),
        #[expect(
            clippy::cast_precision_loss,
            reason = "numbers are doubles on the wire"
        )]
        Value::Int(number) => Kind::NumberValue(*number as f64),
        Value::Float(number) => Kind::NumberValue(*number),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue {
            values: items
                .iter()
                .map(|item| prost_types::Value {
                    kind: Some(to_kind(item)),
                })
                .collect(),
        }),
        Value::Struct(members) => Kind::StructValue(to_struct(members)),
    }
}

/// A value of the daemon's. Nulls, which the SDK has no word for, are left out.
pub(crate) fn of_struct(message: Struct) -> StructValue {
    members(message, 0)
}

fn members(message: Struct, depth: usize) -> StructValue {
    let fields = message.fields.into_iter();
    let fields = fields.filter_map(|(key, value)| Some((key, value_of(value, depth + 1)?)));
    StructValue {
        fields: fields.collect(),
    }
}

fn value_of(value: prost_types::Value, depth: usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        return None;
    }
    Some(match value.kind? {
        Kind::NullValue(_) => return None,
        Kind::BoolValue(truth) => Value::Bool(truth),
        Kind::NumberValue(number) => Value::Float(number),
        Kind::StringValue(text) => Value::String(text),
        Kind::ListValue(list) => {
            let items = list.values.into_iter();
            Value::Array(items.filter_map(|item| value_of(item, depth + 1)).collect())
        }
        Kind::StructValue(message) => Value::Struct(members(message, depth)),
    })
}

/// Facts about a flag; whole numbers are integers, as their authors wrote them.
pub(crate) fn metadata(message: Struct) -> FlagMetadata {
    let fields = message.fields.into_iter();
    let values: HashMap<String, FlagMetadataValue> = fields
        .filter_map(|(key, value)| {
            let value = match value.kind? {
                Kind::BoolValue(truth) => FlagMetadataValue::Bool(truth),
                Kind::StringValue(text) => FlagMetadataValue::String(text),
                Kind::NumberValue(number) => match integer(number) {
                    Some(integer) => FlagMetadataValue::Int(integer),
                    None => FlagMetadataValue::Float(number),
                },
                _ => return None,
            };
            Some((key, value))
        })
        .collect();
    FlagMetadata { values }
}

/// Largest count that a double makes without a gap.
const INTEGER_MAX: f64 = 9_007_199_254_740_991.0;

fn integer(number: f64) -> Option<i64> {
    if number.fract() != 0.0 || number.abs() > INTEGER_MAX {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and in range")]
    Some(number as i64)
}

/// The keys that a change is about.
pub(crate) fn changed(data: Option<Struct>) -> Vec<String> {
    let mut fields = data.map(|data| data.fields).unwrap_or_default();
    match fields.remove("flags").and_then(|flags| flags.kind) {
        Some(Kind::StructValue(flags)) => flags.fields.into_keys().collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_attribute_is_carried() {
        let nested = StructValue {
            fields: [("x".to_owned(), Value::Array(vec![Value::Int(1)]))].into(),
        };
        let asked = EvaluationContext::default()
            .with_targeting_key("me")
            .with_custom_field("yes", true)
            .with_custom_field("n", 3_i64)
            .with_custom_field("f", 0.5)
            .with_custom_field("t", "text")
            .with_custom_field("s", EvaluationContextFieldValue::new_struct(nested.clone()));
        let carried = of_struct(context(&asked).unwrap());
        let expected = [
            ("targetingKey", Value::String("me".into())),
            ("yes", Value::Bool(true)),
            ("n", Value::Float(3.0)),
            ("f", Value::Float(0.5)),
            ("t", Value::String("text".into())),
        ];
        for (key, value) in expected {
            assert_eq!(carried.fields[key], value, "{key}");
        }
        let Value::Struct(inner) = &carried.fields["s"] else {
            panic!("{carried:?}");
        };
        assert_eq!(inner.fields["x"], Value::Array(vec![Value::Float(1.0)]));
        let strange = EvaluationContext::default()
            .with_custom_field("s", EvaluationContextFieldValue::new_struct(1_u8));
        let error = context(&strange).unwrap_err();
        assert_eq!(error.code, EvaluationErrorCode::InvalidContext);
    }

    #[test]
    fn depth_is_bounded() {
        let mut value = prost_types::Value {
            kind: Some(Kind::BoolValue(true)),
        };
        for _ in 0..1000 {
            let values = vec![value];
            value = prost_types::Value {
                kind: Some(Kind::ListValue(ListValue { values })),
            };
        }
        let fields = BTreeMap::from([("deep".to_owned(), value)]);
        assert_eq!(of_struct(Struct { fields }).fields.len(), 1);
    }

    #[test]
    fn metadata_keeps_whole_numbers_whole() {
        let number = |number| prost_types::Value {
            kind: Some(Kind::NumberValue(number)),
        };
        let fields = BTreeMap::from([("a".to_owned(), number(3.0)), ("b".to_owned(), number(3.5))]);
        let metadata = metadata(Struct { fields }).values;
        assert_eq!(metadata["a"], FlagMetadataValue::Int(3));
        assert_eq!(metadata["b"], FlagMetadataValue::Float(3.5));
    }
}
