//! `nigh who` as a program: servers that tell, servers that cannot, and none at all.

use std::os::unix::net::UnixListener;

use nigh_testkit::TempSocket;
use serde_json::Value;

use crate::program::{Serving, nigh};

#[tokio::test]
async fn both_ends_are_known() {
    let socket = TempSocket::private();
    let serving = Serving::start(&[&socket.address()], &[]);
    let ran = nigh(&["who", &socket.address(), "--json"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let who: Value = serde_json::from_str(&ran.stdout).unwrap();
    let uid = rustix::process::getuid().as_raw();
    for end in ["server", "caller"] {
        assert_eq!(who[end]["kind"], "KIND_LOCAL");
        assert_eq!(who[end]["uid"]["id"], uid);
        assert_eq!(who[end]["uid"]["source"], "SO_PEERCRED");
    }
    assert_eq!(who["server"]["pid"]["id"], serving.pid());
    assert_ne!(who["caller"]["pid"]["id"], serving.pid());
    // On a kernel with pidfds of peers, the program is known too.
    let program = &who["server"]["executable"];
    let known = program["text"]
        .as_str()
        .is_some_and(|path| path.ends_with("/nigh"));
    assert!(
        known || !program["unknown"].as_str().unwrap().is_empty(),
        "{program}"
    );

    let ran = nigh(&["who", &socket.address()]).await;
    assert!(ran.stdout.starts_with("SERVER  at unix:"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("\nYOU  as the server saw you"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("as of its listen()"), "{}", ran.stdout);
}

#[tokio::test]
async fn a_server_that_speaks_no_grpc_is_known_all_the_same() {
    let socket = TempSocket::private();
    // The kernel accepts on its behalf; nobody ever answers.
    let _listener = UnixListener::bind(socket.path()).unwrap();
    let ran = nigh(&["who", &socket.address(), "--json", "--timeout", "200ms"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let who: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(who["server"]["pid"]["id"], std::process::id());
    assert_eq!(who["caller"], Value::Null);
    assert!(!who["caller_unknown"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn nobody_is_an_error_with_a_hint() {
    let socket = TempSocket::private();
    let ran = nigh(&["who", &socket.address()]).await;
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("\nhint: "), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
}
