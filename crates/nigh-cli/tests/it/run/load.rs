//! A command replaced and killed while it is called over every kind of connection: what its callers see.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nigh::{Channel, Wire};
use nigh_cli::diag::pb::EchoRequest;
use nigh_cli::diag::pb::diag_client::DiagClient;
use nigh_testkit::TempSocket;
use rustix::process::Signal;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::signal;
use super::supervised::Supervised;

/// Callers of each sort.
const CALLERS: usize = 4;
/// Answers between two events, so that each meets callers at work.
const ANSWERS_BETWEEN: u64 = 200;

#[derive(Debug, Default)]
struct Seen {
    answers: AtomicU64,
    is_over: AtomicBool,
}

/// A caller's failures: what became of the call, and whether it was even connected.
type Failures = Vec<(String, Code, String)>;

/// Calls until it is over, on a connection that lasts or on a new one each time; one call in five takes a while.
async fn call(address: String, wire: Wire, lasts: bool, seen: Arc<Seen>) -> Failures {
    let mut failures = Vec::new();
    let mut kept = None;
    for number in 0_u64.. {
        if seen.is_over.load(Ordering::Acquire) {
            break;
        }
        let text = format!("{wire:?} {lasts} {number}");
        let channel = match kept.take() {
            Some(channel) => Ok(channel),
            None => {
                Channel::options()
                    .wire(wire)
                    .connect(address.as_str())
                    .await
            }
        };
        let channel = match channel {
            Ok(channel) => channel,
            Err(error) => {
                failures.push((text, Code::Unknown, format!("not connected: {error}")));
                continue;
            }
        };
        let mut client = DiagClient::new(channel.clone());
        let delay = (number % 5 == 0).then(|| Duration::from_millis(3));
        let request = EchoRequest {
            text: text.clone(),
            delay: delay.map(|delay| delay.try_into().unwrap()),
            ..EchoRequest::default()
        };
        let answer: Result<_, Status> = client.echo(request).await;
        match answer {
            Ok(answer) => {
                assert_eq!(answer.into_inner().text, text);
                seen.answers.fetch_add(1, Ordering::AcqRel);
            }
            Err(status) => failures.push((text, status.code(), status.message().to_owned())),
        }
        if lasts {
            kept = Some(channel);
        }
    }
    failures
}

/// Waits until all callers together have had so many more answers.
async fn progress(seen: &Seen) {
    let goal = seen.answers.load(Ordering::Acquire) + ANSWERS_BETWEEN;
    let mut look = tokio::time::interval(Duration::from_millis(2));
    while seen.answers.load(Ordering::Acquire) < goal {
        look.tick().await;
    }
}

struct Load {
    seen: Arc<Seen>,
    callers: JoinSet<Failures>,
}

impl Load {
    fn start(place: &TempSocket) -> Self {
        let seen = Arc::new(Seen::default());
        let mut callers = JoinSet::new();
        for wire in [Wire::Http2, Wire::Nigh] {
            for lasts in [true, false] {
                for _ in 0..CALLERS {
                    callers.spawn(call(place.address(), wire, lasts, Arc::clone(&seen)));
                }
            }
        }
        Self { seen, callers }
    }

    async fn end(mut self) -> Failures {
        self.seen.is_over.store(true, Ordering::Release);
        let mut failures = Vec::new();
        while let Some(ended) = self.callers.join_next().await {
            failures.extend(ended.unwrap());
        }
        failures
    }
}

fn served(place: &TempSocket) -> Supervised {
    let nigh = env!("CARGO_BIN_EXE_nigh");
    let run = Supervised::start(place, &[], &[nigh, "serve", "fd:web"]);
    run.until(|status| status["state"] == "serving");
    run
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_replaced_under_load_and_nobody_is_refused() {
    let place = TempSocket::private();
    let run = served(&place);
    let load = Load::start(&place);
    for times in 1..=5 {
        progress(&load.seen).await;
        run.signal(Signal::HUP);
        run.until(|status| status["replacements"] == times);
    }
    progress(&load.seen).await;
    let failures = load.end().await;
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(run.status()["crashes"], 0);
    assert_eq!(run.end().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_command_costs_the_calls_it_had_and_refuses_nobody() {
    let place = TempSocket::private();
    killed_under_load(&place, served(&place)).await;
}

/// The supervisor holds no socket: the server binds it, and has it kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_takes_back_what_it_has_stored_and_refuses_nobody() {
    let place = TempSocket::private();
    let nigh = env!("CARGO_BIN_EXE_nigh");
    let serve = [nigh, "serve", "--store", &place.address()];
    let run = Supervised::bare(&[], &serve);
    run.until(|status| status["state"] == "serving");
    assert_eq!(run.status()["stored"].as_array().unwrap().len(), 1);
    killed_under_load(&place, run).await;
    // It belongs to whoever kept it, and the next start replaces it.
    assert!(place.path().exists());
}

async fn killed_under_load(place: &TempSocket, run: Supervised) {
    let load = Load::start(place);
    let mut killed = 0;
    for times in 1..=3 {
        progress(&load.seen).await;
        let pid = run.status()["current"]["pid"].as_u64().unwrap();
        signal(u32::try_from(pid).unwrap(), Signal::KILL);
        killed += 1;
        run.until(|status| status["crashes"] == times);
    }
    progress(&load.seen).await;
    let failures = load.end().await;
    // Each caller has one call at a time, so that a crash costs it one at most.
    assert!(failures.len() <= killed * 4 * CALLERS, "{failures:?}");
    for (call, code, message) in &failures {
        assert_eq!(*code, Code::Unavailable, "{call}: {message}");
        assert!(!message.contains("refused"), "{call}: {message}");
    }
    assert_eq!(run.end().code(), Some(0));
}
