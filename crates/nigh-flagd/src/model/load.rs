//! Makes flags of a document: merges metadata, puts shared rules in, compiles targeting, checks defaults.
//!
//! As flagd has it, what only breaks the schema is a warning; a wrong type or a default variant that is not
//! there refuses the whole document, so that nobody serves half of it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::{Fault, LoadError, Note, Warning};
use super::place::Step;
use super::refs::Refs;
use super::text::{self, Format};
use super::{FLAG_SET_ID, Flag, Metadata, Variant};
use crate::eval::{Evaluator, Rule};

/// The flags of one document.
#[derive(Debug, Default)]
pub struct FlagSet {
    /// In the order of their keys.
    pub flags: Vec<Flag>,
    /// What is odd, in the order of the text.
    pub notes: Vec<Note>,
}

/// Reads a document.
///
/// # Errors
/// When it cannot be used at all: see [`Fault`].
pub fn load(text: &str, format: Format, evaluator: &Evaluator) -> Result<FlagSet, LoadError> {
    let document = text::parse(text, format)?;
    let mut loader = Loader {
        evaluator,
        notes: Vec::new(),
    };
    let located = |(path, fault): (Vec<Step>, Fault)| LoadError {
        place: text::locate(text, format, &path),
        fault,
    };
    let flags = loader.document(&document).map_err(located)?;
    let notes = loader.notes.into_iter().map(|(path, warning)| Note {
        place: text::locate(text, format, &path),
        warning,
    });
    let mut notes: Vec<Note> = notes.collect();
    notes.sort_by_key(|note| note.place);
    Ok(FlagSet { flags, notes })
}

type Failure = (Vec<Step>, Fault);

struct Loader<'e> {
    evaluator: &'e Evaluator,
    notes: Vec<(Vec<Step>, Warning)>,
}

