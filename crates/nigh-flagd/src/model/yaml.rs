//! YAML 1.2 to JSON text: core schema, string keys, merge keys (`<<`) left alone, aliases put in.
//!
//! No values are made of it: the text is read as JSON is. Depth and the size of what aliases put in are limited, so that a
//! small text cannot become a large value.

use std::collections::{BTreeSet, HashMap};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};
use serde_json::Value;

use super::error::{Fault, LoadError};
use super::place::{Place, Step};

/// As deep as serde_json goes.
const DEPTH_MAX: usize = 127;

/// Values that aliases may put in.
const ALIASED_MAX: usize = 1_000_000;

/// Writes the first and only document as JSON.
pub(super) fn to_json(text: &str) -> Result<String, LoadError> {
    let mut writer = Writer::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| syntax(&error))?;
        writer
            .take(event)
            .map_err(|fault| at(*place_of(&span), fault))?;
    }
    let start = |fault| LoadError {
        place: Place::START,
        fault,
    };
    if !writer.is_done {
        return Err(start(Fault::Empty));
    }
    String::from_utf8(writer.out).map_err(|error| start(Fault::Syntax(error.to_string())))
}

fn place_of(span: &Span) -> &Marker {
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

/// A sequence or mapping that is being written.
struct Open {
    /// The keys so far; `None` for a sequence.
    keys: Option<BTreeSet<String>>,
    /// The key of a mapping has been written, its value not.
    has_key: bool,
    is_empty: bool,
    anchor: usize,
    /// Where it begins in the output, and how many values there were before it.
    start: usize,
    before: usize,
    /// Levels in it so far, itself included.
    depth: usize,
}

/// A value that aliases may put in.
struct Anchored {
    text: Vec<u8>,
    count: usize,
    depth: usize,
}

#[derive(Default)]
struct Writer {
    out: Vec<u8>,
    /// Outermost first.
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    /// Values written, and those of them that aliases put in.
    values: usize,
    aliased: usize,
    is_done: bool,
}

impl Writer {
    fn take(&mut self, event: Event<'_>) -> Result<(), Fault> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref())?;
                if self.wants_key() {
                    if anchor != 0 {
                        let mut text = Vec::new();
                        write(&mut text, &value)?;
                        self.keep(anchor, text, 1, 0);
                    }
                    return self.key(&value);
                }
                self.begin_value();
                let start = self.out.len();
                write(&mut self.out, &value)?;
                self.end_value(anchor, start, self.values, 0);
                Ok(())
            }
            Event::SequenceStart(anchor, _) => self.enter(None, anchor),
            Event::MappingStart(anchor, _) => self.enter(Some(BTreeSet::new()), anchor),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else {
                    return Ok(());
                };
                self.out.push(if open.keys.is_some() { b'}' } else { b']' });
                self.end_value(open.anchor, open.start, open.before, open.depth);
                Ok(())
            }
            Event::Alias(anchor) => self.alias(anchor),
            Event::DocumentStart(_) if self.is_done => Err(Fault::Syntax(
                "a second document: there can be only one".into(),
            )),
            _ => Ok(()),
        }
    }

    fn wants_key(&self) -> bool {
        let open = self.open.last();
        open.is_some_and(|open| open.keys.is_some() && !open.has_key)
    }

    fn key(&mut self, value: &Value) -> Result<(), Fault> {
        let name = key_text(value)?;
        let Some(open) = self.open.last_mut() else {
            return Ok(());
        };
        if !std::mem::replace(&mut open.is_empty, false) {
            self.out.push(b',');
        }
        write(&mut self.out, &name)?;
        self.out.push(b':');
        open.has_key = true;
        match open.keys.as_ref().is_some_and(|keys| keys.contains(&name)) {
            true => Err(Fault::Syntax(format!("the key {name:?} is there twice"))),
            false => {
                open.keys.get_or_insert_default().insert(name);
                Ok(())
            }
        }
    }

    /// What stands before a value.
    fn begin_value(&mut self) {
        if let Some(open) = self.open.last_mut()
            && open.keys.is_none()
            && !std::mem::replace(&mut open.is_empty, false)
        {
            self.out.push(b',');
        }
    }

    /// A value is written that begins at `start`, with as many values before it, and has so many levels.
    fn end_value(&mut self, anchor: usize, start: usize, before: usize, depth: usize) {
        self.values += 1;
        if anchor != 0 {
            let text = self.out[start..].to_vec();
            self.keep(anchor, text, self.values - before, depth);
        }
        match self.open.last_mut() {
            None => self.is_done = true,
            Some(open) => {
                open.has_key = false;
                open.depth = open.depth.max(depth + 1);
            }
        }
    }

    fn keep(&mut self, anchor: usize, text: Vec<u8>, count: usize, depth: usize) {
        let anchored = Anchored { text, count, depth };
        self.anchors.insert(anchor, anchored);
    }

    fn enter(&mut self, keys: Option<BTreeSet<String>>, anchor: usize) -> Result<(), Fault> {
        if self.wants_key() {
            return Err(no_key());
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(too_deep());
        }
        self.begin_value();
        let start = self.out.len();
        self.out.push(if keys.is_some() { b'{' } else { b'[' });
        self.open.push(Open {
            keys,
            has_key: false,
            is_empty: true,
            anchor,
            start,
            before: self.values,
            depth: 1,
        });
        Ok(())
    }

    fn alias(&mut self, anchor: usize) -> Result<(), Fault> {
        let Some(found) = self.anchors.get(&anchor) else {
            return Err(Fault::Syntax("an alias inside its own anchor".into()));
        };
        let (count, depth) = (found.count, found.depth);
        self.aliased += count;
        if self.aliased > ALIASED_MAX {
            return Err(Fault::Syntax("its aliases make it too large".into()));
        }
        if self.open.len() + depth > DEPTH_MAX {
            return Err(too_deep());
        }
        if self.wants_key() {
            let value = serde_json::from_slice(&found.text);
            let value: Value = value.map_err(|error| Fault::Syntax(error.to_string()))?;
            return self.key(&value);
        }
        let text = found.text.clone();
        self.begin_value();
        let (start, before) = (self.out.len(), self.values);
        self.out.extend(text);
        self.values += count - 1;
        self.end_value(0, start, before, depth);
        Ok(())
    }
}

