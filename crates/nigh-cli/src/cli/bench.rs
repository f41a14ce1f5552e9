//! The arguments of `nigh bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Connect, OriginArgs, WireName};
use crate::call::schema::Target;
use crate::duration;

/// What `nigh bench --help` ends with.
pub(super) const HELP: &str = "\
Without --rate, each of --concurrency workers makes its next call when its last is answered
(closed loop). With --rate, calls are made when they are due and their time counts from then,
however long others take (open loop); its clock keeps a core busy at high rates.

With several wires, rounds alternate between them on the same server, and each is warmed up first.
Times are those of calls that succeeded; all others are counted by status, and make the exit code 1.
Server and clients share the machine: what one takes the other lacks.

Examples:
  nigh bench unix:/run/app.sock --wire nigh,http2
  nigh bench unix:/run/app.sock --rate 5000 --duration 10s --svg latency.svg
  nigh bench unix:/run/app.sock my.Service/Get '{\"id\": 7}' --concurrency 64 --connections 4";

/// Arguments of `nigh bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Where, and how long to try.
    #[command(flatten)]
    pub connect: Connect,
    /// The method, which is unary. Without it, the diagnostic service's Echo.
    #[arg(value_name = "PACKAGE.SERVICE/METHOD")]
    pub target: Option<Target>,
    /// The request: JSON, a file, or standard input. Without it, an empty message.
    #[arg(value_name = "JSON|@FILE|-")]
    pub input: Option<String>,
    /// Bytes that Echo is to return.
    #[arg(long, value_name = "BYTES", default_value_t = 64, conflicts_with = "target", value_parser = clap::value_parser!(u32).range(..=4_000_000))]
    pub size: u32,
    /// The wires to compare: auto, nigh, http2.
    #[arg(
        long,
        value_name = "WIRE,..",
        value_delimiter = ',',
        default_value = "auto"
    )]
    pub wire: Vec<WireName>,
    /// Calls at once, over all connections; with --rate the most at once, and 1024 if not given.
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub concurrency: Option<u32>,
    /// Connections per wire.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub connections: u16,
    /// Calls per second to make, whatever the answers do.
    #[arg(long, value_name = "CALLS", value_parser = rate)]
    pub rate: Option<f64>,
    /// Time to measure each wire for.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "5s")]
    pub duration: Duration,
    /// Calls to make on each wire, instead of a time; an hour at most.
    #[arg(long, value_name = "N", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub calls: Option<u64>,
    /// Time of calls on each wire that are not counted.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "500ms")]
    pub warmup: Duration,
    /// Parts of the time, or of the calls: the wires take turns.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Where methods are described.
    #[command(flatten)]
    pub origin: OriginArgs,
    /// Metadata of each call; the value of a name in -bin is base64. May be repeated.
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    pub metadata: Vec<String>,
    /// Longest time for one call; the server is told.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub deadline: Option<Duration>,
    /// Write the latencies as a picture.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Why a text is no rate.
#[derive(Debug, Clone, thiserror::Error)]
#[error("expected calls per second, more than 0 and at most 10 million")]
struct RateError;

fn rate(text: &str) -> Result<f64, RateError> {
    let rate: f64 = text.parse().map_err(|_| RateError)?;
    let is_one = rate > 0.001 && rate <= 1e7;
    is_one.then_some(rate).ok_or(RateError)
}
