//! `nigh peers`, `nigh ls --watch` and `nigh doctor` as programs.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, ChildStdout, Command, Stdio};

use nigh_testkit::TempSocket;
use serde_json::{Value, json};

use crate::program::{Ran, nigh};

fn json_lines(ran: &Ran) -> Vec<Value> {
    let lines = ran.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn peers_shows_both_ends_queues_and_what_does_not_move() {
    let place = TempSocket::private();
    let listener = UnixListener::bind(place.path()).unwrap();
    let mut client = UnixStream::connect(place.path()).unwrap();
    let (_server, _) = listener.accept().unwrap();
    client.write_all(b"nobody reads this").unwrap();
    let _waiting = UnixStream::connect(place.path()).unwrap();

    let ran = nigh(&["peers", &place.address(), "--json", "--stuck", "10ms"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines = json_lines(&ran);
    let find = |state: &str| lines.iter().find(|line| line["state"] == state).unwrap();
    let accepted = find("accepted");
    assert_eq!(accepted["marks"], json!(["server-does-not-read"]));
    assert_eq!(accepted["server"]["unread_bytes"], 17);
    for end in ["server", "client"] {
        assert_eq!(accepted[end]["processes"][0]["pid"], std::process::id());
    }
    assert_eq!(accepted["client"]["fill_percent"], 0);
    let waiting = find("waiting");
    assert_eq!(waiting["server"], Value::Null);
    assert_eq!(waiting["client"]["processes"][0]["pid"], std::process::id());

    let ran = nigh(&["peers", &place.address(), "--stuck", "10ms"]).await;
    assert!(ran.stdout.contains("1 of 128 wait") || ran.stdout.contains("wait to be accepted"));
    assert!(
        ran.stdout.contains("SERVER-DOES-NOT-READ"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("17 B"), "{}", ran.stdout);
}

#[tokio::test]
async fn peers_of_nobody_is_an_error_with_a_hint() {
    let place = TempSocket::private();
    let ran = nigh(&["peers", &place.address()]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""));
    assert!(ran.stderr.contains("nigh doctor"), "{}", ran.stderr);
}

/// `nigh ls --watch`, killed when dropped.
struct Watching {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Watching {
    fn start(options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_nigh"))
            .args(["ls", "--watch", "--interval", "20ms"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// Reads on to the first line with all of that.
    fn wait_for(&mut self, parts: &[&str]) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0, "{parts:?}");
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_watch_tells_what_appears_changes_and_goes_line_by_line() {
    let place = TempSocket::private();
    let address = format!("{} ", place.address());
    let listener = UnixListener::bind(place.path()).unwrap();
    let mut watching = Watching::start(&[]);
    let line = watching.wait_for(&["present ", &address]);
    assert!(line.contains(" stream 0/"), "{line}");
    let _client = UnixStream::connect(place.path()).unwrap();
    watching.wait_for(&["changed ", &address, " stream 1/"]);
    drop(listener);
    watching.wait_for(&["STALE", &address]);
    std::fs::remove_file(place.path()).unwrap();
    watching.wait_for(&["gone ", &address]);
    let _again = UnixListener::bind(place.path()).unwrap();
    watching.wait_for(&["appeared ", &address]);
}

#[tokio::test]
async fn a_watch_in_json_ends_after_the_looks_it_was_given() {
    let place = TempSocket::private();
    let _listener = UnixListener::bind(place.path()).unwrap();
    let ran = nigh(&[
        "ls",
        "--watch",
        "--json",
        "--looks",
        "2",
        "--interval",
        "1ms",
    ])
    .await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let present = json_lines(&ran);
    let ours = present
        .iter()
        .filter(|event| event["socket"]["address"] == place.address());
    let ours: Vec<&Value> = ours.collect();
    assert_eq!(ours.len(), 1);
    assert_eq!(ours[0]["event"], "present");
}

#[tokio::test]
async fn the_doctor_tells_what_the_kernel_allows_and_what_it_means() {
    let ran = nigh(&["doctor", "--json"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let findings = json_lines(&ran);
    let find = |what: &str| {
        let found = findings
            .iter()
            .find(|finding| finding["what"].as_str().unwrap().starts_with(what));
        found.unwrap_or(&Value::Null).clone()
    };
    for what in [
        "SO_PEERPIDFD",
        "SO_PEERGROUPS",
        "SO_PEERSEC",
        "SO_PASSPIDFD, SCM_PIDFD",
        "SO_PASSRIGHTS",
        "memfd seals",
        "openat2",
        "user namespaces",
        "sock_diag",
        "/proc",
        "net.core.somaxconn",
        "net.unix.max_dgram_qlen",
        "net.core.wmem_default",
        "net.core.wmem_max",
        "RLIMIT_NOFILE",
    ] {
        let finding = find(what);
        assert!(!finding["is"].as_str().unwrap().is_empty(), "{what}");
        assert!(!finding["means"].as_str().unwrap().is_empty(), "{what}");
    }
    let longest = std::fs::read_to_string("/proc/sys/net/core/wmem_default").unwrap();
    let longest = longest.trim().parse::<u64>().unwrap() - 32;
    let said = find("net.core.wmem_default")["means"].to_string();
    assert!(said.contains(&format!(" {longest} bytes")), "{said}");
    let ran = nigh(&["doctor"]).await;
    assert!(ran.stdout.starts_with("KERNEL "), "{}", ran.stdout);
}

#[tokio::test]
async fn the_doctor_tells_who_holds_a_name_and_who_may_use_it() {
    let place = TempSocket::private();
    let listener = UnixListener::bind(place.path()).unwrap();
    let ran = nigh(&["doctor", &place.address()]).await;
    let held = format!("held by {} ", std::process::id());
    assert!(ran.stdout.contains(&held), "{}", ran.stdout);
    drop(listener);
    let ran = nigh(&["doctor", &place.address()]).await;
    assert!(
        ran.stdout.contains("a socket that nobody here serves"),
        "{}",
        ran.stdout
    );

    let open = TempSocket::with_mode(0o777);
    let ran = nigh(&["doctor", &open.address()]).await;
    assert!(
        ran.stdout.contains("anybody can put another socket"),
        "{}",
        ran.stdout
    );
    let ran = nigh(&["doctor", "unix-abstract:nigh-nobody-is-here"]).await;
    assert!(ran.stdout.contains("no server is there"), "{}", ran.stdout);
    assert!(ran.stdout.contains("take the name first"), "{}", ran.stdout);
}
