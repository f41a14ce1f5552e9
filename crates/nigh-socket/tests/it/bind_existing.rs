//! What stands at the path already: replaced only if it is a dead server's socket, or the living one on request.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nigh_socket::{BindFault, Existing, FileKind, Listener, SocketKind};
use nigh_testkit::TempSocket;

use crate::servers;

const ALL: [Existing; 3] = [Existing::Fail, Existing::ReplaceStale, Existing::TakeOver];
const KINDS: [SocketKind; 3] = [
    SocketKind::Stream,
    SocketKind::Seqpacket,
    SocketKind::Datagram,
];

fn bind(path: &Path, existing: Existing) -> Result<Listener, nigh_socket::BindError> {
    Listener::options().existing(existing).bind(path)
}

fn inode(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::symlink_metadata(path).unwrap())
}

#[test]
fn what_is_no_socket_is_never_removed() {
    let place = TempSocket::private();
    let living = place.join("living");
    let _living = UnixListener::bind(&living).unwrap();
    type Make = fn(&Path, &Path);
    let makers: [(FileKind, Make); 5] = [
        (FileKind::Regular, |path, _| {
            fs::write(path, "precious").unwrap();
        }),
        (FileKind::Directory, |path, _| {
            fs::create_dir(path).unwrap();
        }),
        (FileKind::Symlink, |path, living| {
            symlink(living, path).unwrap();
        }),
        (FileKind::Symlink, |path, _| {
            symlink("nowhere", path).unwrap();
        }),
        (FileKind::Fifo, |path, _| {
            rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).unwrap();
        }),
    ];
    for (number, (kind, make)) in makers.iter().enumerate() {
        let path = place.join(format!("file{number}"));
        make(&path, &living);
        let before = inode(&path);
        for existing in ALL {
            let error = bind(&path, existing).unwrap_err();
            assert!(
                matches!(error.fault(), BindFault::NotASocket(found) if found == kind),
                "{existing:?}: {error}"
            );
            assert_eq!(inode(&path), before);
        }
    }
    assert_eq!(fs::read(place.join("file0")).unwrap(), b"precious");
    let temporary = |name: &String| name.contains(".nigh-") && !name.ends_with("lock");
    assert!(!place.names().iter().any(temporary), "{:?}", place.names());
}

#[test]
fn a_living_server_is_left_alone_and_not_disturbed() {
    for kind in KINDS {
        // None: bound, and not listening yet.
        for backlog in [Some(8), None] {
            let place = TempSocket::private();
            let server = servers::living(place.path(), kind, backlog);
            let before = inode(place.path());
            for existing in [Existing::Fail, Existing::ReplaceStale] {
                let error = bind(place.path(), existing).unwrap_err();
                assert!(matches!(error.fault(), BindFault::InUse), "{kind}: {error}");
                assert!(error.hint().is_some());
            }
            assert_eq!(inode(place.path()), before);
            if kind != SocketKind::Datagram && backlog.is_some() {
                rustix::io::ioctl_fionbio(&server, true).unwrap();
                let none = rustix::net::accept(&server).unwrap_err();
                assert_eq!(
                    none,
                    rustix::io::Errno::AGAIN,
                    "the probe left a connection"
                );
            }
        }
    }
}

#[test]
fn a_server_with_a_full_queue_is_alive() {
    let place = TempSocket::private();
    let _server = servers::living(place.path(), SocketKind::Stream, Some(0));
    let _queued = UnixStream::connect(place.path()).unwrap();
    let error = bind(place.path(), Existing::ReplaceStale).unwrap_err();
    assert!(matches!(error.fault(), BindFault::InUse), "{error}");
}

#[test]
fn a_dead_servers_socket_is_replaced_unless_forbidden() {
    for kind in KINDS {
        for ours in KINDS {
            let place = TempSocket::private();
            servers::dead(place.path(), kind);
            let error = bind(place.path(), Existing::Fail).unwrap_err();
            assert!(matches!(error.fault(), BindFault::Stale), "{error}");
            let _listener = Listener::options().kind(ours).bind(place.path()).unwrap();
            assert_eq!(place.names(), [".s.nigh-lock", "s"], "the old one is gone");
        }
    }
}

