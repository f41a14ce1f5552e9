//! `nigh send`, `nigh recv` and `nigh echo` as programs: every kind of socket, whole records, descriptors, senders, exit codes.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use nigh_testkit::TempSocket;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::program::{Ran, nigh, nigh_reading};

/// A command that listens, killed when dropped.
struct Listening {
    child: Option<Child>,
    stdout: BufReader<std::process::ChildStdout>,
    /// What it listens on, as others write it.
    address: String,
}

impl Listening {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_nigh"))
            .args(arguments)
            .arg("--json")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        Self {
            address: line["listening"].as_str().unwrap().to_owned(),
            child: Some(child),
            stdout,
        }
    }

    /// The next record.
    fn record(&mut self) -> Value {
        let mut line = String::new();
        assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0);
        serde_json::from_str(&line).unwrap()
    }

    /// Waits for its end.
    fn ended(mut self) -> (i32, String) {
        let mut child = self.child.take().unwrap();
        let mut stderr = String::new();
        let mut pipe = child.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        (child.wait().unwrap().code().unwrap(), stderr)
    }

    fn stop(self) -> (i32, String) {
        let pid = self.child.as_ref().unwrap().id();
        kill_process(
            Pid::from_raw(pid.try_into().unwrap()).unwrap(),
            Signal::TERM,
        )
        .unwrap();
        self.ended()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const KINDS: [&str; 3] = ["", "seqpacket:", "dgram:"];

fn json_lines(ran: &Ran) -> Vec<Value> {
    let lines = ran.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn records_arrive_one_by_one_on_every_kind() {
    for kind in KINDS {
        let place = TempSocket::private();
        let address = format!("{kind}{}", place.address());
        let mut recv = Listening::start(&["recv", &address, "--count", "4"]);
        assert_eq!(recv.address, address);
        let ran = nigh(&["send", &address, "one", "two and more"]).await;
        assert_eq!(ran.code, 0, "{kind} {}", ran.stderr);
        let mut expect = |text: &str| {
            let record = recv.record();
            assert_eq!(record["text"], text, "{kind}");
            assert_eq!(record["length"], text.len(), "{kind}");
        };
        // Callers are served side by side, so the first has to be heard before the next one calls.
        expect("one");
        expect("two and more");
        let ran = nigh_reading("three\nfour\n", &["send", &address]).await;
        assert_eq!(ran.code, 0, "{kind} {}", ran.stderr);
        expect("three");
        expect("four");
        let (code, stderr) = recv.ended();
        assert_eq!(code, 0, "{kind} {stderr}");
        assert!(!place.path().exists(), "{kind}");
    }
}

#[tokio::test]
async fn a_long_packet_is_never_cut_on_the_way_there_and_back() {
    let place = TempSocket::private();
    let file = place.join("packet");
    let bytes: Vec<u8> = (0..900_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(&file, &bytes).unwrap();
    let record = format!("@{}", file.display());
    for kind in KINDS {
        let place = TempSocket::private();
        let address = format!("{kind}{}", place.address());
        let echo = Listening::start(&["echo", &address]);
        let ran = nigh(&[
            "send",
            &address,
            &record,
            "--replies",
            "1",
            "--hex",
            "--timeout",
            "20s",
        ])
        .await;
        assert_eq!(ran.code, 0, "{kind} {}", ran.stderr);
        if kind.is_empty() {
            // A stream has no boundaries: what comes back first is the beginning.
            assert!(ran.stdout.starts_with("000102"));
            continue;
        }
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(ran.stdout.trim_end() == hex, "{kind} {}", ran.stdout.len());
        assert_eq!(echo.stop().0, 0);
    }
}

#[tokio::test]
async fn what_can_never_be_sent_whole_is_an_error_of_its_own() {
    let place = TempSocket::private();
    let file = place.join("packet");
    fs::write(&file, vec![b'x'; 6 << 20]).unwrap();
    let record = format!("@{}", file.display());
    for kind in ["seqpacket:", "dgram:"] {
        let place = TempSocket::private();
        let address = format!("{kind}{}", place.address());
        let mut recv = Listening::start(&["recv", &address, "--count", "1"]);
        let ran = nigh(&["send", &address, &record]).await;
        assert_eq!(ran.code, 4, "{kind} {}", ran.stderr);
        assert!(ran.stderr.contains("6291456"), "{kind} {}", ran.stderr);
        // Nothing of it has arrived.
        assert_eq!(nigh(&["send", &address, "whole"]).await.code, 0);
        assert_eq!(recv.record()["text"], "whole", "{kind}");
    }
}

#[tokio::test]
async fn a_line_longer_than_the_limit_ends_with_an_error_and_is_not_cut() {
    let place = TempSocket::private();
    let address = place.address();
    let recv = Listening::start(&["recv", &address, "--once", "--max", "1000"]);
    let sent = nigh(&["send", &address, &"x".repeat(2000)]).await;
    assert_eq!(sent.code, 0, "{}", sent.stderr);
    let (code, stderr) = recv.ended();
    assert_eq!(code, 4, "{stderr}");
}

#[tokio::test]
async fn descriptors_and_senders_are_described_on_arrival_on_every_kind() {
    for kind in KINDS {
        let place = TempSocket::private();
        let file = place.join("file");
        fs::write(&file, "0123456789").unwrap();
        let path = file.display().to_string();
        let address = format!("{kind}{}", place.address());
        let mut recv = Listening::start(&["recv", &address, "--count", "1", "--creds"]);
        let ran = nigh(&[
            "send",
            &address,
            "with files",
            "--fd",
            &path,
            "--memory",
            &path,
            "--fd",
            "/dev/null",
        ])
        .await;
        assert_eq!(ran.code, 0, "{kind} {}", ran.stderr);
        let record = recv.record();
        assert_eq!(record["text"], "with files", "{kind}");
        let sender = &record["sender"];
        assert_eq!(sender["uid"], rustix::process::getuid().as_raw(), "{kind}");
        assert!(sender["pid"].as_u64().is_some(), "{kind} {record}");
        let fds = record["descriptors"].as_array().unwrap();
        let name = |n: usize| fds[n]["name"].as_str().unwrap();
        assert_eq!(name(0), format!("{path} (10 bytes)"), "{kind}");
        assert_eq!(
            (&fds[0]["access"], &fds[0]["sealed"]),
            (&Value::from("read"), &Value::from(false))
        );
        assert_eq!(
            (name(1), &fds[1]["kind"]),
            ("/dev/null", &Value::from("a device"))
        );
        assert!(
            name(2).starts_with("/memfd:nigh send"),
            "{kind} {}",
            name(2)
        );
        assert_eq!(fds[2]["sealed"], true, "{kind}");
    }
}

#[tokio::test]
async fn text_goes_to_standard_output_and_what_came_with_it_to_standard_error() {
    let place = TempSocket::private();
    let address = format!("seqpacket:{}", place.address());
    let mut child = Command::new(env!("CARGO_BIN_EXE_nigh"))
        .args(["send", &address, "payload", "--fd", "/dev/null", "--listen"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with("listening on seqpacket:unix:"), "{line}");
    let ran = nigh(&["recv", "--connect", &address, "--creds"]).await;
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "payload\n"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("descriptor 0: /dev/null"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("written by uid "), "{}", ran.stderr);
    assert!(child.wait().unwrap().success());
}

#[tokio::test]
async fn an_echo_answers_every_kind_with_descriptors() {
    for kind in KINDS {
        let place = TempSocket::private();
        let published = place.join("address").display().to_string();
        let asked = format!("{kind}autobind:");
        let echo = Listening::start(&["echo", &asked, "--publish", &published]);
        let address = format!("{kind}published:{published}");
        let ran = nigh(&[
            "send",
            &address,
            "a",
            "b",
            "c",
            "--fd",
            "/dev/null",
            "--replies",
            "3",
            "--json",
        ])
        .await;
        assert_eq!(ran.code, 0, "{kind} {}", ran.stderr);
        let records = json_lines(&ran);
        let texts: Vec<&str> = records
            .iter()
            .map(|r| r["text"].as_str().unwrap())
            .collect();
        assert_eq!(texts, ["a", "b", "c"], "{kind}");
        assert_eq!(records[0]["descriptors"][0]["name"], "/dev/null", "{kind}");
        let (code, stderr) = echo.stop();
        assert_eq!(code, 0, "{kind} {stderr}");
    }
}

#[tokio::test]
async fn an_echo_says_whom_it_cannot_answer_and_goes_on() {
    let place = TempSocket::private();
    let address = format!("dgram:{}", place.address());
    let echo = Listening::start(&["echo", &address]);
    assert_eq!(nigh(&["send", &address, "nameless"]).await.code, 0);
    let ran = nigh(&["send", &address, "named", "--replies", "1"]).await;
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "named\n"),
        "{}",
        ran.stderr
    );
    let (_, stderr) = echo.stop();
    assert!(stderr.contains("nobody to answer"), "{stderr}");
}

#[tokio::test]
async fn every_end_has_its_exit_code() {
    let place = TempSocket::private();
    let address = format!("seqpacket:{}", place.address());
    let code = async |arguments: &[&str]| {
        let ran = nigh(arguments).await;
        assert_eq!(ran.stdout, "", "{arguments:?}");
        ran.code
    };
    assert_eq!(code(&["send", &address, "x"]).await, 3);
    assert_eq!(code(&["recv", "--connect", &address]).await, 3);
    assert_eq!(
        code(&[
            "send", &address, "xyz", "--hex", "--listen", "--fd", "/nowhere"
        ])
        .await,
        2
    );
    assert_eq!(code(&["send", "dgram:autobind:", "--listen"]).await, 2);
    assert_eq!(
        code(&["recv", "dgram:autobind:", "--allow", "any"]).await,
        2
    );
    assert_eq!(
        code(&["recv", &address, "--timeout", "50ms", "--count", "1"]).await,
        5
    );

    let _recv = Listening::start(&["recv", &address]);
    assert_eq!(code(&["send", &address, "xyz", "--hex"]).await, 2);
    assert_eq!(
        code(&["send", &address, "x", "--replies", "1", "--timeout", "50ms"]).await,
        5
    );
    // A stream socket there would be another kind of server.
    let ran = nigh(&["send", &place.address(), "x"]).await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("seqpacket:ADDR"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_peer_that_leaves_early_is_told_from_the_end() {
    let place = TempSocket::private();
    let address = format!("seqpacket:{}", place.address());
    let recv = Listening::start(&["recv", &address, "--once", "--count", "3"]);
    assert_eq!(nigh(&["send", &address, "1", "2"]).await.code, 0);
    let (code, stderr) = recv.ended();
    assert_eq!(code, 5, "{stderr}");
    assert!(stderr.contains("2 of 3"), "{stderr}");
}

#[tokio::test]
async fn an_echo_is_not_held_up_by_a_sender_that_does_not_read() {
    let place = TempSocket::private();
    let address = format!("dgram:{}", place.address());
    let echo = Listening::start(&["echo", &address]);
    let deaf = std::os::unix::net::UnixDatagram::bind(place.join("deaf")).unwrap();
    let most = fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").unwrap();
    // One answer more than its queue takes.
    for _ in 0..most.trim().parse::<u32>().unwrap() + 2 {
        deaf.send_to(b"x", place.path()).unwrap();
    }
    let ran = nigh(&[
        "send",
        &address,
        "heard",
        "--replies",
        "1",
        "--timeout",
        "20s",
    ])
    .await;
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "heard\n"),
        "{}",
        ran.stderr
    );
    let (_, stderr) = echo.stop();
    assert!(stderr.contains("does not read its answers"), "{stderr}");
}

#[tokio::test]
async fn a_bridge_joins_unix_and_tcp_and_says_how_the_bytes_went() {
    let place = TempSocket::private();
    let port = place.join("port").display().to_string();
    let echo = Listening::start(&["echo", &place.address()]);
    let mut bridge = Listening::start(&[
        "bridge",
        "tcp:127.0.0.1:0",
        &place.address(),
        "--allow",
        "any",
        "--publish",
        &port,
    ]);
    assert!(
        bridge.address.starts_with("tcp:127.0.0.1:"),
        "{}",
        bridge.address
    );
    let there = format!("published:{port}");
    let ran = nigh(&["send", &there, "over the bridge", "--replies", "1"]).await;
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "over the bridge\n"),
        "{}",
        ran.stderr
    );
    let line = bridge.record();
    assert_eq!(line["there"]["bytes"], 16, "{line}");
    assert_eq!(line["there"]["way"], "spliced", "{line}");
    assert_eq!(line["back"]["bytes"], 16, "{line}");
    assert_eq!((bridge.stop().0, echo.stop().0), (0, 0));
}

