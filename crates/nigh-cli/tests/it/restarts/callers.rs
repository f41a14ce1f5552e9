//! The callers: each calls as fast as it is answered, over its own wire, and tells what happened to each call.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nigh::{Address, Channel, Wire};
use nigh_drpc::wire::Framing;
use nigh_drpc::{Client, ClientOptions, Speaks};
use nigh_testkit::service::proto::test_client::TestClient;
use nigh_testkit::service::proto::{Payload, SleepRequest};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};

use super::server::{CALL, ECHO, MODULE, Place};

/// Calls after which a gRPC caller goes on with a connection of its own making.
const CALLS_PER_CONNECTION: u64 = 16;
/// One call in so many takes some milliseconds, so that it is running when the server is replaced.
const SLOW_EVERY: u64 = 5;

/// Longest time for calls to be answered.
const LIMIT: Duration = Duration::from_secs(60);

/// How a caller calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Http2,
    Tcp,
    Nigh,
    DrpcChunked,
    DrpcLegacy,
    Http1,
}

/// 64 callers.
const CALLERS: [(Kind, u64); 6] = [
    (Kind::Http2, 14),
    (Kind::Tcp, 14),
    (Kind::Nigh, 14),
    (Kind::DrpcChunked, 8),
    (Kind::DrpcLegacy, 6),
    (Kind::Http1, 8),
];

/// Why a call failed.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    pub(super) kind: Kind,
    pub(super) number: u64,
    /// The connection was lost, and the caller was told so.
    pub(super) is_unavailable: bool,
    /// Nobody could be connected to.
    pub(super) is_refusal: bool,
    pub(super) text: String,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "call {:#x} over {:?}: {}",
            self.number, self.kind, self.text
        )
    }
}

/// What all callers saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) calls: AtomicU64,
    pub(super) failed: Mutex<Vec<Failed>>,
    is_over: AtomicBool,
}

impl Seen {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    fn note(&self, kind: Kind, number: u64, outcome: Result<(), Failed>) {
        self.calls.fetch_add(1, Ordering::AcqRel);
        if let Err(mut failed) = outcome {
            (failed.kind, failed.number) = (kind, number);
            self.failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(failed);
        }
    }

