//! `check` and `eval`: what is wrong in a file, and why a flag has its value.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::args::{EvalArgs, FileArgs};
use super::{Failure, print};
use crate::eval::{Attributes, Context, EvalError, Evaluator, Fractional, Integers, Outcome};
use crate::model::{self, Flag, FlagSet, Format, LoadError, Place};

/// Reads the flags of `path`, as the daemon would.
pub(super) fn load(path: &Path, evaluator: &Evaluator) -> Result<FlagSet, Failure> {
    let text = read(path)?;
    let format = Format::of_name(&path.to_string_lossy());
    model::load(&text, format, evaluator).map_err(|error| Failure::Load {
        path: path.to_owned(),
        error,
    })
}

pub(super) fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|source| Failure::Read {
        path: path.to_owned(),
        source,
    })
}

pub(super) fn check(args: &FileArgs) -> Result<(), Failure> {
    let evaluator = Evaluator::new(Fractional::V2, Integers::Truncate)?;
    let mut outcome = Ok(());
    for path in &args.files {
        match load(path, &evaluator) {
            Ok(set) => {
                for note in &set.notes {
                    let text = note.warning.to_string();
                    finding(path, note.place, "warning", &text, args.json)?;
                }
                if !args.json {
                    let (flags, notes) = (set.flags.len(), set.notes.len());
                    let path = path.display();
                    print(&format!("{path}: {flags} flags, {notes} warnings\n"))?;
                }
                if args.strict && !set.notes.is_empty() && outcome.is_ok() {
                    outcome = Err(Failure::Odd {
                        path: path.clone(),
                        count: set.notes.len(),
                    });
                }
            }
            Err(Failure::Load { path, error }) => {
                let LoadError { place, fault } = &error;
                finding(&path, *place, "error", &fault.to_string(), args.json)?;
                outcome = Err(Failure::Load { path, error });
            }
            Err(other) => return Err(other),
        }
    }
    outcome
}

/// In the form that editors jump to.
fn finding(
    path: &Path,
    place: Place,
    severity: &str,
    text: &str,
    as_json: bool,
) -> Result<(), Failure> {
    let (line, column) = (place.line, place.column);
    let path = path.display();
    if as_json {
        let finding = json!({
            "file": path.to_string(), "line": line, "column": column,
            "severity": severity, "message": text,
        });
        return print(&format!("{finding}\n"));
    }
    print(&format!("{path}:{line}:{column}: {severity}: {text}\n"))
}

pub(super) fn eval(args: &EvalArgs) -> Result<(), Failure> {
    let evaluator = Evaluator::new(args.fractional.into(), Integers::Truncate)?;
    let set = load(&args.file, &evaluator)?;
    let attributes = context(&args.context)?;
    let found = set.flags.iter().find(|flag| *flag.key == *args.flag);
    let failed = |error| Failure::Eval {
        key: args.flag.clone(),
        error,
    };
    let flag = found.ok_or_else(|| failed(EvalError::NotFound))?;
    let context = Context {
        request: Attributes::Json(&attributes),
        now: now(),
        ..Context::default()
    };
    let outcome = evaluator.evaluate(flag, &context).map_err(failed)?;
    let value = outcome.variant.map(|(_, variant)| variant.value.clone());
    let variant = outcome.variant.map(|(name, _)| name);
    if args.json {
        let answer = json!({
            "key": &*flag.key, "value": value, "variant": variant,
            "reason": outcome.reason.as_str(), "metadata": flag.metadata.json, "why": why(flag, &outcome),
        });
        return print(&format!("{answer}\n"));
    }
    let value = value.map_or_else(
        || "the default in the caller's code".to_owned(),
        |value| value.to_string(),
    );
    let variant = variant.unwrap_or("none");
    let (reason, why) = (outcome.reason.as_str(), why(flag, &outcome));
    print(&format!(
        "value:   {value}\nvariant: {variant}\nreason:  {reason}\nwhy:     {why}\n"
    ))
}

fn why(flag: &Flag, outcome: &Outcome<'_>) -> String {
    use crate::eval::Reason;
    let rule = || match serde_json::from_str::<Value>(&flag.definition) {
        Ok(definition) => definition["targeting"].to_string(),
        Err(error) => error.to_string(),
    };
    match (outcome.reason, outcome.variant) {
        (Reason::Disabled, _) => "the flag's state is DISABLED".into(),
        (Reason::Static, _) => "it has no targeting: its default variant".into(),
        (Reason::TargetingMatch, _) => {
            format!("its targeting names this variant: {}", rule())
        }
        (Reason::Default, None) => "it has no default variant".into(),
        (Reason::Default, Some(_)) => {
            let rule = rule();
            format!("its targeting comes to null: its default variant; {rule}")
        }
    }
}

pub(super) fn context(json: &str) -> Result<Map<String, Value>, Failure> {
    match serde_json::from_str(json) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Failure::Context(None)),
        Err(error) => Err(Failure::Context(Some(error))),
    }
}

pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
