//! `nigh ls` as a program: what listens and what is stale, as a table and as JSON.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use serde_json::{Value, json};

use crate::program::nigh;

#[tokio::test]
async fn sockets_are_listed_with_file_server_and_marks() {
    let folder = nigh_testkit::TempSocket::private();
    let (open, stale) = (folder.join("open"), folder.join("stale"));
    let _listener = UnixListener::bind(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o666)).unwrap();
    drop(UnixListener::bind(&stale).unwrap());

    let ran = nigh(&["ls", "--json"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let sockets: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let find = |path: &std::path::Path| {
        let address = format!("unix:{}", path.display());
        let found = sockets.iter().find(|socket| socket["address"] == address);
        found.unwrap_or_else(|| panic!("{address} is not in {}", ran.stdout))
    };
    let found = find(&open);
    assert_eq!(found["type"], "stream");
    assert_eq!(found["listening"], true);
    assert_eq!(found["file"]["mode"], "0666");
    assert_eq!(found["file"]["uid"], rustix::process::getuid().as_raw());
    assert_eq!(found["backlog"]["queued"], 0);
    assert_eq!(found["marks"], json!(["world-writable"]));
    let pids = found["servers"].as_array().unwrap();
    assert!(
        pids.iter()
            .any(|server| server["pid"] == std::process::id())
    );
    assert_eq!(find(&stale)["marks"], json!(["stale"]));

    let ran = nigh(&["ls"]).await;
    let line = |path: &std::path::Path| {
        let address = format!("unix:{} ", path.display());
        let found = ran.stdout.lines().find(|line| line.starts_with(&address));
        found
            .unwrap_or_else(|| panic!("{address} is not in {}", ran.stdout))
            .to_owned()
    };
    assert!(ran.stdout.starts_with("ADDRESS "), "{}", ran.stdout);
    assert!(line(&open).ends_with("WORLD-WRITABLE"));
    assert!(line(&stale).ends_with("STALE"));
}
