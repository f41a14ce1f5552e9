//! Binding seen from other processes: killed servers, races of starters, another user at the door, descriptors left.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nigh_socket::{BindFault, Existing, Listener, SocketKind};
use nigh_testkit::{Child, OpenFds, Running, TempSocket, child_variable, is_root, require_root};
use rustix::fs::Mode;
use rustix::net::sockopt;

use crate::servers;

const STARTERS: usize = 4;
const RACES: usize = 200;

#[test]
#[ignore = "runs as a child of a_killed_server_is_followed_by_the_next"]
fn server_child() {
    let _listener = Listener::options()
        .bind(Path::new(&child_variable("SOCKET")))
        .unwrap();
    println!("listening");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

#[test]
fn a_killed_server_is_followed_by_the_next() {
    let place = TempSocket::private();
    for _ in 0..3 {
        let mut server = Child::test("bind_process::server_child")
            .env("SOCKET", place.path())
            .spawn();
        let _ = server.wait_for("listening");
        UnixStream::connect(place.path()).unwrap();
        let alive = Listener::options().bind(place.path()).unwrap_err();
        assert!(matches!(alive.fault(), BindFault::InUse), "{alive}");
        server.kill();
        assert!(place.path().exists());
        let listener = Listener::options().bind(place.path()).unwrap();
        UnixStream::connect(place.path()).unwrap();
        listener.accept().unwrap();
    }
}

/// Binds once per line of standard input, each time another path, and says how it went.
#[test]
#[ignore = "runs as a child of four_starters_have_one_winner_each_time_on_a_free_path"]
fn starter_child() {
    let existing = match child_variable("EXISTING").as_str() {
        "Fail" => Existing::Fail,
        _ => Existing::ReplaceStale,
    };
    println!("ready");
    let mut held = None;
    for path in std::io::stdin().lines() {
        let options = Listener::options().existing(existing);
        match options.bind(Path::new(&path.unwrap())) {
            Ok(listener) => {
                println!("answer won");
                held = Some(listener);
            }
            Err(error) if matches!(error.fault(), BindFault::InUse) => println!("answer lost"),
            Err(error) => println!("answer {error}"),
        }
    }
    drop(held);
}

fn race(existing: Existing) {
    let place = TempSocket::private();
    let mut starters: Vec<Running> = (0..STARTERS)
        .map(|_| {
            Child::test("bind_process::starter_child")
                .env("EXISTING", format!("{existing:?}"))
                .spawn()
        })
        .collect();
    for starter in &mut starters {
        let _ = starter.wait_for("ready");
    }
    for number in 0..RACES {
        let path = place.join(format!("s{number}"));
        if existing == Existing::ReplaceStale {
            servers::dead(&path, SocketKind::Stream);
        }
        for starter in &mut starters {
            let stdin = starter.child.stdin.as_mut().unwrap();
            writeln!(stdin, "{}", path.display()).unwrap();
        }
        let answers: Vec<String> = starters
            .iter_mut()
            .map(|starter| starter.wait_for("answer "))
            .collect();
        let winners: Vec<usize> = (0..STARTERS).filter(|i| answers[*i] == "won").collect();
        assert_eq!(winners.len(), 1, "race {number}: {answers:?}");
        let losers = answers.iter().filter(|answer| *answer == "lost").count();
        assert_eq!(losers, STARTERS - 1, "race {number}: {answers:?}");
        let client = UnixStream::connect(&path).unwrap();
        let owner = sockopt::socket_peercred(&client).unwrap().pid;
        let winner = starters[winners[0]].child.id();
        assert_eq!(
            owner.as_raw_nonzero().get().cast_unsigned(),
            winner,
            "race {number}"
        );
    }
}

#[test]
fn four_starters_have_one_winner_each_time_on_a_free_path() {
    race(Existing::Fail);
}

#[test]
fn four_starters_have_one_winner_each_time_over_a_dead_socket() {
    race(Existing::ReplaceStale);
}

/// Tries every name in the directory until the file `stop` is there, and prints how many connects succeeded.
#[test]
#[ignore = "runs as a child of nobody_connects_before_the_mode_is_set"]
fn intruder_child() {
    let directory = child_variable("DIRECTORY");
    let directory = Path::new(&directory);
    println!("ready");
    let (mut tries, mut connected) = (0_u64, 0_u64);
    while !directory.join("stop").exists() {
        for entry in fs::read_dir(directory).unwrap().filter_map(Result::ok) {
            // Nor the temporary that it is for a moment.
            if entry.file_name().to_string_lossy().contains("open") {
                continue;
            }
            tries += 1;
            connected += u64::from(UnixStream::connect(entry.path()).is_ok());
        }
    }
    // It does connect where it may, so a zero means something.
    UnixStream::connect(directory.join("open")).unwrap();
    println!("connected {connected} of {tries}");
}

/// Owns its process: the umask belongs to all threads.
#[test]
#[ignore = "runs as a child of nobody_connects_before_the_mode_is_set"]
fn umask_child() {
    let directory = child_variable("DIRECTORY");
    let directory = Path::new(&directory);
    rustix::process::umask(Mode::empty());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for entry in fs::read_dir(directory).unwrap().filter_map(Result::ok) {
                    let Ok(file) = fs::symlink_metadata(entry.path()) else {
                        continue;
                    };
                    let mode = file.permissions().mode() & 0o777;
                    assert_eq!(mode & !0o600, 0, "{entry:?} has mode {mode:o}");
                }
            }
        });
        for number in 0..2000 {
            let path = directory.join(format!("s{}", number % 4));
            let listener = Listener::options().mode(0o600).bind(&path).unwrap();
            drop(listener);
        }
        stop.store(true, Ordering::Relaxed);
    });
    rustix::process::umask(Mode::from_raw_mode(0o777));
    let path = directory.join("d").join("s");
    let options = Listener::options().mode(0o666).create_parent(0o755);
    let listener = options.bind(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o666);
    let parent = fs::metadata(path.parent().unwrap()).unwrap();
    assert_eq!(parent.mode() & 0o7777, 0o755);
    drop(listener);
    // The lock file that was made under this umask is of use to the next starter.
    options.bind(&path).unwrap();
}