fn write(out: &mut Vec<u8>, value: &impl serde::Serialize) -> Result<(), Fault> {
    serde_json::to_writer(out, value).map_err(|error| Fault::Syntax(error.to_string()))
}

fn no_key() -> Fault {
    Fault::Syntax("a key is no plain text".into())
}

fn too_deep() -> Fault {
    Fault::Syntax(format!("deeper than {DEPTH_MAX} levels"))
}

/// A key as text: `true:` and `1:` are names like others.
fn key_text(value: &Value) -> Result<String, Fault> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(_) | Value::Object(_) => Err(no_key()),
        other => Ok(other.to_string()),
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

    fn parse(text: &str) -> Result<Value, LoadError> {
        to_json(text).map(|json| serde_json::from_str(&json).unwrap())
    }

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
    fn aliases_are_keys_and_values() {
        let text = "- &n 1\n- &s x\n- &m {a: *n, &k b: [*s, {}]}\n- {*s : *m, *n : [], *k : *k}\n- *m\n- [[], *n]\n";
        let m = json!({"a": 1, "b": ["x", {}]});
        let expected = json!([1, "x", m, {"x": m, "1": [], "b": "b"}, m, [[], 1]]);
        assert_eq!(parse(text).unwrap(), expected);
        for text in [
            "[&a x, {*b : 1}]",
            "&a [*a]",
            "{[a]: 1}",
            "{? {a: 1} : 1}",
            "[&m {}, {*m : 1}]",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn errors_say_where() {
        let error = parse("a: 1\nb: [1,\n").unwrap_err();
        assert!(error.place.line >= 2, "{error}");
        let error = parse("a: 1\na: 2\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 2, column 1: the key \"a\" is there twice"
        );
    }

    #[test]
    fn no_text_becomes_a_deep_or_a_large_value() {
        let deep = "[".repeat(200);
        assert!(parse(&deep).unwrap_err().to_string().contains("127"));
        // Aliases of aliases are no way around.
        let mut deep = String::from("a0: &a0 x\n");
        for (from, to) in (0..100).zip(1..) {
            let (open, close) = ("[".repeat(50), "]".repeat(50));
            deep.push_str(&format!("a{to}: &a{to} {open}*a{from}{close}\n"));
        }
        assert!(parse(&deep).unwrap_err().to_string().contains("127"));
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
