//! One JSON value in four shapes: serde's, protobuf's `Struct`, the rule engine's and its input in an arena.
//!
//! A protobuf number is a double: 1.0 is the integer 1 in JSON and in rules, as it is for flagd.

use std::collections::BTreeMap;

use datalogic_rs::DataValue;
use datalogic_rs::bumpalo::Bump;
use datalogic_rs::datavalue::OwnedDataValue;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use serde_json::{Map, Number, Value};

/// Largest magnitude up to which every integral double is one integer: 2^53.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// The integer that a double stands for, if it stands for exactly one.
#[must_use]
pub fn integral(number: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "integral and at most 2^53")]
    (number.fract() == 0.0 && number.abs() <= EXACT_MAX).then_some(number as i64)
}

/// A double as a JSON number, integral ones without a fraction; `null` for what JSON cannot say.
#[must_use]
pub fn json_number(number: f64) -> Value {
    match integral(number) {
        Some(integer) => Value::from(integer),
        None => Number::from_f64(number).map_or(Value::Null, Value::Number),
    }
}

/// Gives every number in `value` its one spelling: 1.0 becomes 1, which it is to everybody who evaluates.
pub(crate) fn spell_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            if let Some(integer) = number.as_f64().and_then(integral) {
                *number = integer.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(spell_numbers),
        Value::Object(members) => members.values_mut().for_each(spell_numbers),
        _ => {}
    }
}

/// JSON members as a protobuf `Struct`.
#[must_use]
pub fn to_struct(members: &Map<String, Value>) -> Struct {
    let fields = members
        .iter()
        .map(|(key, value)| (key.clone(), to_proto(value)));
    Struct {
        fields: fields.collect(),
    }
}

/// A JSON value as a protobuf `Value`.
#[must_use]
pub fn to_proto(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(truth) => Kind::BoolValue(*truth),
        // Every JSON number that serde holds has a nearest double.
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(to_proto).collect(),
        }),
        Value::Object(members) => Kind::StructValue(to_struct(members)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// A protobuf `Struct` as JSON members.
#[must_use]
pub fn to_members(message: &Struct) -> Map<String, Value> {
    let members = message.fields.iter();
    members
        .map(|(key, value)| (key.clone(), to_json(value)))
        .collect()
}

/// A protobuf `Value` as JSON.
#[must_use]
pub fn to_json(value: &prost_types::Value) -> Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(truth)) => Value::Bool(*truth),
        Some(Kind::NumberValue(number)) => json_number(*number),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::ListValue(list)) => Value::Array(list.values.iter().map(to_json).collect()),
        Some(Kind::StructValue(members)) => Value::Object(to_members(members)),
    }
}

/// A rule in the engine's own shape.
pub(crate) fn to_rule(value: &Value) -> OwnedDataValue {
    match value {
        Value::Null => OwnedDataValue::from(()),
        Value::Bool(truth) => OwnedDataValue::from(*truth),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => OwnedDataValue::from_i64(integer),
            None => OwnedDataValue::from_f64(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => OwnedDataValue::from(text.as_str()),
        Value::Array(items) => OwnedDataValue::array(items.iter().map(to_rule)),
        Value::Object(members) => {
            OwnedDataValue::object(members.iter().map(|(key, value)| (key, to_rule(value))))
        }
    }
}

/// A JSON value as a rule's input; strings are borrowed.
pub(crate) fn json_in<'a>(value: &'a Value, arena: &'a Bump) -> DataValue<'a> {
    match value {
        Value::Null => DataValue::null(),
        Value::Bool(truth) => DataValue::bool(*truth),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => DataValue::from_i64(integer),
            None => double(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => DataValue::from_borrowed_str(text),
        Value::Array(items) => {
            let items = items.iter().map(|item| json_in(item, arena));
            DataValue::Array(arena.alloc_slice_fill_iter(items))
        }
        Value::Object(members) => {
            let members = members
                .iter()
                .map(|(key, value)| (key.as_str(), json_in(value, arena)));
            DataValue::Object(arena.alloc_slice_fill_iter(members))
        }
    }
}

/// A protobuf value as a rule's input; strings are borrowed.
pub(crate) fn proto_in<'a>(value: &'a prost_types::Value, arena: &'a Bump) -> DataValue<'a> {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => DataValue::null(),
        Some(Kind::BoolValue(truth)) => DataValue::bool(*truth),
        Some(Kind::NumberValue(number)) => double(*number),
        Some(Kind::StringValue(text)) => DataValue::from_borrowed_str(text),
        Some(Kind::ListValue(list)) => {
            let items = list.values.iter().map(|item| proto_in(item, arena));
            DataValue::Array(arena.alloc_slice_fill_iter(items))
        }
        Some(Kind::StructValue(members)) => DataValue::Object(members_in(&members.fields, arena)),
    }
}

fn members_in<'a>(
    members: &'a BTreeMap<String, prost_types::Value>,
    arena: &'a Bump,
) -> &'a [(&'a str, DataValue<'a>)] {
    let members = members
        .iter()
        .map(|(key, value)| (key.as_str(), proto_in(value, arena)));
    arena.alloc_slice_fill_iter(members)
}

fn double<'a>(number: f64) -> DataValue<'a> {
    match integral(number) {
        Some(integer) => DataValue::from_i64(integer),
        None => DataValue::from_f64(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_number_has_many_spellings() {
        let mut value = json!({"x": [1.0, {"y": -0.0}, 1.5], "w": 9007199254740993_u64});
        spell_numbers(&mut value);
        assert_eq!(
            value.to_string(),
            r#"{"w":9007199254740993,"x":[1,{"y":0},1.5]}"#
        );
    }

    #[test]
    fn what_goes_over_the_wire_comes_back() {
        let members = json!({"a": null, "b": [true, "x", 1.5, -3], "c": {"d": {}}});
        let members = members.as_object().unwrap();
        assert_eq!(to_members(&to_struct(members)), *members);
        let arena = Bump::new();
        let value = json!({"b": [true, "x", 1.5, 7.0]});
        assert_eq!(
            json_in(&value, &arena).to_json_string(),
            r#"{"b":[true,"x",1.5,7]}"#
        );
        let proto = to_proto(&value);
        assert_eq!(
            proto_in(&proto, &arena).to_json_string(),
            r#"{"b":[true,"x",1.5,7]}"#
        );
    }
}
