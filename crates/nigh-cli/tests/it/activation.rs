//! Servers started by systemd's own tools, and the units that are given as examples.
//!
//! No service manager runs here: `systemd-socket-activate` is the part of systemd that works without one.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::path::Path;
use std::process::{Child, Command, Stdio};

use nigh_testkit::{TempSocket, skip_unless};
use serde_json::Value;

use crate::program::nigh;
use crate::run::supervised::Supervised;

fn is_there(program: &str) -> bool {
    let asked = Command::new(program).arg("--version").output();
    asked.is_ok_and(|asked| asked.status.success())
}

/// Killed when dropped.
struct Activator(Child);

impl Activator {
    fn start(options: &[&str], serve: &[&str]) -> Self {
        let child = Command::new("systemd-socket-activate")
            .args(options)
            .arg(env!("CARGO_BIN_EXE_nigh"))
            .arg("serve")
            .args(serve)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Activator {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn systemds_own_activator_starts_a_server_at_the_first_call() {
    skip_unless!(
        is_there("systemd-socket-activate"),
        "needs systemd-socket-activate (Debian package systemd)"
    );
    let place = TempSocket::private();
    let path = place.path().to_str().unwrap();
    let activator = Activator::start(&["--fdname=web", "-l", path], &["fd:web"]);
    let address = place.address();
    let who = ["who", "--json", "--wait", "--timeout", "30s", &address];
    // Whoever came before the service ran was let in by the activator, so that it is the second who counts.
    assert_eq!(nigh(&who).await.code, 0);
    let second = nigh(&who).await;
    let second: Value = serde_json::from_str(&second.stdout).unwrap();
    let server = &second["server"];
    assert_eq!(server["pid"]["id"], activator.0.id(), "{second}");
    let program = server["executable"]["text"].as_str().unwrap();
    assert!(program.ends_with("/nigh"), "{second}");

    let place = TempSocket::private();
    let path = place.path().to_str().unwrap();
    let _packets = Activator::start(&["--seqpacket", "-l", path], &["drpc:fd:3"]);
    let address = place.address();
    let greet = ["drpc", &address, "TEST", "GREETING", "--proto", "Hello"];
    let options = [r#"{"name": "you"}"#, "--wait", "--timeout", "30s"];
    let greeted = nigh(&[&greet[..], &options].concat()).await;
    assert_eq!(greeted.code, 0, "{}", greeted.stderr);
    assert!(greeted.stdout.contains("Hello you"), "{}", greeted.stdout);
}

#[test]
fn example_units_are_accepted_by_systemd() {
    skip_unless!(
        is_there("systemd-analyze"),
        "needs systemd-analyze (Debian package systemd)"
    );
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib/systemd");
    let folder = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(units).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        // The programs are not installed here; `what_the_units_start_takes_its_arguments` runs them.
        let program = env!("CARGO_BIN_EXE_nigh");
        let text = text
            .replace(
                "/usr/bin/nigh-flagd start",
                &format!("{program} flagd start"),
            )
            .replace("/usr/bin/nigh ", &format!("{program} "));
        let copy = folder.path().join(path.file_name().unwrap());
        std::fs::write(&copy, text).unwrap();
        names.push(copy);
    }
    assert!(names.len() >= 2);
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .args(&names)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && said.is_empty(), "{said}");
}

/// The words behind `ExecStart=`, less the program.
fn exec_start(unit: &str) -> Vec<String> {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib/systemd");
    let unit = std::fs::read_to_string(units.join(unit)).unwrap();
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let mut words = Vec::new();
    for (place, part) in line.unwrap().split('"').enumerate() {
        match place % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words.remove(0);
    words
}

/// As the units have it, but for what this machine has not: their files, directories and group.
#[test]
fn what_the_units_start_takes_its_arguments() {
    let place = TempSocket::private();
    let nigh = env!("CARGO_BIN_EXE_nigh");
    let flags = place.directory().join("flags.json");
    std::fs::write(&flags, r#"{"flags": {}}"#).unwrap();
    let words: Vec<String> = exec_start("nigh-flagd.service")
        .into_iter()
        .map(|word| match word.as_str() {
            "file:/etc/nigh-flagd/flags.json" => format!("file:{}", flags.display()),
            word => word.replace("group:nigh-flags", "group:0"),
        })
        .collect();
    let command: Vec<&str> = [nigh, "flagd"]
        .into_iter()
        .chain(words.iter().map(String::as_str))
        .collect();
    let held = format!("flags={}", place.address());
    let run = Supervised::bare(&["--notify", "--listen", &held], &command);
    run.until(|status| status["state"] == "serving");
    assert_eq!(run.status()["current"]["status"], "accepting on fd:flags");
    assert_eq!(run.end().code(), Some(0));

    let place = TempSocket::private();
    let words: Vec<String> = exec_start("nigh-serve.service")
        .into_iter()
        .map(|word| word.replace("unix:/run/nigh-serve/serve.sock", &place.address()))
        .collect();
    let command: Vec<&str> = [nigh]
        .into_iter()
        .chain(words.iter().map(String::as_str))
        .collect();
    let run = Supervised::bare(&["--notify"], &command);
    run.until(|status| status["state"] == "serving");
    assert_eq!(run.status()["stored"].as_array().unwrap().len(), 1);
    assert_eq!(run.end().code(), Some(0));
}

#[tokio::test]
async fn a_supervisor_holds_what_systemd_gives_it() {
    skip_unless!(
        is_there("systemd-socket-activate"),
        "needs systemd-socket-activate (Debian package systemd)"
    );
    let place = TempSocket::private();
    let path = place.path().to_str().unwrap();
    let child = Command::new("systemd-socket-activate")
        .args(["--fdname=outer", "-l", path, env!("CARGO_BIN_EXE_nigh")])
        .args(["run", "--listen", "inner=fd:outer", "--"])
        .args([env!("CARGO_BIN_EXE_nigh"), "serve", "fd:inner"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    let activator = Activator(child.unwrap());
    let address = place.address();
    let who = ["who", "--json", "--wait", "--timeout", "30s", &address];
    assert_eq!(nigh(&who).await.code, 0);
    let second: Value = serde_json::from_str(&nigh(&who).await.stdout).unwrap();
    assert_eq!(second["caller"]["listener"], "fd:inner", "{second}");
    drop(activator);
}
