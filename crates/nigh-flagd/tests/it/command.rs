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

/// What `socket` answers to a Connect call about flag `a`, by curl.
fn asked(socket: &Path, body: &str) -> Value {
    let url = "http://localhost/flagd.evaluation.v1.Service/ResolveInt";
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--max-time", "30", "--unix-socket"])
        .arg(socket)
        .args(["-H", "Content-Type: application/json", "-d", body, url]);
    serde_json::from_slice(&curl.output().unwrap().stdout).unwrap()
}

#[test]
fn whatever_flagd_understands_is_understood() {
    let rule = json!({"if": [{"==": [{"var": "from"}, "variable"]}, "v", "w"]});
    let flags = Flags::new(&json!({"a": {
        "state": "ENABLED", "variants": {"v": 1, "w": 2}, "defaultVariant": "w", "targeting": rule,
    }}));
    let source = format!("file:{}", flags.path.display());
    let socket = flags.path.with_file_name("s");
    let text = socket.to_str().unwrap();
    let ask = r#"{"flagKey": "a", "context": {}}"#;
    let words = format!(
        "start -f {source} -d {text} -X from=variable,b=c -H X-Tier=tier -C * -z json --debug=true -B 0 -R 0 \
         -t otel -o otel:4317 -D c.pem -K k.pem -A ca.pem -I 1h --stream-deadline 10m --keep-alive-min-time 30s \
         --keep-alive-permit-without-stream=false --disable-sync-metadata=false"
    );
    let mut daemon = Running::start(program().args(words.split_whitespace()));
    assert!(
        daemon
            .until("OpenTelemetry export is not supported")
            .starts_with('{')
    );
    daemon.until("Flag IResolver listening at");
    assert_eq!(asked(&socket, ask)["value"], "1");
    assert_eq!(daemon.terminate(), Some(0));

    let variables = [
        ("FLAGD_URI", &*source),
        ("FLAGD_SOCKET_PATH", text),
        ("FLAGD_CONTEXT_VALUE", "from=variable"),
        ("FLAGD_LOG_FORMAT", "json"),
        ("FLAGD_DEBUG", "1"),
        ("FLAGD_DISABLE_SYNC_METADATA", "true"),
        ("FLAGD_MAX_REQUEST_BODY", "5"),
        ("FLAGD_OTEL_RELOAD_INTERVAL", "1h"),
    ];
    let mut daemon = Running::start(program().arg("start").envs(variables));
    assert!(daemon.until("is read").contains("DEBUG"), "FLAGD_DEBUG");
    daemon.until("Flag IResolver listening at");
    assert_eq!(
        asked(&socket, ask)["code"],
        "resource_exhausted",
        "FLAGD_MAX_REQUEST_BODY"
    );
    assert_eq!(daemon.terminate(), Some(0));
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

/// TCP ports that are listened on in the network of this process.
fn ports_of(pid: u32) -> Vec<u16> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp6")).unwrap();
    let rows = table.lines().skip(1).map(|row| row.split_whitespace());
    let mut ports: Vec<u16> = rows
        .filter_map(|mut row| {
            let port = row.nth(1)?.rsplit(':').next()?;
            let listens = row.nth(1) == Some("0A");
            listens.then(|| u16::from_str_radix(port, 16).unwrap())
        })
        .collect();
    ports.sort_unstable();
    ports
}

#[test]
fn under_flagds_name_it_opens_flagds_ports_with_flagds_lines() {
    nigh_testkit::require_root!();
    // In a network of its own: nobody else's ports matter.
    let network = Command::new("unshare").args(["--net", "true"]).status();
    nigh_testkit::skip_unless!(
        network.is_ok_and(|status| status.success()),
        "this machine makes no networks"
    );
    let flags = Flags::new(&json!({"a": flag(1)}));
    let source = format!("file:{}", flags.path.display());
    let ours = Path::new(env!("CARGO_BIN_EXE_nigh-flagd"));
    let flagd = flags.path.with_file_name("flagd");
    std::os::unix::fs::symlink(ours, &flagd).unwrap();
    let socket = flags.path.with_file_name("s");
    let socket = socket.to_str().unwrap();
    let all: &[u16] = &[8013, 8014, 8015, 8016];
    let cases: [(&Path, &[&str], &[u16]); 4] = [
        (&flagd, &[], all),
        (ours, &["--flagd-ports"], all),
        (&flagd, &["-d", socket], &all[1..]),
        (ours, &["-d", socket, "-m", "9014"], &[9014]),
    ];
    for (program, more, expected) in cases {
        let mut command = Command::new("unshare");
        command.args(["--net", "--"]).arg(program);
        command.args(["start", "-f", &source]).args(more);
        let mut daemon = Running::start(command.env_remove("NIGH_LOG"));
        daemon.until(match expected {
            [8013, ..] => "Flag IResolver listening at [::]:8013",
            _ => "Flag IResolver listening at /",
        });
        for port in expected {
            let line = match port {
                8015 => "flag sync service listening at [::]:8015",
                8016 => "ofrep service listening at 8016",
                8014 => "metrics and probes listening at [::]:8014",
                _ => continue,
            };
            daemon.until(line);
        }
        if expected == [9014] {
            daemon.until("metrics and probes listening at [::]:9014");
        }
        assert_eq!(ports_of(daemon.pid()), expected, "{program:?} {more:?}");
        assert_eq!(daemon.terminate(), Some(0));
    }
}

#[test]
fn a_bad_update_is_told_and_the_last_good_flags_stay() {
    let flags = Flags::new(&json!({"a": flag(1)}));
    let source = format!("file:{}", flags.path.display());
    let socket = flags.path.with_file_name("s");
    let mut daemon = Running::serving(&socket, &["-f", &source]);
    let new = flags.path.with_file_name("new");
    std::fs::write(&new, "{\"flags\":\n {\"a\": 1}}").unwrap();
    std::fs::rename(&new, &flags.path).unwrap();
    let line = daemon.until("the last good flags stay");
    let why = "line 2, column 8: flag \"a\" is a number, not an object";
    assert!(line.contains(why), "{line}");
    flags.replace(&json!({"a": flag(2)}));
    daemon.until("1 flags, 1 changed");
}
