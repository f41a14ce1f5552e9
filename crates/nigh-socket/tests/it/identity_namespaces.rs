//! Peers in other user and pid namespaces: what has no id here is unknown, and a process out of sight says so.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper's broken precondition is a failed test"
)]

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use nigh_socket::{Detail, Fact, LocalPeer, Peer, Policy, ProcessError, ProcessInfo, Truth};
use nigh_testkit::{require_root, skip_unless};

/// Runs a test of this file in new namespaces, with an end of a socket pair of ours as its standard input.
fn run_unshared(options: &[&str], test: &str) {
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let output = Command::new("unshare")
        .args(options)
        .arg(std::env::current_exe().unwrap())
        .args([
            &format!("identity_namespaces::{test}"),
            "--exact",
            "--include-ignored",
            "--nocapture",
        ])
        .current_dir("/")
        .env(
            "GROUPS",
            rustix::process::getgroups().unwrap().len().to_string(),
        )
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success() && text.contains("1 passed; 0 failed"),
        "{test} under unshare {options:?}: {}\n{text}",
        output.status
    );
}

fn can_unshare(options: &[&str]) -> bool {
    let outcome = Command::new("unshare")
        .args(options)
        .arg("true")
        .stderr(Stdio::null())
        .status();
    outcome.is_ok_and(|status| status.success())
}

fn peer_of_stdin() -> LocalPeer {
    LocalPeer::of(std::io::stdin().as_fd()).unwrap()
}

#[test]
#[ignore = "runs as a child of a_user_without_an_id_here_is_unknown"]
fn user_namespace_child() {
    let peer = peer_of_stdin();
    assert!(!peer.uid().is_known() && !peer.gid().is_known(), "{peer}");
    assert!(peer.pid().is_known());
    assert_eq!(peer.groups().value(), Some(&Vec::new()));
    let groups = std::env::var("GROUPS").unwrap();
    assert_eq!(peer.unmapped_groups().to_string(), groups);
    let peer = Peer::from(peer);
    // This process has the overflow uid itself; still, the two do not match.
    for policy in [
        "same-user",
        "user:65534",
        "group:65534",
        "not user:0",
        "not group:1",
    ] {
        let verdict = policy.parse::<Policy>().unwrap().evaluate(&peer);
        assert_eq!(verdict.truth(), Truth::Unknown, "{verdict}");
    }
    assert!(Policy::any().evaluate(&peer).admits());
}

#[test]
fn a_user_without_an_id_here_is_unknown() {
    skip_unless!(
        can_unshare(&["--user"]),
        "needs user namespaces, which this machine does not allow"
    );
    run_unshared(&["--user"], "user_namespace_child");
}

fn pid_namespace_peer() -> LocalPeer {
    let peer = peer_of_stdin();
    assert_eq!(peer.uid().value(), Some(&0));
    assert!(!peer.pid().is_known(), "{peer}");
    if let Fact::Known { value, .. } = peer.process() {
        assert_eq!(value.is_alive(), Ok(true));
        let error = match value.info() {
            Ok(ProcessInfo::Running { pid, .. }) => panic!("pid {pid}"),
            Ok(other) => panic!("{other:?}"),
            Err(error) => error,
        };
        let unsupported = ProcessError::Unsupported { what: Detail::Info };
        assert!(
            error == ProcessError::OtherPidNamespace || error == unsupported,
            "{error}"
        );
    }
    peer
}

#[test]
#[ignore = "runs as a child of a_process_without_a_pid_here_says_so"]
fn pid_namespace_child() {
    let peer = pid_namespace_peer();
    let Fact::Known { value, .. } = peer.process() else {
        return;
    };
    assert_eq!(value.pid(), Err(ProcessError::OtherPidNamespace));
    assert_eq!(value.executable(), Err(ProcessError::OtherPidNamespace));
    assert_eq!(value.unit(), Err(ProcessError::OtherPidNamespace));
}

/// With the outer `/proc` still mounted, pids in it are the outer ones, and so is the one that the pidfd gives.
#[test]
#[ignore = "runs as a child of a_process_without_a_pid_here_says_so"]
fn outer_proc_child() {
    let peer = pid_namespace_peer();
    let Fact::Known { value, .. } = peer.process() else {
        return;
    };
    let pid = value.pid().unwrap();
    let shown = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    assert_eq!(value.executable(), Ok(shown));
    assert_eq!(value.executable(), Ok(std::env::current_exe().unwrap()));
}

#[test]
fn a_process_without_a_pid_here_says_so() {
    require_root!();
    run_unshared(&["--pid", "--fork", "--mount-proc"], "pid_namespace_child");
    run_unshared(&["--pid", "--fork"], "outer_proc_child");
}
