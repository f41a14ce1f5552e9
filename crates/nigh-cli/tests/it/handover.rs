//! `nigh serve --replace` and `nigh handover`: a server's listeners change hands, by program and by hand.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use nigh_testkit::TempSocket;
use rustix::process::Signal;
use serde_json::Value;

use crate::program::{Serving, nigh};

struct Place {
    folder: TempSocket,
    socket: String,
    control: String,
}

impl Place {
    fn new() -> Self {
        let folder = TempSocket::private();
        let socket = format!("unix:{}", folder.join("s").display());
        let control = format!("{socket}.handover");
        Self {
            folder,
            socket,
            control,
        }
    }

    /// The process that answers.
    async fn served_by(&self) -> u32 {
        let ran = nigh(&["who", &self.socket, "--json"]).await;
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let said: Value = serde_json::from_str(&ran.stdout).unwrap();
        said["server"]["pid"]["id"]
            .as_u64()
            .unwrap()
            .try_into()
            .unwrap()
    }

    fn is_empty(&self) -> bool {
        let entries = std::fs::read_dir(self.folder.directory()).unwrap();
        let mut names = entries.map(|entry| entry.unwrap().file_name());
        names.all(|name| name.to_string_lossy().ends_with("lock"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_replace_hands_over_and_the_old_one_ends_by_itself() {
    let place = Place::new();
    let old = Serving::start(&[&place.socket, "tcp:127.0.0.1:0"], &["--allow", "any"]);
    let tcp = old.addresses[1].clone();
    let first = old.pid();
    assert_eq!(place.served_by().await, first);
    let new = Serving::start(&[&place.socket, &tcp], &["--allow", "any", "--replace"]);
    assert_eq!(old.ended().await.code, 0);
    assert_eq!(place.served_by().await, new.pid());
    new.signal(Signal::TERM);
    assert_eq!(new.ended().await.code, 0);
    assert!(place.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_somebody_who_hands_over_replace_takes_the_address() {
    let place = Place::new();
    let elsewhere = format!("unix:{}", place.folder.join("elsewhere").display());
    let old = Serving::start(&[&place.socket], &["--handover", &elsewhere]);
    let new = Serving::start(&[&place.socket], &["--replace"]);
    // Its name is the new one's by the time that it is announced.
    assert_eq!(place.served_by().await, new.pid());
    old.signal(Signal::TERM);
    assert_eq!(old.ended().await.code, 0);
    assert_eq!(place.served_by().await, new.pid());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_handed_over_is_listed_and_left_alone() {
    let place = Place::new();
    let serving = Serving::start(&[&place.socket, "tcp:127.0.0.1:0"], &["--allow", "any"]);
    let ran = nigh(&["handover", "list", &place.control, "--json"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines = ran.stdout.lines();
    let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let addresses: Vec<String> = lines
        .map(|line| line["address"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(addresses, serving.addresses);
    let ran = nigh(&["handover", "list", &place.control]).await;
    assert!(ran.stdout.starts_with("ADDRESS"), "{}", ran.stdout);
    assert_eq!(place.served_by().await, serving.pid());
    let nobody = format!("{}-of-nobody", place.control);
    let ran = nigh(&["handover", "list", &nobody]).await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_is_fetched_for_a_command() {
    let place = Place::new();
    let old = Serving::start(&[&place.socket], &["--mode", "666"]);
    // Nothing is taken for a command that is not there.
    let nowhere = place.folder.join("nowhere").display().to_string();
    let ran = nigh(&["handover", "fetch", &place.control, "--", &nowhere]).await;
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert_eq!(place.served_by().await, old.pid());
    let program = env!("CARGO_BIN_EXE_nigh");
    let words = ["handover", "fetch", &place.control, "--"];
    let serve = [program, "serve", "--json", "fd:{0}"];
    let new = Serving::run(&[&words[..], &serve].concat(), 1);
    assert_eq!(old.ended().await.code, 0);
    assert_eq!(place.served_by().await, new.pid());
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(place.folder.join("s")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o666);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_is_held_is_given_to_a_server() {
    let place = Place::new();
    let mut giving = Command::new(env!("CARGO_BIN_EXE_nigh"))
        .args(["handover", "give", &place.control, &place.socket])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(giving.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert!(line.starts_with("holding 1 for "), "{line}");
    // Who connects meanwhile waits for whoever will serve.
    let early = std::os::unix::net::UnixStream::connect(place.folder.join("s")).unwrap();
    let new = Serving::start(&[&place.socket], &["--replace"]);
    let given = tokio::task::spawn_blocking(|| giving.wait_with_output());
    let given = given.await.unwrap().unwrap();
    assert!(given.status.success());
    let said = String::from_utf8(given.stderr).unwrap();
    assert!(said.starts_with("given to "), "{said}");
    assert_eq!(place.served_by().await, new.pid());
    drop(early);
}
