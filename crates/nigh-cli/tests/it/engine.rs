//! The call engine against a stock tonic server: descriptors from everywhere, all four kinds, how calls fail.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use nigh_cli::call::exchange::{ExchangeError, REPLY_BYTES_MAX};
use nigh_cli::call::reply::{self, Form};
use nigh_cli::call::request::Input;
use nigh_cli::call::schema::{self, Found, Origin, SchemaError};
use nigh_cli::call::{Exchange, Outcome, ShowError, Sink, metadata};
use prost_reflect::{DynamicMessage, MethodDescriptor};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::metadata::MetadataMap;

use crate::support::{Reflection, Stock};

/// Keeps what a call delivers, and tells somebody about each reply.
#[derive(Default)]
struct Kept {
    headers: MetadataMap,
    replies: Vec<String>,
    told: Option<mpsc::UnboundedSender<String>>,
}

impl Sink for Kept {
    fn headers(&mut self, metadata: &MetadataMap) -> Result<(), ShowError> {
        self.headers = metadata.clone();
        Ok(())
    }

    fn message(&mut self, message: &DynamicMessage) -> Result<(), ShowError> {
        let text = reply::to_json(message, Form::default())?;
        if let Some(told) = &self.told {
            told.send(text.clone()).map_err(io::Error::other)?;
        }
        self.replies.push(text);
        Ok(())
    }
}

async fn method(stock: &Stock, name: &str) -> MethodDescriptor {
    let target = format!("nigh.diag.v1.Diag/{name}").parse().unwrap();
    let found = schema::find(&Origin::Reflection, &target, stock.channel().await).await;
    match found.unwrap() {
        Found::Method(method) => method,
        Found::Service(service) => panic!("{service:?} is no method"),
    }
}

async fn exchange(stock: &Stock, name: &str, input: &str) -> Exchange {
    Exchange {
        attach: Vec::new(),
        method: method(stock, name).await,
        input: Some(input.to_owned()).into(),
        metadata: MetadataMap::new(),
        deadline: Some(Duration::from_secs(10)),
        reply_bytes_max: REPLY_BYTES_MAX,
    }
}

async fn call(stock: &Stock, name: &str, input: &str) -> (Outcome, Kept) {
    let mut kept = Kept::default();
    let exchange = exchange(stock, name, input).await;
    let outcome = exchange.run(stock.channel().await, &mut kept).await;
    (outcome.unwrap(), kept)
}

async fn refused(stock: &Stock, name: &str, input: &str) -> ExchangeError {
    let exchange = exchange(stock, name, input).await;
    let outcome = exchange
        .run(stock.channel().await, &mut Kept::default())
        .await;
    outcome.unwrap_err()
}

/// Returns once the server has counted one cancelled handler; it learns of a reset a moment after we do.
async fn until_cancelled(stock: &Stock) {
    loop {
        let (_, kept) = call(stock, "Counters", "{}").await;
        if kept.replies[0].contains(r#""handlersCancelled":"1""#) {
            return;
        }
    }
}

