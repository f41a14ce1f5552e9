//! `nigh call`: finds the method, makes the call, shows what comes back.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nigh::{Descriptors, FdLimits};
use prost_reflect::{DynamicMessage, ServiceDescriptor};
use serde_json::{Value, json};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::received::Received;
use crate::call::exchange::Attach;
use crate::call::fields::{IndexField, IndexFieldError, Purpose};
use crate::call::reply::{self, Form};
use crate::call::schema::{self, Found, SchemaError};
use crate::call::status::code_name;
use crate::call::{Caller, Exchange, Outcome, ShowError, Sink, metadata};
use crate::cli::CallArgs;
use crate::connect;
use crate::duration;
use crate::error::Failure;
use crate::fdargs::AttachFd;
use crate::output::{self, Manner, Style, When};

/// Runs `nigh call`.
pub(crate) async fn run(args: CallArgs, when: When) -> Result<(), Failure> {
    let mut show = Show::new(&args, when);
    let ended = call(&args, when, &mut show).await;
    if let Err(failure) = &ended {
        show.failure(failure)?;
    }
    ended
}

async fn call(args: &CallArgs, when: When, show: &mut Show<'_>) -> Result<(), Failure> {
    let metadata = metadata::parse(&args.metadata)?;
    let files = open(&args.fd)?;
    // Only then: it costs a round trip, which a server of another kind has to answer, too.
    let has_fds = !args.fd.is_empty() || !args.save_fd.is_empty();
    let limits = has_fds.then(FdLimits::default);
    let channel = connect::channel(&args.connect, args.wire.into(), limits).await?;
    let Some(target) = &args.target else {
        return list_services(args, channel, when).await;
    };
    let origin = args.origin.origin();
    let found = schema::find(&origin, target, channel.clone());
    let method = match described(args.connect.timeout, found).await? {
        Found::Method(method) => method,
        Found::Service(service) => return list_methods(args, &service, when),
    };
    show.received.expect(&method.output(), &args.save_fd)?;
    let attach = args.fd.iter().zip(files).map(|(wish, file)| {
        let field = IndexField::find(&method.input(), &wish.field, Purpose::Put)?;
        let file = Arc::new(file);
        Ok(Attach { field, file })
    });
    let exchange = Exchange {
        attach: attach.collect::<Result<_, IndexFieldError>>()?,
        method,
        metadata,
        input: args.input.clone().into(),
        deadline: args.deadline,
        reply_bytes_max: args.max_reply,
    };
    show.request(&exchange);
    let outcome = exchange.run(channel, show).await?;
    let mut received = std::mem::take(&mut show.received);
    // A pipe ends when its writer says so; only the user knows how long that may take.
    let described = tokio::task::spawn_blocking(move || {
        let finished = received.finish();
        finished.map(|()| received.described)
    });
    let described = described.await.map_err(io::Error::other)?;
    show.outcome(&outcome, described.map_err(ShowError::from)?)?;
    match outcome.status.code() {
        Code::Ok => Ok(()),
        _ => Err(Failure::Status(Box::new(outcome.status))),
    }
}

/// A file that a request is to mention cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open {}", .path.display())]
pub struct FileError {
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    pub(crate) fn hint(&self) -> Option<&'static str> {
        (self.source.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error())).then_some(
            "a socket cannot be opened: only a program that is connected to it can pass it on",
        )
    }
}

/// Opens the files of `--fd`, before anything is sent.
fn open(wishes: &[AttachFd]) -> Result<Vec<OwnedFd>, FileError> {
    let opened = wishes.iter().map(|AttachFd { path, .. }| {
        let opened = match path == Path::new("-") {
            true => io::stdin().as_fd().try_clone_to_owned(),
            false => File::open(path).map(OwnedFd::from),
        };
        opened.map_err(|source| FileError {
            path: path.clone(),
            source,
        })
    });
    opened.collect()
}

