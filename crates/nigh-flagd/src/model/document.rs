//! A document taken apart: its flags one by one, as JSON text that is not read further yet.
//!
//! JSON is looked through once for where each flag begins and ends; whoever makes the flag reads that piece, so that
//! several threads share the reading and no value of the whole document is ever built. YAML is
//! written as JSON first.

use std::borrow::Cow;

use serde_json::Value;

use super::error::{Fault, LoadError};
use super::place::Step;
use super::scan;
use super::text::{self, Format};

/// Where a flag is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Spot {
    /// In a map, under its key.
    Member(String),
    /// In an array.
    Item(usize),
}

impl Spot {
    pub(super) fn path(&self) -> Vec<Step> {
        let flag = match self {
            Self::Member(key) => Step::Member(key.clone()),
            Self::Item(index) => Step::Item(*index),
        };
        vec![Step::Member("flags".into()), flag]
    }

    pub(super) fn member(&self, name: &str) -> Vec<Step> {
        let mut path = self.path();
        path.push(Step::Member(name.to_owned()));
        path
    }
}

/// What a document says.
#[derive(Debug)]
pub(super) struct Document<'t> {
    /// Each as JSON text, in the order of their keys, or that of the array.
    pub(super) flags: Vec<(Spot, Cow<'t, str>)>,
    /// Null for none.
    pub(super) metadata: Value,
    /// Null for none.
    pub(super) evaluators: Value,
}

impl<'t> Document<'t> {
    /// Of `text`, which is `json` as JSON.
    pub(super) fn read(json: &'t str, text: &str, format: Format) -> Result<Self, LoadError> {
        if let Some(document) = Self::of_json(json) {
            return Ok(document);
        }
        // Something is wrong, or a key is there twice: the whole is read as values, which says what and where.
        let whole = text::parse(text, format)?;
        Self::of_value(whole).map_err(|(path, fault)| LoadError {
            place: text::locate(text, format, &path),
            fault,
        })
    }

    /// `None` for what is no set of flags, and for keys that are there twice.
    fn of_json(text: &'t str) -> Option<Self> {
        let (mut metadata, mut evaluators, mut flags) = (Value::Null, Value::Null, None);
        for (name, text) in unique(scan::members(text)?)? {
            match &*name {
                "flags" => flags = Some(text),
                "metadata" => metadata = serde_json::from_str(text).ok()?,
                "$evaluators" => evaluators = serde_json::from_str(text).ok()?,
                // It means nothing, but has to be JSON.
                _ => drop(serde_json::from_str::<Value>(text).ok()?),
            }
        }
        let flags = flags?;
        let flags = match scan::members(flags) {
            Some(flags) => unique(flags)?
                .into_iter()
                .map(|(key, text)| (Spot::Member(key), Cow::Borrowed(text)))
                .collect(),
            None => scan::items(flags)?
                .into_iter()
                .enumerate()
                .map(|(index, text)| (Spot::Item(index), Cow::Borrowed(text)))
                .collect(),
        };
        Some(Self {
            flags,
            metadata,
            evaluators,
        })
    }

    fn of_value(document: Value) -> Result<Self, (Vec<Step>, Fault)> {
        let wrong = |path, subject: &str, found: &Value| {
            let fault = Fault::Type {
                subject: subject.to_owned(),
                wanted: "an object",
                found: text::kind(found),
            };
            Err((path, fault))
        };
        let mut members = match document {
            Value::Object(members) => members,
            other => return wrong(Vec::new(), "the document", &other),
        };
        let flags = match members.remove("flags") {
            None | Some(Value::Null) => return Err((Vec::new(), Fault::NoFlags)),
            Some(Value::Object(flags)) => flags
                .into_iter()
                .map(|(key, flag)| (Spot::Member(key), Cow::Owned(flag.to_string())))
                .collect(),
            Some(Value::Array(flags)) => flags
                .into_iter()
                .enumerate()
                .map(|(index, flag)| (Spot::Item(index), Cow::Owned(flag.to_string())))
                .collect(),
            Some(other) => return wrong(vec![Step::Member("flags".into())], "\"flags\"", &other),
        };
        Ok(Self {
            flags,
            metadata: members.remove("metadata").unwrap_or_default(),
            evaluators: members.remove("$evaluators").unwrap_or_default(),
        })
    }
}

/// The members in the order of their keys; `None` if a key is there twice.
fn unique<T>(mut members: Vec<(String, T)>) -> Option<Vec<(String, T)>> {
    members.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let is_unique = members.is_sorted_by(|(a, _), (b, _)| a < b);
    is_unique.then_some(members)
}
