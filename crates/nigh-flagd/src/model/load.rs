//! Makes flags of a document: merges metadata, puts shared rules in, compiles targeting, checks defaults.
//!
//! As flagd has it, what only breaks the schema is a warning; a wrong type or a default variant that is not
//! there refuses the whole document, so that nobody serves half of it.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::sync::atomic::AtomicUsize;

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
        // An escape could stand for any of its letters.
        has_refs: text.contains("$ref") || text.contains("\\u") || format == Format::Yaml,
        notes: Vec::new(),
    };
    let located = |(path, fault): (Vec<Step>, Fault)| LoadError {
        place: text::locate(text, format, &path),
        fault,
    };
    let flags = loader.document(document).map_err(located)?;
    let notes = loader.notes.into_iter().map(|(path, warning)| Note {
        place: text::locate(text, format, &path),
        warning,
    });
    let mut notes: Vec<Note> = notes.collect();
    notes.sort_by_key(|note| note.place);
    Ok(FlagSet { flags, notes })
}

type Failure = (Vec<Step>, Fault);

/// Flags from which on they are made by several threads, and how many there are at most.
const MANY: usize = 1000;
const THREADS_MAX: usize = 8;

struct Loader<'e> {
    evaluator: &'e Evaluator,
    /// Whether shared rules may be asked for.
    has_refs: bool,
    notes: Vec<(Vec<Step>, Warning)>,
}

/// Where a flag is, told only when something is wrong.
#[derive(Debug, Clone, Copy)]
enum Spot<'k> {
    Root,
    Member(&'k str),
    Item(usize),
}

impl Spot<'_> {
    fn path(self) -> Vec<Step> {
        let flag = match self {
            Self::Root => return Vec::new(),
            Self::Member(key) => Step::Member(key.to_owned()),
            Self::Item(index) => Step::Item(index),
        };
        vec![Step::Member("flags".into()), flag]
    }

    fn member(self, name: &str) -> Vec<Step> {
        member(&self.path(), name)
    }
}