#[tokio::test]
async fn a_bridge_of_packets_keeps_their_bounds_and_descriptors() {
    let place = TempSocket::private();
    let server = format!("seqpacket:{}", place.address());
    let echo = Listening::start(&["echo", &server]);
    let mut bridge = Listening::start(&["bridge", "seqpacket:autobind:", &server]);
    let ran = nigh(&[
        "send",
        &bridge.address,
        "one",
        "two",
        "--fd",
        "/dev/null",
        "--replies",
        "2",
        "--json",
    ])
    .await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let records = json_lines(&ran);
    assert_eq!(records[0]["descriptors"][0]["name"], "/dev/null");
    assert_eq!(
        (&records[0]["text"], &records[1]["text"]),
        (&"one".into(), &"two".into())
    );
    assert_eq!(bridge.record()["back"]["packets"], 2);
    drop(echo);
}

#[tokio::test]
async fn a_bridge_says_what_it_cannot_do() {
    let place = TempSocket::private();
    let address = place.address();
    let ran = nigh(&["bridge", "seqpacket:autobind:", &address]).await;
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    let mut bridge = Listening::start(&["bridge", "autobind:", &address]);
    // Nobody is there: the caller sees the end, and the bridge says why.
    let ran = nigh(&["recv", "--connect", &bridge.address]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
    let error = bridge.record()["error"].to_string();
    assert!(error.contains("no server is there"), "{error}");
    // A stream's bridge carries no descriptors, and nobody loses one without knowing.
    let echo = Listening::start(&["echo", "autobind:"]);
    let bridge = Listening::start(&["bridge", "autobind:", &echo.address]);
    let ran = nigh(&["send", &bridge.address, "x", "--fd", "/dev/null"]).await;
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("takes no descriptors"),
        "{}",
        ran.stderr
    );
}