/// Waits for the server to describe itself, but not for ever.
pub(super) async fn described<T>(
    timeout: Duration,
    answer: impl Future<Output = Result<T, SchemaError>>,
) -> Result<T, SchemaError> {
    tokio::time::timeout(timeout, answer)
        .await
        .unwrap_or_else(|_| {
            let status = Status::deadline_exceeded(format!("no answer within {timeout:?}"));
            Err(SchemaError::Reflection(Box::new(status)))
        })
}

async fn list_services<T: Caller>(args: &CallArgs, caller: T, when: When) -> Result<(), Failure> {
    let origin = args.origin.origin();
    let services = schema::services(&origin, caller);
    let services = described(args.connect.timeout, services).await?;
    let names: Vec<String> = services.into_iter().map(|service| service.0).collect();
    if args.json {
        output::print_json(&json!({ "services": names }))?;
        return Ok(());
    }
    let manner = Manner::stdout(when);
    for name in names {
        let line = manner.paint(Style::Strong, &output::visible(&name));
        output::print(&format!("{line}\n"))?;
    }
    Ok(())
}

fn list_methods(args: &CallArgs, service: &ServiceDescriptor, when: When) -> Result<(), Failure> {
    let manner = Manner::stdout(when);
    let mut text = String::new();
    let mut methods = Vec::new();
    for method in service.methods() {
        let stream = |yes| if yes { "stream " } else { "" };
        let takes = stream(method.is_client_streaming());
        let gives = stream(method.is_server_streaming());
        let (input, output) = (method.input(), method.output());
        let template = schema::template(&input);
        methods.push(json!({
            "method": format!("{}/{}", service.full_name(), method.name()),
            "input": input.full_name(),
            "output": output.full_name(),
            "client_streaming": method.is_client_streaming(),
            "server_streaming": method.is_server_streaming(),
            "template": template,
        }));
        let name = manner.paint(Style::Strong, method.name());
        let signature = format!(
            "({takes}{}) -> {gives}{}",
            input.full_name(),
            output.full_name()
        );
        let template = manner.paint(Style::Faint, &format!("    {template}"));
        text.push_str(&format!("{name} {signature}\n{template}\n"));
    }
    if args.json {
        output::print_json(&json!({ "service": service.full_name(), "methods": methods }))?;
    } else {
        output::print(&text)?;
    }
    Ok(())
}

/// Shows a call as it goes: replies on standard output, the rest on standard error if asked for.
///
/// With `--json` one object is written piece by piece, so that a long stream is shown at once and kept nowhere.
struct Show<'a> {
    args: &'a CallArgs,
    when: When,
    stdout: Manner,
    stderr: Manner,
    written: Written,
    replies: u64,
    received: Received,
}

/// How much of the JSON object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Nothing,
    Replies,
    All,
}

impl<'a> Show<'a> {
    fn new(args: &'a CallArgs, when: When) -> Self {
        Self {
            args,
            when,
            stdout: Manner::stdout(when),
            stderr: Manner::stderr(when),
            written: Written::Nothing,
            replies: 0,
            received: Received::default(),
        }
    }

    fn request(&self, exchange: &Exchange) {
        let (address, method) = (&self.args.connect.address, exchange.method.full_name());
        self.note(&format!("* {method} at {address}"));
        for (name, value) in metadata::pairs(&exchange.metadata) {
            self.note(&format!("> {name}: {value}"));
        }
    }

