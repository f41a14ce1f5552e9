//! What each protocol says: statuses, texts, JSON forms, headers.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nigh_flagd::eval::Fractional;
use nigh_flagd::service::proto::evaluation::v1::service_client::ServiceClient;
use nigh_flagd::service::proto::evaluation::v1::{ResolveAllRequest, ResolveBooleanRequest};
use nigh_flagd::service::proto::sync::v1::flag_sync_service_client::FlagSyncServiceClient;
use nigh_flagd::service::proto::sync::v1::{FetchAllFlagsRequest, GetMetadataRequest};
use nigh_flagd::service::{Options, PeerFact, Pin};
use serde_json::{Value, json};
use tonic::Code;

use crate::common::{Daemon, Flags, flag, source};

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// One HTTP/1.0 request, so that the answer ends with the connection.
fn send(socket: &Path, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
    let mut stream = UnixStream::connect(socket).unwrap();
    let mut head = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {}\r\n",
        body.len()
    );
    for header in headers {
        head.push_str(&format!("{header}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    // The server may have refused what is too large before it was all sent.
    let _ = stream.write_all(body);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        head,
        body: bytes[end + 4..].to_vec(),
    }
}

fn flags() -> Flags {
    let rule = |rule: Value| json!({"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off", "targeting": rule});
    let mut set = flag(5);
    set["metadata"] = json!({"flagSetId": "s", "owner": "me"});
    Flags::new(&json!({
        "bool": flag(true), "int": flag(10), "pi": flag(3.25), "text": flag("hi"), "object": flag(json!({"a": 1, "b": [1.5]})),
        "none": {"state": "ENABLED", "variants": {"v": true}},
        "off": {"state": "DISABLED", "variants": {"v": true}, "defaultVariant": "v"},
        "lost": rule(json!("gone")), "broken": rule(json!({"no_such": 1})),
        "who": rule(json!({"if": [{"==": [{"var": "uid"}, 12345]}, "off", "on"]})),
        "tier": rule(json!({"if": [{"==": [{"var": "tier"}, "gold"]}, "on", null]})),
        "in-set": set,
    }))
}

/// Version, kind, flag, HTTP status, answer.
const CONNECT: &str = r#"
v1 Boolean bool 200 {"value": true, "reason": "STATIC", "variant": "v", "metadata": {}}
v1 Int int 200 {"value": "10", "reason": "STATIC", "variant": "v", "metadata": {}}
v2 Int pi 200 {"value": "3", "reason": "STATIC", "variant": "v", "metadata": {}}
v2 Float pi 200 {"value": 3.25, "reason": "STATIC", "variant": "v", "metadata": {}}
v2 Float int 200 {"value": 10, "reason": "STATIC", "variant": "v", "metadata": {}}
v2 String text 200 {"value": "hi", "reason": "STATIC", "variant": "v", "metadata": {}}
v2 Object object 200 {"value": {"a": 1, "b": [1.5]}, "reason": "STATIC", "variant": "v", "metadata": {}}
v2 Int in-set 200 {"value": "5", "reason": "STATIC", "variant": "v", "metadata": {"flagSetId": "s", "owner": "me"}}
v2 Boolean none 200 {"reason": "DEFAULT", "metadata": {}}
v1 Boolean none 404 {"code": "not_found", "message": "Flag not found"}
v2 Boolean off 200 {"reason": "DISABLED", "metadata": {}}
v1 Boolean off 200 {"value": false, "reason": "DISABLED", "variant": "", "metadata": {}}
v2 Boolean gone 404 {"code": "not_found", "message": "Flag not found"}
v2 String bool 400 {"code": "invalid_argument", "message": "Type mismatch error"}
v2 Boolean lost 500 {"code": "unknown", "message": "General error"}
v2 Boolean broken 500 {"code": "data_loss", "message": "Error parsing input or configuration"}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn connect_answers_as_flagd_does() {
    let flags = flags();
    let daemon = Daemon::of(&flags.path).await;
    let post = |path: &str, more: &str, body: &[u8]| {
        let headers = ["Content-Type: application/json", more];
        send(daemon.socket.path(), "POST", path, &headers, body)
    };
    for case in CONNECT.trim().lines() {
        let words: Vec<&str> = case.splitn(5, ' ').collect();
        let path = format!("/flagd.evaluation.{}.Service/Resolve{}", words[0], words[1]);
        let body = json!({"flagKey": words[2], "context": {}, "unknown": 1}).to_string();
        let answer = post(&path, "X: y", body.as_bytes());
        let expected: Value = serde_json::from_str(words[4]).unwrap();
        assert_eq!(answer.status.to_string(), words[3], "{case}");
        assert_eq!(answer.json(), expected, "{case}");
    }
    let path = "/flagd.evaluation.v2.Service/ResolveBoolean";
    let answer = post(path, "Flagd-Selector: colour=red", b"{}");
    let message = r#"invalid selector key "colour", valid keys: "flagSetId", "source""#;
    let expected = json!({"code": "invalid_argument", "message": message});
    assert_eq!(answer.json(), expected);
    let large = vec![b' '; 1_000_001];
    let answer = post(path, "X: y", &large);
    assert_eq!(answer.status, 429);
    assert_eq!(answer.json()["code"], "resource_exhausted");
    let form = ["Content-Type: text/plain"];
    let answer = send(daemon.socket.path(), "POST", path, &form, b"{}");
    assert_eq!(answer.status, 415, "what a web page can post is no call");
}

/// Path, body, HTTP status, answer, with tabs between them.
const OFREP: &str = r#"
/bool		200	{"key": "bool", "value": true, "variant": "v", "reason": "STATIC", "metadata": {}}
/b%6Fol	{}	200	{"key": "bool", "value": true, "variant": "v", "reason": "STATIC", "metadata": {}}
/int	{"context": 1}	200	{"key": "int", "value": 10, "variant": "v", "reason": "STATIC", "metadata": {}}
/none		200	{"key": "none", "reason": "DEFAULT", "metadata": {}}
/off		200	{"key": "off", "reason": "DISABLED", "metadata": {}}
/gone		404	{"key": "gone", "errorCode": "FLAG_NOT_FOUND", "errorDetails": "flag `gone` does not exist", "metadata": {}}
/broken		400	{"key": "broken", "errorCode": "PARSE_ERROR", "errorDetails": "error parsing the flag `broken`", "metadata": {}}
/lost		400	{"key": "lost", "errorCode": "GENERAL", "errorDetails": "error processing the flag for evaluation", "metadata": {}}
/bool	[1]	400	{"errorCode": "INVALID_CONTEXT", "errorDetails": "Provider context is not valid"}
/tier	{"context": {"tier": "gold"}}	200	{"key": "tier", "value": true, "variant": "on", "reason": "TARGETING_MATCH", "metadata": {}}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn ofrep_answers_and_knows_what_has_not_changed() {
    let flags = flags();
    let daemon = Daemon::of(&flags.path).await;
    let post = |path: &str, headers: &[&str], body: &str| {
        let path = format!("/ofrep/v1/evaluate/flags{path}");
        send(
            daemon.socket.path(),
            "POST",
            &path,
            headers,
            body.as_bytes(),
        )
    };
    for case in OFREP.trim().lines() {
        let words: Vec<&str> = case.split('\t').collect();
        let answer = post(words[0], &[], words[1]);
        let expected: Value = serde_json::from_str(words[3]).unwrap();
        assert_eq!(answer.status.to_string(), words[2], "{case}");
        assert_eq!(answer.json(), expected, "{case}");
    }
    let large = " ".repeat(1_000_001);
    assert_eq!(post("/bool", &[], &large).status, 413);
    let all = post("", &[], "{}");
    assert_eq!(all.status, 200);
    assert_eq!(all.json()["flags"].as_array().unwrap().len(), 12);
    let tag = format!("If-None-Match: {}", all.header("etag").unwrap());
    let again = post("/", &[&tag], "{}");
    assert_eq!((again.status, again.body.len()), (304, 0));
    let other = post("", &[&tag], "{\"context\": {\"tier\": \"gold\"}}");
    assert_eq!(other.status, 200, "another context, another answer");
    let set = post("", &["Flagd-Selector: flagSetId=s"], "");
    assert_eq!(set.json()["metadata"], json!({"flagSetId": "s"}));
    assert_eq!(set.json()["flags"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_metrics_and_browsers() {
    let flags = flags();
    let missing = flags.path.with_file_name("missing.json");
    let mut options = Options::default();
    options.cors_origins = vec!["https://app.example".into()];
    let sources = [source(&flags.path), source(&missing)];
    let daemon = Daemon::start(&sources, Fractional::V2, options).await;
    let get = |path: &str| send(daemon.socket.path(), "GET", path, &[], b"");
    assert_eq!(get("/healthz").status, 200);
    assert_eq!(get("/readyz").status, 412);
    let mut views = daemon.hub.store.subscribe();
    std::fs::write(&missing, "{\"flags\": {}}").unwrap();
    views
        .wait_for(|view| view.waiting().is_empty())
        .await
        .unwrap();
    assert_eq!(get("/readyz").status, 200);
    assert!(
        get("/metrics")
            .body
            .starts_with(b"# HELP feature_flag_flagd_impression_total")
    );
    assert_eq!(get("/nothing").status, 404);
    assert_eq!(get("/ofrep/v1/evaluate/flags/bool").status, 405);
    let path = "/flagd.evaluation.v1.Service/ResolveBoolean";
    let preflight = [
        "Origin: https://app.example",
        "Access-Control-Request-Method: POST",
    ];
    let answer = send(daemon.socket.path(), "OPTIONS", path, &preflight, b"");
    assert_eq!(answer.status, 204);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://app.example")
    );
    let stranger = [
        "Origin: https://evil.example",
        "Content-Type: application/json",
    ];
    let answer = send(
        daemon.socket.path(),
        "POST",
        path,
        &stranger,
        b"{\"flagKey\": \"bool\"}",
    );
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_streams_are_enveloped_json() {
    let flags = flags();
    let mut daemon = Daemon::of(&flags.path).await;
    let socket = daemon.socket.path().to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let path = "/flagd.evaluation.v2.Service/EventStream";
        send(
            &socket,
            "POST",
            path,
            &["Content-Type: application/connect+json"],
            b"\0\0\0\0\x02{}",
        )
    });
    let streams = |daemon: &Daemon| {
        daemon
            .flagd
            .metrics()
            .contains("feature_flag_flagd_streams 1")
    };
    while !streams(&daemon) {
        tokio::task::yield_now().await;
    }
    daemon.begin_to_stop();
    let answer = asked.await.unwrap();
    assert_eq!(
        answer.header("content-type"),
        Some("application/connect+json")
    );
    let mut rest = &answer.body[..];
    let mut messages = Vec::new();
    while let [flags, a, b, c, d, tail @ ..] = rest {
        let (message, after) = tail.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        messages.push((*flags, serde_json::from_slice::<Value>(message).unwrap()));
        rest = after;
    }
    let end =
        json!({"error": {"code": "unavailable", "message": "the server is stopping; try again"}});
    assert_eq!(
        messages,
        [
            (0, json!({"type": "provider_ready", "data": null})),
            (0, json!({"type": "provider_shutdown", "data": null})),
            (2, end),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_all_flags_sync_and_the_operators_context() {
    let flags = flags();
    let mut options = Options::default();
    options.context = vec![("tier".into(), "gold".into())];
    options.context_from_headers = vec![("x-tier".into(), "tier".into())];
    options.context_from_peer = vec![(PeerFact::Uid, "uid".into())];
    let daemon = Daemon::start(&[source(&flags.path)], Fractional::V2, options).await;
    let channel = daemon.channel().await;
    let mut client = ServiceClient::new(channel.clone());
    let all = client
        .resolve_all(ResolveAllRequest::default())
        .await
        .unwrap();
    let all = all.into_inner().flags;
    assert_eq!(all["broken"].reason, "ERROR");
    assert!(!all.contains_key("none") && !all.contains_key("off"));
    assert_eq!(all["tier"].variant, "on", "fixed by the operator");
    let mut request = tonic::Request::new(ResolveBooleanRequest {
        flag_key: "tier".into(),
        context: None,
    });
    request
        .metadata_mut()
        .insert("x-tier", "tin".parse().unwrap());
    let answer = client.resolve_boolean(request).await.unwrap().into_inner();
    assert_eq!(
        answer.reason, "DEFAULT",
        "the header wins over the fixed value"
    );
    let forged = nigh_flagd::value::to_struct(json!({"uid": 12345}).as_object().unwrap());
    let request = ResolveBooleanRequest {
        flag_key: "who".into(),
        context: Some(forged),
    };
    let answer = client.resolve_boolean(request).await.unwrap().into_inner();
    assert!(answer.value, "the kernel's word wins over the caller's");
    let request = ResolveBooleanRequest {
        flag_key: "gone".into(),
        context: None,
    };
    let status = client.resolve_boolean(request).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "Flag not found")
    );
    let mut sync = FlagSyncServiceClient::new(channel);
    let request = FetchAllFlagsRequest {
        selector: "flagSetId=s".into(),
        ..FetchAllFlagsRequest::default()
    };
    let fetched = sync.fetch_all_flags(request).await.unwrap().into_inner();
    let fetched: Value = serde_json::from_str(&fetched.flag_configuration).unwrap();
    let source = flags.path.to_str().unwrap();
    let expected = json!({"flags": {"in-set": {
        "state": "ENABLED", "variants": {"v": 5}, "defaultVariant": "v", "source": source,
        "metadata": {"flagSetId": "s", "owner": "me"},
    }}});
    assert_eq!(fetched, expected);
    let metadata = sync.get_metadata(GetMetadataRequest {}).await.unwrap();
    assert!(
        metadata
            .into_inner()
            .metadata
            .unwrap()
            .fields
            .contains_key("tier")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_caller_sees_its_set_whatever_it_asks_for() {
    let flags = flags();
    let pin = |policy: &str, set: Option<&str>| Pin {
        policy: policy.parse().unwrap(),
        set: set.map(str::to_owned),
    };
    let answer = async |pins: Vec<Pin>, key: &str| {
        let mut options = Options::default();
        options.pins = pins;
        let daemon = Daemon::start(&[source(&flags.path)], Fractional::V2, options).await;
        let path = format!("/ofrep/v1/evaluate/flags/{key}");
        let forged = ["Flagd-Selector: flagSetId="];
        let ofrep = send(daemon.socket.path(), "POST", &path, &forged, b"").status;
        let mut sync = FlagSyncServiceClient::new(daemon.channel().await);
        let fetched = sync.fetch_all_flags(FetchAllFlagsRequest::default()).await;
        let all = fetched.map(|all| all.into_inner().flag_configuration.contains("\"bool\""));
        (ofrep, all.map_err(|status| status.code()))
    };
    let mine = || pin("same-user", Some("s"));
    assert_eq!(answer(vec![mine()], "in-set").await, (200, Ok(false)));
    assert_eq!(answer(vec![mine()], "bool").await, (404, Ok(false)));
    let free = vec![pin("none", Some("s")), pin("any", None)];
    assert_eq!(answer(free, "bool").await, (200, Ok(true)));
    let others = vec![pin("not same-user", None)];
    let refused = (403, Err(Code::PermissionDenied));
    assert_eq!(answer(others, "bool").await, refused);
}
