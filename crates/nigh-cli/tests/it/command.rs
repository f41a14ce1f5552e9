//! `nigh call` as a program, against a stock tonic server: output, exit codes, errors and hints.

use serde_json::{Value, json};

use crate::program::{Ran, nigh, nigh_reading};
use crate::support::{Reflection, Stock};

fn address(stock: &Stock) -> String {
    format!("unix:{}", stock.path().display())
}

const DIAG: &str = "nigh.diag.v1.Diag";

async fn call(stock: &Stock, method: &str, rest: &[&str]) -> Ran {
    let (address, method) = (address(stock), format!("{DIAG}/{method}"));
    nigh(&[&["call", &address, &method], rest].concat()).await
}

#[tokio::test]
async fn a_reply_is_one_line_of_json() {
    let stock = Stock::start(Reflection::V1);
    let ran = call(&stock, "Echo", &[r#"{"text": "hello"}"#]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!(ran.stdout, "{\"text\":\"hello\"}\n");
    let ran = call(&stock, "Echo", &["--defaults"]).await;
    assert_eq!(
        ran.stdout,
        "{\"text\":\"\",\"data\":\"\",\"index\":\"0\"}\n"
    );
}

#[tokio::test]
async fn streams_are_lines_in_and_out() {
    let stock = Stock::start(Reflection::V1);
    let (address, method) = (address(&stock), format!("{DIAG}/EchoStream"));
    let lines = "{\"text\":\"a\"}\n\n{\n\"text\":\"b\"\n}\n";
    let ran = nigh_reading(lines, &["call", &address, &method, "-"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(
        ran.stdout,
        "{\"text\":\"a\"}\n{\"text\":\"b\",\"index\":\"1\"}\n"
    );

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("in");
    std::fs::write(&file, lines).unwrap();
    let ran = nigh(&["call", &address, &method, &format!("@{}", file.display())]).await;
    assert_eq!(ran.stdout.lines().count(), 2);
}

#[tokio::test]
async fn json_holds_everything() {
    let stock = Stock::start(Reflection::V1);
    let metadata = ["--json", "-H", "x-nigh-echo-a: 1", "-H", "x-nigh-echo-a: 2"];
    let ran = call(
        &stock,
        "Download",
        &[&[r#"{"count": 2}"#], &metadata[..]].concat(),
    )
    .await;
    let object: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(object["messages"], json!([{}, {"index": 1}]));
    assert_eq!(object["metadata"]["x-nigh-echo-a"], json!(["1", "2"]));
    assert_eq!(object["status"]["name"], "OK");
    assert_eq!(
        (&object["sent"], &object["received"]),
        (&json!(1), &json!(2))
    );
    assert!(object["timing"]["total_ms"].as_f64().unwrap() > 0.0);

    let request = r#"{"code": 5, "message": "gone", "details": "CAU="}"#;
    let ran = call(&stock, "Fail", &[&[request], &metadata[..]].concat()).await;
    assert_eq!(ran.code, 16 + 5);
    let object: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        object["status"],
        json!({"code": 5, "name": "NOT_FOUND", "message": "gone", "details": "CAU"})
    );
    assert_eq!(object["trailers"]["x-nigh-echo-a"], json!(["1", "2"]));
    assert_eq!(ran.stderr, "error: NOT_FOUND: gone\n");
}

#[tokio::test]
async fn json_stays_json_when_the_fault_is_here() {
    let stock = Stock::start(Reflection::V1);
    for arguments in [
        &["call", "unix:/nonexistent/s", "a.S/M", "--json"][..],
        &["call", &address(&stock), "nigh.diag.v1.Diag/Ecko", "--json"],
        &[
            "call",
            &address(&stock),
            "nigh.diag.v1.Diag/EchoStream",
            "{} {\"text\": 1}",
            "--json",
        ],
    ] {
        let ran = nigh(arguments).await;
        let object: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(object["error"]["exit_code"], ran.code, "{}", ran.stdout);
        assert!(!object["error"]["message"].as_str().unwrap().is_empty());
    }
}

/// Arguments separated by `|` with `$S` for the server and `$E` for its Echo; exit code; what the error and the hint say.
const FAULTS: &[(&str, i32, &str, &str)] = &[
    ("ftp:x", 2, "ftp:x", "unix:PATH"),
    ("unix:/nonexistent/s", 3, "/nonexistent/s", "address"),
    ("$S|a.S", 2, "no service `a.S`", "services on offer"),
    (
        "$S|nigh.diag.v1.Diag/Ecko",
        2,
        "no method `Ecko`",
        "did you mean Echo?",
    ),
    ("$E|{", 2, "not JSON", ""),
    (
        "$E|{\"txet\": 1}",
        2,
        "txet: nigh.diag.v1.EchoRequest has no such field",
        "did you mean text?",
    ),
    (
        "$E|{\"replyBytes\": \"x\"}",
        2,
        "replyBytes: expected an integer of 32 bits, not negative, got \"x\"",
        "",
    ),
    ("$E|{}|-H|te: x", 2, "belongs to gRPC", ""),
    ("$E|{} {}", 2, "takes one message", ""),
    (
        "$E|--max-reply|10|{\"replyBytes\": 100}",
        27,
        "OUT_OF_RANGE",
        "--max-reply",
    ),
    (
        "$S|nigh.diag.v1.Diag/Sleep|{\"duration\": \"60s\"}|--deadline|30ms",
        20,
        "DEADLINE_EXCEEDED",
        "--deadline",
    ),
    ("$E|--proto|/nonexistent.proto", 2, "/nonexistent.proto", ""),
];

#[tokio::test]
async fn exit_codes_tell_whose_fault_it_is() {
    let stock = Stock::start(Reflection::V1);
    let echo = format!("$S|{DIAG}/Echo");
    for (line, code, error, hint) in FAULTS {
        let line = line.replace("$E", &echo).replace("$S", &address(&stock));
        let arguments: Vec<&str> = ["call"].into_iter().chain(line.split('|')).collect();
        let Ran {
            code: got,
            stdout,
            stderr,
        } = nigh(&arguments).await;
        assert_eq!(got, *code, "{line}: {stderr}");
        assert!(stderr.starts_with("error: "), "{line}: {stderr}");
        assert!(stderr.contains(error), "{line}: {stderr}");
        if !hint.is_empty() {
            let given = stderr.lines().find(|line| line.starts_with("hint: "));
            assert!(given.unwrap().contains(hint), "{line}: {stderr}");
        }
        assert_eq!(stdout, "", "{line}");
    }
}

#[tokio::test]
async fn what_a_server_offers_is_listed() {
    let stock = Stock::start(Reflection::V1);
    let ran = nigh(&["call", &address(&stock)]).await;
    assert_eq!(
        ran.stdout,
        "grpc.reflection.v1.ServerReflection\nnigh.diag.v1.Diag\n"
    );
    let ran = nigh(&["call", &address(&stock), DIAG]).await;
    let upload = "Upload (stream nigh.diag.v1.UploadRequest) -> nigh.diag.v1.UploadReply";
    assert!(ran.stdout.contains(upload), "{}", ran.stdout);
    let ran = nigh(&["call", &address(&stock), DIAG, "--json"]).await;
    let object: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(object["methods"].as_array().unwrap().len(), 11);
}

#[tokio::test]
async fn verbose_shows_the_rest_on_standard_error() {
    let stock = Stock::start(Reflection::V1);
    let ran = call(&stock, "Echo", &["{}", "-v", "-H", "x-nigh-echo-a: 1"]).await;
    assert_eq!(ran.stdout, "{}\n");
    for line in [
        "> x-nigh-echo-a: 1",
        "< x-nigh-echo-a: 1",
        "* 1 sent, 1 received",
    ] {
        assert!(ran.stderr.contains(line), "{line}: {}", ran.stderr);
    }
}

#[tokio::test]
async fn completions_and_manual_are_generated() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = nigh(&["completions", shell]).await;
        assert_eq!(ran.code, 0);
        for command in ["send", "recv", "echo", "peers", "doctor", "bridge"] {
            assert!(ran.stdout.contains(command), "{shell} {command}");
        }
    }
    let ran = nigh(&["man"]).await;
    assert!(ran.stdout.contains(".TH nigh 1"), "{}", ran.stdout);
    let folder = tempfile::tempdir().unwrap();
    let ran = nigh(&["man", "--dir", folder.path().to_str().unwrap()]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for command in [
        "call", "send", "recv", "echo", "peers", "ls", "doctor", "bridge",
    ] {
        let page = folder.path().join(format!("nigh-{command}.1"));
        assert!(page.exists(), "{command}");
    }
}
