//! The same 64 callers, and a server under `nigh run`: whose sockets the supervisor holds, or keeps for it.

use std::sync::Arc;

use nigh::{Listener, Notifier};
use nigh_socket::{Address, ListenerOptions, SocketKind};
use nigh_testkit::{TempSocket, child_variable};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use super::callers::{Callers, handled};
use super::server::{Log, Place, server};
use super::{Account, CALLS_BETWEEN, list, once_and_unavailable, replacements};
use crate::run::supervised::Supervised;

/// How often the server is killed.
const KILLS: usize = 3;

/// Serves what it was given, or what it has had kept, until SIGTERM.
#[test]
#[ignore = "runs as a child of a_supervised_server_is_replaced_and_killed_under_every_wire"]
fn supervised_child() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let place = Place(child_variable("PLACE").into());
        let log = Arc::new(Log::open(&place.log()));
        let notifier = Notifier::from_environment().unwrap().unwrap();
        let mut terminate = signal(SignalKind::terminate()).unwrap();
        let is_held = child_variable("HOLDER") == "supervisor";
        let listen = |options: ListenerOptions, name: &str, address: Address| match is_held {
            true => options.bind(format!("fd:{name}")).unwrap(),
            false => notifier.listen(&options.name(name), &address).unwrap(),
        };
        let packets = Listener::options().kind(SocketKind::Seqpacket);
        let tcp = child_variable("TCP").parse().unwrap();
        let listeners = [
            listen(Listener::options(), "stream", place.stream()),
            listen(Listener::options(), "tcp", tcp),
            listen(packets, "packets", place.packets()),
        ];
        let server = server(&log, listeners).notify(notifier);
        let stop = async {
            terminate.recv().await;
        };
        server.run(stop).await.unwrap();
    });
}

/// A port that is free now, and that nobody else asks for: the kernel has just given it away.
fn free_port() -> Address {
    let found = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("tcp:{}", found.local_addr().unwrap())
        .parse()
        .unwrap()
}

fn start(place: &Place, tcp: &Address, is_held: bool) -> Supervised {
    let holder = if is_held { "supervisor" } else { "store" };
    let variables = [
        "env".to_owned(),
        format!("PLACE={}", place.0.display()),
        format!("HOLDER={holder}"),
        format!("TCP={tcp}"),
        std::env::current_exe()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned(),
    ];
    let test = [
        "restarts::supervised::supervised_child",
        "--exact",
        "--include-ignored",
    ];
    let command: Vec<&str> = variables.iter().map(String::as_str).chain(test).collect();
    let held = [
        format!("stream={}", place.stream()),
        format!("tcp={tcp}"),
        format!("packets=drpc:{}", place.packets()),
    ];
    let listen = held.iter().flat_map(|held| ["--listen", held.as_str()]);
    let mut options = vec!["--notify", "--stop-time", "30s", "--backoff", "10ms"];
    if is_held {
        options.extend(listen);
    }
    let run = Supervised::bare(&options, &command);
    run.until(|status| status["state"] == "serving");
    run
}

fn current(run: &Supervised) -> Pid {
    let pid = run.status()["current"]["pid"].as_i64().unwrap();
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervised_server_is_replaced_and_killed_under_every_wire() {
    let mut account = Account {
        calls: 0,
        rows: Vec::new(),
    };
    for is_held in [true, false] {
        let folder = TempSocket::private();
        let place = Place(folder.directory().to_owned());
        let tcp = free_port();
        let run = start(&place, &tcp, is_held);
        let callers = Callers::start(&place, &tcp);
        account.calls = 0;
        callers.seen.progress(CALLS_BETWEEN).await;
        let times = replacements();
        for done in 1..=times {
            run.signal(Signal::HUP);
            run.until(|status| status["replacements"] == done);
            callers.seen.progress(CALLS_BETWEEN).await;
        }
        let (replaced, killed) = match is_held {
            true => ("nigh run holds: SIGHUP", "nigh run holds: SIGKILL"),
            false => ("kept by nigh run: SIGHUP", "kept by nigh run: SIGKILL"),
        };
        let failed = account.row(replaced, times, &callers, &place);
        assert!(failed.is_empty(), "{}", list(&failed));
        for done in 1..=KILLS {
            kill_process(current(&run), Signal::KILL).unwrap();
            run.until(|status| status["crashes"] == done && status["state"] == "serving");
            callers.seen.progress(CALLS_BETWEEN).await;
        }
        let failed = account.row(killed, KILLS, &callers, &place);
        once_and_unavailable(&failed, &handled(&place));
        callers.stop().await;
        assert_eq!(run.end().code(), Some(0));
        assert!(handled(&place).values().all(|times| *times == 1));
    }
    account.print();
}
