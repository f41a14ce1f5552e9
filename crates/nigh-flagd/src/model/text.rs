//! Text to values: JSON through serde, YAML through its events; errors with line and column.

use std::borrow::Cow;

use serde_json::Value;

use super::error::{Fault, LoadError};
use super::place::{self, Place, Step};
use super::{SOURCE_BYTES_MAX, yaml};

/// How a source is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON, RFC 8259.
    Json,
    /// YAML 1.2, core schema, one document.
    Yaml,
}

impl Format {
    /// By the extension of a file's name; JSON for what says nothing.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let extension = name.rsplit_once('.').map(|(_, extension)| extension);
        match extension {
            Some("yaml" | "yml") => Self::Yaml,
            _ => Self::Json,
        }
    }
}

/// Reads a document as JSON values.
///
/// # Errors
/// When it is too large, empty, or no JSON or YAML.
pub fn parse(text: &str, format: Format) -> Result<Value, LoadError> {
    check(text)?;
    match format {
        Format::Json => serde_json::from_str(text).map_err(|error| LoadError {
            place: Place {
                line: error.line().max(1),
                column: error.column().max(1),
            },
            fault: Fault::Syntax(without_place(&error.to_string())),
        }),
        Format::Yaml => {
            let json = yaml::to_json(text)?;
            serde_json::from_str(&json).map_err(|error| at_start(Fault::Syntax(error.to_string())))
        }
    }
}

/// The document as JSON text, which YAML is not yet.
pub(super) fn as_json(text: &str, format: Format) -> Result<Cow<'_, str>, LoadError> {
    check(text)?;
    Ok(match format {
        Format::Json => Cow::Borrowed(text),
        Format::Yaml => Cow::Owned(yaml::to_json(text)?),
    })
}

fn check(text: &str) -> Result<(), LoadError> {
    if text.len() > SOURCE_BYTES_MAX {
        let max = SOURCE_BYTES_MAX;
        return Err(at_start(Fault::TooLarge { max }));
    }
    if text.trim_start_matches('\u{feff}').trim().is_empty() {
        return Err(at_start(Fault::Empty));
    }
    Ok(())
}

/// Where the value at `path` is.
pub(super) fn locate(text: &str, format: Format, path: &[Step]) -> Place {
    match format {
        Format::Json => place::in_json(text, path),
        Format::Yaml => yaml::locate(text, path),
    }
}

/// What a value is, in words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn at_start(fault: Fault) -> LoadError {
    LoadError {
        place: Place::START,
        fault,
    }
}

/// serde_json's message without its own ` at line 1 column 2`.
fn without_place(message: &str) -> String {
    let end = message.rfind(" at line ").unwrap_or(message.len());
    message[..end].to_owned()
}
