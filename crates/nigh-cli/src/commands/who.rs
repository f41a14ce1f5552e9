//! `nigh who`: who a server is, by the kernel's word, and who it takes the caller for, by its own.
//!
//! The first needs no protocol, so it works for every stream socket; the second needs `nigh.diag.v1.Diag`.
//! Trap: what the kernel says of a server dates from its `listen()`; with socket activation that was the activator.

use std::time::Duration;

use nigh_socket::{ConnectOptions, connect};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Value, json};
use tonic::{Code, Request, Status};

use crate::call::status::describe;
use crate::cli::WhoArgs;
use crate::connect;
use crate::diag::FILE_DESCRIPTOR_SET;
use crate::diag::caller;
use crate::diag::pb::diag_client::DiagClient;
use crate::diag::pb::{GroupsFact, IdFact, TextFact, WhoAmIReply, WhoAmIRequest};
use crate::error::Failure;
use crate::output::{self, Cell, Manner, Style, When};

const DATED: &str = "as of its listen(); a socket-activated server shows its activator";

/// Runs `nigh who`.
pub(crate) async fn run(args: WhoArgs, when: When) -> Result<(), Failure> {
    let to = &args.connect;
    let options = ConnectOptions::default().timeout(to.timeout).wait(to.wait);
    let (stream, peer) = connect(&to.address, &options).await?;
    let server = caller::describe(&peer);
    drop(stream);
    let caller = ask(&args).await;
    if args.json {
        return Ok(output::print_json(&as_json(&args, &server, &caller))?);
    }
    let manner = Manner::stdout(when);
    let heading = |title: &str, note: &str| {
        let title = manner.paint(Style::Strong, title);
        format!("{title}  {}\n", manner.paint(Style::Faint, note))
    };
    let mut text = heading("SERVER", &format!("at {}, {DATED}", to.address));
    text.push_str(&table(manner, &server));
    text.push('\n');
    match &caller {
        Ok(caller) => {
            text.push_str(&heading("YOU", "as the server saw you when you connected"));
            text.push_str(&table(manner, caller));
        }
        Err(why) => {
            text.push_str(&heading("YOU", ""));
            text.push_str(&format!("{}\n", output::visible(&why.to_string())));
        }
    }
    Ok(output::print(&text)?)
}

