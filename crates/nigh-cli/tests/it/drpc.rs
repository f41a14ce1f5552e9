//! `nigh drpc`, and `nigh serve drpc:`, as programs: one server of two protocols, its answers, its errors and their codes.

use std::sync::Arc;

use nigh_cli::diag::pb::diag_server::DiagServer;
use nigh_cli::diag::{Counters, Diag, ServerCounts};
use nigh_drpc::wire::Reason;
use nigh_drpc::{CallError, Client, ClientOptions, Failure, Module, Modules};
use nigh_testkit::TempSocket;
use rustix::process::Signal;
use serde_json::Value;
use tokio::sync::{Notify, oneshot};

use crate::program::{Ran, Serving, nigh, nigh_reading};

/// `Hello{name: "you"}` and its answer.
const HELLO: &str = "0a03796f75";
const ANSWER: &str = "0a0948656c6c6f20796f75\n";

fn on(socket: &TempSocket) -> String {
    format!("drpc:{}", socket.address())
}

async fn drpc(socket: &TempSocket, rest: &[&str]) -> Ran {
    nigh(&[&["drpc", &socket.address()], rest].concat()).await
}

#[tokio::test]
async fn one_server_answers_grpc_and_drpc_in_both_framings() {
    let (stream, packets) = (TempSocket::private(), TempSocket::private());
    let serving = Serving::start(&[&stream.address(), &on(&packets)], &[]);
    assert_eq!(serving.addresses, [stream.address(), on(&packets)]);
    for framing in ["chunked", "legacy", "probe"] {
        let ran = drpc(&packets, &["0", "0", HELLO, "--framing", framing]).await;
        assert_eq!(
            (ran.code, &*ran.stdout),
            (0, ANSWER),
            "{framing}: {}",
            ran.stderr
        );
    }
    let echo = "nigh.diag.v1.Diag/Echo";
    let ran = nigh(&["call", &stream.address(), echo, r#"{"text": "hi"}"#]).await;
    assert_eq!(ran.stdout, "{\"text\":\"hi\"}\n", "{}", ran.stderr);
    // One table of connections and calls: both sockets count in it.
    let ran = nigh(&["call", &stream.address(), "nigh.diag.v1.Diag/Counters"]).await;
    let counters: Value = serde_json::from_str(&ran.stdout).unwrap();
    let accepted: u64 = counters["connectionsAccepted"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(accepted >= 5, "{counters}");

    let ran = nigh(&["ls", "--json"]).await;
    let path = packets.address();
    let row = ran.stdout.lines().find(|line| line.contains(&path));
    let row: Value = serde_json::from_str(row.unwrap()).unwrap();
    assert_eq!(row["type"], "seqpacket", "{row}");

    serving.signal(Signal::TERM);
    let ended = serving.ended().await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(!stream.path().exists() && !packets.path().exists());
}

#[tokio::test]
async fn one_policy_holds_for_both() {
    let (stream, packets) = (TempSocket::private(), TempSocket::private());
    let _serving = Serving::start(&[&stream.address(), &on(&packets)], &["--allow", "none"]);
    let ran = drpc(&packets, &["0", "0", HELLO]).await;
    assert_eq!(ran.code, 18, "{}", ran.stderr);
    assert!(ran.stderr.contains("not permitted"), "{}", ran.stderr);
    let ran = nigh(&["call", &stream.address(), "nigh.diag.v1.Diag/Echo"]).await;
    assert_eq!(ran.code, 23, "{}", ran.stderr);
}

#[tokio::test]
async fn bodies_come_from_arguments_files_and_json() {
    let packets = TempSocket::private();
    let _serving = Serving::start(&[&on(&packets)], &[]);
    let file = packets.join("body");
    std::fs::write(&file, b"\x0a\x03you").unwrap();
    let file = format!("@{}", file.display());
    let ran = drpc(&packets, &["test", "greeting", &file]).await;
    assert_eq!((ran.code, &*ran.stdout), (0, ANSWER), "{}", ran.stderr);
    let arguments = ["drpc", &packets.address(), "TEST", "GREETING", "-"];
    let ran = nigh_reading("\n\u{3}you", &arguments).await;
    assert_eq!((ran.code, &*ran.stdout), (0, ANSWER), "{}", ran.stderr);

    let proto = packets.join("hello.proto");
    let text =
        "syntax = \"proto3\"; message H { string name = 1; } message R { string greeting = 1; }";
    std::fs::write(&proto, text).unwrap();
    let typed = ["--proto-file", proto.to_str().unwrap(), "--proto", "H:R"];
    let json = ["0", "0", r#"{"name": "you"}"#];
    for typed in [&typed[..], &["--proto", "Hello"]] {
        let ran = drpc(&packets, &[&json[..], typed].concat()).await;
        assert_eq!(
            (ran.code, &*ran.stdout),
            (0, "{\"greeting\":\"Hello you\"}\n"),
            "{}",
            ran.stderr
        );
    }
    let ran = drpc(&packets, &[&json[..], &typed, &["--json"]].concat()).await;
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(answer["status"]["name"], "SUCCESS", "{answer}");
    assert_eq!(answer["module"]["name"], "TEST");
    assert_eq!(answer["message"]["greeting"], "Hello you");
    let files = ["1000", "100002", "--json", "--fd", "/dev/null"];
    let answers = ["--proto", ":drpc.HelloResponse"];
    let ran = drpc(&packets, &[&files[..], &answers].concat()).await;
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(answer["message"]["greeting"], "1 descriptors", "{answer}");
    assert_eq!(answer["descriptors"].as_array().unwrap().len(), 1);

    let ran = drpc(&packets, &["1000", "100001"]).await;
    let uid = format!("uid {}", rustix::process::getuid().as_raw());
    let uid: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(ran.stdout.contains(&uid), "{}", ran.stdout);
}

#[tokio::test]
async fn drpc_exit_codes_tell_whose_fault_it_is() {
    let packets = TempSocket::private();
    let missing = drpc(&packets, &["0", "0"]).await;
    assert_eq!(missing.code, 3, "{}", missing.stderr);
    let _serving = Serving::start(&[&on(&packets)], &[]);
    for (arguments, code, words) in [
        (&["77", "1"][..], 19, "UNKNOWN_MODULE"),
        (&["test", "9"], 20, "UNKNOWN_METHOD"),
        (&["0", "0", "ff"], 22, "FAILED_UNMARSHAL_PAYLOAD"),
        (&["nonsense", "0"], 2, "SEC_AGENT (1)"),
        (&["mgmt", "nonsense"], 2, "nigh drpc ADDR MODULE"),
        (&["0", "0", "{}"], 2, "--proto TYPE"),
        (&["0", "0", "@/nonexistent"], 2, "/nonexistent"),
        (&["0", "0", "{}", "--proto", "H"], 2, "drpc.Hello"),
        (
            &["0", "0", "{}", "--proto", ":Hello"],
            2,
            "no type for the body",
        ),
        (&["0", "0", "{}", "--proto-file", "x"], 2, "--proto"),
    ] {
        let ran = drpc(&packets, arguments).await;
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(words), "{arguments:?}: {}", ran.stderr);
    }
    let ran = drpc(&packets, &["mgmt"]).await;
    assert!(
        ran.stdout.contains("MGMT POOL_CREATE  2 207  engine\n"),
        "{}",
        ran.stdout
    );
}

#[tokio::test]
async fn a_server_of_the_other_kind_is_named_with_the_command_for_it() {
    let (stream, packets) = (TempSocket::private(), TempSocket::private());
    let _serving = Serving::start(&[&stream.address(), &on(&packets)], &[]);
    for command in ["call", "who"] {
        let ran = nigh(&[command, &packets.address()]).await;
        assert_eq!(ran.code, 3, "{}", ran.stderr);
        assert!(ran.stderr.contains("not of type stream"), "{}", ran.stderr);
        assert!(ran.stderr.contains("use `nigh drpc`"), "{}", ran.stderr);
    }
    let ran = drpc(&stream, &["0", "0"]).await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("use `nigh call`"), "{}", ran.stderr);
}

#[tokio::test]
async fn one_quota_and_one_drain_hold_for_both() {
    let (stream, packets) = (TempSocket::private(), TempSocket::private());
    let (entered, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, waited) = (Arc::clone(&entered), Arc::clone(&go_on));
    let slow = Module::new(7, "slow").method(1, "wait", move |_| {
        let (told, waited) = (Arc::clone(&told), Arc::clone(&waited));
        async move {
            told.notify_one();
            waited.notified().await;
            Ok::<_, Failure>(b"done".to_vec())
        }
    });
    let mut modules = Modules::new();
    modules.register(slow).unwrap();
    let mut limits = nigh::Limits::default();
    limits.connections.connections_max = 2;
    limits.connections.connections_per_uid_max = 2;
    let mut server = nigh::Server::new().limits(limits);
    let counters = server.counters();
    let protocol = nigh_drpc::Server::new(modules)
        .into_protocol(Arc::clone(&counters), None)
        .unwrap();
    let bound = nigh_drpc::listener().bind(packets.path()).unwrap();
    let server = server
        .service(DiagServer::new(Diag::new(Counters::new(
            ServerCounts::default,
        ))))
        .listen(nigh::Listener::options().bind(stream.path()).unwrap())
        .listen_other(bound, protocol);
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async { drop(stopped.await) }));

    // One connection of each kind, and the allowance is used up for both kinds.
    let address = |socket: &TempSocket| socket.address().parse::<nigh::Address>().unwrap();
    let channel = nigh::Channel::connect(address(&stream)).await.unwrap();
    let client = Client::lazy(address(&packets), ClientOptions::default());
    let calling = tokio::spawn(async move { client.call(7, 1, Vec::new()).await });
    entered.notified().await;
    let late = Client::lazy(address(&packets), ClientOptions::default());
    let refused = late.call(7, 1, Vec::new()).await.unwrap_err();
    assert!(
        matches!(
            refused,
            CallError::Status {
                reason: Some(Reason::Unavailable),
                ..
            }
        ),
        "{refused}"
    );
    assert_eq!(counters.read().connections_refused_by_quota, 1);

    // The drain takes both names at once, and waits for the call that runs.
    stop.send(()).unwrap();
    while stream.path().exists() || packets.path().exists() {
        tokio::task::yield_now().await;
    }
    assert!(!running.is_finished());
    go_on.notify_one();
    assert_eq!(calling.await.unwrap().unwrap(), "done");
    drop(channel);
    assert_eq!(running.await.unwrap().unwrap().cut_off, 0);
}