    /// A line for whoever asked for more; that it cannot be written is nobody's concern.
    fn note(&self, line: &str) {
        if self.args.verbose {
            let line = self.stderr.paint(Style::Faint, &output::visible(line));
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    /// Opens the JSON object, with the server's metadata if they came.
    fn begin(&mut self, headers: &MetadataMap) -> io::Result<()> {
        if !self.args.json || self.written != Written::Nothing {
            return Ok(());
        }
        self.written = Written::Replies;
        let head = format!(r#"{{"metadata":{},"messages":["#, as_json(headers));
        output::print(&head)
    }

    fn outcome(&mut self, outcome: &Outcome, descriptors: Vec<Value>) -> io::Result<()> {
        for (name, value) in metadata::pairs(&outcome.trailers) {
            self.note(&format!("< {name}: {value} (trailer)"));
        }
        let first = outcome.first.map_or_else(
            || "no headers".to_owned(),
            |first| format!("headers after {}", duration::show(first)),
        );
        let total = duration::show(outcome.total);
        let (sent, received) = (outcome.sent, outcome.received);
        self.note(&format!(
            "* {sent} sent, {received} received, {first}, {total} in all"
        ));
        if !self.args.json {
            return Ok(());
        }
        self.begin(&MetadataMap::new())?;
        let rest = json!({
            "status": {
                "code": i32::from(outcome.status.code()),
                "name": code_name(outcome.status.code()),
                "message": outcome.status.message(),
                "details": base64(outcome.status.details()),
            },
            "trailers": as_json(&outcome.trailers),
            "sent": sent,
            "received": received,
            "descriptors": descriptors,
            "timing": {
                "headers_ms": outcome.first.map(milliseconds),
                "total_ms": milliseconds(outcome.total),
            },
        });
        self.end(&rest)
    }

    /// Closes the JSON object with what a failure on this side left to say.
    fn failure(&mut self, failure: &Failure) -> io::Result<()> {
        if !self.args.json || failure.is_silent() || self.written == Written::All {
            return Ok(());
        }
        self.end(&json!({
            "error": {
                "message": failure.message(),
                "hint": failure.hint(),
                "exit_code": failure.exit_code(),
            },
        }))
    }

    fn end(&mut self, rest: &Value) -> io::Result<()> {
        let rest = rest.to_string();
        let text = match self.written {
            Written::Nothing => format!("{rest}\n"),
            // The first brace is written already.
            _ => format!("],{}\n", rest.trim_start_matches('{')),
        };
        self.written = Written::All;
        output::print(&text)
    }
}

impl Sink for Show<'_> {
    fn headers(&mut self, metadata: &MetadataMap) -> Result<(), ShowError> {
        for (name, value) in metadata::pairs(metadata) {
            self.note(&format!("< {name}: {value}"));
        }
        Ok(self.begin(metadata)?)
    }

    fn descriptors(&mut self, fds: Descriptors) {
        self.received.of(fds);
    }

    fn message(&mut self, message: &DynamicMessage) -> Result<(), ShowError> {
        let saved = self.received.take(message);
        let form = Form {
            defaults: self.args.defaults,
            pretty: self.stdout.is_terminal() && !self.args.json,
        };
        let mut text = reply::to_json(message, form)?;
        if self.stdout.is_terminal() {
            text = output::visible_json(&text);
        }
        let text = match (self.args.json, self.replies) {
            (false, _) => format!("{text}\n"),
            (true, 0) => text,
            (true, _) => format!(",{text}"),
        };
        self.replies += 1;
        output::print(&text)?;
        for line in saved? {
            if !self.args.json {
                output::note(self.when, &output::visible(&line));
            }
        }
        Ok(())
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Bytes as gRPC writes them in metadata.
fn base64(bytes: &[u8]) -> String {
    let value = tonic::metadata::BinaryMetadataValue::from_bytes(bytes);
    String::from_utf8_lossy(value.as_encoded_bytes()).into_owned()
}

/// Metadata as an object of lists; binary values are in base64.
fn as_json(metadata: &MetadataMap) -> Value {
    let mut object = serde_json::Map::new();
    for (name, value) in metadata::pairs(metadata) {
        let values = object.entry(name).or_insert_with(|| json!([]));
        if let Value::Array(values) = values {
            values.push(Value::String(value));
        }
    }
    Value::Object(object)
}
