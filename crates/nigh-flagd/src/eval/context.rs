//! What a rule sees: the caller's attributes, then the operator's, which a caller cannot override.

use datalogic_rs::DataValue;
use datalogic_rs::bumpalo::Bump;
use datalogic_rs::bumpalo::collections::Vec as ArenaVec;
use prost_types::Struct;
use serde_json::{Map, Value};

use crate::value::{json_in, proto_in};

/// The attributes that came with a request.
#[derive(Debug, Clone, Copy, Default)]
pub enum Attributes<'a> {
    /// None at all.
    #[default]
    None,
    /// As gRPC and Connect carry them.
    Proto(&'a Struct),
    /// As OFREP carries them.
    Json(&'a Map<String, Value>),
}

/// Everything an evaluation is about, except the flag.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'a> {
    /// Lowest priority: what the caller says.
    pub request: Attributes<'a>,
    /// What the sources' own operators fixed: over the request, under everything else. Each key once.
    pub upstream: &'a [(String, Value)],
    /// What the operator fixed for everybody.
    pub fixed: &'a [(String, Value)],
    /// Highest priority: what is known about this caller. Of equal keys the last one wins.
    pub caller: &'a [(String, Value)],
    /// Seconds since 1970, for `$flagd.timestamp`.
    pub now: i64,
}

const OWN: &str = "$flagd";

impl<'a> Context<'a> {
    /// The merged attributes with `$flagd`, as a rule's input.
    pub(super) fn input(&self, flag_key: &'a str, arena: &'a Bump) -> DataValue<'a> {
        let claimed = match self.request {
            Attributes::None => 0,
            Attributes::Proto(members) => members.fields.len(),
            Attributes::Json(members) => members.len(),
        };
        let room = claimed + self.upstream.len() + self.fixed.len() + self.caller.len() + 1;
        let mut members = ArenaVec::with_capacity_in(room, arena);
        match self.request {
            Attributes::None => {}
            Attributes::Proto(message) => {
                let free = message
                    .fields
                    .iter()
                    .filter(|(key, _)| !self.overrides(key));
                members.extend(free.map(|(key, value)| (key.as_str(), proto_in(value, arena))));
            }
            Attributes::Json(object) => {
                let free = object.iter().filter(|(key, _)| !self.overrides(key));
                members.extend(free.map(|(key, value)| (key.as_str(), json_in(value, arena))));
            }
        }
        let known =
            |list: &[(String, Value)], key: &str| list.iter().any(|(other, _)| other == key);
        for (key, value) in self.upstream {
            if !known(self.fixed, key) && !known(self.caller, key) && key != OWN {
                members.push((key.as_str(), json_in(value, arena)));
            }
        }
        for (key, value) in self.fixed {
            if !known(self.caller, key) && key != OWN {
                members.push((key.as_str(), json_in(value, arena)));
            }
        }
        for (index, (key, value)) in self.caller.iter().enumerate() {
            if !known(&self.caller[index + 1..], key) && key != OWN {
                members.push((key.as_str(), json_in(value, arena)));
            }
        }
        let own = arena.alloc_slice_fill_iter([
            ("flagKey", DataValue::from_borrowed_str(flag_key)),
            ("timestamp", DataValue::from_i64(self.now)),
        ]);
        members.push((OWN, DataValue::Object(own)));
        DataValue::Object(members.into_bump_slice())
    }

    fn overrides(&self, key: &str) -> bool {
        let mut own = self.fixed.iter().chain(self.caller).chain(self.upstream);
        key == OWN || own.any(|(other, _)| other == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_operator_wins_over_the_caller() {
        let arena = Bump::new();
        let request = json!({"a": 1, "b": 1, "c": 1, "d": 1, "$flagd": {"flagKey": "forged"}});
        let own = |pairs: &[(&str, i64)]| -> Vec<(String, Value)> {
            let pairs = pairs.iter();
            pairs
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect()
        };
        let upstream = own(&[("b", 5), ("d", 5), ("$flagd", 5)]);
        let fixed = own(&[("b", 2), ("c", 2), ("$flagd", 2)]);
        let caller = own(&[("c", 3), ("c", 4)]);
        let context = Context {
            request: Attributes::Json(request.as_object().unwrap()),
            upstream: &upstream,
            fixed: &fixed,
            caller: &caller,
            now: 7,
        };
        let input = context.input("k", &arena);
        assert_eq!(
            input.to_json_string(),
            r#"{"a":1,"d":5,"b":2,"c":4,"$flagd":{"flagKey":"k","timestamp":7}}"#
        );
    }
}
