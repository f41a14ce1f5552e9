//! dRPC beside raw packets and a plain Go server: every variant in every round, client and server in two processes.
//!
//! Usage: `bench drpc [--rounds N] [--time MS] [--json FILE] [--only VARIANT] [--bytes N] [--in-flight N]
//! [same|split|unpinned ..]`.

mod callers;
mod raw;
mod rounds;
mod servers;
mod table;

use std::time::Duration;

use crate::Failure;
use crate::place::{self, Place};

/// What is compared. Raw packets are what the others are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Variant {
    /// `send` and `recv` on the socket, and nothing else.
    Raw,
    /// `BlockingClient` and `Server`.
    Blocking,
    /// `Client` and `Server`.
    Async,
    /// `Client` and a server in Go that answers one call after the other.
    Go,
}

const VARIANTS: [Variant; 4] = [Variant::Raw, Variant::Blocking, Variant::Async, Variant::Go];

impl Variant {
    fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw packets",
            Self::Blocking => "nigh-drpc, blocking client",
            Self::Async => "nigh-drpc, async client",
            Self::Go => "async client, Go server",
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Blocking => "blocking",
            Self::Async => "async",
            Self::Go => "go",
        }
    }
}

/// Calls of so many bytes each way, so many at a time on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Scenario {
    bytes: usize,
    in_flight: usize,
}

const SIZES: [usize; 4] = [16, 4096, 128 * 1024, 1024 * 1024];
const DEPTHS: [usize; 2] = [1, 64];

impl Scenario {
    fn all() -> impl Iterator<Item = Self> {
        SIZES.into_iter().flat_map(|bytes| {
            DEPTHS
                .into_iter()
                .map(move |in_flight| Self { bytes, in_flight })
        })
    }

    fn name(self) -> String {
        let size = match self.bytes {
            1_048_576.. => format!("{} MiB", self.bytes >> 20),
            1024.. => format!("{} KiB", self.bytes >> 10),
            bytes => format!("{bytes} B"),
        };
        format!("{size}, {} in flight", self.in_flight)
    }

    /// A blocking client makes one call at a time; raw packets have no messages of several packets in flight.
    fn suits(self, variant: Variant) -> bool {
        match variant {
            Variant::Raw => self.in_flight == 1 || self.bytes <= raw::PACKET_BYTES,
            Variant::Blocking => self.in_flight == 1,
            Variant::Async | Variant::Go => true,
        }
    }
}

/// How much to measure.
#[derive(Debug, Clone)]
struct Plan {
    rounds: usize,
    /// Per variant, scenario and round, after a warm-up of a fifth of it.
    time: Duration,
    only: Option<String>,
    bytes: Option<usize>,
    in_flight: Option<usize>,
}

impl Plan {
    fn scenarios(&self) -> impl Iterator<Item = Scenario> {
        let (bytes, in_flight) = (self.bytes, self.in_flight);
        Scenario::all().filter(move |scenario| {
            bytes.is_none_or(|bytes| bytes == scenario.bytes)
                && in_flight.is_none_or(|in_flight| in_flight == scenario.in_flight)
        })
    }
}

/// Runs what the words ask for.
pub(crate) fn run(mut words: impl Iterator<Item = String>) -> Result<(), Failure> {
    let mut plan = Plan {
        rounds: 7,
        time: Duration::from_millis(60),
        only: None,
        bytes: None,
        in_flight: None,
    };
    let mut places = Vec::new();
    let mut json = None;
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word}: a value is missing"));
        match word.as_str() {
            "serve" => return servers::serve(&value()?, &value()?, &value()?),
            "--rounds" => plan.rounds = value()?.parse()?,
            "--time" => plan.time = Duration::from_millis(value()?.parse()?),
            "--only" => plan.only = Some(value()?),
            "--bytes" => plan.bytes = Some(value()?.parse()?),
            "--in-flight" => plan.in_flight = Some(value()?.parse()?),
            "--json" => json = Some(value()?),
            place => places.push(Place::named(place)?),
        }
    }
    if places.is_empty() {
        places = vec![Place::Same, Place::Unpinned];
    }
    if place::keeps_memory()? {
        return Ok(());
    }
    let mut all = Vec::new();
    for place in places {
        all.extend(rounds::rounds(&plan, place)?);
    }
    table::print(&all);
    if let Some(file) = json {
        std::fs::write(file, serde_json::to_string_pretty(&table::json(&all))?)?;
    }
    Ok(())
}
