//! nigh beside its peers: every variant in every round, client and server in two processes; medians and spread.
//!
//! Usage: `cargo run --release -p bench -- [--rounds N] [--time MS] [--json FILE] [--only KEY,..] [--scenario KEY,..]
//! [same|split|unpinned ..]`; dRPC and packets: `.. -- drpc ..`; sockets alone: `.. -- sockets`; memory of idle connections:
//! `.. -- idle`; the flag daemon: `.. -- flagd [--in-process]`; large payloads as bytes and as sealed memory: `.. -- sealed`.

mod allocator;
mod client;
mod drpc;
mod flagd;
mod idle;
mod lean;
mod measure;
mod place;
mod report;
mod sealed;
mod server;
mod sockets;
mod tarpc;

use std::process::ExitCode;
use std::time::Duration;

use measure::{Plan, Round};
use place::Place;

/// What a run failed at; there is nobody to handle it.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is compared. The first is what the others are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Variant {
    Raw,
    Tokio,
    Tonic,
    NighHttp2,
    Nigh,
    /// Asleep between calls.
    NighStill,
    /// With stubs that use nigh's codec.
    NighCodec,
    /// Through shared memory, asleep between calls.
    Shared,
    /// Through shared memory, looking for the next before sleeping.
    SharedSpin,
    /// tarpc with bincode, over the same kind of socket.
    Tarpc,
}

const VARIANTS: [Variant; 10] = [
    Variant::Raw,
    Variant::Tokio,
    Variant::Tonic,
    Variant::NighHttp2,
    Variant::Nigh,
    Variant::NighStill,
    Variant::NighCodec,
    Variant::Shared,
    Variant::SharedSpin,
    Variant::Tarpc,
];

impl Variant {
    fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw blocking ping-pong",
            Self::Tokio => "tokio echo",
            Self::Tonic => "tonic over HTTP/2, tuned",
            Self::NighHttp2 => "nigh over HTTP/2",
            Self::Nigh => "nigh wire",
            Self::NighStill => "nigh wire, no spin",
            Self::NighCodec => "nigh wire, nigh's codec",
            Self::Shared => "shared memory, no spin",
            Self::SharedSpin => "shared memory, spinning",
            Self::Tarpc => "tarpc, bincode",
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Tokio => "tokio",
            Self::Tonic => "tonic",
            Self::NighHttp2 => "nigh-http2",
            Self::Nigh => "nigh",
            Self::NighStill => "nigh-still",
            Self::NighCodec => "nigh-codec",
            Self::Shared => "shared",
            Self::SharedSpin => "shared-spin",
            Self::Tarpc => "tarpc",
        }
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Scenario {
    /// One caller, 64 bytes each way.
    Unary,
    /// 64 callers on one connection.
    Outstanding,
    /// 16 connections with 8 callers each.
    Connections,
    /// One caller, 64 KiB up and nothing back.
    Middle,
    /// One caller, 1 MiB up and nothing back.
    Large,
    /// One caller, 16 MiB up and nothing back.
    Huge,
    /// One caller, 64 bytes and a descriptor up.
    Descriptor,
    /// A server's stream of messages of 64 bytes; each is counted as a call.
    Messages,
}

const SCENARIOS: [Scenario; 8] = [
    Scenario::Unary,
    Scenario::Outstanding,
    Scenario::Connections,
    Scenario::Middle,
    Scenario::Large,
    Scenario::Huge,
    Scenario::Descriptor,
    Scenario::Messages,
];

impl Variant {
    /// Whether, and how, calls go through shared memory.
    fn shared_memory(self) -> nigh::SharedMemory {
        match self {
            Self::Shared => nigh::SharedMemory::on().spin(nigh::Spin::Off),
            Self::SharedSpin => nigh::SharedMemory::on(),
            _ => nigh::SharedMemory::off(),
        }
    }

    /// Whether the ends of a socket look before they sleep.
    fn spin(self) -> nigh::Spin {
        match self {
            Self::NighStill => nigh::Spin::Off,
            _ => nigh::Spin::adaptive_on_socket(),
        }
    }

    /// Whether calls travel on nigh's own wire.
    fn is_on_the_nigh_wire(self) -> bool {
        match self {
            Self::Nigh | Self::NighStill | Self::NighCodec | Self::Shared | Self::SharedSpin => {
                true
            }
            Self::Raw | Self::Tokio | Self::Tonic | Self::NighHttp2 | Self::Tarpc => false,
        }
    }
}

