//! Figures of the flag daemon: evaluation, loading, one call by wire, a rename to N streams. `cargo bench -p nigh-flagd`.
//!
//! Everything is in this one process, clients too: the figures of calls and streams are upper bounds.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nigh::{Channel, Listener, Server};
use nigh_flagd::eval::{Attributes, Context, Evaluator, Fractional, Integers};
use nigh_flagd::model::{Format, load};
use nigh_flagd::service::proto::evaluation::v1::ResolveAllRequest;
use nigh_flagd::service::proto::evaluation::v1::service_client::ServiceClient as V1;
use nigh_flagd::service::proto::evaluation::v2::service_client::ServiceClient;
use nigh_flagd::service::proto::evaluation::v2::{EventStreamRequest, ResolveStringRequest};
use nigh_flagd::service::{Flagd, Options};
use nigh_flagd::source::{Address, Hub, Sources};
use nigh_flagd::value::to_struct;
use serde_json::{Map, Value, json};

type Outcome = Result<(), Box<dyn Error>>;

fn flag(targeting: Value) -> Value {
    json!({"state": "ENABLED", "variants": {"on": "yes", "off": "no"}, "defaultVariant": "off", "targeting": targeting})
}

fn many(count: usize, last: &str) -> String {
    let rule = json!({"if": [{"ends_with": [{"var": "email"}, "@example.com"]}, "on", "off"]});
    let flags = (0..count).map(|number| (format!("flag-{number}"), flag(rule.clone())));
    let mut flags: Map<String, Value> = flags.collect();
    let changing =
        json!({"state": "ENABLED", "variants": {"a": 1, "b": 2}, "defaultVariant": last});
    flags.insert("changing".into(), changing);
    json!({ "flags": flags }).to_string()
}

fn evaluations() -> Outcome {
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
        let rounds: u32 = 1_000_000;
        let started = Instant::now();
        for _ in 0..rounds {
            std::hint::black_box(evaluator.evaluate(&set.flags[0], &context)?);
        }
        println!("evaluation, {name}: {:?}", started.elapsed() / rounds);
    }
    let text = many(10_000, "a");
    let started = Instant::now();
    let set = load(&text, Format::Json, &evaluator)?;
    println!(
        "load {} flags of {} bytes: {:?}",
        set.flags.len(),
        text.len(),
        started.elapsed()
    );
    Ok(())
}

async fn calls(channel: &Channel) -> Outcome {
    let mut client = ServiceClient::new(channel.clone());
    let attributes = json!({"targetingKey": "user-1", "email": "a@example.com"});
    let request = ResolveStringRequest {
        flag_key: "flag-7".into(),
        context: attributes.as_object().map(to_struct),
    };
    let mut times = Vec::new();
    for _ in 0..5_000 {
        let started = Instant::now();
        client.resolve_string(request.clone()).await?;
        times.push(started.elapsed());
    }
    times.sort();
    println!("one call, gRPC, median of 5000: {:?}", times[2_500]);
    let mut client = V1::new(channel.clone()).max_decoding_message_size(1 << 30);
    let started = Instant::now();
    let all = client.resolve_all(ResolveAllRequest::default()).await?;
    let count = all.into_inner().flags.len();
    println!("ResolveAll, {count} flags: {:?}", started.elapsed());
    Ok(())
}

async fn streams(address: &nigh::Address, file: &std::path::Path, count: usize) -> Outcome {
    let mut streams = Vec::new();
    let mut channel = Channel::connect(address).await?;
    for number in 0..count {
        if number % 200 == 199 {
            channel = Channel::connect(address).await?;
        }
        let mut client = ServiceClient::new(channel.clone());
        let mut stream = client
            .event_stream(EventStreamRequest {})
            .await?
            .into_inner();
        stream.message().await?;
        streams.push(stream);
    }
    let mut worst = Duration::ZERO;
    let mut total = Duration::ZERO;
    for round in 0..10 {
        let new = file.with_extension("new");
        std::fs::write(&new, many(100, if round % 2 == 0 { "b" } else { "a" }))?;
        let started = Instant::now();
        std::fs::rename(&new, file)?;
        for stream in &mut streams {
            stream.message().await?;
        }
        worst = worst.max(started.elapsed());
        total += started.elapsed();
    }
    println!(
        "rename to {count} streams: mean {:?}, worst {worst:?} of 10",
        total / 10
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    evaluations()?;
    let directory = std::env::temp_dir().join(format!("nigh-flagd-measure-{}", std::process::id()));
    std::fs::create_dir(&directory)?;
    let file = directory.join("flags.json");
    std::fs::write(&file, many(10_000, "a"))?;
    let source = Address::parse(&format!("file:{}", file.display()))?;
    let evaluator = Evaluator::new(Fractional::V2, Integers::Truncate)?;
    let hub = Hub::new(std::slice::from_ref(&source), evaluator);
    let store = Arc::clone(&hub.store);
    let started = Instant::now();
    let _following = Sources::start(&[source], &hub).await?;
    let listener = Listener::options().bind(nigh::Address::Path(directory.join("s")))?;
    let address = listener.address().clone();
    let server = Flagd::new(hub, Options::default()).serve_on(Server::new());
    let server = tokio::spawn(server.listen(listener).run(std::future::pending()));
    let channel = Channel::connect(&address).await?;
    println!("start to ready, 10001 flags: {:?}", started.elapsed());
    calls(&channel).await?;
    let mut views = store.subscribe();
    std::fs::write(file.with_extension("new"), many(100, "a"))?;
    std::fs::rename(file.with_extension("new"), &file)?;
    views.changed().await?;
    for count in [1, 100, 1000] {
        streams(&address, &file, count).await?;
    }
    server.abort();
    Ok(std::fs::remove_dir_all(directory)?)
}
