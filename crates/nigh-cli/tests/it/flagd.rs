//! `nigh flagd` and `nigh serve --flags`: the flag daemon inside the command.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use nigh_testkit::TempSocket;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::program::{Serving, nigh};

fn flags(folder: &tempfile::TempDir, value: i32) -> String {
    let path = folder.path().join("flags.json");
    let flag = json!({"state": "ENABLED", "variants": {"v": value, "w": 0}, "defaultVariant": "v"});
    std::fs::write(&path, json!({"flags": {"a": flag}}).to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn files_of_flags_are_checked_evaluated_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let path = flags(&folder, 7);
    let ran = nigh(&["flagd", "check", &path]).await;
    assert_eq!(
        (ran.code, ran.stdout),
        (0, format!("{path}: 1 flags, 0 warnings\n"))
    );
    let ran = nigh(&["flagd", "eval", "--json", &path, "a"]).await;
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&answer["value"], &answer["reason"]),
        (&json!(7), &json!("STATIC"))
    );
    let ran = nigh(&["flagd", "rebucket", &path, &path, "--keys", "10"]).await;
    assert_eq!(ran.stdout, "0 flags change for some of 10 contexts\n");
    let ran = nigh(&["flagd", "start", "-f", "s3://b/k", "-d", "/s"]).await;
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.contains("S3 sources are not supported\nhint: "),
        "{}",
        ran.stderr
    );
    let ran = nigh(&["flagd", "eval", &path, "gone"]).await;
    assert_eq!(
        (ran.code, &*ran.stderr),
        (1, "error: flag \"gone\": Flag not found\n")
    );
}

#[tokio::test]
async fn start_serves_until_it_is_told_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let source = format!("file:{}", flags(&folder, 7));
    let socket = TempSocket::private();
    let mut child = Command::new(env!("CARGO_BIN_EXE_nigh"))
        .args(["flagd", "start", "-f", &source, "-d"])
        .arg(socket.path())
        .env_remove("NIGH_LOG")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let mut lines = log.lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("Flag IResolver listening at")));
    // The description comes from the daemon itself.
    let method = "flagd.evaluation.v2.Service/ResolveInt";
    let request = r#"{"flagKey": "a"}"#;
    let ran = nigh(&["call", &socket.address(), method, request]).await;
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(answer["value"], "7", "{}", ran.stderr);
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert!(lines.any(|line| line.contains("stopping")));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!socket.path().exists());
}

#[tokio::test]
async fn flags_and_diagnostics_share_one_server_and_health_knows_both() {
    let folder = tempfile::tempdir().unwrap();
    let path = flags(&folder, 7);
    let socket = TempSocket::private();
    let serving = Serving::start(&[&socket.address()], &["--flags", &path]);
    for service in [
        "nigh.diag.v1.Diag",
        "flagd.evaluation.v1.Service",
        "flagd.evaluation.v2.Service",
        "flagd.sync.v1.FlagSyncService",
    ] {
        let request = json!({"service": service}).to_string();
        let method = "grpc.health.v1.Health/Check";
        let ran = nigh(&["call", &socket.address(), method, &request]).await;
        assert_eq!(
            ran.stdout, "{\"status\":\"SERVING\"}\n",
            "{service}: {}",
            ran.stderr
        );
    }
    let method = "flagd.evaluation.v1.Service/ResolveInt";
    let ran = nigh(&["call", &socket.address(), method, r#"{"flagKey": "a"}"#]).await;
    assert!(ran.stdout.contains(r#""value":"7""#), "{}", ran.stderr);
    serving.signal(Signal::TERM);
    assert_eq!(serving.ended().await.code, 0);
}