#[test]
fn nobody_connects_before_the_mode_is_set() {
    let place = TempSocket::shared();
    let umask = Child::test("bind_process::umask_child").env("DIRECTORY", place.directory());
    if !is_root() {
        umask.run().assert_success();
        return;
    }
    let mut intruder = Child::test("bind_process::intruder_child")
        .user(65534, 65534, &[])
        .env("DIRECTORY", place.directory())
        .spawn();
    let _ = intruder.wait_for("ready");
    umask.run().assert_success();
    let options = Listener::options().mode(0o666);
    let _open = options.bind(place.join("open")).unwrap();
    fs::write(place.join("stop"), "").unwrap();
    let counts = intruder.wait_for("connected ");
    assert!(
        counts.starts_with("0 of ") && counts != "0 of 0",
        "{counts}"
    );
}

#[test]
#[ignore = "runs as a child of a_failed_bind_leaves_nothing_behind"]
fn refused_owner_child() {
    let path = child_variable("SOCKET");
    let options = Listener::options().owner_id(0);
    let error = options.bind(Path::new(&path)).unwrap_err();
    assert!(error.to_string().contains("cannot set owner"), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn a_failed_bind_leaves_nothing_behind() {
    require_root!();
    let place = TempSocket::shared();
    std::os::unix::fs::chown(place.directory(), Some(65534), Some(65534)).unwrap();
    Child::test("bind_process::refused_owner_child")
        .user(65534, 65534, &[])
        .env("SOCKET", place.path())
        .run()
        .assert_success();
    assert_eq!(place.names(), [".s.nigh-lock"]);
}

#[test]
#[ignore = "runs as a child of no_descriptor_is_left_open"]
fn descriptors_child() {
    let place = TempSocket::private();
    let before = OpenFds::now();
    for _ in 0..10 {
        let first = Listener::options().bind(place.path()).unwrap();
        Listener::options().bind(place.path()).unwrap_err();
        let options = Listener::options().existing(Existing::TakeOver);
        let second = options.bind(place.path()).unwrap();
        let _client = UnixStream::connect(place.path()).unwrap();
        drop(second.accept().unwrap());
        first.close().unwrap();
        second.close().unwrap();
        drop(Listener::options().bind("autobind:").unwrap());
        drop(Listener::options().bind("tcp:127.0.0.1:0").unwrap());
    }
    before.assert_unchanged();
}

#[test]
fn no_descriptor_is_left_open() {
    Child::test("bind_process::descriptors_child")
        .run()
        .assert_success();
}
