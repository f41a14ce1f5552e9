//! The program itself: what it prints, how it ends, what it opens.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::common::{Flags, Running, flag};

fn program() -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", "60", env!("CARGO_BIN_EXE_nigh-flagd")]);
    command.env_remove("NIGH_LOG");
    command
}

fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn check_says_where_in_the_form_that_editors_know() {
    let flags = Flags::new(&json!({"a": flag(1)}));
    let path = flags.path.to_str().unwrap();
    let output = run(&["check", path]);
    assert_eq!(out(&output), format!("{path}: 1 flags, 0 warnings\n"));
    assert!(output.status.success());
    std::fs::write(
        &flags.path,
        "{\"flags\": {\"a\":\n {\"state\": \"ON\", \"variants\": {\"x\": 1}}}}",
    )
    .unwrap();
    let output = run(&["check", "--strict", path]);
    assert!(
        out(&output).starts_with(&format!("{path}:2:12: warning: flag \"a\": state")),
        "{output:?}"
    );
    assert_eq!(output.status.code(), Some(1));
    std::fs::write(
        &flags.path,
        "{\"flags\": {\"a\": {\"defaultVariant\": \"x\"}}}",
    )
    .unwrap();
    let output = run(&["check", "--json", path]);
    let finding: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(
        (&finding["line"], &finding["column"]),
        (&json!(1), &json!(36))
    );
    assert!(
        err(&output).contains("hint: name one of the variants"),
        "{output:?}"
    );
    let output = run(&["check", "/no/such/file"]);
    assert!(
        err(&output).contains("cannot read /no/such/file: No such file"),
        "{output:?}"
    );
}

#[test]
fn eval_says_why_and_rebucket_says_who() {
    let rule = json!({"fractional": [["a", 50], ["b", 50]]});
    let variants = json!({"a": 1, "b": 2});
    let one =
        json!({"state": "ENABLED", "variants": variants, "defaultVariant": "a", "targeting": rule});
    let flags = Flags::new(&json!({"f": one}));
    let path = flags.path.to_str().unwrap();
    let context = r#"{"targetingKey": "user-1"}"#;
    let output = run(&["eval", "--json", path, "f", "--context", context]);
    let answer: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(answer["reason"], "TARGETING_MATCH");
    assert!(answer["why"].as_str().unwrap().contains("fractional"));
    let output = run(&["eval", path, "gone"]);
    assert_eq!(err(&output), "error: flag \"gone\": Flag not found\n");
    assert_eq!(
        run(&["eval", path, "f", "--context", "[]"]).status.code(),
        Some(2)
    );
    let output = run(&["rebucket", path, path]);
    assert_eq!(out(&output), "0 flags change for some of 10000 contexts\n");
    let output = run(&["rebucket", "--json", path, path, "--new-fractional", "v3"]);
    let change: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(change["flag"], "f");
    let changed = change["changed"].as_u64().unwrap();
    assert!(
        (4_000..6_000).contains(&changed),
        "about half of them: {changed}"
    );
}

#[test]
fn what_makes_no_sense_is_refused_with_a_hint() {
    for (arguments, message) in [
        (
            &["start"][..],
            "error: no sync implementation set\nhint: name one with --uri",
        ),
        (
            &["start", "-f", "file:x"],
            "nowhere to listen\nhint: name a socket with --socket-path",
        ),
        (
            &["start", "-f", "s3://b/k", "-d", "s"],
            "S3 sources are not supported\nhint: ",
        ),
        (
            &["start", "-s", "{}", "-d", "s"],
            "--sources is no JSON array",
        ),
        (
            &["start", "-f", "file:x", "-z", "xml", "-d", "s"],
            "log-format cannot be \"xml\"",
        ),
        (&["start", "--socket-mode", "999"], "octal"),
        (
            &["start", "--context-from-peer", "shoe-size"],
            "none of uid, gid, executable, unit",
        ),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(err(&output).contains(message), "{}", err(&output));
    }
}

#[test]
fn start_opens_only_what_is_named_and_is_told_by_a_configuration() {
    let flags = Flags::new(&json!({"a": flag(1)}));
    let directory = flags.path.parent().unwrap();
    let config = directory.join("config.yaml");
    let path = flags.path.display();
    std::fs::write(
        &config,
        format!("sources: [{{uri: \"{path}\", provider: file}}]\ncontext-value: {{x: 1}}\n"),
    )
    .unwrap();
    let socket = directory.join("s");
    let mut command = program();
    command
        .args(["start", "--socket-mode", "0640", "--config"])
        .arg(&config)
        .arg("-d")
        .arg(&socket);
    let mut daemon = Running::start(&mut command);
    daemon.until("Flag IResolver listening at");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let children = Command::new("ss").args(["-Htlnp"]).output();
    if let Ok(sockets) = children {
        assert!(
            !out(&sockets).contains("nigh-flagd"),
            "no TCP port is opened"
        );
    }
    assert_eq!(daemon.terminate(), Some(0));
    assert!(!Path::new(&socket).exists());
}

#[test]
fn a_stale_socket_is_no_obstacle() {
    let flags = Flags::new(&json!({"a": flag(1)}));
    let socket = flags.path.with_file_name("s");
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nigh-flagd"));
        let source = format!("file:{}", flags.path.display());
        command.args(["start", "-f", &source, "-d"]).arg(&socket);
        let mut daemon = Running::start(&mut command);
        daemon.until("Flag IResolver listening at");
        daemon
    };
    start().kill();
    assert!(socket.exists(), "it had no time to clean up");
    assert_eq!(start().terminate(), Some(0));
}