impl Loader<'_> {
    fn document(&mut self, document: &Value) -> Result<Vec<Flag>, Failure> {
        let members = object(document, "the document", Vec::new)?;
        let set_metadata = optional_object(members, "metadata", &[])?;
        let mut refs = Refs::new(optional_object(members, "$evaluators", &[])?);
        let root = Step::Member("flags".into());
        let mut flags = BTreeMap::new();
        match members.get("flags") {
            None | Some(Value::Null) => return Err((Vec::new(), Fault::NoFlags)),
            Some(Value::Object(members)) => {
                for (key, flag) in members {
                    let path = vec![root.clone(), Step::Member(key.clone())];
                    let flag = self.flag(key, flag, set_metadata, &mut refs, path)?;
                    flags.insert((flag.set_id.clone(), flag.key.clone()), flag);
                }
            }
            Some(Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    let path = vec![root.clone(), Step::Item(index)];
                    let key = item.get("key").and_then(Value::as_str);
                    let no_key = || (path.clone(), Fault::NoKey { index: index + 1 });
                    let key = key.filter(|key| !key.is_empty()).ok_or_else(no_key)?;
                    let flag = self.flag(key, item, set_metadata, &mut refs, path.clone())?;
                    let identity = (flag.set_id.clone(), flag.key.clone());
                    if flags.insert(identity, flag).is_some() {
                        self.notes.push((path, Warning::Twice { key: key.into() }));
                    }
                }
            }
            Some(other) => return Err(wrong_type(vec![root], "\"flags\"", "an object", other)),
        }
        let missing = std::mem::take(&mut refs.missing).into_iter();
        let missing = missing.map(|(name, path)| (path, Warning::NoEvaluator { name }));
        self.notes.extend(missing);
        Ok(flags.into_values().collect())
    }

    fn flag<'v>(
        &mut self,
        key: &str,
        written: &'v Value,
        set_metadata: Option<&Map<String, Value>>,
        refs: &mut Refs<'v>,
        path: Vec<Step>,
    ) -> Result<Flag, Failure> {
        object(written, &format!("flag {key:?}"), || path.clone())?;
        let mut place = path.clone();
        let whole = refs.put_in(written, &mut place);
        let Ok(Value::Object(mut definition)) = whole else {
            return Err((path, Fault::RefsTooLarge));
        };
        definition.remove("key");
        let mut metadata = set_metadata.cloned().unwrap_or_default();
        if let Some(own) = optional_object(&definition, "metadata", &path)? {
            metadata.extend(own.clone());
        }
        definition.remove("metadata");
        let disabled = self.state(key, &definition, &path);
        let variants = self.variants(key, &definition, &path)?;
        let default_variant = default_variant(key, &definition, &variants, &path)?;
        let rule = self.rule(key, &definition, &path);
        self.unknown_members(key, &definition, &path);
        let set_id = metadata.get(FLAG_SET_ID).and_then(Value::as_str);
        Ok(Flag {
            key: key.to_owned(),
            set_id: set_id.unwrap_or_default().to_owned(),
            disabled,
            variants,
            default_variant,
            rule,
            metadata: Metadata::new(metadata),
            definition,
        })
    }

    /// No rule where there is none, or an empty one.
    fn rule(&mut self, key: &str, definition: &Map<String, Value>, path: &[Step]) -> Option<Rule> {
        let targeting = definition.get("targeting")?;
        if targeting.as_object().is_some_and(Map::is_empty) {
            return None;
        }
        let rule = self.evaluator.compile(targeting);
        let reason = match (rule.error(), self.evaluator.unknown_operator(targeting)) {
            (Some(error), _) => Some(error.to_string()),
            // What is missing is noted as such already.
            (None, Some("$ref") | None) => None,
            (None, Some(name)) => Some(format!("unknown operator {name:?}")),
        };
        if let Some(reason) = reason {
            let key = key.into();
            self.notes
                .push((member(path, "targeting"), Warning::Rule { key, reason }));
        }
        Some(rule)
    }

    fn state(&mut self, key: &str, definition: &Map<String, Value>, path: &[Step]) -> bool {
        match definition.get("state") {
            Some(Value::String(state)) if state == "DISABLED" => return true,
            Some(Value::String(state)) if state == "ENABLED" => {}
            other => {
                let state = other.map_or_else(|| "nothing".into(), Value::to_string);
                let warning = Warning::State {
                    key: key.into(),
                    state,
                };
                self.notes.push((member(path, "state"), warning));
            }
        }
        false
    }

    fn variants(
        &mut self,
        key: &str,
        definition: &Map<String, Value>,
        path: &[Step],
    ) -> Result<BTreeMap<String, Variant>, Failure> {
        let written = optional_object(definition, "variants", path)?;
        let place = member(path, "variants");
        let variants = written.into_iter().flatten();
        let variants: BTreeMap<_, _> = variants
            .map(|(name, value)| (name.clone(), Variant::new(value.clone())))
            .collect();
        let key = || key.to_owned();
        if variants.is_empty() {
            self.notes.push((place, Warning::NoVariants { key: key() }));
            return Ok(variants);
        }
        for (name, variant) in &variants {
            if matches!(variant.value, Value::Null | Value::Array(_)) {
                let warning = Warning::Unaskable {
                    key: key(),
                    variant: name.clone(),
                    found: kind(&variant.value),
                };
                self.notes.push((member(&place, name), warning));
            }
        }
        let mut kinds = variants.values().map(|variant| kind(&variant.value));
        let first = kinds.next();
        if kinds.any(|kind| Some(kind) != first) {
            self.notes
                .push((place, Warning::MixedVariants { key: key() }));
        }
        Ok(variants)
    }

    fn unknown_members(&mut self, key: &str, definition: &Map<String, Value>, path: &[Step]) {
        const KNOWN: [&str; 6] = [
            "state",
            "variants",
            "defaultVariant",
            "targeting",
            "source",
            "$schema",
        ];
        for name in definition.keys() {
            if !KNOWN.contains(&name.as_str()) {
                let warning = Warning::Unknown {
                    key: key.into(),
                    member: name.clone(),
                };
                self.notes.push((member(path, name), warning));
            }
        }
    }
}

/// An empty text is none: that is how flagd's own sync says it.
fn default_variant(
    key: &str,
    definition: &Map<String, Value>,
    variants: &BTreeMap<String, Variant>,
    path: &[Step],
) -> Result<Option<String>, Failure> {
    let place = || member(path, "defaultVariant");
    match definition.get("defaultVariant") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) if name.is_empty() => Ok(None),
        Some(Value::String(name)) if variants.contains_key(name) => Ok(Some(name.clone())),
        Some(Value::String(name)) => {
            let fault = Fault::NoDefault {
                key: key.into(),
                variant: name.clone(),
            };
            Err((place(), fault))
        }
        Some(other) => {
            let subject = format!("flag {key:?}: defaultVariant");
            Err(wrong_type(place(), &subject, "a string", other))
        }
    }
}

fn member(path: &[Step], name: &str) -> Vec<Step> {
    let mut path = path.to_vec();
    path.push(Step::Member(name.to_owned()));
    path
}

fn object<'v>(
    value: &'v Value,
    subject: &str,
    path: impl FnOnce() -> Vec<Step>,
) -> Result<&'v Map<String, Value>, Failure> {
    let wrong = || wrong_type(path(), subject, "an object", value);
    value.as_object().ok_or_else(wrong)
}

fn optional_object<'v>(
    members: &'v Map<String, Value>,
    name: &str,
    path: &[Step],
) -> Result<Option<&'v Map<String, Value>>, Failure> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => object(value, &format!("{name:?}"), || member(path, name)).map(Some),
    }
}

fn wrong_type(path: Vec<Step>, subject: &str, wanted: &'static str, found: &Value) -> Failure {
    let fault = Fault::Type {
        subject: subject.to_owned(),
        wanted,
        found: kind(found),
    };
    (path, fault)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
