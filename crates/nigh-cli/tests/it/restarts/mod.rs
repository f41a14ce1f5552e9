//! A server replaced under load, over every wire, in processes of their own: nothing is lost, nothing runs twice.
//!
//! The number of replacements is `NIGH_TEST_RESTARTS`, by default few. What was counted is printed as a table, which
//! docs/restarts.md has of a longer run.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

mod callers;
mod server;
mod steps;
mod supervised;

use std::collections::HashMap;
use std::fs;
use std::process::ExitStatus;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nigh_socket::Address;
use nigh_testkit::{Child, Running, TempSocket};

use callers::{Callers, Failed, handled};
use server::Place;

/// Calls between two events, so that each meets callers at work.
const CALLS_BETWEEN: u64 = 300;

/// A server process.
struct Server {
    process: Running,
    tcp: Address,
}

impl Server {
    async fn start(place: &Place, tcp: &str, hands_over: bool, waits: bool) -> Self {
        let said = |yes| if yes { "yes" } else { "no" };
        let child = Child::test("restarts::server::server_child")
            .env("PLACE", &place.0)
            .env("TCP", tcp)
            .env("HANDS_OVER", said(hands_over))
            .env("WAITS", said(waits));
        let started = tokio::task::spawn_blocking(move || {
            let mut process = child.spawn();
            let tcp = process.wait_for("prepared ").parse().unwrap();
            Self { process, tcp }
        });
        started.await.unwrap()
    }

    /// Waits until it has ended by itself.
    async fn ended(mut self) -> ExitStatus {
        let ended = tokio::task::spawn_blocking(move || {
            let end = self.process.wait_for("ended, ");
            assert!(end.contains("cut_off: 0"), "{end}");
            self.process.child.wait().unwrap()
        });
        ended.await.unwrap()
    }

    /// Says one line, and that there is no other.
    fn tell(&mut self) {
        use std::io::Write as _;
        let stdin = self.process.child.stdin.as_mut().unwrap();
        writeln!(stdin).unwrap();
    }

    fn stop(&mut self) {
        drop(self.process.child.stdin.take());
    }

    fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.process.child.id());
        fs::read_dir(folder).unwrap().count()
    }
}

/// One line of the table.
struct Row {
    what: &'static str,
    times: usize,
    calls: u64,
    unavailable: usize,
    refused: usize,
    otherwise: usize,
    twice: usize,
}

/// What happened between two looks.
struct Account {
    calls: u64,
    rows: Vec<Row>,
}

impl Account {
    fn row(
        &mut self,
        what: &'static str,
        times: usize,
        callers: &Callers,
        place: &Place,
    ) -> Vec<Failed> {
        let calls = callers.seen.calls.load(Ordering::Acquire);
        let failed = callers.seen.take_failed();
        let refused = failed.iter().filter(|failed| failed.is_refusal).count();
        let unavailable = failed
            .iter()
            .filter(|failed| failed.is_unavailable && !failed.is_refusal)
            .count();
        let twice = handled(place).values().filter(|times| **times > 1).count();
        self.rows.push(Row {
            what,
            times,
            calls: calls - self.calls,
            unavailable,
            refused,
            otherwise: failed.len() - refused - unavailable,
            twice,
        });
        self.calls = calls;
        failed
    }

    fn print(&self) {
        println!("| what | times | calls | UNAVAILABLE | refused | failed otherwise | run twice |");
        println!("|---|--:|--:|--:|--:|--:|--:|");
        for row in &self.rows {
            println!(
                "| {} | {} | {} | {} | {} | {} | {} |",
                row.what,
                row.times,
                row.calls,
                row.unavailable,
                row.refused,
                row.otherwise,
                row.twice
            );
        }
    }
}

