//! YAML 1.2 to JSON values: core schema, string keys, merge keys (`<<`) left alone, aliases put in.
//!
//! Depth and the size of what aliases put in are limited, so that a small text cannot become a large value.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};
use serde_json::{Map, Value};

use super::error::{Fault, LoadError};
use super::place::{Place, Step};

/// As deep as serde_json goes.
const DEPTH_MAX: usize = 128;

/// Values that aliases may put in.
const ALIASED_MAX: usize = 1_000_000;

/// Reads the first and only document.
pub(super) fn parse(text: &str) -> Result<Value, LoadError> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| syntax(&error))?;
        builder
            .take(event)
            .map_err(|fault| at(*builder_place(&span), fault))?;
    }
    builder.done.ok_or(LoadError {
        place: Place::START,
        fault: Fault::Empty,
    })
}

fn builder_place(span: &Span) -> &Marker {
    &span.start
}

fn syntax(error: &ScanError) -> LoadError {
    at(*error.marker(), Fault::Syntax(error.info().to_owned()))
}

fn at(marker: Marker, fault: Fault) -> LoadError {
    LoadError {
        place: place(marker),
        fault,
    }
}

fn place(marker: Marker) -> Place {
    Place {
        line: marker.line().max(1),
        column: marker.col() + 1,
    }
}

enum Open {
    Items(Vec<Value>),
    Members {
        members: Map<String, Value>,
        key: Option<String>,
    },
}

/// A value that aliases may put in.
#[derive(Clone)]
struct Anchored {
    value: Value,
    /// Values in it, and levels.
    count: usize,
    depth: usize,
}

#[derive(Default)]
struct Builder {
    /// What is being read, outermost first, with its anchor.
    open: Vec<(Open, usize)>,
    anchors: HashMap<usize, Anchored>,
    aliased: usize,
    done: Option<Value>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>) -> Result<(), Fault> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref())?;
                self.add(value, anchor)
            }
            Event::SequenceStart(anchor, _) => self.enter(Open::Items(Vec::new()), anchor),
            Event::MappingStart(anchor, _) => {
                let members = Map::new();
                self.enter(Open::Members { members, key: None }, anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some((open, anchor)) = self.open.pop() else {
                    return Ok(());
                };
                let value = match open {
                    Open::Items(items) => Value::Array(items),
                    Open::Members { members, .. } => Value::Object(members),
                };
                self.add(value, anchor)
            }
            Event::Alias(anchor) => {
                let Some(found) = self.anchors.get(&anchor) else {
                    return Err(Fault::Syntax("an alias inside its own anchor".into()));
                };
                self.aliased += found.count;
                if self.aliased > ALIASED_MAX {
                    return Err(Fault::Syntax("its aliases make it too large".into()));
                }
                if self.open.len() + found.depth > DEPTH_MAX {
                    return Err(too_deep());
                }
                let value = found.value.clone();
                self.add(value, 0)
            }
            Event::DocumentStart(_) if self.done.is_some() => Err(Fault::Syntax(
                "a second document: there can be only one".into(),
            )),
            _ => Ok(()),
        }
    }

    fn enter(&mut self, open: Open, anchor: usize) -> Result<(), Fault> {
        if self.open.len() >= DEPTH_MAX {
            return Err(too_deep());
        }
        self.open.push((open, anchor));
        Ok(())
    }

    fn add(&mut self, value: Value, anchor: usize) -> Result<(), Fault> {
        if anchor != 0 {
            let (count, depth) = size(&value);
            let value = value.clone();
            let anchored = Anchored {
                value,
                count,
                depth,
            };
            self.anchors.insert(anchor, anchored);
        }
        match self.open.last_mut() {
            None => self.done = Some(value),
            Some((Open::Items(items), _)) => items.push(value),
            Some((Open::Members { members, key }, _)) => match key.take() {
                None => *key = Some(key_text(&value)?),
                Some(name) if members.contains_key(&name) => {
                    return Err(Fault::Syntax(format!("the key {name:?} is there twice")));
                }
                Some(name) => {
                    members.insert(name, value);
                }
            },
        }
        Ok(())
    }
}

/// A key as text: `true:` and `1:` are names like others.
fn key_text(value: &Value) -> Result<String, Fault> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(_) | Value::Object(_) => Err(Fault::Syntax("a key is no plain text".into())),
        other => Ok(other.to_string()),
    }
}

fn too_deep() -> Fault {
    Fault::Syntax(format!("deeper than {DEPTH_MAX} levels"))
}

/// How many values there are in `value`, and how many levels.
fn size(value: &Value) -> (usize, usize) {
    let add = |(count, depth): (usize, usize), inner: &Value| {
        let (more, below) = size(inner);
        (count + more, depth.max(below + 1))
    };
    match value {
        Value::Array(items) => items.iter().fold((1, 1), add),
        Value::Object(members) => members.values().fold((1, 1), add),
        _ => (1, 0),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, Fault> {
    let core = tag.filter(|tag| tag.is_yaml_core_schema());
    let plain = match core.map(|tag| tag.suffix.as_str()) {
        Some("str") => return Ok(Value::String(text.to_owned())),
        None => style == ScalarStyle::Plain,
        Some(_) => true,
    };
    if !plain {
        return Ok(Value::String(text.to_owned()));
    }
    let number = || -> Option<Value> {
        let digits = text.strip_prefix('+').unwrap_or(text);
        if let Some(hex) = text.strip_prefix("0x") {
            return i64::from_str_radix(hex, 16).ok().map(Value::from);
        }
        if let Some(octal) = text.strip_prefix("0o") {
            return i64::from_str_radix(octal, 8).ok().map(Value::from);
        }
        let first = digits.trim_start_matches('-').bytes().next()?;
        if !(first.is_ascii_digit() || first == b'.') {
            return None;
        }
        if let Ok(integer) = digits.parse::<i64>() {
            return Some(Value::from(integer));
        }
        let float: f64 = digits.parse().ok()?;
        serde_json::Number::from_f64(float).map(Value::Number)
    };
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        ".inf" | "-.inf" | "+.inf" | ".Inf" | "-.Inf" | ".nan" | ".NaN" | ".NAN" => {
            return Err(Fault::Syntax(format!("{text} has no place in JSON")));
        }
        _ => number().unwrap_or_else(|| Value::String(text.to_owned())),
    })
}

