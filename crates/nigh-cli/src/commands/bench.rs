//! `nigh bench`: connects on each wire, lets them take turns, shows what became of the calls.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use nigh::Channel;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use serde_json::{Value, json};
use tonic::Status;

use crate::bench::BenchError;
use crate::bench::histogram::{Histogram, as_float};
use crate::bench::load::{self, Load, Pace, Until};
use crate::bench::picture::{self, Curve};
use crate::bench::tally::Tally;
use crate::call::metadata;
use crate::call::request::{Count, Input, RequestError, Requests};
use crate::call::schema::{self, Found};
use crate::cli::{BenchArgs, WireName};
use crate::connect;
use crate::diag::pb::EchoRequest;
use crate::error::Failure;
use crate::output::{self, Cell, Manner, Style, When};

use super::call::described;

/// What is called when nothing else is named.
const ECHO: &str = "/nigh.diag.v1.Diag/Echo";
/// Calls at once where nothing is said: of a closed loop, and the most of an open one.
const WORKERS: u32 = 1;
const RUNNING_MAX: u32 = 1024;

/// One wire, and what became of its calls.
struct Lane {
    wire: WireName,
    channels: Vec<Channel>,
    all: Tally,
    rounds: Vec<Tally>,
}

/// Runs `nigh bench`.
pub(crate) async fn run(args: BenchArgs, when: When) -> Result<(), Failure> {
    let mut lanes = Vec::new();
    for wire in &args.wire {
        lanes.push(Lane::connect(&args, *wire).await?);
    }
    let load = Arc::new(load_of(&args, &lanes).await?);
    let pace = match args.rate {
        None => Pace::Closed {
            workers: usize::try_from(args.concurrency.unwrap_or(WORKERS)).unwrap_or(1),
        },
        Some(rate) => Pace::Open {
            rate,
            running_max: args.concurrency.unwrap_or(RUNNING_MAX),
        },
    };
    for lane in &lanes {
        // Its failures are no secret: those of the rounds are the same.
        load::run(&load, &lane.channels, pace, Until::Time(args.warmup)).await?;
    }
    for round in 0..args.rounds {
        let until = part(&args, round);
        for lane in &mut lanes {
            let tally = load::run(&load, &lane.channels, pace, until).await?;
            lane.all.merge(&tally);
            lane.rounds.push(tally);
        }
    }
    show(&args, &load, &lanes, when)?;
    if let Some(path) = &args.svg {
        let picture = svg(&args, &load, &lanes);
        std::fs::write(path, picture).map_err(|source| BenchError::Picture {
            path: path.clone(),
            source,
        })?;
    }
    judge(&lanes)
}

impl Lane {
    async fn connect(args: &BenchArgs, wire: WireName) -> Result<Self, Failure> {
        let mut channels = Vec::new();
        for _ in 0..args.connections {
            channels.push(connect::channel(&args.connect, wire.into(), None).await?);
        }
        Ok(Self {
            wire,
            channels,
            all: Tally::default(),
            rounds: Vec::new(),
        })
    }

    fn name(&self) -> &'static str {
        match self.wire {
            WireName::Auto => "auto",
            WireName::Nigh => "nigh",
            WireName::Http2 => "http2",
        }
    }
}

/// The share of one round.
fn part(args: &BenchArgs, round: u32) -> Until {
    match args.calls {
        None => Until::Time(args.duration / args.rounds),
        Some(calls) => {
            let rounds = u64::from(args.rounds);
            let more = u64::from(u64::from(round) < calls % rounds);
            Until::Calls(calls / rounds + more)
        }
    }
}