#[test]
fn a_successors_socket_survives_our_end() {
    let place = TempSocket::private();
    let old = bind(place.path(), Existing::Fail).unwrap();
    let new = bind(place.path(), Existing::TakeOver).unwrap();
    old.close().unwrap();
    UnixStream::connect(place.path()).unwrap();
    new.accept().unwrap();
    let newer = bind(place.path(), Existing::TakeOver).unwrap();
    drop(new);
    UnixStream::connect(place.path()).unwrap();
    newer.accept().unwrap();
    drop(newer);
    assert_eq!(place.names(), [".s.nigh-lock"]);
}

#[test]
fn whatever_came_into_our_place_survives_our_end() {
    let place = TempSocket::private();
    let listener = bind(place.path(), Existing::Fail).unwrap();
    fs::remove_file(place.path()).unwrap();
    fs::write(place.path(), "somebody's").unwrap();
    listener.close().unwrap();
    assert_eq!(fs::read(place.path()).unwrap(), b"somebody's");
    fs::remove_file(place.path()).unwrap();
    let listener = bind(place.path(), Existing::Fail).unwrap();
    fs::rename(place.path(), place.join("moved")).unwrap();
    listener.close().unwrap();
    assert!(place.join("moved").exists());
}

#[test]
fn an_end_in_a_removed_directory_is_quiet() {
    let place = TempSocket::private();
    let directory = place.join("d");
    let path = directory.join("s");
    let listener = Listener::options()
        .create_parent(0o700)
        .bind(&path)
        .unwrap();
    fs::remove_dir_all(&directory).unwrap();
    listener.close().unwrap();
}

/// Take-over after take-over while two clients connect without pause: none of their connects fails.
#[test]
fn no_connect_fails_during_take_over() {
    const TAKE_OVERS: usize = 300;
    let place = TempSocket::private();
    let stop = AtomicBool::new(false);
    let mut current = bind(place.path(), Existing::Fail).unwrap();
    std::thread::scope(|scope| {
        let hammer = || {
            let mut connects = 0_usize;
            while !stop.load(Ordering::Relaxed) || connects == 0 {
                if let Err(error) = UnixStream::connect(place.path()) {
                    // A full queue delays a blocking connect and never fails it.
                    panic!("connect {connects}: {error}");
                }
                connects += 1;
            }
        };
        let hammers = [scope.spawn(hammer), scope.spawn(hammer)];
        // A blocking accept: it drains whatever is queued, so that the hammers go on.
        for _ in 0..TAKE_OVERS {
            let next = bind(place.path(), Existing::TakeOver).unwrap();
            let old = std::mem::replace(&mut current, next);
            while old.accept().is_ok() {}
        }
        stop.store(true, Ordering::Relaxed);
        while !hammers
            .iter()
            .all(std::thread::ScopedJoinHandle::is_finished)
        {
            match current.accept() {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    });
    assert_eq!(place.names(), [".s.nigh-lock", "s"]);
}

#[test]
fn temporaries_of_the_dead_are_cleaned_and_nothing_else() {
    let place = TempSocket::private();
    servers::dead(&place.join(".s.nigh-999999-0"), SocketKind::Stream);
    servers::dead(&place.join(".s.nigh-1-7"), SocketKind::Datagram);
    // The pid of a process that runs says nothing: it may be another's by now.
    let dead = format!(".s.nigh-{}-3", std::process::id());
    servers::dead(&place.join(dead), SocketKind::Seqpacket);
    servers::dead(&place.join(".other.nigh-999999-0"), SocketKind::Stream);
    let _living = servers::living(&place.join(".s.nigh-999998-0"), SocketKind::Stream, None);
    fs::write(place.join(".s.nigh-999997-0"), "kept").unwrap();
    let _listener = bind(place.path(), Existing::Fail).unwrap();
    let kept = [
        ".other.nigh-999999-0",
        ".s.nigh-999997-0",
        ".s.nigh-999998-0",
        ".s.nigh-lock",
        "s",
    ];
    assert_eq!(place.names(), kept);
    let living = fs::metadata(place.join(".s.nigh-999998-0")).unwrap();
    assert!(living.file_type().is_socket());
}
