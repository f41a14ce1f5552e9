//! `rebucket`: who would get another variant if one file replaced another.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::args::RebucketArgs;
use super::inspect::{context, load, now, read};
use super::{Failure, print};
use crate::eval::{Attributes, Context, Evaluator, Integers};
use crate::model::{Flag, FlagSet};

/// Users named per flag; the rest are counted.
const NAMED_MAX: usize = 3;

/// What one context comes to: a variant, no variant, a failure, no flag.
fn variant(flags: &Side<'_>, key: &str, attributes: &Map<String, Value>, now: i64) -> String {
    let Some(flag) = flags.by_key.get(key) else {
        return "(no flag)".into();
    };
    let context = Context {
        request: Attributes::Json(attributes),
        now,
        ..Context::default()
    };
    match flags.evaluator.evaluate(flag, &context) {
        Ok(outcome) => outcome
            .variant
            .map_or_else(|| "(code default)".into(), |(name, _)| name.to_owned()),
        Err(error) => format!("({})", error.code()),
    }
}

/// One of the two files.
struct Side<'a> {
    evaluator: &'a Evaluator,
    by_key: BTreeMap<&'a str, &'a Flag>,
}

impl<'a> Side<'a> {
    fn of(evaluator: &'a Evaluator, set: &'a FlagSet) -> Self {
        let by_key = set.flags.iter().map(|flag| (&*flag.key, flag));
        Self {
            evaluator,
            by_key: by_key.collect(),
        }
    }
}

pub(super) fn run(args: &RebucketArgs) -> Result<(), Failure> {
    let new_generation = args.new_fractional.unwrap_or(args.fractional);
    let old_evaluator = Evaluator::new(args.fractional.into(), Integers::Truncate)?;
    let new_evaluator = Evaluator::new(new_generation.into(), Integers::Truncate)?;
    let old_set = load(&args.old, &old_evaluator)?;
    let new_set = load(&args.new, &new_evaluator)?;
    let old = Side::of(&old_evaluator, &old_set);
    let new = Side::of(&new_evaluator, &new_set);
    let contexts = contexts(args)?;
    let keys: BTreeSet<&str> = old
        .by_key
        .keys()
        .chain(new.by_key.keys())
        .copied()
        .collect();
    let now = now();
    let mut changed_flags = 0_usize;
    for key in keys {
        let mut moves: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
        for (name, attributes) in &contexts {
            let before = variant(&old, key, attributes, now);
            let after = variant(&new, key, attributes, now);
            if before != after {
                moves.entry((before, after)).or_default().push(name);
            }
        }
        changed_flags += usize::from(!moves.is_empty());
        report(args, key, &moves, contexts.len())?;
    }
    if args.json {
        return Ok(());
    }
    print(&format!(
        "{changed_flags} flags change for some of {} contexts\n",
        contexts.len()
    ))
}

fn report(
    args: &RebucketArgs,
    key: &str,
    moves: &BTreeMap<(String, String), Vec<&str>>,
    contexts: usize,
) -> Result<(), Failure> {
    if moves.is_empty() {
        return Ok(());
    }
    let moved: usize = moves.values().map(Vec::len).sum();
    if args.json {
        let moves = moves.iter().map(|((before, after), names)| {
            json!({"from": before, "to": after, "count": names.len(), "for": &names[..names.len().min(NAMED_MAX)]})
        });
        let line = json!({"flag": key, "changed": moved, "of": contexts, "moves": moves.collect::<Vec<_>>()});
        return print(&format!("{line}\n"));
    }
    print(&format!("{key}: {moved} of {contexts}\n"))?;
    for ((before, after), names) in moves {
        let shown = names[..names.len().min(NAMED_MAX)].join(", ");
        let more = if names.len() > NAMED_MAX { ", .." } else { "" };
        print(&format!(
            "  {before} -> {after}: {} ({shown}{more})\n",
            names.len()
        ))?;
    }
    Ok(())
}

/// A context with a name to print: its targeting key, or its line.
type Named = (String, Map<String, Value>);

fn contexts(args: &RebucketArgs) -> Result<Vec<Named>, Failure> {
    let Some(path) = &args.contexts else {
        let made_up = (1..=args.keys).map(|number| {
            let key = format!("user-{number}");
            let attributes = Map::from_iter([("targetingKey".to_owned(), key.clone().into())]);
            (key, attributes)
        });
        return Ok(made_up.collect());
    };
    let text = read(path)?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            let attributes = context(line)?;
            let key = attributes.get("targetingKey").and_then(Value::as_str);
            let name = key.map_or_else(|| format!("line {}", index + 1), str::to_owned);
            Ok((name, attributes))
        })
        .collect()
}
