//! Makes flags of a document: merges metadata, puts shared rules in, compiles targeting, checks defaults.
//!
//! As flagd has it, what only breaks the schema is a warning; a wrong type or a default variant that is not
//! there refuses the whole document, so that nobody serves half of it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use serde_json::{Map, Value};

use super::document::{Document, Spot};
use super::error::{Fault, LoadError, Note, Warning};
use super::place::Step;
use super::refs::Refs;
use super::text::{self, Format, kind};
use super::{FLAG_SET_ID, Flag, Metadata, Variants};
use crate::eval::{Evaluator, Rule};
use crate::value;

/// The flags of one document.
#[derive(Debug, Default)]
pub struct FlagSet {
    /// In the order of their sets and keys.
    pub flags: Vec<Flag>,
    /// What is odd, in the order of the text.
    pub notes: Vec<Note>,
}

/// Reads a document.
///
/// # Errors
/// When it cannot be used at all: see [`Fault`].
pub fn load(text: &str, format: Format, evaluator: &Evaluator) -> Result<FlagSet, LoadError> {
    let json = text::as_json(text, format)?;
    let document = Document::read(&json, text, format)?;
    let located = |(path, fault): Failure| {
        let whole = match fault {
            // Its place is known within the flag's own piece only: reading all of it tells.
            Fault::Syntax(_) => text::parse(text, format).err(),
            _ => None,
        };
        whole.unwrap_or_else(|| LoadError {
            place: text::locate(text, format, &path),
            fault,
        })
    };
    // An escape could stand for any of its letters.
    let has_refs = json.contains("$ref") || json.contains("\\u");
    let (flags, notes) = flags(document, evaluator, has_refs).map_err(located)?;
    let notes = notes.into_iter().map(|(path, warning)| Note {
        place: text::locate(text, format, &path),
        warning,
    });
    let mut notes: Vec<Note> = notes.collect();
    notes.sort_by_key(|note| note.place);
    Ok(FlagSet { flags, notes })
}

type Failure = (Vec<Step>, Fault);
type Notes = Vec<(Vec<Step>, Warning)>;

/// Flags from which on they are made by several threads, and how many there are at most.
const MANY: usize = 1000;
const THREADS_MAX: usize = 8;

fn flags(
    document: Document<'_>,
    evaluator: &Evaluator,
    has_refs: bool,
) -> Result<(Vec<Flag>, Notes), Failure> {
    let mut metadata = document.metadata;
    let top = |name: &str| vec![Step::Member(name.to_owned())];
    value::spell_numbers(&mut metadata);
    optional_object(Some(&metadata), "metadata", || top("metadata"))?;
    let metadata = match metadata {
        Value::Object(members) => Metadata::new(members),
        _ => Metadata::default(),
    };
    let metadata = Arc::new(metadata);
    let evaluators = Some(&document.evaluators);
    let evaluators = optional_object(evaluators, "$evaluators", || top("$evaluators"))?;
    let put_in = AtomicUsize::new(0);
    let loader = Loader {
        evaluator,
        refs: has_refs.then(|| Refs::new(evaluators, &put_in)),
        metadata: &metadata,
        notes: Vec::new(),
    };
    let is_list = matches!(document.flags.first(), Some((Spot::Item(_), _)));
    let (flags, mut notes) = loader.all(document.flags)?;
    if is_list {
        let mut known = HashSet::new();
        for (index, flag) in flags.iter().enumerate() {
            if !known.insert((&flag.set_id, &flag.key)) {
                let key = flag.key.to_string();
                notes.push((Spot::Item(index).path(), Warning::Twice { key }));
            }
        }
    }
    Ok((in_order(flags), notes))
}

/// Makes flags of their pieces, one after the other.
struct Loader<'e> {
    evaluator: &'e Evaluator,
    /// `None` where no flag can ask for a shared rule.
    refs: Option<Refs<'e>>,
    /// That of the whole set.
    metadata: &'e Arc<Metadata>,
    notes: Notes,
}

