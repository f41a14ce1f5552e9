//! Children with a private line: what they have and have not, and that their end is seen at once.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::ffi::OsString;
use std::io::{IoSlice, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use nigh_socket::spawn::{ParentError, Spawn, SpawnFault, from_parent};
use nigh_socket::{InheritedError, Received, RecvError, SocketKind, UnixSeqpacket, blocking};
use nigh_testkit::{Child, OpenFds};
use rustix::io::FdFlags;
use tokio::io::AsyncReadExt;

use crate::packets::packet;
use crate::servers::until;

/// A test of this binary as the program.
fn test(name: &str) -> Spawn {
    Spawn::new(std::env::current_exe().unwrap()).args(arguments(name))
}

fn arguments(name: &str) -> [&str; 5] {
    [
        name,
        "--exact",
        "--include-ignored",
        "--nocapture",
        "--test-threads=1",
    ]
}

fn shell(script: &str) -> Spawn {
    Spawn::new("sh").args(["-c", script])
}

async fn next(line: &UnixSeqpacket) -> String {
    let mut buffer = [0; 256];
    let packet = packet(line.recv(&mut buffer).await.unwrap());
    String::from_utf8_lossy(&buffer[..packet.length]).into_owned()
}

/// What the program prints.
pub(crate) fn output_of(spawn: Spawn) -> String {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let (child, _line) = spawn.stdout(writer).spawn().unwrap();
    let mut printed = String::new();
    reader.read_to_string(&mut printed).unwrap();
    assert!(child.wait().unwrap().success());
    printed
}

#[tokio::test]
async fn a_child_has_its_line_and_nothing_else() {
    // Neither close-on-exec nor wanted.
    let stray = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&stray, FdFlags::empty()).unwrap();
    for (number, kind) in [(3, SocketKind::Seqpacket), (7, SocketKind::Seqpacket)] {
        let (child, line) = test("spawn::lists_what_it_has")
            .number(number)
            .kind(kind)
            .spawn()
            .unwrap();
        let line = line.into_seqpacket().unwrap();
        assert_eq!(next(&line).await, format!("[0, 1, 2, {number}]"));
        line.send(&[IoSlice::new(b"bye")], &[]).await.unwrap();
        assert!(matches!(
            line.recv(&mut [0; 8]).await.unwrap(),
            Received::End
        ));
        assert!(child.exited().await.unwrap().success());
    }
    drop(stray);
}

#[test]
#[ignore = "runs as a child of a_child_has_its_line_and_nothing_else"]
fn lists_what_it_has() {
    let has: Vec<u32> = (0..64)
        .filter(|number| Path::new(&format!("/proc/self/fd/{number}")).exists())
        .collect();
    let line = from_parent().unwrap();
    // It is taken once.
    assert!(matches!(
        from_parent(),
        Err(ParentError::Descriptor {
            source: InheritedError::Owned(_),
            ..
        })
    ));
    let line = blocking::UnixSeqpacket::new(line.into()).unwrap();
    line.send(&[IoSlice::new(format!("{has:?}").as_bytes())], &[])
        .unwrap();
    let mut buffer = [0; 8];
    let packet = packet(line.recv(&mut buffer).unwrap());
    assert_eq!(&buffer[..packet.length], b"bye");
}

#[tokio::test]
async fn the_end_of_a_child_is_seen_though_a_grandchild_holds_its_line() {
    let script = "tail -f /dev/null & echo $! >&3; kill -9 $$";
    let (child, line) = shell(script).spawn().unwrap();
    let line = line.into_seqpacket().unwrap();
    let grandchild: i32 = next(&line).await.trim().parse().unwrap();
    assert_eq!(child.exited().await.unwrap().signal(), Some(9));
    // The line alone would not have told.
    assert!(matches!(
        line.try_recv(&mut [0; 8]),
        Err(RecvError::WouldBlock)
    ));
    let grandchild = rustix::process::Pid::from_raw(grandchild).unwrap();
    rustix::process::kill_process(grandchild, rustix::process::Signal::KILL).unwrap();
    assert!(matches!(
        line.recv(&mut [0; 8]).await.unwrap(),
        Received::End
    ));
}

#[tokio::test]
async fn how_a_child_ended_is_told_as_often_as_it_is_asked() {
    let (child, _line) = shell("exit 3").spawn().unwrap();
    assert_eq!(child.exited().await.unwrap().code(), Some(3));
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(3));
    child.kill().unwrap();
    // It waits for its line to end, which it does not.
    let waits = || {
        shell("exec cat <&3")
            .kind(SocketKind::Stream)
            .spawn()
            .unwrap()
    };
    let (child, line) = waits();
    assert_eq!(child.try_wait().unwrap(), None);
    assert!(child.process().is_alive().unwrap() && child.pid() > 0);
    child.terminate().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    drop(line);
    let (child, line) = waits();
    child.kill().unwrap();
    let mut line = line.into_stream().unwrap();
    assert_eq!(line.read(&mut [0; 8]).await.unwrap(), 0);
    assert_eq!(child.exited().await.unwrap().signal(), Some(9));
}