async fn load_of(args: &BenchArgs, lanes: &[Lane]) -> Result<Load, Failure> {
    let metadata = metadata::parse(&args.metadata)?;
    let (path, request) = match (&args.target, lanes.first()) {
        (Some(target), Some(lane)) => {
            let origin = args.origin.origin();
            // Over a channel of the first wire, which is measured later.
            let channel = lane.channels.first().cloned();
            let channel = channel.ok_or_else(|| Status::internal("no connection"))?;
            let found = schema::find(&origin, target, channel);
            let method = match described(args.connect.timeout, found).await? {
                Found::Method(method) => method,
                Found::Service(service) => {
                    let service = service.full_name().to_owned();
                    return Err(BenchError::NoMethod { service }.into());
                }
            };
            let service = method.parent_service().full_name();
            let path = format!("/{service}/{}", method.name());
            let request = message(&method, args.input.clone().into()).await?;
            (PathAndQuery::try_from(path), request)
        }
        _ => {
            let echo = EchoRequest {
                data: vec![0; usize::try_from(args.size).unwrap_or(0)].into(),
                ..EchoRequest::default()
            };
            let request = Bytes::from(echo.encode_to_vec());
            (PathAndQuery::try_from(ECHO), request)
        }
    };
    Ok(Load {
        path: path.map_err(|error| Status::internal(format!("method name: {error}")))?,
        request,
        metadata,
        deadline: args.deadline,
    })
}

/// The one message of every call, encoded.
async fn message(method: &MethodDescriptor, input: Input) -> Result<Bytes, Failure> {
    let name = method.full_name().to_owned();
    if method.is_client_streaming() || method.is_server_streaming() {
        return Err(BenchError::NotUnary { method: name }.into());
    }
    let descriptor = method.input();
    if input == Input::Nothing {
        return Ok(DynamicMessage::new(descriptor).encode_to_vec().into());
    }
    let mut requests = Requests::start(&input, descriptor)?;
    let first = requests.next().await.transpose()?;
    let second = requests.next().await.transpose()?;
    let got = match (&first, second) {
        (Some(message), None) => return Ok(message.encode_to_vec().into()),
        (None, _) => Count::None,
        (Some(_), Some(_)) => Count::Several,
    };
    Err(RequestError::NotOne {
        method: name,
        from: input,
        got,
    }
    .into())
}

fn judge(lanes: &[Lane]) -> Result<(), Failure> {
    let failed: u64 = lanes.iter().map(|lane| lane.all.failed()).sum();
    let good: u64 = lanes.iter().map(|lane| lane.all.latency.total()).sum();
    let first = lanes.iter().find_map(|lane| lane.all.first_failure.clone());
    match first {
        None => Ok(()),
        Some(first) => Err(BenchError::Failed {
            failed,
            calls: failed + good,
            first,
        }
        .into()),
    }
}

fn title(args: &BenchArgs, load: &Load) -> String {
    let loop_kind = match args.rate {
        Some(rate) => format!("open loop, {rate} calls/s"),
        None => format!(
            "closed loop, {} at once",
            args.concurrency.unwrap_or(WORKERS)
        ),
    };
    format!(
        "{} at {}: {} bytes, {loop_kind}, {} connection{}",
        load.path,
        args.connect.address,
        load.request.len(),
        args.connections,
        if args.connections == 1 { "" } else { "s" }
    )
}

fn svg(args: &BenchArgs, load: &Load, lanes: &[Lane]) -> String {
    let curves = lanes.iter().map(|lane| Curve {
        name: lane.name(),
        latency: &lane.all.latency,
        per_second: lane.all.per_second(),
    });
    picture::svg(&title(args, load), &curves.collect::<Vec<_>>())
}

fn show(args: &BenchArgs, load: &Load, lanes: &[Lane], when: When) -> std::io::Result<()> {
    if args.json {
        return output::print_json(&as_json(args, load, lanes));
    }
    let manner = Manner::stdout(when);
    let headings = [
        "WIRE",
        "CALLS",
        "FAILED",
        "CALLS/S",
        "P50",
        "P90",
        "P99",
        "P99.9",
        "MAX",
        "P50 PER ROUND",
    ];
    let rows: Vec<Vec<Cell>> = lanes.iter().map(row).collect();
    let title = manner.paint(Style::Faint, &output::visible(&title(args, load)));
    let mut text = format!("{title}\n\n{}", manner.table(&headings, &rows));
    for lane in lanes {
        for (name, count) in &lane.all.failures {
            let line = format!("{}: {count} ended with {name}", lane.name());
            text.push_str(&format!("{}\n", manner.paint(Style::Bad, &line)));
        }
        if lane.all.late.total() > 0 {
            let late = |percent| picture::show(as_float(lane.all.late.percentile(percent)));
            let line = format!(
                "{}: calls were made {} (p50), {} (p99) after they were due, which is in their times",
                lane.name(),
                late(50.0),
                late(99.0)
            );
            text.push_str(&format!("{}\n", manner.paint(Style::Faint, &line)));
        }
        if lane.all.latency.total() > 0 {
            let bars = picture::bars(&lane.all.latency);
            text.push_str(&format!("\n{}\n{bars}", lane.name()));
        }
    }
    output::print(&text)
}