impl Scenario {
    fn name(self) -> &'static str {
        match self {
            Self::Unary => "unary 64 B, one caller",
            Self::Outstanding => "64 outstanding, one connection",
            Self::Connections => "16 connections x 8 callers",
            Self::Middle => "unary 64 KiB up, one caller",
            Self::Large => "unary 1 MiB up, one caller",
            Self::Huge => "unary 16 MiB up, one caller",
            Self::Descriptor => "unary 64 B and one descriptor up, one caller",
            Self::Messages => "messages of a server's stream, 64 B",
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::Outstanding => "outstanding",
            Self::Connections => "connections",
            Self::Middle => "middle",
            Self::Large => "large",
            Self::Huge => "huge",
            Self::Descriptor => "descriptor",
            Self::Messages => "messages",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Middle => 64 * 1024,
            Self::Large => 1024 * 1024,
            Self::Huge => 16 * 1024 * 1024,
            _ => 64,
        }
    }

    /// Connections, and callers on each.
    fn callers(self) -> (usize, usize) {
        match self {
            Self::Outstanding => (1, 64),
            Self::Connections => (16, 8),
            _ => (1, 1),
        }
    }

    /// The plain loops answer one message at a time; descriptors go between two nigh ends, on the socket; tarpc has its own
    /// kind of messages.
    fn suits(self, variant: Variant) -> bool {
        let is_plain = matches!(variant, Variant::Raw | Variant::Tokio);
        match self {
            Self::Descriptor => matches!(variant, Variant::NighHttp2 | Variant::Nigh),
            Self::Messages => !is_plain && variant != Variant::Tarpc,
            Self::Unary => true,
            Self::Outstanding | Self::Connections => !is_plain,
            Self::Middle | Self::Large | Self::Huge => variant != Variant::Tarpc,
        }
    }

    /// Whether what is of interest is how much, and not how soon.
    fn is_throughput(self) -> bool {
        self.callers() != (1, 1) || self == Self::Messages
    }
}

/// Client and server of one variant in one thread, for a profiler that counts instructions.
fn once(variant: &str, scenario: &str, calls: &str) -> Result<(), Failure> {
    let variant = chosen(variant, &VARIANTS, Variant::key)?;
    let scenario = chosen(scenario, &SCENARIOS, Scenario::key)?;
    let (Some(&variant), Some(&scenario)) = (variant.first(), scenario.first()) else {
        return Err("once VARIANT SCENARIO CALLS".into());
    };
    let directory = tempfile::tempdir()?;
    let socket = directory.path().join("s");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let serving = server::serve_here(variant, &socket);
        let calling = client::count(variant, scenario, &socket, calls.parse()?);
        tokio::select! {
            served = serving => served,
            called = calling => called.map(|calls| println!("{calls} calls")),
        }
    })
}

/// Those of `all` that a list of keys names.
fn chosen<T: Copy>(keys: &str, all: &[T], key: fn(T) -> &'static str) -> Result<Vec<T>, Failure> {
    let one = |name: &str| {
        let found = all.iter().copied().find(|one| key(*one) == name);
        found.ok_or_else(|| {
            let known: Vec<_> = all.iter().map(|one| key(*one)).collect();
            format!("{name:?} is none of {}", known.join(", ")).into()
        })
    };
    keys.split(',').map(one).collect()
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1);
    let mut plan = Plan {
        variants: VARIANTS.to_vec(),
        scenarios: SCENARIOS.to_vec(),
        rounds: 7,
        time: Duration::from_millis(80),
    };
    let mut places = Vec::new();
    let mut json = None;
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word}: a value is missing"));
        match word.as_str() {
            "sockets" => return sockets::run(words),
            "idle" => return idle::run(words),
            "sealed" => return sealed::run(words),
            "drpc" => return drpc::run(words),
            "flagd" => return flagd::run(words.any(|word| word == "--in-process")),
            "flagd-serve" => return flagd::serve(&value()?, &value()?),
            "once" => return once(&value()?, &value()?, &value()?),
            "serve" => return server::serve(&value()?, &value()?, &value()?),
            "--rounds" => plan.rounds = value()?.parse()?,
            "--time" => plan.time = Duration::from_millis(value()?.parse()?),
            "--only" => plan.variants = chosen(&value()?, &VARIANTS, Variant::key)?,
            "--scenario" => plan.scenarios = chosen(&value()?, &SCENARIOS, Scenario::key)?,
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
    let mut all: Vec<Round> = Vec::new();
    for place in places {
        all.extend(measure::rounds(&plan, place)?);
    }
    report::table(&all);
    if let Some(file) = json {
        std::fs::write(file, serde_json::to_string_pretty(&report::json(&all))?)?;
    }
    Ok(())
}