#[tokio::test]
async fn all_four_kinds() {
    let stock = Stock::start(Reflection::V1);
    let (outcome, kept) = call(&stock, "Echo", r#"{"text": "a", "data": "AAE="}"#).await;
    assert_eq!(outcome.status.code(), Code::Ok);
    assert_eq!(kept.replies, [r#"{"text":"a","data":"AAE="}"#]);

    let (outcome, kept) = call(&stock, "Upload", r#"{"data": "AAAA"} {"data": "AA=="}"#).await;
    assert_eq!(outcome.sent, 2);
    assert!(
        kept.replies[0].starts_with(r#"{"messages":"2","bytes":"4""#),
        "{kept:?}",
        kept = kept.replies
    );

    let (outcome, kept) = call(&stock, "Download", r#"{"count": 3}"#).await;
    assert_eq!(outcome.received, 3);
    assert_eq!(kept.replies, ["{}", r#"{"index":1}"#, r#"{"index":2}"#]);

    let (_, kept) = call(&stock, "EchoStream", r#"{"text": "a"} {"text": "b"}"#).await;
    assert_eq!(
        kept.replies,
        [r#"{"text":"a"}"#, r#"{"text":"b","index":"1"}"#]
    );

    let (outcome, kept) = call(&stock, "EchoStream", "").await;
    assert_eq!((outcome.status.code(), kept.replies.len()), (Code::Ok, 0));
}

/// A bidirectional call whose input is a pipe that this end keeps open.
struct Typing {
    writer: std::fs::File,
    hear: mpsc::UnboundedReceiver<String>,
    call: JoinHandle<Result<Outcome, ExchangeError>>,
    _folder: tempfile::TempDir,
}

impl Typing {
    async fn start(stock: &Stock) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        let (told, hear) = mpsc::unbounded_channel();
        let mut exchange = exchange(stock, "EchoStream", "").await;
        exchange.input = Input::File(pipe.clone());
        let channel = stock.channel().await;
        let call = tokio::spawn(async move {
            let mut kept = Kept {
                told: Some(told),
                ..Kept::default()
            };
            exchange.run(channel, &mut kept).await
        });
        // Opening a pipe waits for its reader.
        let open = || std::fs::OpenOptions::new().write(true).open(pipe);
        let writer = tokio::task::spawn_blocking(open).await.unwrap().unwrap();
        Self {
            writer,
            hear,
            call,
            _folder: folder,
        }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.writer, "{line}").unwrap();
    }
}

#[tokio::test]
async fn bidi_answers_before_the_input_ends() {
    let stock = Stock::start(Reflection::V1);
    let mut typing = Typing::start(&stock).await;
    for word in ["one", "two"] {
        typing.say(&format!(r#"{{"text": "{word}"}}"#));
        // The pipe is still open: the reply to this line is all that there is to wait for.
        assert!(typing.hear.recv().await.unwrap().contains(word));
    }
    drop(typing.writer);
    assert_eq!(typing.call.await.unwrap().unwrap().received, 2);
}

#[tokio::test]
async fn a_bad_message_ends_the_stream_without_completing_it() {
    let stock = Stock::start(Reflection::V1);
    let mut typing = Typing::start(&stock).await;
    typing.say(r#"{"text": "good"}"#);
    typing.hear.recv().await.unwrap();
    typing.say(r#"{"data": 1}"#);
    let ExchangeError::Request(error) = typing.call.await.unwrap().unwrap_err() else {
        panic!("not the request's fault");
    };
    let error = error.to_string();
    assert!(error.starts_with("message 2 of /"), "{error}");
    assert!(
        error.ends_with("pipe: data: expected a string of base64, got 1"),
        "{error}"
    );
    // A handler that had seen the end of the stream would not count as cancelled.
    until_cancelled(&stock).await;
}

#[tokio::test]
async fn a_single_request_is_exactly_one() {
    let stock = Stock::start(Reflection::V1);
    for (input, expected) in [("{} {}", "several"), (" ", "none")] {
        let error = refused(&stock, "Echo", input).await;
        assert!(error.to_string().contains(expected), "{error}");
    }
    let error = refused(&stock, "Echo", "@/nonexistent/file").await;
    assert!(error.to_string().contains("/nonexistent/file"), "{error}");
}

#[tokio::test]
async fn failures_carry_status_trailers_and_details() {
    let stock = Stock::start(Reflection::V1);
    let mut exchange = exchange(
        &stock,
        "Fail",
        r#"{"code": 9, "message": "not so", "details": "CAkSAA=="}"#,
    )
    .await;
    exchange.metadata = metadata::parse(&["x-nigh-echo-a: 1", "x-nigh-echo-b-bin: AAE"]).unwrap();
    let outcome = exchange
        .run(stock.channel().await, &mut Kept::default())
        .await
        .unwrap();
    assert_eq!(outcome.status.code(), Code::FailedPrecondition);
    assert_eq!(outcome.status.message(), "not so");
    assert_eq!(outcome.status.details(), [8, 9, 18, 0]);
    let trailers = metadata::pairs(&outcome.trailers);
    assert!(trailers.contains(&("x-nigh-echo-a".into(), "1".into())));
    assert!(trailers.contains(&("x-nigh-echo-b-bin".into(), "AAE".into())));
}

#[tokio::test]
async fn metadata_comes_back_in_the_headers() {
    let stock = Stock::start(Reflection::V1);
    let mut exchange = exchange(&stock, "Echo", "{}").await;
    exchange.metadata = metadata::parse(&["x-nigh-echo-a: 1", "other: 2"]).unwrap();
    let mut kept = Kept::default();
    exchange
        .run(stock.channel().await, &mut kept)
        .await
        .unwrap();
    assert_eq!(kept.headers.get("x-nigh-echo-a").unwrap(), "1");
    assert!(kept.headers.get("other").is_none());
}

#[tokio::test]
async fn the_deadline_holds_here_and_at_the_server() {
    let stock = Stock::start(Reflection::V1);
    let mut exchange = exchange(&stock, "Sleep", r#"{"duration": "60s"}"#).await;
    exchange.deadline = Some(Duration::from_millis(50));
    let outcome = exchange
        .run(stock.channel().await, &mut Kept::default())
        .await
        .unwrap();
    assert_eq!(outcome.status.code(), Code::DeadlineExceeded);
    assert!(outcome.total < Duration::from_secs(5));
    until_cancelled(&stock).await;
}

#[tokio::test]
async fn sizes_are_checked_on_both_sides() {
    let stock = Stock::start(Reflection::V1);
    let (outcome, _) = call(&stock, "Echo", r#"{"reply_bytes": 4194305}"#).await;
    assert_eq!(outcome.status.code(), Code::InvalidArgument);
    assert!(outcome.status.message().starts_with("reply_bytes:"));

    let mut exchange = exchange(&stock, "Echo", r#"{"reply_bytes": 2000}"#).await;
    exchange.reply_bytes_max = 1000;
    let outcome = exchange
        .run(stock.channel().await, &mut Kept::default())
        .await
        .unwrap();
    assert_eq!(outcome.status.code(), Code::OutOfRange);
}

#[tokio::test]
async fn v1alpha_is_enough_and_none_is_said() {
    let old = Stock::start(Reflection::V1Alpha);
    assert_eq!(method(&old, "Echo").await.name(), "Echo");

    let none = Stock::start(Reflection::None);
    let target = "nigh.diag.v1.Diag/Echo".parse().unwrap();
    let error = schema::find(&Origin::Reflection, &target, none.channel().await)
        .await
        .unwrap_err();
    assert!(matches!(error, SchemaError::NoReflection), "{error}");
    assert!(error.hint().unwrap().contains("--proto"));

    // The definition on disk does as well.
    let proto = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("proto/nigh/diag/v1/diag.proto");
    let origin = Origin::Proto {
        files: vec![proto],
        imports: vec![],
    };
    let found = schema::find(&origin, &target, none.channel().await).await;
    assert!(matches!(found.unwrap(), Found::Method(_)));
}

#[tokio::test]
async fn what_is_not_there_is_answered_with_what_is() {
    let stock = Stock::start(Reflection::V1);
    for (target, message, hint) in [
        (
            "nigh.diag.v1.Diag/Ecko",
            "has no method `Ecko`",
            "did you mean Echo?",
        ),
        (
            "nigh.diag.v1.Diga/Echo",
            "no service `nigh.diag.v1.Diga`",
            "did you mean nigh.diag.v1.Diag?",
        ),
        (
            "Diag/Echo",
            "no service `Diag`",
            "did you mean nigh.diag.v1.Diag?",
        ),
        (
            "nigh.diag.v1.Diag/Zzzzz",
            "has no method",
            "methods on offer: WhoAmI, Echo,",
        ),
    ] {
        let error = schema::find(
            &Origin::Reflection,
            &target.parse().unwrap(),
            stock.channel().await,
        )
        .await
        .unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
    }
}

#[tokio::test]
async fn services_and_methods_are_listed() {
    let stock = Stock::start(Reflection::V1);
    let names = schema::services(&Origin::Reflection, stock.channel().await)
        .await
        .unwrap();
    let names: Vec<&str> = names.iter().map(|name| name.0.as_str()).collect();
    assert_eq!(
        names,
        ["grpc.reflection.v1.ServerReflection", "nigh.diag.v1.Diag"]
    );
    let target = "nigh.diag.v1.Diag".parse().unwrap();
    let found = schema::find(&Origin::Reflection, &target, stock.channel().await).await;
    let Found::Service(service) = found.unwrap() else {
        panic!("not a service");
    };
    assert_eq!(service.methods().len(), 11);
    let echo = service
        .methods()
        .find(|method| method.name() == "Echo")
        .unwrap();
    assert_eq!(
        schema::template(&echo.input()),
        r#"{"text": "", "data": "base64", "replyBytes": 0, "delay": "1s"}"#
    );
}