fn row(lane: &Lane) -> Vec<Cell> {
    let Tally { latency, .. } = &lane.all;
    let at = |percent| picture::show(as_float(latency.percentile(percent)));
    let mut medians: Vec<u64> = lane
        .rounds
        .iter()
        .map(|round| round.latency.percentile(50.0))
        .collect();
    medians.sort_unstable();
    let edge =
        |median: Option<&u64>| median.map_or_else(String::new, |m| picture::show(as_float(*m)));
    let failed = lane.all.failed();
    let style = if failed > 0 { Style::Bad } else { Style::Plain };
    vec![
        Cell::new(Style::Strong, lane.name()),
        Cell::plain(latency.total().to_string()),
        Cell::new(style, failed.to_string()),
        Cell::plain(format!("{:.0}", lane.all.per_second())),
        Cell::plain(at(50.0)),
        Cell::plain(at(90.0)),
        Cell::plain(at(99.0)),
        Cell::plain(at(99.9)),
        Cell::plain(picture::show(as_float(latency.max()))),
        Cell::plain(format!(
            "{}..{}",
            edge(medians.first()),
            edge(medians.last())
        )),
    ]
}

fn as_json(args: &BenchArgs, load: &Load, lanes: &[Lane]) -> Value {
    let wires = lanes.iter().map(|lane| {
        let all = &lane.all;
        let bins = all.latency.bins(all.latency.min(), all.latency.max(), 40);
        let bins = bins.iter().filter(|bin| bin.count > 0);
        json!({
            "wire": lane.name(),
            "calls": all.latency.total() + all.failed(),
            "succeeded": all.latency.total(),
            "failed": all.failures,
            "first_failure": all.first_failure,
            "seconds": all.took.as_secs_f64(),
            "calls_per_second": all.per_second(),
            "latency_us": times(&all.latency),
            "late_us": (all.late.total() > 0).then(|| times(&all.late)),
            "rounds": lane.rounds.iter().map(|round| json!({
                "succeeded": round.latency.total(),
                "calls_per_second": round.per_second(),
                "p50_us": micros(round.latency.percentile(50.0)),
                "p99_us": micros(round.latency.percentile(99.0)),
            })).collect::<Vec<_>>(),
            "histogram": bins.map(|bin| json!({
                "from_us": bin.from / 1e3,
                "to_us": bin.to / 1e3,
                "count": bin.count,
            })).collect::<Vec<_>>(),
        })
    });
    json!({
        "address": args.connect.address.to_string(),
        "method": load.path.as_str(),
        "request_bytes": load.request.len(),
        "loop": if args.rate.is_some() { "open" } else { "closed" },
        "rate": args.rate,
        "concurrency": args.concurrency.unwrap_or(if args.rate.is_some() { RUNNING_MAX } else { WORKERS }),
        "connections": args.connections,
        "wires": wires.collect::<Vec<_>>(),
    })
}

fn times(histogram: &Histogram) -> Value {
    json!({
        "min": micros(histogram.min()),
        "mean": micros(histogram.mean()),
        "p50": micros(histogram.percentile(50.0)),
        "p90": micros(histogram.percentile(90.0)),
        "p99": micros(histogram.percentile(99.0)),
        "p99.9": micros(histogram.percentile(99.9)),
        "max": micros(histogram.max()),
    })
}

fn micros(nanos: u64) -> f64 {
    as_float(nanos) / 1e3
}
