//! The testbed's scenarios that need a provider and a daemon that comes and goes, on a socket: connections, events, the
//! cache, options. Run with nigh-openfeature and the daemon as a process.
//!
//! A connection that is "lost for 6s" is a daemon that is killed, and started again once the provider has said what it
//! says after that time. So nothing here waits for a clock.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nigh_openfeature::{Event, Events, Options, Provider};
use nigh_testkit::TempSocket;
use open_feature::provider::FeatureProvider as _;
use open_feature::{EvaluationContext, StructValue, Value as Open};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Running, tell};
use crate::gherkin::{self, Case, arguments, same, typed};
use crate::provider::event;
use crate::testbed::{merged_flags, testbed};

/// How long a daemon must be gone before the provider gives up, where a scenario waits for that.
const GRACE: Duration = Duration::from_secs(2);

/// Time that no scenario outlasts.
const FOREVER: Duration = Duration::from_secs(600);

/// What a scenario has built up.
struct Stage {
    runtime: tokio::runtime::Runtime,
    folder: TempDir,
    socket: TempSocket,
    daemon: Option<Running>,
    provider: Option<Provider>,
    events: Option<Events>,
    /// What was heard, and of each kind how much of it a step has asked for.
    heard: Vec<Event>,
    asked: HashMap<String, usize>,
    /// The daemon comes back after this event.
    back_after: Option<&'static str>,
    options: HashMap<String, String>,
    variables: HashMap<String, String>,
    question: (String, String, String),
    answer: Answer,
    modified: usize,
}

#[derive(Debug, Default)]
struct Answer {
    value: Value,
    variant: String,
    reason: String,
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::Ready => "ready",
        Event::Stale => "stale",
        Event::Error { .. } => "error",
        Event::ConfigurationChanged { .. } => "change",
        other => panic!("a new kind of event: {other:?}"),
    }
}

fn json_of(value: &Open) -> Value {
    match value {
        Open::Bool(truth) => (*truth).into(),
        Open::Int(number) => (*number).into(),
        Open::Float(number) => (*number).into(),
        Open::String(text) => text.clone().into(),
        Open::Array(items) => items.iter().map(json_of).collect(),
        Open::Struct(members) => object(members),
    }
}

fn object(members: &StructValue) -> Value {
    let members = members.fields.iter();
    Value::Object(
        members
            .map(|(key, value)| (key.clone(), json_of(value)))
            .collect(),
    )
}

