//! Rounds: in each, every variant runs every scenario once, so that a busy moment of the machine hits all alike.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::place::Place;
use crate::{Failure, Scenario, Variant, client};

/// How much to measure.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) variants: Vec<Variant>,
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) rounds: usize,
    /// Per variant, scenario and round.
    pub(crate) time: Duration,
}

/// What one variant did in one scenario of one round.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    pub(crate) place: Place,
    pub(crate) variant: Variant,
    pub(crate) scenario: Scenario,
    /// Microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) calls_per_second: f64,
    /// Microseconds of both processes, warm-up included.
    pub(crate) cpu_per_call: f64,
}

/// A server process; killed when dropped.
pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead already, which is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    pub(crate) fn start(variant: Variant, socket: &Path, place: Place) -> Result<Self, Failure> {
        let key = match variant {
            Variant::NighHttp2 => Variant::Nigh.key(),
            other => other.key(),
        };
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve").arg(key).arg(socket).arg(place.name());
        let child = Self(command.spawn()?);
        let until = Instant::now() + Duration::from_secs(5);
        while std::os::unix::net::UnixStream::connect(socket).is_err() {
            if Instant::now() > until {
                return Err(format!("the server of {key} does not listen").into());
            }
            std::thread::yield_now();
        }
        Ok(child)
    }

    pub(crate) fn id(&self) -> String {
        self.0.id().to_string()
    }

    fn cpu(&self) -> u64 {
        cpu_of(&self.0.id().to_string())
    }
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

pub(crate) fn rounds(plan: &Plan, place: Place) -> Result<Vec<Round>, Failure> {
    place.take(false)?;
    let directory = tempfile::tempdir()?;
    let mut servers = Vec::new();
    for &variant in &plan.variants {
        let socket = directory.path().join(variant.key());
        let server = Server::start(variant, &socket, place)?;
        servers.push((variant, socket, server));
    }
    let mut all = Vec::new();
    for _ in 0..plan.rounds {
        for &scenario in &plan.scenarios {
            for (variant, socket, server) in &servers {
                if scenario.suits(*variant) {
                    let started = (cpu_of("self"), server.cpu());
                    let times = client::run(*variant, scenario, socket, plan.time)?;
                    let ended = (cpu_of("self"), server.cpu());
                    let cpu = (ended.0 - started.0) + (ended.1 - started.1);
                    all.push(round(place, *variant, scenario, times, cpu, plan.time));
                }
            }
        }
    }
    Ok(all)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds with three digits are all that is shown"
)]
fn round(
    place: Place,
    variant: Variant,
    scenario: Scenario,
    mut times: Vec<u64>,
    cpu: u64,
    time: Duration,
) -> Round {
    times.sort_unstable();
    let at = |percent: usize| {
        let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(index).copied().unwrap_or_default() as f64 / 1000.0
    };
    let calls = times.len().max(1) as f64;
    Round {
        place,
        variant,
        scenario,
        p50: at(50),
        p99: at(99),
        calls_per_second: calls / time.as_secs_f64(),
        // The warm-up is a fifth of the time on top.
        cpu_per_call: cpu as f64 / 1000.0 / (calls * 1.2),
    }
}
