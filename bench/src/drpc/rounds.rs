//! Rounds: in each, every variant runs every scenario once, so that a busy moment of the machine hits all alike.

use super::servers::Server;
use super::{Plan, Scenario, VARIANTS, Variant, callers};
use crate::Failure;
use crate::place::Place;

/// What one variant did in one scenario of one round.
#[derive(Debug, Clone)]
pub(super) struct Round {
    pub(super) place: Place,
    pub(super) number: usize,
    pub(super) variant: Variant,
    pub(super) scenario: Scenario,
    /// Microseconds.
    pub(super) p50: f64,
    pub(super) calls_per_second: f64,
    /// Microseconds of both processes, warm-up included.
    pub(super) cpu_per_call: f64,
}

pub(super) fn rounds(plan: &Plan, place: Place) -> Result<Vec<Round>, Failure> {
    let directory = tempfile::tempdir()?;
    let mut servers = Vec::new();
    for variant in VARIANTS {
        let only = plan.only.as_ref();
        if only.is_none_or(|only| only == variant.key())
            && let Some(server) = Server::start(variant, directory.path(), place)?
        {
            servers.push((variant, server));
        }
    }
    let mut all = Vec::new();
    for number in 0..plan.rounds {
        for scenario in plan.scenarios() {
            for (variant, server) in &servers {
                if !scenario.suits(*variant) {
                    continue;
                }
                let cpu = || cpu_of("self") + cpu_of(&server.process());
                let started = cpu();
                let times = callers::run(*variant, scenario, &server.socket, plan.time)?;
                let used = cpu() - started;
                all.push(round(plan, place, number, *variant, scenario, times, used));
            }
        }
    }
    Ok(all)
}

/// Nanoseconds that all threads of a process have run, by the scheduler's count.
fn cpu_of(process: &str) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let times = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    times.sum()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds with three digits are all that is shown"
)]
fn round(
    plan: &Plan,
    place: Place,
    number: usize,
    variant: Variant,
    scenario: Scenario,
    mut times: Vec<u64>,
    cpu: u64,
) -> Round {
    times.sort_unstable();
    let calls = times.len().max(1) as f64;
    Round {
        place,
        number,
        variant,
        scenario,
        p50: times.get(times.len() / 2).copied().unwrap_or_default() as f64 / 1000.0,
        calls_per_second: calls / plan.time.as_secs_f64(),
        // The warm-up is a fifth of the time on top.
        cpu_per_call: cpu as f64 / 1000.0 / (calls * 1.2),
    }
}