impl Stage {
    fn new(bed: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let flags = Value::Object(merged_flags(bed));
        std::fs::write(folder.path().join("flags.json"), flags.to_string()).unwrap();
        Self {
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
            folder,
            socket: TempSocket::private(),
            daemon: None,
            provider: None,
            events: None,
            heard: Vec::new(),
            asked: HashMap::new(),
            back_after: None,
            options: HashMap::new(),
            variables: HashMap::new(),
            question: Default::default(),
            answer: Answer::default(),
            modified: 0,
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("flags.json")
    }

    fn start(&mut self, more: &[&str]) {
        let source = format!("file:{}", self.file().display());
        let arguments = [&["-f", &source], more].concat();
        self.daemon = Some(Running::serving(self.socket.path(), &arguments));
    }

    fn provide(&mut self, grace: Duration) {
        let mut options = Options::at(&self.socket.address()).unwrap();
        options.retry_grace = grace;
        options.deadline = match self.options.get("deadlineMs") {
            Some(milliseconds) => Duration::from_millis(milliseconds.parse().unwrap()),
            None => Duration::from_secs(30),
        };
        if self.options.contains_key("fatalStatusCodes") {
            options.fatal = vec![tonic::Code::PermissionDenied];
        }
        let mut provider = Provider::new(options).unwrap();
        self.events = Some(provider.events());
        let context = EvaluationContext::default();
        self.runtime.block_on(provider.initialize(&context));
        self.provider = Some(provider);
    }

    fn hear(&mut self) {
        let events = self.events.as_mut().unwrap();
        let event = self.runtime.block_on(event(events));
        let back = self.back_after == Some(name(&event));
        self.heard.push(event);
        if back {
            self.back_after = None;
            self.start(&[]);
        }
    }

    /// Waits for the next event of this kind that no step has asked for yet.
    fn fired(&mut self, kind: &str) {
        let asked = *self.asked.entry(kind.to_owned()).or_default();
        while self
            .heard
            .iter()
            .filter(|event| name(event) == kind)
            .count()
            <= asked
        {
            self.hear();
        }
        self.asked.insert(kind.to_owned(), asked + 1);
    }

    fn evaluate(&mut self) -> Result<(), String> {
        let (kind, key, default) = &self.question;
        let provider = self.provider.as_ref().unwrap();
        let context = EvaluationContext::default();
        macro_rules! ask {
            ($method:ident, $json:expr) => {
                self.runtime
                    .block_on(provider.$method(key, &context))
                    .map(|details| Answer {
                        value: $json(details.value),
                        variant: details.variant.unwrap_or_default(),
                        reason: details
                            .reason
                            .map(|reason| reason.to_string())
                            .unwrap_or_default(),
                    })
            };
        }
        let answer = match kind.as_str() {
            "Boolean" => ask!(resolve_bool_value, Value::from),
            "String" => ask!(resolve_string_value, Value::from),
            "Integer" => ask!(resolve_int_value, Value::from),
            "Float" => ask!(resolve_float_value, Value::from),
            "Object" => ask!(resolve_struct_value, |value| object(&value)),
            other => return Err(format!("no kind: {other}")),
        };
        self.answer = answer.map_err(|error| format!("{key} (or {default}): {error:?}"))?;
        Ok(())
    }

    /// Gives the flag that changes its other value, as the testbed's launchpad does.
    fn modify(&mut self) {
        let text = std::fs::read_to_string(self.file()).unwrap();
        let mut flags: Value = serde_json::from_str(&text).unwrap();
        let flag = &mut flags["flags"]["changing-flag"];
        let variants = flag["variants"].as_object().unwrap().keys();
        let variants: Vec<String> = variants.cloned().collect();
        self.modified += 1;
        let current = flag["defaultVariant"].as_str().unwrap().to_owned();
        let other = variants.iter().find(|name| **name != current);
        flag["defaultVariant"] = other.unwrap().as_str().into();
        let new = self.file().with_extension("new");
        std::fs::write(&new, flags.to_string()).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    /// The options that the environment makes, one by one as the scenarios name them.
    fn option(&self, name: &str) -> Option<String> {
        let options = Options::from_variables(|variable| {
            self.variables.get(variable).map(std::ffi::OsString::from)
        });
        let options = options.unwrap();
        let milliseconds = |time: Duration| time.as_millis().to_string();
        let address = match &options.address {
            nigh::Address::Path(path) => [String::new(), String::new(), path.display().to_string()],
            nigh::Address::Tcp { host, port } | nigh::Address::Https { host, port } => {
                [host.clone(), port.to_string(), "null".to_owned()]
            }
            other => panic!("{other}"),
        };
        let [host, port, socket] = address;
        let tls = matches!(options.address, nigh::Address::Https { .. });
        Some(match name {
            "socketPath" => socket,
            "host" => host,
            "port" => port,
            "tls" => tls.to_string(),
            "deadlineMs" => milliseconds(options.deadline),
            "streamDeadlineMs" => milliseconds(options.stream_deadline),
            "retryBackoffMs" => milliseconds(options.retry_backoff),
            "retryBackoffMaxMs" => milliseconds(options.retry_backoff_max),
            "retryGracePeriod" => options.retry_grace.as_secs().to_string(),
            "maxCacheSize" => options.cache_entries_max.to_string(),
            "cache" if options.cache_entries_max == 0 => "disabled".to_owned(),
            "cache" => "lru".to_owned(),
            "resolver" => "rpc".to_owned(),
            "selector" => match options.selector.as_str() {
                "" => "null".to_owned(),
                selector => selector.to_owned(),
            },
            _ => return None,
        })
    }
}

fn expect(what: &str, actual: &str, text: &str) -> Result<(), String> {
    let expected = arguments(text, 1).concat();
    match actual == expected {
        true => Ok(()),
        false => Err(format!("{what} is {actual:?}, not {expected:?}")),
    }
}

fn grace(case: &Case) -> Duration {
    // A second is shorter than any grace, and what is longer is longer than this one.
    let brief = case
        .steps
        .iter()
        .any(|step| step.text.ends_with("lost for 1s"));
    if brief { FOREVER } else { GRACE }
}

fn step(stage: &mut Stage, case: &Case, text: &str) -> Result<(), String> {
    if let Some((kind, _)) = text.split_once("-flag with key ") {
        let [key, default] = &arguments(text, 2)[..] else {
            return Err(format!("no arguments: {text}"));
        };
        let kind = kind.trim_start_matches("a ").to_owned();
        stage.question = (kind, key.clone(), default.clone());
    } else if let Some(rest) = text.strip_prefix("an option ") {
        let [name, _, value] = &arguments(rest, 3)[..] else {
            return Err(format!("no arguments: {text}"));
        };
        stage.options.insert(name.clone(), value.clone());
    } else if text.starts_with("an environment variable") {
        let [name, value] = &arguments(text, 2)[..] else {
            return Err(format!("no arguments: {text}"));
        };
        stage.variables.insert(name.clone(), value.clone());
    } else if text == "a stable flagd provider" || text == "a socket flagd provider" {
        stage.start(&[]);
        stage.provide(grace(case));
    } else if text == "a forbidden flagd provider" {
        stage.start(&["--allow", "none"]);
        stage.provide(FOREVER);
    } else if text == "a unavailable flagd provider" {
        stage.provide(FOREVER);
    } else if let Some(lost) = text.strip_prefix("the connection is lost for ") {
        stage.daemon.take().unwrap().kill();
        stage.back_after = Some(if lost == "1s" { "stale" } else { "error" });
    } else if text == "the flag was evaluated with details" {
        stage.evaluate()?;
    } else if text == "the flag was modified" {
        stage.modify();
    } else if text.ends_with("event handler should not have been executed") {
        let kind = text.split(' ').nth(1).unwrap_or_default();
        if stage.heard.iter().any(|event| name(event) == kind) {
            return Err(format!("{:?}", stage.heard));
        }
    } else if text.contains(" event handler should have been executed")
        || text.ends_with(" event was fired")
    {
        stage.fired(text.split(' ').nth(1).unwrap_or_default());
    } else if !(text.ends_with(" event handler") || text == "a config was initialized") {
        return check(stage, text);
    }
    Ok(())
}

/// The steps that only look.
fn check(stage: &Stage, text: &str) -> Result<(), String> {
    if text == "the flag should be part of the event payload" {
        let changed = stage.heard.iter().rev().find_map(|event| match event {
            Event::ConfigurationChanged { flags } => Some(flags),
            _ => None,
        });
        if !changed.is_some_and(|flags| flags.contains(&stage.question.1)) {
            return Err(format!("changed: {changed:?}"));
        }
    } else if text == "the client should be in fatal state" {
        let fatal = |event: &Event| matches!(event, Event::Error { fatal: true, .. });
        if !stage.heard.iter().any(fatal) {
            return Err(format!("{:?}", stage.heard));
        }
    } else if text.starts_with("the resolved details value should be") {
        let expected = typed(&stage.question.0, &arguments(text, 1).concat());
        if !same(&stage.answer.value, &expected) {
            return Err(format!("{:?}, not {expected}", stage.answer));
        }
    } else if text.starts_with("the variant should be") {
        expect("the variant", &stage.answer.variant, text)?;
    } else if text.starts_with("the reason should be") {
        expect("the reason", &stage.answer.reason, text)?;
    } else if text.starts_with("the option ") {
        let [name, _, expected] = &arguments(text, 3)[..] else {
            return Err(format!("no arguments: {text}"));
        };
        let actual = stage
            .option(name)
            .ok_or_else(|| format!("no option {name}"))?;
        if !actual.eq_ignore_ascii_case(expected) {
            return Err(format!("{name} is {actual:?}, not {expected:?}"));
        }
    } else {
        return Err(format!("a step of another suite: {text}"));
    }
    Ok(())
}

/// What this provider has: it asks a daemon, over a socket or a port. TLS by file and keep-alive are options of nigh's
/// own channel, whose values cannot be asked for.
fn belongs(case: &Case) -> bool {
    let foreign = ["@targetURI", "@customCert", "@sync-port", "@sync"];
    let tagged = |tag: &str| case.tags.iter().any(|own| own == tag);
    let said = |words: &str| case.steps.iter().any(|step| step.text.contains(words));
    let other = [
        "keepAliveTime",
        "in-process",
        "IN-PROCESS",
        "fatalStatusCodes\" of type \"StringList\" should",
    ];
    // Options in code are fields here: there is nothing that could be mixed up.
    let mixes = said("a config was initialized") && said("an option ");
    let is_foreign = foreign.iter().any(|tag| tagged(tag)) || other.iter().any(|words| said(words));
    tagged("@rpc") && !is_foreign && !mixes
}

#[test]
fn the_testbeds_scenarios_on_a_socket_pass() {
    let Some(bed) = testbed() else {
        nigh_testkit::skip("cargo cannot fetch interop/flagd/rust");
        return;
    };
    let (mut passed, mut on_socket, mut failures) = (0, 0, Vec::new());
    for feature in ["connection", "events", "rpc-caching", "config"] {
        let path = bed.join(format!("gherkin/{feature}.feature"));
        for case in gherkin::read(&path).iter().flat_map(with_socket) {
            if !belongs(&case) {
                continue;
            }
            let mut stage = Stage::new(&bed);
            let mut steps = case.steps.iter();
            match steps.try_for_each(|own| step(&mut stage, &case, &own.text)) {
                Ok(()) => {
                    passed += 1;
                    on_socket += usize::from(case.tags.iter().any(|tag| tag == "@unixsocket"));
                }
                Err(error) => failures.push(format!("{}: {error}", case.name)),
            }
        }
    }
    let failed = failures.len();
    tell(&format!(
        "testbed scenarios: {passed} passed ({on_socket} @unixsocket), {failed} failed"
    ));
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(passed > 30 && on_socket > 3, "{passed} {on_socket}");
}

/// The row that the testbed keeps commented out: reconnecting on a Unix socket.
fn with_socket(case: &Case) -> Vec<Case> {
    let mut cases = vec![case.clone()];
    if case.name.contains("Provider reconnection [\"stable\"]") {
        let mut socket = case.clone();
        socket.name = socket.name.replace("stable", "socket");
        socket.tags.push("@unixsocket".to_owned());
        for step in &mut socket.steps {
            step.text = step.text.replace("stable", "socket");
        }
        cases.push(socket);
    }
    cases
}