    /// What failed since the last time.
    pub(super) fn take_failed(&self) -> Vec<Failed> {
        std::mem::take(&mut *self.failed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until all callers together have had so many more answers.
    pub(super) async fn progress(&self, calls: u64) {
        let goal = self.calls.load(Ordering::Acquire) + calls;
        let mut look = tokio::time::interval(Duration::from_millis(2));
        let reached = async {
            while self.calls.load(Ordering::Acquire) < goal {
                look.tick().await;
            }
        };
        tokio::time::timeout(LIMIT, reached).await.unwrap();
    }
}

/// The callers at work.
pub(super) struct Callers {
    pub(super) seen: Arc<Seen>,
    tasks: JoinSet<Kind>,
}

impl Callers {
    pub(super) fn start(place: &Place, tcp: &Address) -> Self {
        let seen = Arc::new(Seen::default());
        let mut tasks = JoinSet::new();
        let mut caller = 0;
        for (kind, count) in CALLERS {
            for _ in 0..count {
                caller += 1;
                let numbers = Numbers { caller, next: 0 };
                let (seen, place, tcp) = (Arc::clone(&seen), place.clone(), tcp.clone());
                tasks.spawn(async move {
                    match kind {
                        Kind::Http2 => grpc(kind, place.stream(), Wire::Http2, numbers, seen).await,
                        Kind::Tcp => grpc(kind, tcp, Wire::Auto, numbers, seen).await,
                        Kind::Nigh => grpc(kind, place.stream(), Wire::Nigh, numbers, seen).await,
                        Kind::DrpcChunked => {
                            drpc(kind, Framing::Chunked, place, numbers, seen).await
                        }
                        Kind::DrpcLegacy => drpc(kind, Framing::Legacy, place, numbers, seen).await,
                        Kind::Http1 => http1(place, numbers, seen).await,
                    }
                    kind
                });
            }
        }
        assert_eq!(caller, 64);
        Self { seen, tasks }
    }

    /// Lets each end its call, and waits for all.
    pub(super) async fn stop(mut self) {
        self.seen.is_over.store(true, Ordering::Release);
        let mut left: Vec<Kind> = CALLERS
            .iter()
            .flat_map(|(kind, count)| std::iter::repeat_n(*kind, usize::try_from(*count).unwrap()))
            .collect();
        while let Ok(Some(ended)) = tokio::time::timeout(LIMIT, self.tasks.join_next()).await {
            let kind = ended.unwrap();
            left.swap_remove(left.iter().position(|one| *one == kind).unwrap());
        }
        assert!(left.is_empty(), "calls that never ended: {left:?}");
    }
}

/// How often each call was handled, by the servers' word.
pub(super) fn handled(place: &Place) -> HashMap<u64, u32> {
    let mut times = HashMap::new();
    for line in std::fs::read_to_string(place.log()).unwrap().lines() {
        *times.entry(line.parse().unwrap()).or_default() += 1;
    }
    times
}

/// The numbers of one caller's calls.
struct Numbers {
    caller: u64,
    next: u64,
}

impl Numbers {
    fn next(&mut self) -> u64 {
        self.next += 1;
        self.caller << 32 | self.next
    }
}

/// A caller that was refused lets others have their turn, among them the server.
async fn pause() {
    let mut pause = tokio::time::interval(Duration::from_millis(1));
    pause.tick().await;
    pause.tick().await;
}

fn failed(is_unavailable: bool, is_refusal: bool, text: impl ToString) -> Failed {
    Failed {
        kind: Kind::Http1,
        number: 0,
        is_unavailable,
        is_refusal,
        text: text.to_string(),
    }
}

async fn grpc(kind: Kind, address: Address, wire: Wire, mut numbers: Numbers, seen: Arc<Seen>) {
    let options = Channel::options().wire(wire).wait(false);
    let mut client = None;
    while !seen.is_over() {
        let number = numbers.next();
        if number.is_multiple_of(CALLS_PER_CONNECTION) {
            client = None;
        }
        let channel = match client.take() {
            Some(client) => Ok(client),
            None => options
                .clone()
                .connect(address.clone())
                .await
                .map(TestClient::new),
        };
        let mut caller = match channel {
            Ok(client) => client,
            Err(error) => {
                seen.note(kind, number, Err(failed(false, true, error)));
                pause().await;
                continue;
            }
        };
        let outcome = grpc_call(&mut caller, number).await;
        let outcome = outcome.map_err(|status| {
            let is_refusal = status.message().starts_with("connect to");
            failed(status.code() == Code::Unavailable, is_refusal, status)
        });
        let is_refusal = outcome.as_ref().is_err_and(|failed| failed.is_refusal);
        seen.note(kind, number, outcome);
        client = Some(caller);
        if is_refusal {
            pause().await;
        }
    }
}

async fn grpc_call(client: &mut TestClient<Channel>, number: u64) -> Result<(), Status> {
    let text = number.to_string();
    let marked = |mut request: Request<()>| {
        request.metadata_mut().insert(CALL, text.parse().unwrap());
        request
    };
    let mark = marked(Request::new(()));
    if number.is_multiple_of(SLOW_EVERY) {
        let request = mark.map(|()| SleepRequest { milliseconds: 3 });
        client.sleep(request).await?;
        return Ok(());
    }
    let data = text.clone().into_bytes();
    let request = mark.map(|()| Payload { data: data.clone() });
    match client.echo(request).await?.into_inner().data == data {
        true => Ok(()),
        false => Err(Status::data_loss("another call's answer")),
    }
}

async fn drpc(kind: Kind, framing: Framing, place: Place, mut numbers: Numbers, seen: Arc<Seen>) {
    let options = ClientOptions::default().speaks(Speaks::Only(framing));
    let client = Client::lazy(place.packets(), options);
    while !seen.is_over() {
        let number = numbers.next();
        let body = number.to_string();
        let outcome = match client.call(MODULE, ECHO, body.clone()).await {
            Ok(answer) if answer == body.as_bytes() => Ok(()),
            Ok(_) => Err(failed(false, false, "another call's answer")),
            Err(error) => {
                let text = format!("{error:?}");
                Err(failed(true, text.contains("Connect"), text))
            }
        };
        let is_refusal = outcome.as_ref().is_err_and(|failed| failed.is_refusal);
        seen.note(kind, number, outcome);
        if is_refusal {
            pause().await;
        }
    }
}

async fn http1(place: Place, mut numbers: Numbers, seen: Arc<Seen>) {
    let Address::Path(path) = place.stream() else {
        return;
    };
    let mut kept = None;
    while !seen.is_over() {
        let number = numbers.next();
        let connected = match kept.take() {
            Some(stream) => Ok(stream),
            None => UnixStream::connect(&path).await.map(BufReader::new),
        };
        let mut stream = match connected {
            Ok(stream) => stream,
            Err(error) => {
                seen.note(Kind::Http1, number, Err(failed(false, true, error)));
                pause().await;
                continue;
            }
        };
        let outcome = http1_call(&mut stream, number).await;
        if let Ok(true) = outcome {
            kept = Some(stream);
        }
        let outcome = outcome
            .map(drop)
            .map_err(|error| failed(true, false, error));
        seen.note(Kind::Http1, number, outcome);
    }
}

/// One call; whether the connection may carry another.
async fn http1_call(stream: &mut BufReader<UnixStream>, number: u64) -> std::io::Result<bool> {
    let request = format!("GET /?{number} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let (mut length, mut is_kept) = (0, true);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim().to_ascii_lowercase();
        match line.split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(("connection", "close")) => is_kept = false,
            _ if line.is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    match body == number.to_string().as_bytes() {
        true => Ok(is_kept),
        false => Err(std::io::Error::other("another call's answer")),
    }
}
