//! One thing that went by, as a line for people and an object for programs.

use serde_json::{Map, Value, json};

/// Who sent something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Whoever connected to the tap.
    Client,
    /// Whom the tap connected to.
    Server,
}

impl Side {
    /// Its place in a pair.
    pub(super) fn index(self) -> usize {
        match self {
            Self::Client => 0,
            Self::Server => 1,
        }
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// One thing that went by.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// The wire it was read as.
    pub wire: &'static str,
    /// What it is.
    pub what: String,
    /// What is known of it, in order.
    pub fields: Vec<(&'static str, Value)>,
}

impl Note {
    /// A note without fields.
    #[must_use]
    pub fn new(wire: &'static str, what: impl Into<String>) -> Self {
        Self {
            wire,
            what: what.into(),
            fields: Vec::new(),
        }
    }

    /// With one field more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// With one field more, if there is a value.
    #[must_use]
    pub fn with_some(self, name: &'static str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Bytes that no decoder knows: how many, and the first of them.
    #[must_use]
    pub fn bytes(what: &str, bytes: &[u8], shown_max: usize) -> Self {
        let shown = &bytes[..bytes.len().min(shown_max)];
        let note = Self::new("bytes", what).with("length", bytes.len());
        let note = note.with("hex", hex(shown));
        let left = bytes.len() - shown.len();
        note.with_some("not_shown", (left > 0).then_some(left))
    }

    /// The line for people; control characters are the caller's to write out.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = format!("{} {}", self.wire, self.what);
        for (name, value) in &self.fields {
            match value {
                Value::Bool(true) => line.push_str(&format!(" {name}")),
                Value::String(text) => line.push_str(&format!(" {name}={text}")),
                Value::Array(values) => line.push_str(&format!(" {name}=[{}]", joined(values))),
                other => line.push_str(&format!(" {name}={other}")),
            }
        }
        line
    }

    /// The object for programs.
    #[must_use]
    pub fn as_json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("wire".into(), json!(self.wire));
        object.insert("what".into(), json!(self.what));
        for (name, value) in &self.fields {
            object.insert((*name).into(), value.clone());
        }
        object
    }
}

fn joined(values: &[Value]) -> String {
    let texts = values.iter().map(|value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    texts.collect::<Vec<_>>().join(", ")
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes out of hexadecimal digits, with blanks and colons between them; `None` when they are none.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text
        .chars()
        .filter(|c| !c.is_ascii_whitespace() && *c != ':');
    let digits = digits.map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()));
    let digits: Vec<u8> = digits.collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Bytes as text; what is none of it becomes a replacement character.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whole microseconds, as far as they can be counted.
pub(super) fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