#[test]
fn a_child_has_the_streams_variables_and_directory_it_is_given() {
    let script = "echo $A$B$HOME; pwd; echo problem >&2";
    let spawn = shell(script)
        .env("A", "a")
        .env("B", "b")
        .env_remove("HOME")
        .current_dir("/dev");
    let (mut reader, writer) = std::io::pipe().unwrap();
    let (child, _line) = spawn
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .spawn()
        .unwrap();
    let mut printed = String::new();
    reader.read_to_string(&mut printed).unwrap();
    assert_eq!(printed, "ab\n/dev\nproblem\n");
    assert!(child.wait().unwrap().success());
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, b"input").unwrap();
    drop(writer);
    assert_eq!(output_of(Spawn::new("cat").stdin(reader)), "input");
    let variables = output_of(Spawn::new("/usr/bin/env").env("A", "a").env_clear());
    let (announced, a) = (
        variables.contains("NIGH_PARENT=3:"),
        variables.contains("A=a\n"),
    );
    assert!(
        announced && a && variables.lines().count() == 2,
        "{variables}"
    );
}

/// Rust programs ignore broken pipes; others are ended by them.
#[test]
fn a_child_does_not_inherit_that_broken_pipes_are_ignored() {
    let line = output_of(Spawn::new("grep").args(["SigIgn", "/proc/self/status"]));
    let ignored = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
    assert_eq!(ignored & (1 << 12), 0);
}

#[test]
fn what_cannot_be_started_says_why() {
    let missing = Spawn::new("/no/such/program").spawn().unwrap_err();
    assert!(
        matches!(&missing.fault, SpawnFault::Execute(error) if error.kind() == std::io::ErrorKind::NotFound)
    );
    assert!(missing.hint().is_some() && missing.to_string().contains("/no/such/program"));
    let fault = |spawn: Spawn| spawn.spawn().unwrap_err().fault;
    assert!(matches!(
        fault(Spawn::new("/dev/null")),
        SpawnFault::Execute(_)
    ));
    assert!(matches!(
        fault(Spawn::new("true").arg("a\0b")),
        SpawnFault::Nul
    ));
    assert!(matches!(
        fault(Spawn::new("true").kind(SocketKind::Datagram)),
        SpawnFault::Kind(_)
    ));
    for number in [-1, 2, 256, i32::MAX] {
        assert!(matches!(
            fault(Spawn::new("true").number(number)),
            SpawnFault::Number(_)
        ));
    }
}

#[test]
fn only_the_line_that_was_announced_is_taken() {
    assert!(matches!(from_parent(), Err(ParentError::NotAnnounced)));
    for (value, expected) in [("3", "malformed"), ("3:1", "another"), ("9:1", "missing")] {
        let program = std::env::current_exe().unwrap();
        let words: Vec<OsString> = ["-c", "NIGH_PARENT=$1; shift; exec \"$@\"", "sh", value]
            .map(OsString::from)
            .into_iter()
            .chain([program.into_os_string()])
            .chain(arguments("spawn::takes_what_was_not_meant").map(OsString::from))
            .collect();
        let spawn = Spawn::new("sh").args(words).env("EXPECTED", expected);
        let (reader, writer) = std::io::pipe().unwrap();
        let (child, _line) = spawn.stdout(writer).spawn().unwrap();
        let printed = std::io::read_to_string(reader).unwrap();
        assert!(child.wait().unwrap().success(), "{printed}");
        assert!(printed.contains("1 passed"), "{printed}");
    }
}

#[test]
#[ignore = "runs as a child of only_the_line_that_was_announced_is_taken"]
fn takes_what_was_not_meant() {
    let refused = from_parent().unwrap_err();
    match (&*std::env::var("EXPECTED").unwrap(), &refused) {
        ("malformed", ParentError::Malformed(_))
        | (
            "another",
            ParentError::Descriptor {
                number: 3,
                source: InheritedError::Another,
            },
        )
        | (
            "missing",
            ParentError::Descriptor {
                number: 9,
                source: InheritedError::NotOpen(9),
            },
        ) => {}
        _ => panic!("{refused:?}"),
    }
    assert!(refused.hint().is_some() || matches!(refused, ParentError::Descriptor { .. }));
}

#[tokio::test]
async fn a_message_of_a_child_says_that_it_is_the_childs() {
    let (child, line) = shell("echo x >&3").pass_credentials(true).spawn().unwrap();
    let line = line.into_seqpacket().unwrap();
    let packet = packet(line.recv(&mut [0; 8]).await.unwrap());
    assert_eq!(*packet.sender.unwrap().pid().value().unwrap(), child.pid());
    // What the kernel says of the peer of a pair is who made it.
    let made = rustix::net::sockopt::socket_peercred(&line).unwrap();
    assert_eq!(made.pid, rustix::process::getpid());
}

#[test]
fn children_leave_neither_descriptors_nor_zombies() {
    Child::test("spawn::leak_child").run().assert_success();
}

#[test]
#[ignore = "runs as a child of children_leave_neither_descriptors_nor_zombies"]
fn leak_child() {
    let before = OpenFds::now();
    let (child, line) = Spawn::new("true").spawn().unwrap();
    let (process, pid) = (child.process().clone(), child.pid());
    // Not waited for: a later start, or this very drop, collects it.
    until(|| !process.is_alive().unwrap());
    drop((child, process, line));
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    let (child, line) = shell("read x <&3")
        .kind(SocketKind::Stream)
        .spawn()
        .unwrap();
    let (process, pid) = (child.process().clone(), child.pid());
    drop(child);
    drop(line);
    until(|| !process.is_alive().unwrap());
    drop(process);
    let (last, _) = Spawn::new("true").spawn().unwrap();
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    last.wait().unwrap();
    drop(last);
    drop(Spawn::new("/no/such/program").spawn().unwrap_err());
    before.assert_unchanged();
}