impl Loader<'_> {
    /// Another for the same document.
    fn sibling(&self) -> Self {
        Self {
            refs: self.refs.as_ref().map(Refs::sibling),
            notes: Vec::new(),
            ..*self
        }
    }

    /// All flags: many of them by as many threads as there are cores.
    fn all(self, mut left: Vec<(Spot, Cow<'_, str>)>) -> Result<(Vec<Flag>, Notes), Failure> {
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = threads.min(THREADS_MAX).min(left.len() / MANY + 1);
        if threads == 1 {
            return self.some(left);
        }
        let share = left.len().div_ceil(threads);
        let shares: Vec<_> = std::iter::from_fn(|| {
            let rest = left.split_off(share.min(left.len()));
            let own = std::mem::replace(&mut left, rest);
            (!own.is_empty()).then_some(own)
        })
        .collect();
        let made = std::thread::scope(|scope| {
            let made = shares.into_iter().map(|share| {
                let loader = self.sibling();
                scope.spawn(move || loader.some(share))
            });
            let made: Vec<_> = made.collect();
            let made = made.into_iter().map(|thread| match thread.join() {
                Ok(made) => made,
                // As if it had happened here.
                Err(panic) => std::panic::resume_unwind(panic),
            });
            made.collect::<Vec<_>>()
        });
        let (mut flags, mut notes) = (Vec::new(), Vec::new());
        for some in made {
            let (some, odd) = some?;
            flags.extend(some);
            notes.extend(odd);
        }
        Ok((flags, notes))
    }

    fn some(mut self, written: Vec<(Spot, Cow<'_, str>)>) -> Result<(Vec<Flag>, Notes), Failure> {
        let mut flags = Vec::with_capacity(written.len());
        for (spot, written) in written {
            flags.push(self.flag(&spot, &written)?);
        }
        let missing = self.refs.map(|refs| refs.missing).unwrap_or_default();
        let missing = missing.into_iter();
        let missing = missing.map(|(name, path)| (path, Warning::NoEvaluator { name }));
        self.notes.extend(missing);
        Ok((flags, self.notes))
    }

    fn flag(&mut self, spot: &Spot, written: &str) -> Result<Flag, Failure> {
        let read = serde_json::from_str::<Value>(written);
        let mut written = read.map_err(|error| (spot.path(), Fault::Syntax(error.to_string())))?;
        let inside = written
            .as_object_mut()
            .and_then(|members| members.remove("key"));
        let key: Arc<str> = match (spot, inside) {
            (Spot::Member(key), _) => key.as_str().into(),
            (Spot::Item(_), Some(Value::String(key))) if !key.is_empty() => key.into(),
            (Spot::Item(index), _) => return Err((spot.path(), Fault::NoKey { index: index + 1 })),
        };
        object(&written, &format_args!("flag {key:?}"), || spot.path())?;
        if let Some(refs) = &mut self.refs {
            let written_out = refs.put_in(written, || spot.path());
            written = written_out.map_err(|_| (spot.path(), Fault::RefsTooLarge))?;
        }
        value::spell_numbers(&mut written);
        let Value::Object(mut definition) = written else {
            return Err((spot.path(), Fault::RefsTooLarge));
        };
        definition.remove("source");
        let metadata = self.metadata(definition.remove("metadata"), spot)?;
        let disabled = self.state(&key, &definition, spot);
        let rule = self.rule(&key, &definition, spot);
        self.unknown_members(&key, &definition, spot);
        let default = default_name(&key, definition.get("defaultVariant"), spot)?;
        definition.insert("defaultVariant".into(), default.as_str().into());
        let place = || spot.member("variants");
        optional_object(definition.get("variants"), "variants", place)?;
        let mut definition = Value::Object(definition);
        let text = definition.to_string();
        let values = definition.get_mut("variants").map(Value::take);
        let variants = self.variants(&key, values, &default, spot)?;
        let set_id = metadata.json.get(FLAG_SET_ID).and_then(Value::as_str);
        Ok(Flag {
            key,
            set_id: set_id.unwrap_or_default().to_owned(),
            disabled,
            variants,
            rule,
            metadata,
            definition: text.into_boxed_str(),
        })
    }

    /// The set's, with the flag's own over it.
    fn metadata(&self, own: Option<Value>, spot: &Spot) -> Result<Arc<Metadata>, Failure> {
        optional_object(own.as_ref(), "metadata", || spot.member("metadata"))?;
        Ok(match own {
            Some(Value::Object(own)) if !own.is_empty() => {
                let mut whole = self.metadata.json.clone();
                whole.extend(own);
                Arc::new(Metadata::new(whole))
            }
            _ => Arc::clone(self.metadata),
        })
    }

    /// No rule where there is none, or an empty one.
    fn rule(&mut self, key: &str, definition: &Map<String, Value>, spot: &Spot) -> Option<Rule> {
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

    fn state(&mut self, key: &str, definition: &Map<String, Value>, spot: &Spot) -> bool {
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
        values: Option<Value>,
        default: &str,
        spot: &Spot,
    ) -> Result<Variants, Failure> {
        let values = match values {
            Some(Value::Object(values)) => values,
            _ => Map::new(),
        };
        let place = || spot.member("variants");
        let mut note = |path, warning| self.notes.push((path, warning));
        let key = || key.to_owned();
        if values.is_empty() {
            note(place(), Warning::NoVariants { key: key() });
        }
        for (name, value) in &values {
            if matches!(value, Value::Null | Value::Array(_)) {
                let mut path = place();
                path.push(Step::Member(name.clone()));
                let warning = Warning::Unaskable {
                    key: key(),
                    variant: name.clone(),
                    found: kind(value),
                };
                note(path, warning);
            }
        }
        let mut kinds = values.values().map(kind);
        let first = kinds.next();
        if kinds.any(|kind| Some(kind) != first) {
            note(place(), Warning::MixedVariants { key: key() });
        }
        let mut variants = Variants::new(values);
        if !default.is_empty() && !variants.set_default(default) {
            let fault = Fault::NoDefault {
                key: key(),
                variant: default.to_owned(),
            };
            return Err((spot.member("defaultVariant"), fault));
        }
        Ok(variants)
    }

    fn unknown_members(&mut self, key: &str, definition: &Map<String, Value>, spot: &Spot) {
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

/// Empty for none: that is how flagd's own sync says it.
fn default_name(key: &str, written: Option<&Value>, spot: &Spot) -> Result<String, Failure> {
    match written {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(name)) => Ok(name.clone()),
        Some(other) => {
            let path = spot.member("defaultVariant");
            let subject = format!("flag {key:?}: defaultVariant");
            Err(wrong_type(path, &subject, "a string", other))
        }
    }
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
    value: Option<&'v Value>,
    name: &str,
    path: impl FnOnce() -> Vec<Step>,
) -> Result<Option<&'v Map<String, Value>>, Failure> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => object(value, &format_args!("{name:?}"), path).map(Some),
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

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