impl Loader<'_> {
    fn document(&mut self, document: Value) -> Result<Vec<Flag>, Failure> {
        object(&document, &"the document", Vec::new)?;
        let Value::Object(mut members) = document else {
            return Ok(Vec::new());
        };
        let written = members.remove("flags");
        let set_metadata = optional_object(&members, "metadata", Spot::Root)?;
        let evaluators = optional_object(&members, "$evaluators", Spot::Root)?;
        let put_in = AtomicUsize::new(0);
        let mut refs = Refs::new(evaluators, &put_in);
        let flags = match written {
            None | Some(Value::Null) => return Err((Vec::new(), Fault::NoFlags)),
            Some(Value::Object(members)) => {
                in_order(self.members(members, set_metadata, &mut refs)?)
            }
            Some(Value::Array(items)) => {
                let mut flags = Vec::with_capacity(items.len());
                let mut known = BTreeSet::new();
                for (index, mut item) in items.into_iter().enumerate() {
                    let spot = Spot::Item(index);
                    let key = item.as_object_mut().and_then(|item| item.remove("key"));
                    let Some(Value::String(key)) = key.filter(|key| *key != *"") else {
                        return Err((spot.path(), Fault::NoKey { index: index + 1 }));
                    };
                    let flag = self.flag(&key, item, set_metadata, &mut refs, spot)?;
                    if !known.insert((flag.set_id.clone(), key.clone())) {
                        self.notes.push((spot.path(), Warning::Twice { key }));
                    }
                    flags.push(flag);
                }
                in_order(flags)
            }
            Some(other) => {
                let path = vec![Step::Member("flags".into())];
                return Err(wrong_type(path, "\"flags\"", "an object", &other));
            }
        };
        let missing = std::mem::take(&mut refs.missing).into_iter();
        let missing = missing.map(|(name, path)| (path, Warning::NoEvaluator { name }));
        self.notes.extend(missing);
        Ok(flags)
    }

    /// The flags of a map: many of them by as many threads as there are cores.
    fn members(
        &mut self,
        members: Map<String, Value>,
        set_metadata: Option<&Map<String, Value>>,
        refs: &mut Refs<'_>,
    ) -> Result<Vec<Flag>, Failure> {
        let mut left: Vec<(String, Value)> = members.into_iter().collect();
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = threads.min(THREADS_MAX).min(left.len() / MANY + 1);
        if threads == 1 {
            return self.some(left, set_metadata, refs);
        }
        let share = left.len().div_ceil(threads);
        let shares: Vec<_> = std::iter::from_fn(|| {
            let rest = left.split_off(share.min(left.len()));
            let own = std::mem::replace(&mut left, rest);
            (!own.is_empty()).then_some(own)
        })
        .collect();
        let (evaluator, has_refs) = (self.evaluator, self.has_refs);
        let made = std::thread::scope(|scope| {
            let made = shares.into_iter().map(|share| {
                let mut loader = Loader {
                    evaluator,
                    has_refs,
                    notes: Vec::new(),
                };
                let mut refs = refs.sibling();
                scope.spawn(move || {
                    let flags = loader.some(share, set_metadata, &mut refs);
                    (flags, loader.notes, refs.missing)
                })
            });
            let made: Vec<_> = made.collect();
            let made = made.into_iter().map(|thread| match thread.join() {
                Ok(made) => made,
                // As if it had happened here.
                Err(panic) => std::panic::resume_unwind(panic),
            });
            made.collect::<Vec<_>>()
        });
        let mut flags = Vec::new();
        for (some, notes, missing) in made {
            flags.extend(some?);
            self.notes.extend(notes);
            refs.missing.extend(missing);
        }
        Ok(flags)
    }

    fn some(
        &mut self,
        members: Vec<(String, Value)>,
        set_metadata: Option<&Map<String, Value>>,
        refs: &mut Refs<'_>,
    ) -> Result<Vec<Flag>, Failure> {
        let mut flags = Vec::with_capacity(members.len());
        for (key, flag) in members {
            flags.push(self.flag(&key, flag, set_metadata, refs, Spot::Member(&key))?);
        }
        Ok(flags)
    }

    fn flag(
        &mut self,
        key: &str,
        written: Value,
        set_metadata: Option<&Map<String, Value>>,
        refs: &mut Refs<'_>,
        spot: Spot<'_>,
    ) -> Result<Flag, Failure> {
        object(&written, &format_args!("flag {key:?}"), || spot.path())?;
        let written = if self.has_refs {
            refs.put_in(written, || spot.path())
        } else {
            Ok(written)
        };
        let Ok(Value::Object(mut definition)) = written else {
            return Err((spot.path(), Fault::RefsTooLarge));
        };
        definition.remove("key");
        let mut metadata = set_metadata.cloned().unwrap_or_default();
        optional_object(&definition, "metadata", spot)?;
        if let Some(Value::Object(own)) = definition.remove("metadata") {
            metadata.extend(own);
        }
        let disabled = self.state(key, &definition, spot);
        let variants = self.variants(key, &definition, spot)?;
        let default_variant = default_variant(key, &definition, &variants, spot)?;
        let rule = self.rule(key, &definition, spot);
        self.unknown_members(key, &definition, spot);
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
    fn rule(&mut self, key: &str, definition: &Map<String, Value>, spot: Spot<'_>) -> Option<Rule> {
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
                .push((spot.member("targeting"), Warning::Rule { key, reason }));
        }
        Some(rule)
    }

    fn state(&mut self, key: &str, definition: &Map<String, Value>, spot: Spot<'_>) -> bool {
        match definition.get("state") {
            Some(Value::String(state)) if state == "DISABLED" => return true,
            Some(Value::String(state)) if state == "ENABLED" => {}
            other => {
                let state = other.map_or_else(|| "nothing".into(), Value::to_string);
                let warning = Warning::State {
                    key: key.into(),
                    state,
                };
                self.notes.push((spot.member("state"), warning));
            }
        }
        false
    }

    fn variants(
        &mut self,
        key: &str,
        definition: &Map<String, Value>,
        spot: Spot<'_>,
    ) -> Result<BTreeMap<String, Variant>, Failure> {
        let written = optional_object(definition, "variants", spot)?;
        let place = || spot.member("variants");
        let variants = written.into_iter().flatten();
        let variants: BTreeMap<_, _> = variants
            .map(|(name, value)| (name.clone(), Variant::new(value.clone())))
            .collect();
        let key = || key.to_owned();
        if variants.is_empty() {
            self.notes
                .push((place(), Warning::NoVariants { key: key() }));
            return Ok(variants);
        }
        for (name, variant) in &variants {
            if matches!(variant.value, Value::Null | Value::Array(_)) {
                let warning = Warning::Unaskable {
                    key: key(),
                    variant: name.clone(),
                    found: kind(&variant.value),
                };
                self.notes.push((member(&place(), name), warning));
            }
        }
        let mut kinds = variants.values().map(|variant| kind(&variant.value));
        let first = kinds.next();
        if kinds.any(|kind| Some(kind) != first) {
            self.notes
                .push((place(), Warning::MixedVariants { key: key() }));
        }
        Ok(variants)
    }

    fn unknown_members(&mut self, key: &str, definition: &Map<String, Value>, spot: Spot<'_>) {
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
                self.notes.push((spot.member(name), warning));
            }
        }
    }
}

/// By set and key; of two that are the same, the later one.
fn in_order(mut flags: Vec<Flag>) -> Vec<Flag> {
    // Stable, and quick for what a map gives in order already.
    flags.sort_by(|a, b| (&a.set_id, &a.key).cmp(&(&b.set_id, &b.key)));
    flags.dedup_by(|later, earlier| {
        let same = (&later.set_id, &later.key) == (&earlier.set_id, &earlier.key);
        if same {
            std::mem::swap(later, earlier);
        }
        same
    });
    flags
}

/// An empty text is none: that is how flagd's own sync says it.
fn default_variant(
    key: &str,
    definition: &Map<String, Value>,
    variants: &BTreeMap<String, Variant>,
    spot: Spot<'_>,
) -> Result<Option<String>, Failure> {
    let place = || spot.member("defaultVariant");
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
    subject: &dyn std::fmt::Display,
    path: impl FnOnce() -> Vec<Step>,
) -> Result<&'v Map<String, Value>, Failure> {
    let wrong = || wrong_type(path(), subject, "an object", value);
    value.as_object().ok_or_else(wrong)
}

fn optional_object<'v>(
    members: &'v Map<String, Value>,
    name: &str,
    spot: Spot<'_>,
) -> Result<Option<&'v Map<String, Value>>, Failure> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => object(value, &format_args!("{name:?}"), || spot.member(name)).map(Some),
    }
}

fn wrong_type(
    path: Vec<Step>,
    subject: &(impl std::fmt::Display + ?Sized),
    wanted: &'static str,
    found: &Value,
) -> Failure {
    let fault = Fault::Type {
        subject: subject.to_string(),
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