/// Why a server did not say who it takes the caller for.
#[derive(Debug, thiserror::Error)]
enum Silence {
    #[error("the server does not tell: it has no nigh.diag.v1.Diag")]
    NoService,
    #[error("the server refuses you: {0}")]
    Refused(String),
    #[error("the server does not tell: {}", describe(.0))]
    Failed(Box<Status>),
    #[error("the server does not tell: it does not speak gRPC ({0})")]
    NoGrpc(#[from] nigh::ChannelError),
    #[error("the server does not tell: no answer within {0:?}")]
    TimedOut(Duration),
}

async fn ask(args: &WhoArgs) -> Result<WhoAmIReply, Silence> {
    let timeout = args.connect.timeout;
    let answer = async {
        let channel = connect::channel(&args.connect, nigh::Wire::Auto, None).await?;
        let mut client = DiagClient::new(channel);
        let reply = client.who_am_i(Request::new(WhoAmIRequest {})).await;
        reply.map(tonic::Response::into_inner).map_err(silence)
    };
    tokio::time::timeout(timeout, answer)
        .await
        .unwrap_or(Err(Silence::TimedOut(timeout)))
}

fn silence(status: Status) -> Silence {
    match status.code() {
        Code::Unimplemented => Silence::NoService,
        Code::PermissionDenied => Silence::Refused(status.message().to_owned()),
        _ => Silence::Failed(Box::new(status)),
    }
}

fn table(manner: Manner, who: &WhoAmIReply) -> String {
    let rows: Vec<Vec<Cell>> = facts(who)
        .into_iter()
        .map(|(name, value, source)| {
            vec![
                Cell::plain(format!("  {name}")),
                value,
                Cell::new(Style::Faint, source),
            ]
        })
        .collect();
    let table = manner.table(&["", "", ""], &rows);
    // The headings are empty.
    table
        .split_once('\n')
        .map_or("", |(_, rest)| rest)
        .to_owned()
}

/// Name, value and source of each fact.
fn facts(who: &WhoAmIReply) -> Vec<(&'static str, Cell, &str)> {
    let mut facts = Vec::new();
    for (name, text) in [
        ("address", &who.address),
        ("listener", &who.listener),
        ("wire", &who.wire),
    ] {
        if !text.is_empty() {
            facts.push((name, Cell::plain(text), ""));
        }
    }
    let ids = [("uid", &who.uid), ("gid", &who.gid)];
    facts.extend(
        ids.into_iter()
            .filter_map(|(name, fact)| id(name, fact.as_ref()?)),
    );
    facts.extend(who.groups.as_ref().map(groups));
    facts.extend(who.pid.as_ref().and_then(|fact| id("pid", fact)));
    for (name, fact) in [
        ("executable", &who.executable),
        ("cgroup", &who.cgroup),
        ("unit", &who.unit),
        ("label", &who.label),
    ] {
        facts.extend(fact.as_ref().map(|fact| text(name, fact)));
    }
    if facts.is_empty() {
        facts.push(("", Cell::new(Style::Faint, "nothing is known"), ""));
    }
    facts
}

fn unknown(why: &str) -> Cell {
    Cell::new(Style::Warning, format!("unknown: {why}"))
}

fn id<'a>(name: &'static str, fact: &'a IdFact) -> Option<(&'static str, Cell, &'a str)> {
    let cell = match fact.id {
        Some(id) => Cell::plain(named(id, &fact.name)),
        None => unknown(&fact.unknown),
    };
    Some((name, cell, &fact.source))
}

fn named(id: u32, name: &str) -> String {
    match name {
        "" => id.to_string(),
        name => format!("{id} ({name})"),
    }
}

fn groups(fact: &GroupsFact) -> (&'static str, Cell, &str) {
    let names = fact.groups.iter().map(|group| named(group.id, &group.name));
    let names: Vec<String> = names.collect();
    let cell = match (names.is_empty(), fact.unknown.is_empty()) {
        (true, true) => Cell::plain("none"),
        (true, false) => unknown(&fact.unknown),
        (false, true) => Cell::plain(names.join(", ")),
        (false, false) => Cell::plain(format!("{}; {}", names.join(", "), fact.unknown)),
    };
    ("groups", cell, &fact.source)
}

fn text<'a>(name: &'static str, fact: &'a TextFact) -> (&'static str, Cell, &'a str) {
    let cell = match &fact.text {
        Some(text) => Cell::plain(text),
        None if fact.unknown.is_empty() => Cell::plain("none"),
        None => unknown(&fact.unknown),
    };
    (name, cell, &fact.source)
}

fn as_json(args: &WhoArgs, server: &WhoAmIReply, caller: &Result<WhoAmIReply, Silence>) -> Value {
    json!({
        "address": args.connect.address.to_string(),
        "server": message_json(server),
        "server_as_of": "listen",
        "caller": caller.as_ref().ok().map(message_json),
        "caller_unknown": caller.as_ref().err().map(ToString::to_string),
    })
}

/// The protocol's own JSON form, with the names of the .proto file.
fn message_json(who: &WhoAmIReply) -> Value {
    let options = SerializeOptions::new().use_proto_field_name(true);
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok();
    let descriptor = pool.and_then(|pool| pool.get_message_by_name("nigh.diag.v1.WhoAmIReply"));
    let Some(descriptor) = descriptor else {
        return Value::Null;
    };
    let mut message = DynamicMessage::new(descriptor);
    match message.transcode_from(who) {
        Ok(()) => message
            .serialize_with_options(serde_json::value::Serializer, &options)
            .unwrap_or(Value::Null),
        Err(_) => Value::Null,
    }
}
