//! Who is let in: other users are refused and told so, other containers of a pod are served.

use std::time::Duration;

use nigh_openfeature::{Event, Options, Provider};
use nigh_testkit::{Child, TempSocket, child_variable, require_root, skip_unless};
use open_feature::EvaluationContext;
use open_feature::provider::FeatureProvider as _;
use serde_json::json;

use crate::common::{Flags, Running, flag};

const STRANGER: u32 = 54_321;

/// What makes a container of what follows.
const UNSHARE: [&str; 6] = [
    "unshare",
    "--user",
    "--map-root-user",
    "--pid",
    "--fork",
    "--kill-child",
];

/// Evaluates once, and says what came of it.
#[tokio::test]
#[ignore = "runs as a child of a_provider_under"]
async fn provider_child() {
    let mut options = Options::at(&child_variable("ADDRESS")).unwrap();
    options.deadline = Duration::from_secs(5);
    options.fatal = vec![tonic::Code::PermissionDenied];
    let mut provider = Provider::new(options).unwrap();
    let mut events = provider.events();
    let context = EvaluationContext::default();
    provider.initialize(&context).await;
    match events.next().await {
        Some(Event::Ready) => println!("READY"),
        Some(Event::Error { message, fatal }) => println!("ERROR fatal {fatal}: {message}"),
        other => println!("OTHER {other:?}"),
    }
    match provider.resolve_string_value("who", &context).await {
        Ok(details) => println!("GOT {}", details.value),
        Err(error) => println!(
            "FAILED {:?}: {}",
            error.code,
            error.message.unwrap_or_default()
        ),
    }
}

fn child(socket: &TempSocket) -> Child {
    Child::test("pod::provider_child").env("ADDRESS", socket.address())
}

/// A flag that tells what the daemon knows of the caller.
fn flags() -> Flags {
    let seen = |uid: u32| json!({"==": [{"var": "uid"}, uid]});
    let rule = json!({"if": [seen(0), "root", seen(STRANGER), "stranger", "unknown"]});
    let variants = json!({"root": "root", "stranger": "stranger", "unknown": "unknown"});
    Flags::new(&json!({"a": flag(1), "who": {
        "state": "ENABLED", "variants": variants, "defaultVariant": "unknown", "targeting": rule,
    }}))
}

fn serve(starter: &[&str], socket: &TempSocket, flags: &Flags, more: &[&str]) -> Running {
    let source = format!("file:{}", flags.path.display());
    let known = ["-f", &source, "--context-from-peer", "uid"];
    Running::serving_in(starter, socket.path(), &[&known, more].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_under_another_uid_is_told_that_it_may_not() {
    require_root!();
    let flags = flags();
    let socket = TempSocket::shared();
    let _daemon = serve(&[], &socket, &flags, &["--socket-mode", "0666"]);
    let outcome = child(&socket)
        .user(STRANGER, STRANGER, &[])
        .run_async()
        .await;
    outcome.assert_success();
    let said = outcome.text();
    assert!(said.contains("ERROR fatal true: "), "{said}");
    assert!(
        said.contains("the caller may not use this socket"),
        "{said}"
    );
    assert!(
        said.contains("FAILED General(\"PermissionDenied\"): "),
        "{said}"
    );

    let socket = TempSocket::shared();
    let _daemon = serve(&[], &socket, &flags, &[]);
    let outcome = child(&socket)
        .user(STRANGER, STRANGER, &[])
        .run_async()
        .await;
    outcome.assert_success();
    let said = outcome.text().to_lowercase();
    assert!(said.contains("error fatal false: "), "{said}");
    assert!(
        said.contains("permission denied"),
        "the file itself is closed to it: {said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_under_a_uid_that_is_let_in_is_known_by_it() {
    require_root!();
    let flags = flags();
    let socket = TempSocket::shared();
    let allow = format!("user:{STRANGER}");
    let open = ["--socket-mode", "0666", "--allow", &allow];
    let _daemon = serve(&[], &socket, &flags, &open);
    let outcome = child(&socket)
        .user(STRANGER, STRANGER, &[])
        .run_async()
        .await;
    outcome.assert_success();
    assert!(
        outcome.text().contains("GOT stranger"),
        "{}",
        outcome.text()
    );
}

/// As in a pod: a directory that both see, and nothing else in common.
#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_pod_are_served() {
    require_root!();
    let probe = std::process::Command::new(UNSHARE[0])
        .args(&UNSHARE[1..])
        .arg("true")
        .output();
    skip_unless!(
        probe.is_ok_and(|probe| probe.status.success()),
        "this machine makes no user namespaces"
    );
    let flags = flags();
    for starter in [&[][..], &UNSHARE[..]] {
        let socket = TempSocket::shared();
        let _daemon = serve(starter, &socket, &flags, &[]);
        let outcome = child(&socket).apart().run_async().await;
        outcome.assert_success();
        let said = outcome.text();
        assert!(
            said.contains("READY") && said.contains("GOT root"),
            "{starter:?}: {said}"
        );
    }
}
