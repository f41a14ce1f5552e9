//! The table for people and the JSON for machines. Ratios are of one round's pairs, then their median.

use serde_json::{Value, json};

use super::rounds::Round;
use super::{Scenario, VARIANTS, Variant};
use crate::place::Place;

/// The median of the rounds, and the lowest and highest.
#[derive(Debug, Clone, Copy)]
struct Spread {
    median: f64,
    low: f64,
    high: f64,
}

fn spread(values: impl Iterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    Some(Spread {
        median: *values.get(values.len() / 2)?,
        low: *values.first()?,
        high: *values.last()?,
    })
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { median, low, high } = self;
        write!(f, "{median:.2} ({low:.2}..{high:.2})")
    }
}

/// The rounds of one place.
struct Rounds<'a>(Place, &'a [Round]);

impl Rounds<'_> {
    fn of(&self, scenario: Scenario, variant: Variant) -> impl Iterator<Item = &Round> {
        self.1.iter().filter(move |round| {
            (round.place, round.scenario, round.variant) == (self.0, scenario, variant)
        })
    }

    /// Calls per second of one pair of cells in the same round, the first divided by the second.
    fn ratio(&self, top: (Scenario, Variant), bottom: (Scenario, Variant)) -> Option<Spread> {
        spread(self.of(top.0, top.1).filter_map(|round| {
            let mut others = self.of(bottom.0, bottom.1);
            let other = others.find(|other| other.number == round.number)?;
            Some(round.calls_per_second / other.calls_per_second)
        }))
    }
}

fn places(rounds: &[Round]) -> Vec<Place> {
    let mut places: Vec<Place> = rounds.iter().map(|round| round.place).collect();
    places.dedup();
    places
}

pub(super) fn print(rounds: &[Round]) {
    println!("calls/s and ratios: medians over rounds; ratios of the same round, (low..high)");
    for place in places(rounds) {
        let rounds = Rounds(place, rounds);
        for scenario in Scenario::all() {
            println!("\n{} / {}", place.name(), scenario.name());
            println!(
                "{:<28} {:>9} {:>10} {:>9} {:>22} {:>22}",
                "", "p50 us", "calls/s", "cpu us", "of raw", "of one at a time"
            );
            for variant in VARIANTS {
                line(&rounds, scenario, variant);
            }
        }
    }
}

fn line(rounds: &Rounds<'_>, scenario: Scenario, variant: Variant) {
    let median = |value: fn(&Round) -> f64| {
        spread(rounds.of(scenario, variant).map(value)).map(|spread| spread.median)
    };
    let Some(calls) = median(|round| round.calls_per_second) else {
        return;
    };
    let alone = Scenario {
        in_flight: 1,
        ..scenario
    };
    let cell = (scenario, variant);
    let of_raw = rounds.ratio(cell, (scenario, Variant::Raw));
    let of_alone = rounds.ratio(cell, (alone, variant));
    let shown = |spread: Option<Spread>| spread.map(|it| it.to_string()).unwrap_or_default();
    println!(
        "{:<28} {:>9.1} {:>10.0} {:>9.2} {:>22} {:>22}",
        variant.name(),
        median(|round| round.p50).unwrap_or_default(),
        calls,
        median(|round| round.cpu_per_call).unwrap_or_default(),
        shown(of_raw),
        shown(of_alone.filter(|_| scenario.in_flight > 1)),
    );
}

pub(super) fn json(rounds: &[Round]) -> Value {
    let rows = rounds.iter().map(|round| {
        json!({
            "place": round.place.name(),
            "round": round.number,
            "variant": round.variant.key(),
            "bytes": round.scenario.bytes,
            "in_flight": round.scenario.in_flight,
            "p50_us": round.p50,
            "calls_per_second": round.calls_per_second,
            "cpu_us_per_call": round.cpu_per_call,
        })
    });
    let rows: Vec<Value> = rows.collect();
    json!({ "allocator": crate::allocator::NAME, "rounds": rows })
}
