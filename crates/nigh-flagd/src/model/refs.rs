//! Shared rules: `{"$ref": "name"}` stands for the rule of that name in `$evaluators`.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Map, Value};

use super::place::Step;

/// Values that shared rules may put in, over a whole set.
const PUT_IN_MAX: usize = 5_000_000;

/// Depth up to which rules are put in: what JSON text may have.
const DEPTH_MAX: usize = 128;

/// The rules grew over [`PUT_IN_MAX`].
#[derive(Debug)]
pub(super) struct TooLarge;

/// Puts shared rules into values, and remembers the names that were not there.
pub(super) struct Refs<'a> {
    evaluators: Option<&'a Map<String, Value>>,
    /// Shared by all who put rules into the same set.
    put_in: &'a AtomicUsize,
    /// Names without a rule, and where they were.
    pub(super) missing: Vec<(String, Vec<Step>)>,
}

impl<'a> Refs<'a> {
    pub(super) fn new(evaluators: Option<&'a Map<String, Value>>, put_in: &'a AtomicUsize) -> Self {
        Self {
            evaluators,
            put_in,
            missing: Vec::new(),
        }
    }

    /// Another for the same set, with names of its own that are missing.
    pub(super) fn sibling(&self) -> Self {
        Self::new(self.evaluators, self.put_in)
    }

    /// `value` with every reference replaced; one to nothing, or to itself, stays and so fails later. `path` is asked
    /// where `value` is.
    pub(super) fn put_in(
        &mut self,
        value: Value,
        path: impl FnOnce() -> Vec<Step>,
    ) -> Result<Value, TooLarge> {
        // Nothing to do is the common case, and costs nothing.
        if !mentions(&value) {
            return Ok(value);
        }
        self.walk(&value, &mut path(), &mut BTreeSet::new(), 0)
    }

    fn walk(
        &mut self,
        value: &Value,
        path: &mut Vec<Step>,
        inside: &mut BTreeSet<&'a str>,
        depth: usize,
    ) -> Result<Value, TooLarge> {
        if depth > DEPTH_MAX {
            return Err(TooLarge);
        }
        Ok(match value {
            Value::Array(items) => {
                let mut out = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    path.push(Step::Item(index));
                    out.push(self.walk(item, path, inside, depth + 1)?);
                    path.pop();
                }
                Value::Array(out)
            }
            Value::Object(members) => match reference(members) {
                Some(name) => self.resolve(name, value, path, inside, depth)?,
                None => {
                    let mut out = Map::new();
                    for (key, member) in members {
                        path.push(Step::Member(key.clone()));
                        out.insert(key.clone(), self.walk(member, path, inside, depth + 1)?);
                        path.pop();
                    }
                    Value::Object(out)
                }
            },
            other => other.clone(),
        })
    }

    fn resolve(
        &mut self,
        name: &str,
        reference: &Value,
        path: &mut Vec<Step>,
        inside: &mut BTreeSet<&'a str>,
        depth: usize,
    ) -> Result<Value, TooLarge> {
        let rule = self.evaluators;
        let rule = rule.and_then(|evaluators| evaluators.get_key_value(name));
        let Some((name, rule)) = rule.filter(|_| !inside.contains(name)) else {
            self.missing.push((name.to_owned(), path.clone()));
            return Ok(reference.clone());
        };
        let count = count(rule);
        if self.put_in.fetch_add(count, Ordering::Relaxed) + count > PUT_IN_MAX {
            return Err(TooLarge);
        }
        inside.insert(name);
        let value = self.walk(rule, path, inside, depth + 1);
        inside.remove(name.as_str());
        value
    }
}

fn reference(members: &Map<String, Value>) -> Option<&str> {
    match members.get("$ref") {
        Some(Value::String(name)) if members.len() == 1 => Some(name),
        _ => None,
    }
}

fn mentions(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(mentions),
        Value::Object(members) => reference(members).is_some() || members.values().any(mentions),
        _ => false,
    }
}

fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(count).sum::<usize>(),
        _ => 1,
    }
}
