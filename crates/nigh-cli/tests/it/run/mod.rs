//! `nigh run`: sockets held, commands started, replaced, restarted and ended, and nothing left behind.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

mod load;
pub(crate) mod supervised;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nigh_testkit::{TempSocket, skip_unless};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::program::nigh;
use supervised::{Supervised, descriptors, is_alive};

/// Bound on everything that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

fn has_python() -> bool {
    let asked = std::process::Command::new("python3")
        .arg("--version")
        .output();
    asked.is_ok_and(|asked| asked.status.success())
}

/// What the service tells a caller; an error is a call that failed.
fn ask(path: &Path) -> std::io::Result<String> {
    let mut told = String::new();
    UnixStream::connect(path)?.read_to_string(&mut told)?;
    match told.is_empty() {
        true => Err(std::io::ErrorKind::UnexpectedEof.into()),
        false => Ok(told),
    }
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[test]
fn a_program_that_knows_nothing_of_nigh_is_replaced_without_a_lost_call() {
    skip_unless!(has_python(), "needs python3");
    let place = TempSocket::private();
    // It never says READY=1, so that the time counts.
    let run = Supervised::python(&place, &["--grace", "50ms"], &[]);
    let first = ask(place.path()).unwrap();
    for _ in 0..5 {
        let before = run.status();
        let replaced = before["replacements"].as_u64().unwrap();
        run.signal(Signal::HUP);
        // As fast as it goes, and each on a connection of its own, until the old one has gone.
        run.until(|status| {
            for _ in 0..20 {
                ask(place.path()).unwrap();
            }
            let is_replaced = status["replacements"].as_u64().unwrap() > replaced;
            is_replaced && status["old"].as_array().unwrap().is_empty()
        });
    }
    let last = ask(place.path()).unwrap();
    assert_ne!(first, last);
    let status = run.status();
    assert_eq!(status["replacements"], 5);
    assert_eq!(status["crashes"], 0);
    assert_eq!(status["last_exit"]["code"], 0);
    let ended = run.end();
    assert_eq!(ended.code(), Some(0));
    assert!(!place.path().exists());
    assert!(!is_alive(last.parse().unwrap()));
}

#[test]
fn the_old_one_serves_until_the_new_one_is_ready() {
    skip_unless!(has_python(), "needs python3");
    let place = TempSocket::private();
    let gate = place.directory().join("gate");
    std::fs::write(&gate, "open").unwrap();
    let gated = format!("gate={}", gate.display());
    let run = Supervised::python(&place, &["--notify"], &["ready", &gated]);
    run.until(|status| status["state"] == "serving");
    let first = run.status()["current"].clone();
    assert_eq!(first["status"], "listens on 1");
    // A gate that nobody has opened yet.
    std::fs::remove_file(&gate).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &gate,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    run.signal(Signal::HUP);
    run.until(|status| status["state"] == "being replaced");
    // A second wish is kept for later.
    run.signal(Signal::HUP);
    for _ in 0..20 {
        assert_eq!(ask(place.path()).unwrap(), first["pid"].to_string());
    }
    assert_eq!(run.status()["replacements"], 0);
    for replacements in 1..=2 {
        let mut opened = std::fs::OpenOptions::new().write(true).open(&gate).unwrap();
        opened.write_all(b"x").unwrap();
        drop(opened);
        run.until(|status| status["replacements"] == replacements);
    }
    run.until(|status| status["state"] == "serving");
    assert_ne!(run.status()["current"]["pid"], first["pid"]);
    assert_eq!(run.end().code(), Some(0));
}

#[tokio::test]
async fn old_ones_that_still_end_are_not_killed_for_new_ones() {
    let place = TempSocket::private();
    let options = ["--grace", "1ms", "--stop-time", "60s"];
    let log = place.directory().join("deaf");
    let deaf = "trap '' TERM; echo $$ >> $0; exec sleep 300";
    let command = ["sh", "-c", deaf, log.to_str().unwrap()];
    let run = Supervised::start(&place, &options, &command);
    for replacements in 0..=8 {
        if replacements > 0 {
            run.signal(Signal::HUP);
        }
        // Each has to be deaf before it is told to end.
        let is_deaf = || {
            std::fs::read_to_string(&log)
                .unwrap_or_default()
                .lines()
                .count()
        };
        run.until(|status| {
            status["replacements"] == replacements
                && status["state"] == "serving"
                && is_deaf() == replacements + 1
        });
    }
    run.signal(Signal::HUP);
    run.until(|status| status["asked_again"] == true);
    let status = run.status();
    let old = status["old"].as_array().unwrap();
    assert_eq!((old.len(), &status["next"]), (8, &Value::Null));
    assert_eq!(status["last_exit"], Value::Null);
    let told = nigh(&["run", "--status", &run.name]).await.stdout;
    assert!(told.contains("waits until an old one has ended"), "{told}");
    let one = u32::try_from(old[3]["pid"].as_u64().unwrap()).unwrap();
    signal(one, Signal::KILL);
    run.until(|status| status["replacements"] == 9 && status["asked_again"] == false);
    // The second time is meant: nobody is waited for.
    run.signal(Signal::TERM);
    run.until(|status| status["state"] == "ending");
    assert_eq!(run.end().code(), Some(0));
}

#[test]
fn a_new_one_that_fails_changes_nothing() {
    let place = TempSocket::private();
    let broken = place.directory().join("broken");
    let nigh = env!("CARGO_BIN_EXE_nigh");
    let script = format!(
        "[ ! -e {} ] || exit 7; exec {nigh} serve fd:web",
        broken.display()
    );
    let run = Supervised::start(&place, &[], &["sh", "-c", &script]);
    run.until(|status| status["state"] == "serving");
    let before = run.status()["current"]["pid"].clone();
    std::fs::write(&broken, "").unwrap();
    run.signal(Signal::HUP);
    run.until(|status| status["last_exit"]["code"] == 7);
    let status = run.status();
    assert_eq!(
        (&status["current"]["pid"], &status["replacements"]),
        (&before, &0.into())
    );
    assert_eq!(status["next"], Value::Null);
    std::fs::remove_file(&broken).unwrap();
    run.signal(Signal::HUP);
    run.until(|status| status["replacements"] == 1);
    assert_eq!(run.end().code(), Some(0));
}

#[test]
fn a_crashing_command_is_started_again_ever_later() {
    let place = TempSocket::private();
    let waits = ["--backoff", "10ms", "--backoff-max", "80ms"];
    let run = Supervised::start(&place, &waits, &["sh", "-c", "exit 3"]);
    run.until(|status| status["crashes_in_a_row"].as_u64() >= Some(6));
    let status = run.status();
    assert_eq!(status["last_exit"]["code"], 3);
    assert!(
        status["starts_in_ms"]
            .as_u64()
            .is_none_or(|wait| wait <= 80)
    );
    // Whoever calls meanwhile waits in the queue.
    drop(UnixStream::connect(place.path()).unwrap());
    assert_eq!(run.end().code(), Some(0));
    assert!(!place.path().exists());
}

#[tokio::test]
async fn what_cannot_be_run_or_has_ended_well_ends_the_supervisor() {
    let ran = nigh(&["run", "--", "/does/not/exist"]).await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("start /does/not/exist: No such file"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("hint: give a path"), "{}", ran.stderr);
    assert_eq!(nigh(&["run", "--", "true"]).await.code, 0);
    assert_eq!(nigh(&["run"]).await.code, 2);
    assert_eq!(
        nigh(&["run", "--status", "nobody-is-called-so"]).await.code,
        3
    );
    let alone = nigh(&["__stage", "--parent", "1", "--", "true"]).await;
    assert_eq!(alone.code, 1);
    assert!(
        alone.stderr.contains("belongs to `nigh run`"),
        "{}",
        alone.stderr
    );
}

#[test]
fn a_command_has_its_sockets_and_nothing_else() {
    skip_unless!(has_python(), "needs python3");
    let place = TempSocket::private();
    let packets = format!("rpc=drpc:unix:{}", place.directory().join("p").display());
    let options = ["--listen", &packets, "--listen", "tcp:127.0.0.1:0"];
    let run = Supervised::python(&place, &options, &["fds"]);
    // Streams, three sockets, two for signals, the caller, and the listing's own.
    assert_eq!(ask(place.path()).unwrap(), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]");
    let sockets = run.status()["sockets"].clone();
    let kinds: Vec<&str> = sockets
        .as_array()
        .unwrap()
        .iter()
        .map(|socket| socket["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["stream", "seqpacket", "stream"]);
    assert_eq!(sockets[1]["name"], "rpc");
    assert_eq!(run.end().code(), Some(0));
}

#[test]
fn signals_are_passed_on_and_nothing_leaks() {
    skip_unless!(has_python(), "needs python3");
    let place = TempSocket::private();
    let log = place.directory().join("log");
    let logging = format!("log={}", log.display());
    let run = Supervised::python(&place, &[], &["ready", &logging]);
    run.until(|status| status["state"] == "serving");
    let held = descriptors(run.pid());
    for (number, lines) in [(Signal::USR1, 1), (Signal::USR2, 2)] {
        run.signal(number);
        run.until(|_| std::fs::read_to_string(&log).is_ok_and(|log| log.lines().count() == lines));
    }
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "10\n12\n");
    for times in 1..=5 {
        run.signal(Signal::HUP);
        run.until(|status| {
            status["replacements"] == times && status["old"].as_array().unwrap().is_empty()
        });
        let pid = run.status()["current"]["pid"].as_u64().unwrap();
        signal(u32::try_from(pid).unwrap(), Signal::KILL);
        run.until(|status| status["crashes"] == times && status["state"] == "serving");
    }
    run.until(|_| descriptors(run.pid()) <= held);
    assert_eq!(run.end().code(), Some(0));
}

#[test]
fn what_the_command_leaves_behind_ends_with_the_supervisor() {
    skip_unless!(has_python(), "needs python3");
    let place = TempSocket::private();
    let run = Supervised::python(&place, &["--stop-time", "10s"], &["stray"]);
    let first = ask(place.path()).unwrap().parse().unwrap();
    let pid = run.status()["current"]["pid"].as_u64().unwrap();
    signal(u32::try_from(pid).unwrap(), Signal::KILL);
    // It has a session of its own, and outlives its parent: the supervisor is its parent now.
    let second: u32 = ask(place.path()).unwrap().parse().unwrap();
    assert_ne!(first, second);
    assert!(is_alive(first));
    assert_eq!(run.end().code(), Some(0));
    assert!(!is_alive(first) && !is_alive(second));
}

#[test]
fn a_command_that_does_not_end_is_killed_and_so_is_one_that_is_silent() {
    skip_unless!(has_python(), "needs python3");
    let place = TempSocket::private();
    let stubborn = "trap '' TERM; echo $$ > $0; while :; do read line; done";
    let file = place.directory().join("pid");
    let file = file.to_str().unwrap();
    let options = ["--stop-time", "50ms"];
    let script = format!("{stubborn} < /dev/zero");
    let run = Supervised::start(&place, &options, &["sh", "-c", &script, file]);
    run.until(|_| std::fs::read_to_string(file).is_ok_and(|pid| pid.ends_with('\n')));
    assert_eq!(run.end().code(), Some(0));
    let pid = std::fs::read_to_string(file).unwrap();
    assert!(!is_alive(pid.trim().parse().unwrap()));

    let place = TempSocket::private();
    let run = Supervised::python(&place, &["--watchdog", "300ms"], &["ready", "mute"]);
    run.until(|status| status["last_exit"]["signal"] == 9);
    assert_eq!(run.end().code(), Some(0));
    let place = TempSocket::private();
    let run = Supervised::python(&place, &["--watchdog", "5s"], &["ready", "alive"]);
    for _ in 0..20 {
        ask(place.path()).unwrap();
    }
    assert_eq!(run.status()["crashes"], 0);
    assert_eq!(run.end().code(), Some(0));
}

#[test]
fn what_is_stored_comes_back_and_a_killed_supervisor_leaves_nobody() {
    skip_unless!(has_python(), "needs python3");
    let place = TempSocket::private();
    let mut run = Supervised::python(&place, &[], &["store"]);
    for starts in 1..=4 {
        assert_eq!(ask(place.path()).unwrap(), starts.to_string());
        assert_eq!(run.status()["stored"], serde_json::json!(["state"]));
        let pid = run.status()["current"]["pid"].as_u64().unwrap();
        signal(u32::try_from(pid).unwrap(), Signal::KILL);
        run.until(|status| status["crashes"] == starts);
    }
    assert_eq!(ask(place.path()).unwrap(), "5");
    let pid = run.status()["current"]["pid"].as_u64().unwrap();
    run.kill();
    let until = Instant::now() + PATIENCE;
    while is_alive(u32::try_from(pid).unwrap()) {
        assert!(
            Instant::now() < until,
            "the command outlives its supervisor"
        );
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn the_status_is_for_people_too() {
    let place = TempSocket::private();
    let nigh_path = env!("CARGO_BIN_EXE_nigh");
    let run = Supervised::start(&place, &[], &[nigh_path, "serve", "fd:web"]);
    run.until(|status| status["state"] == "serving");
    let one = nigh(&["run", "--status", &run.name]).await.stdout;
    assert!(
        one.starts_with(&format!("{}: serving\n", run.name)),
        "{one}"
    );
    assert!(
        one.contains(&format!("socket     {} as web\n", place.address())),
        "{one}"
    );
    assert!(one.contains("accepting on fd:web"), "{one}");
    let all = nigh(&["run", "--status"]).await.stdout;
    assert!(all.contains(&run.name), "{all}");
    let taken = nigh(&["run", "--name", &run.name, "--", "true"]).await;
    assert_eq!(taken.code, 1);
    assert!(
        taken.stderr.contains("a living server has it"),
        "{}",
        taken.stderr
    );
    assert_eq!(run.end().code(), Some(0));
}
