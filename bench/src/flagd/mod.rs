//! The flag daemon in one run: evaluation, loading, calls by wire, all flags, a rename to many streams, memory, start.
//!
//! The daemon is a process of its own, this program under another command; callers are in this one.

mod calls;
mod daemon;
mod streams;

use std::time::{Duration, Instant};

use nigh_flagd::eval::{Attributes, Context, Evaluator, Fractional, Integers};
use nigh_flagd::model::{Format, load};
use nigh_flagd::store::{Selector, Store};
use nigh_flagd::value::to_struct;
use serde_json::{Map, Value, json};

use crate::Failure;
use daemon::Daemon;
pub(crate) use daemon::serve;

/// Flags of a large document.
const MANY: usize = 10_000;

/// Evaluations that one figure is the mean of.
const EVALUATIONS: u32 = 500_000;

/// One line of the result.
fn row(what: &str, value: &str) {
    println!("| {what} | {value} |");
}

fn time(time: Duration) -> String {
    let nanoseconds = time.as_nanos();
    match nanoseconds {
        0..10_000 => format!("{nanoseconds} ns"),
        10_000..10_000_000 => format!("{:.1} µs", time.as_secs_f64() * 1e6),
        _ => format!("{:.1} ms", time.as_secs_f64() * 1e3),
    }
}

/// The middle one and the largest.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(worst)) => {
            format!(
                "{} (worst of {}: {})",
                time(*median),
                times.len(),
                time(*worst)
            )
        }
        _ => "nothing".to_owned(),
    }
}

fn flag(targeting: Value) -> Value {
    json!({"state": "ENABLED", "variants": {"on": "yes", "off": "no"}, "defaultVariant": "off", "targeting": targeting})
}

/// A document of `count` flags with targeting, and one that `changing` gives a variant.
fn document(count: usize, changing: &str) -> String {
    let flags = (0..count).map(|number| {
        let rule = json!({"if": [{"ends_with": [{"var": "email"}, format!("@{number}.example.com")]}, "on", "off"]});
        (format!("flag-{number}"), flag(rule))
    });
    let mut flags: Map<String, Value> = flags.collect();
    let own = json!({"state": "ENABLED", "variants": {"a": 1, "b": 2}, "defaultVariant": changing});
    flags.insert("changing".into(), own);
    json!({ "flags": flags }).to_string()
}

/// Evaluation in this process: what a call costs without its way.
fn evaluations() -> Result<(), Failure> {
    let evaluator = Evaluator::new(Fractional::V2, Integers::Truncate)?;
    let rules = [
        ("static", json!({})),
        (
            "targeting",
            json!({"if": [{"ends_with": [{"var": "email"}, "@example.com"]}, "on", "off"]}),
        ),
        (
            "fractional",
            json!({"fractional": [["on", 50], ["off", 50]]}),
        ),
    ];
    let attributes = json!({"targetingKey": "user-1", "email": "a@example.com", "tier": "gold"});
    let attributes = to_struct(attributes.as_object().ok_or("an object")?);
    let context = Context {
        request: Attributes::Proto(&attributes),
        now: 1,
        ..Context::default()
    };
    for (name, rule) in rules {
        let text = json!({"flags": {"f": flag(rule)}}).to_string();
        let set = load(&text, Format::Json, &evaluator)?;
        let started = Instant::now();
        for _ in 0..EVALUATIONS {
            std::hint::black_box(evaluator.evaluate(&set.flags[0], &context)?);
        }
        row(
            &format!("evaluation in process, {name}"),
            &time(started.elapsed() / EVALUATIONS),
        );
    }
    let text = document(MANY, "a");
    let new_store = || Store::new(["source".to_owned()]);
    let store = new_store();
    let (mut first, mut over) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        let empty = new_store();
        for (store, times) in [(&empty, &mut first), (&store, &mut over)] {
            let started = Instant::now();
            let set = load(&text, Format::Json, &evaluator)?;
            store.update(0, set.flags);
            times.push(started.elapsed());
        }
    }
    let size = text.len() >> 10;
    let what = format!("load {MANY} flags with targeting ({size} KiB of JSON) into an empty store");
    row(&what, &spread(first));
    let what = format!("load {MANY} flags with targeting over the same, which go");
    row(&what, &spread(over));
    let keys: Vec<String> = (0..MANY)
        .map(|number| format!("flag-{}", number * 7919 % MANY))
        .collect();
    let view = store.view();
    let started = Instant::now();
    for key in keys.iter().cycle().take(usize::try_from(EVALUATIONS)?) {
        let served = view.find(key, &Selector::All).ok_or("no flag")?;
        std::hint::black_box(evaluator.evaluate(&served.flag, &context)?);
    }
    let what = format!("evaluation in process, targeting, one of {MANY} flags by key");
    row(&what, &time(started.elapsed() / EVALUATIONS));
    Ok(())
}

/// Time from the start of the process to the first answer, and what it holds then.
fn starts(runtime: &tokio::runtime::Runtime) -> Result<(), Failure> {
    for count in [0, MANY] {
        let mut times = Vec::new();
        let mut memory = 0;
        let document = document(count, "a");
        for _ in 0..5 {
            let started = Instant::now();
            let daemon = Daemon::start(&document)?;
            runtime.block_on(calls::first(&daemon))?;
            times.push(started.elapsed());
            memory = daemon.memory_kib()?;
        }
        row(
            &format!("start to the first answer, {} flags", count + 1),
            &spread(times),
        );
        row(
            &format!("memory of the daemon then, {} flags", count + 1),
            &format!("{:.1} MiB", f64::from(memory) / 1024.0),
        );
    }
    Ok(())
}

/// Measures everything, or only what happens in this program, and prints a table.
pub(crate) fn run(in_process_only: bool) -> Result<(), Failure> {
    println!("| what | median |\n|---|---|");
    evaluations()?;
    if in_process_only {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    starts(&runtime)?;
    let daemon = Daemon::start(&document(MANY, "a"))?;
    runtime.block_on(calls::by_wire(&daemon))?;
    runtime.block_on(calls::all(&daemon, MANY + 1))?;
    let few = Daemon::start(&document(99, "a"))?;
    runtime.block_on(calls::all(&few, 100))?;
    for count in [1, 100, 1000] {
        runtime.block_on(streams::renames(&few, count))?;
    }
    Ok(())
}
