//! `nigh bench` as a program: both loops, every wire on one server, failures by status, the pictures.

use serde_json::Value;

use nigh_testkit::TempSocket;

use crate::program::{Serving, nigh};

/// A short measurement; its object and exit code.
async fn bench(address: &str, options: &[&str]) -> (i32, Value, String) {
    let short = [
        "bench", address, "--json", "--warmup", "5ms", "--rounds", "2",
    ];
    let ran = nigh(&[&short[..], options].concat()).await;
    let object = serde_json::from_str(&ran.stdout).unwrap_or_default();
    (ran.code, object, ran.stderr)
}

#[tokio::test]
async fn wires_take_turns_and_every_call_is_counted() {
    let socket = TempSocket::private();
    let _serving = Serving::start(&[&socket.address()], &[]);
    let picture = socket.path().with_extension("svg");
    let svg = picture.to_str().unwrap();
    let options = [
        "--wire",
        "nigh,http2,auto",
        "--calls",
        "203",
        "-c",
        "3",
        "--connections",
        "2",
    ];
    let options = [&options[..], &["--size", "1000", "--svg", svg]].concat();
    let (code, seen, stderr) = bench(&socket.address(), &options).await;
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(
        (&seen["loop"], &seen["concurrency"]),
        (&"closed".into(), &3.into())
    );
    assert_eq!(seen["request_bytes"], 1003);
    let wires = seen["wires"].as_array().unwrap();
    let names: Vec<&str> = wires
        .iter()
        .map(|wire| wire["wire"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["nigh", "http2", "auto"]);
    for wire in wires {
        assert_eq!(
            (&wire["calls"], &wire["succeeded"]),
            (&203.into(), &203.into())
        );
        let rounds = wire["rounds"].as_array().unwrap();
        let rounds: Vec<u64> = rounds
            .iter()
            .map(|round| round["succeeded"].as_u64().unwrap())
            .collect();
        assert_eq!(rounds, [102, 101]);
        let bins = wire["histogram"].as_array().unwrap();
        let counted = bins.iter().map(|bin| bin["count"].as_u64().unwrap());
        assert_eq!(counted.sum::<u64>(), 203);
        let at = |name: &str| wire["latency_us"][name].as_f64().unwrap();
        let order = ["min", "p50", "p90", "p99", "p99.9", "max"].map(at);
        assert!(order.is_sorted() && order[0] > 0.0, "{order:?}");
    }
    let drawn = std::fs::read_to_string(&picture).unwrap();
    std::fs::remove_file(&picture).unwrap();
    assert_eq!(drawn.matches("<path").count(), 3);
}

#[tokio::test]
async fn an_open_loop_counts_from_when_a_call_was_due() {
    let socket = TempSocket::private();
    let _serving = Serving::start(&[&socket.address()], &[]);
    // Each call takes 20 ms and only one may be under way: the tenth of a round waits for nine others.
    let slow = ["nigh.diag.v1.Diag/Sleep", r#"{"duration": "0.02s"}"#];
    let options = ["--rate", "2000", "--calls", "20", "-c", "1"];
    let (code, seen, stderr) = bench(&socket.address(), &[&slow[..], &options].concat()).await;
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(seen["loop"], "open");
    let wire = &seen["wires"][0];
    assert_eq!(wire["succeeded"], 20);
    assert!(wire["latency_us"]["min"].as_f64().unwrap() >= 20_000.0);
    assert!(
        wire["latency_us"]["max"].as_f64().unwrap() >= 190_000.0,
        "{wire}"
    );
    assert!(
        wire["late_us"]["max"].as_f64().unwrap() >= 170_000.0,
        "{wire}"
    );
}

#[tokio::test]
async fn failures_are_counted_by_status_and_told() {
    let socket = TempSocket::private();
    let _serving = Serving::start(&[&socket.address()], &[]);
    let fail = [
        "nigh.diag.v1.Diag/Fail",
        r#"{"code": 5, "message": "none such"}"#,
        "--calls",
        "10",
    ];
    let (code, seen, stderr) = bench(&socket.address(), &fail).await;
    assert_eq!(code, 1);
    assert!(
        stderr.contains("10 of 10 calls failed, the first with NOT_FOUND: none such"),
        "{stderr}"
    );
    let wire = &seen["wires"][0];
    assert_eq!(
        (&wire["failed"]["NOT_FOUND"], &wire["succeeded"]),
        (&10.into(), &0.into())
    );

    let options = [&["nigh.diag.v1.Diag/Sleep", r#"{"duration": "60s"}"#][..]].concat();
    let options = [
        &options[..],
        &["--deadline", "20ms", "--calls", "4", "--rounds", "1"],
    ]
    .concat();
    let short = ["bench", &socket.address(), "--warmup", "5ms"];
    let ran = nigh(&[&short[..], &options].concat()).await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.stdout.contains("auto: 4 ended with DEADLINE_EXCEEDED"),
        "{}",
        ran.stdout
    );
}

#[tokio::test]
async fn what_is_no_unary_method_is_a_usage_error() {
    let socket = TempSocket::private();
    let _serving = Serving::start(&[&socket.address()], &[]);
    for (method, why) in [
        ("nigh.diag.v1.Diag/Download", "is not unary"),
        ("nigh.diag.v1.Diag", "name one of its methods"),
    ] {
        let (code, _, stderr) = bench(&socket.address(), &[method]).await;
        assert_eq!(code, 2);
        assert!(stderr.contains(why), "{stderr}");
    }
}

#[tokio::test]
async fn the_table_and_its_bars_are_for_people() {
    let socket = TempSocket::private();
    let _serving = Serving::start(&[&socket.address()], &[]);
    let ran = nigh(&[
        "bench",
        &socket.address(),
        "--warmup",
        "1ms",
        "--calls",
        "50",
        "--wire",
        "nigh,http2",
    ])
    .await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.stdout);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(
        lines[0].starts_with("/nigh.diag.v1.Diag/Echo at unix:"),
        "{}",
        lines[0]
    );
    assert!(lines[2].starts_with("WIRE"));
    assert!(lines[3].starts_with("nigh   50"), "{}", lines[3]);
    assert!(lines[4].starts_with("http2  50"), "{}", lines[4]);
    assert_eq!(lines.iter().filter(|line| line.contains(" %")).count(), 32);
}
