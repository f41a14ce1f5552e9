//! The table for people and the JSON for machines.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::measure::Round;
use crate::place::Place;
use crate::{SCENARIOS, Scenario, VARIANTS, Variant};

/// The median of the rounds, and the lowest and highest.
#[derive(Debug, Clone, Copy)]
struct Spread {
    median: f64,
    low: f64,
    high: f64,
}

fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    Some(Spread {
        median: *values.get(values.len() / 2)?,
        low: *values.first()?,
        high: *values.last()?,
    })
}

type Cell = (Place, Scenario, Variant);

fn cells(rounds: &[Round]) -> HashMap<Cell, Vec<&Round>> {
    let mut cells: HashMap<Cell, Vec<&Round>> = HashMap::new();
    for round in rounds {
        let cell = (round.place, round.scenario, round.variant);
        cells.entry(cell).or_default().push(round);
    }
    cells
}

fn of(rounds: &[&Round], value: impl Fn(&Round) -> f64) -> Option<Spread> {
    spread(rounds.iter().map(|round| value(round)).collect())
}

pub(crate) fn table(rounds: &[Round]) {
    let cells = cells(rounds);
    let mut places: Vec<Place> = rounds.iter().map(|round| round.place).collect();
    places.dedup();
    println!("glibc malloc that keeps freed memory; medians over rounds, (low..high)");
    for place in places {
        for scenario in SCENARIOS {
            if !cells
                .keys()
                .any(|cell| (cell.0, cell.1) == (place, scenario))
            {
                continue;
            }
            println!("\n{} / {}", place.name(), scenario.name());
            println!(
                "{:<26} {:>22} {:>9} {:>12} {:>10} {:>8} {:>8}",
                "", "p50 us", "p99 us", "calls/s", "cpu us", "/ raw", "tonic /"
            );
            for variant in VARIANTS {
                if let Some(found) = cells.get(&(place, scenario, variant)) {
                    line(&cells, (place, scenario, variant), found);
                }
            }
        }
    }
}

fn line(cells: &HashMap<Cell, Vec<&Round>>, cell: Cell, found: &[&Round]) {
    let (place, scenario, variant) = cell;
    let value = |round: &Round| {
        if scenario.is_throughput() {
            1e6 / round.calls_per_second
        } else {
            round.p50
        }
    };
    let ratio = |top: Variant, bottom: Variant| {
        let top = of(cells.get(&(place, scenario, top))?, value)?.median;
        let bottom = of(cells.get(&(place, scenario, bottom))?, value)?.median;
        Some(format!("{:.2}", top / bottom))
    };
    let Some(p50) = of(found, |round| round.p50) else {
        return;
    };
    let median = |value: fn(&Round) -> f64| of(found, value).map_or(0.0, |spread| spread.median);
    println!(
        "{:<26} {:>8.1} ({:>5.1}..{:>5.1}) {:>9.1} {:>12.0} {:>10.1} {:>8} {:>8}",
        variant.name(),
        p50.median,
        p50.low,
        p50.high,
        median(|round| round.p99),
        median(|round| round.calls_per_second),
        median(|round| round.cpu_per_call),
        ratio(variant, Variant::Raw).unwrap_or_default(),
        ratio(Variant::Tonic, variant).unwrap_or_default(),
    );
}

pub(crate) fn json(rounds: &[Round]) -> Value {
    let mut rows = Vec::new();
    for ((place, scenario, variant), found) in cells(rounds) {
        let values = |value: fn(&Round) -> f64| {
            of(&found, value).map(
                |spread| json!({ "median": spread.median, "low": spread.low, "high": spread.high }),
            )
        };
        rows.push(json!({
            "place": place.name(),
            "scenario": scenario.name(),
            "variant": variant.key(),
            "rounds": found.len(),
            "p50_us": values(|round| round.p50),
            "p99_us": values(|round| round.p99),
            "calls_per_second": values(|round| round.calls_per_second),
            "cpu_us_per_call": values(|round| round.cpu_per_call),
        }));
    }
    json!({ "allocator": crate::allocator::NAME, "rows": rows })
}