fn replacements() -> usize {
    let asked = std::env::var("NIGH_TEST_RESTARTS");
    asked.map_or(5, |number| number.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_lost_over_replacements_and_crashes() {
    let folder = TempSocket::private();
    let place = Place(folder.directory().to_owned());
    let mut serving = Server::start(&place, "tcp:127.0.0.1:0", true, false).await;
    let tcp = serving.tcp.to_string();
    let idle = settled(&serving).await;
    let callers = Callers::start(&place, &serving.tcp);
    let mut account = Account {
        calls: 0,
        rows: Vec::new(),
    };
    callers.seen.progress(CALLS_BETWEEN).await;

    let times = replacements();
    for _ in 0..times {
        let next = Server::start(&place, &tcp, true, false).await;
        assert!(serving.ended().await.success());
        serving = next;
        callers.seen.progress(CALLS_BETWEEN).await;
    }
    let failed = account.row("replaced", times, &callers, &place);
    assert!(failed.is_empty(), "{}", list(&failed));

    for step in steps::ALL {
        steps::crash(&place, step).await;
        callers.seen.progress(CALLS_BETWEEN).await;
        let failed = account.row(step, 1, &callers, &place);
        assert!(failed.is_empty(), "{step}: {}", list(&failed));
    }

    // The old one is killed when the new one holds its listeners and is not ready yet.
    let mut next = Server::start(&place, &tcp, true, true).await;
    let mut old = serving.process;
    tokio::task::spawn_blocking(move || old.kill())
        .await
        .unwrap();
    next.tell();
    serving = next;
    callers.seen.progress(4 * CALLS_BETWEEN).await;
    let failed = account.row(
        "old process killed, its listeners held",
        1,
        &callers,
        &place,
    );
    once_and_unavailable(&failed, &handled(&place));

    callers.stop().await;
    // What the server holds without callers is what the first one held.
    let now = settled(&serving).await;
    assert!(now <= idle, "{now} descriptors, {idle} in the first server");
    serving.stop();
    assert!(serving.ended().await.success());
    let times = handled(&place);
    assert!(times.values().all(|times| *times == 1));
    rebound(&mut account).await;
    account.print();
    let left = fs::read_dir(folder.directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left
        .filter(|name| !name.to_string_lossy().ends_with("-lock"))
        .collect();
    assert_eq!(left, ["calls"], "the last one took its sockets away");
}

fn list(failed: &[Failed]) -> String {
    let lines: Vec<String> = failed.iter().take(9).map(Failed::to_string).collect();
    format!("{} failed: {}", failed.len(), lines.join("; "))
}

/// A crash is told once, as what it is, and nothing was done twice because of it.
fn once_and_unavailable(failed: &[Failed], handled: &HashMap<u64, u32>) {
    let mut numbers = HashMap::new();
    for failed in failed {
        assert!(failed.is_unavailable && !failed.is_refusal, "{failed}");
        *numbers.entry(failed.number).or_insert(0) += 1;
        assert!(
            handled.get(&failed.number).is_none_or(|times| *times == 1),
            "{failed:?}"
        );
    }
    assert!(numbers.values().all(|times| *times == 1));
}

/// The descriptors that a server holds when nothing happens any more.
async fn settled(server: &Server) -> usize {
    let mut least = server.descriptors();
    let mut look = tokio::time::interval(Duration::from_millis(5));
    for _ in 0..100 {
        look.tick().await;
        least = least.min(server.descriptors());
    }
    least
}

/// Beside it, what a restart without hand-over costs: the old one stops, the new one binds anew.
async fn rebound(account: &mut Account) {
    let folder = TempSocket::private();
    let place = Place(folder.directory().to_owned());
    let mut serving = Server::start(&place, "tcp:127.0.0.1:0", false, false).await;
    let tcp = serving.tcp.to_string();
    let callers = Callers::start(&place, &serving.tcp);
    account.calls = 0;
    callers.seen.progress(CALLS_BETWEEN).await;
    for _ in 0..replacements() {
        serving.stop();
        assert!(serving.ended().await.success());
        serving = Server::start(&place, &tcp, false, false).await;
        callers.seen.progress(CALLS_BETWEEN).await;
    }
    let _lost = account.row(
        "for comparison: stopped, bound anew",
        replacements(),
        &callers,
        &place,
    );
    callers.stop().await;
    serving.stop();
    assert!(serving.ended().await.success());
}