/// Where the value at `path` begins, or the last value on the way that is there.
pub(super) fn locate(text: &str, path: &[Step]) -> Place {
    let mut found = Place::START;
    let mut seen: Vec<Level> = Vec::new();
    // Steps of `path` that lead to the container now being read.
    let mut matched = 0;
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else { break };
        let is_key = matches!(
            (seen.last(), &event),
            (
                Some(Level {
                    key: None,
                    is_map: true,
                    ..
                }),
                Event::Scalar(..)
            )
        );
        if is_key {
            if let (Some(level), Event::Scalar(name, ..)) = (seen.last_mut(), &event) {
                level.key = Some(name.to_string());
            }
            continue;
        }
        let begins = matches!(
            event,
            Event::Scalar(..)
                | Event::Alias(_)
                | Event::SequenceStart(..)
                | Event::MappingStart(..)
        );
        let mut on_path = false;
        if begins {
            let inside = seen.len() == matched;
            let wanted = seen.last_mut().map(Level::next);
            on_path = match (&wanted, matched) {
                (None, _) => true,
                (Some(step), matched) => inside && path.get(matched - 1) == Some(step),
            };
            if on_path {
                found = place(span.start);
            }
        }
        match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if on_path && seen.len() == matched {
                    matched += 1;
                }
                let is_map = matches!(event, Event::MappingStart(..));
                seen.push(Level {
                    is_map,
                    key: None,
                    item: 0,
                });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                seen.pop();
                if seen.len() < matched {
                    // The container on the path is over: nothing deeper can be found any more.
                    break;
                }
            }
            _ => {}
        }
    }
    found
}

struct Level {
    is_map: bool,
    key: Option<String>,
    item: usize,
}

impl Level {
    /// The step to the value that begins now.
    fn next(&mut self) -> Step {
        match self.key.take() {
            Some(key) if self.is_map => Step::Member(key),
            _ => {
                self.item += 1;
                Step::Item(self.item - 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_those_of_the_core_schema() {
        let text = "a: [1, 0x10, 1.5, yes, 'true', true, ~, \"x\", !!str 1, 1e3]\n1: {b: -2}\nc: &x {d: 1}\ne: *x\n";
        let value = parse(text).unwrap();
        let expected = json!({
            "a": [1, 16, 1.5, "yes", "true", true, null, "x", "1", 1000.0],
            "1": {"b": -2}, "c": {"d": 1}, "e": {"d": 1},
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn errors_say_where() {
        let error = parse("a: 1\nb: [1,\n").unwrap_err();
        assert!(error.place.line >= 2, "{error}");
        let error = parse("a: 1\na: 2\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 2, column 4: the key \"a\" is there twice"
        );
    }

    #[test]
    fn no_text_becomes_a_deep_or_a_large_value() {
        let deep = "[".repeat(200);
        assert!(parse(&deep).unwrap_err().to_string().contains("128"));
        // Aliases of aliases are no way around.
        let mut deep = String::from("a0: &a0 x\n");
        for (from, to) in (0..100).zip(1..) {
            let (open, close) = ("[".repeat(50), "]".repeat(50));
            deep.push_str(&format!("a{to}: &a{to} {open}*a{from}{close}\n"));
        }
        assert!(parse(&deep).unwrap_err().to_string().contains("128"));
        let mut bomb = String::from("a: &a [x, x, x, x, x, x, x, x, x, x]\n");
        for (a, b) in ('a'..'h').zip('b'..'i') {
            let many = format!("*{a}, ").repeat(10);
            bomb.push_str(&format!("{b}: &{b} [{many}]\n"));
        }
        assert!(parse(&bomb).unwrap_err().to_string().contains("too large"));
    }

    #[test]
    fn values_are_found_by_their_path() {
        let text = "flags:\n  a:\n    state: ON\n  b:\n    variants: {x: 1, y: [1, 2]}\n";
        let member = |name: &str| Step::Member(name.into());
        let at = |path: &[Step]| {
            let place = locate(text, path);
            (place.line, place.column)
        };
        assert_eq!(
            at(&[member("flags"), member("a"), member("state")]),
            (3, 12)
        );
        let variants = [member("flags"), member("b"), member("variants")];
        assert_eq!(at(&variants), (5, 15));
        let mut item = variants.to_vec();
        item.extend([member("y"), Step::Item(1)]);
        assert_eq!(at(&item), (5, 29));
        let mut gone = variants.to_vec();
        gone.push(member("z"));
        assert_eq!(at(&gone), (5, 15));
    }
}
