//! Descriptors from a service manager: taken once, by name or number, and only when what was announced holds.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nigh_socket::spawn::Spawn;
use nigh_socket::systemd::{self, ActivationError};
use nigh_socket::{
    Address, BindFault, ConnectFault, ConnectOptions, InheritedError, Listener, MemoryFile,
    SocketKind, blocking, connect,
};
use nigh_testkit::{TempSocket, child_variable};

/// Runs a test of this binary with these descriptors and variables; `$$` in them is its pid.
fn activated(test: &str, fds: Vec<OwnedFd>, variables: &str) -> (bool, String) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let script = format!("{variables} exec \"$0\" \"$@\" 2>&1");
    let child = Spawn::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--include-ignored", "--nocapture"])
        .descriptors(fds)
        .stdout(writer);
    let (child, _line) = child.spawn().unwrap();
    let mut printed = String::new();
    reader.read_to_string(&mut printed).unwrap();
    let passed = child.wait().unwrap().success() && printed.contains("1 passed; 0 failed");
    (passed, printed)
}

fn listener(address: &str, kind: SocketKind) -> OwnedFd {
    let listener = Listener::options().kind(kind).bind(address).unwrap();
    listener.as_fd().try_clone_to_owned().unwrap()
}

#[test]
fn what_a_manager_passes_is_taken_once_by_name_or_number() {
    let place = TempSocket::private();
    // Lives as long as the test, which keeps the path.
    let web = Listener::options().bind(place.path()).unwrap();
    let mut state = MemoryFile::create("state").unwrap();
    state.write_all(b"kept").unwrap();
    let (silent, _) = std::os::unix::net::UnixStream::pair().unwrap();
    let fds = vec![
        web.as_fd().try_clone_to_owned().unwrap(),
        listener("tcp:127.0.0.1:0", SocketKind::Stream),
        listener("autobind:", SocketKind::Seqpacket),
        listener("autobind:", SocketKind::Datagram),
        state.as_fd().try_clone_to_owned().unwrap(),
        silent.into(),
        listener("autobind:", SocketKind::Stream),
    ];
    let variables = "LISTEN_PID=$$ LISTEN_FDS=7 LISTEN_FDNAMES=web:web:rpc:log:state:connection:late \
        NOTIFY_SOCKET=/n WATCHDOG_USEC=1 PLACE=";
    let (passed, printed) = activated(
        "systemd::activated_child",
        fds,
        &format!("{variables}{}", place.path().display()),
    );
    assert!(passed, "{printed}");
}

/// Takes the two called `web`, and nothing that does not fit.
fn refused_ones() {
    let stream = Listener::options();
    let web = stream.bind("fd:web").unwrap();
    assert_eq!((web.as_raw_fd(), web.is_local()), (3, true));
    // The second of the name, of another family.
    assert!(!stream.bind("fd:web").unwrap().is_local());
    let fault = |address: &str, kind| {
        let error = Listener::options().kind(kind).bind(address).unwrap_err();
        assert!(error.hint().is_some(), "{error}");
        error
    };
    let is = |error: &nigh_socket::BindError, check: fn(&ActivationError) -> bool| {
        assert!(
            matches!(error.fault(), BindFault::Activation(found) if check(found)),
            "{error:?}"
        );
    };
    use SocketKind::{Datagram, Stream};
    is(&fault("fd:web", Stream), |error| {
        matches!(error, ActivationError::Taken { .. })
    });
    is(&fault("fd:3", Stream), |error| {
        matches!(error, ActivationError::Taken { .. })
    });
    is(
        &fault("fd:web2", Stream),
        |error| matches!(error, ActivationError::Unknown { known, .. } if known.len() == 7),
    );
    is(&fault("fd:rpc", Stream), |error| {
        let ActivationError::Unsuitable { source, .. } = error else {
            return false;
        };
        matches!(source, InheritedError::Kind { .. })
    });
    is(&fault("fd:8", Stream), |error| {
        let ActivationError::Unsuitable { source, .. } = error else {
            return false;
        };
        matches!(source, InheritedError::NotListening)
    });
    is(&fault("fd:state", Datagram), |error| {
        let ActivationError::Unsuitable { source, .. } = error else {
            return false;
        };
        matches!(source, InheritedError::NotASocket)
    });
}

async fn clients_and_connections() {
    // Clients see this process, not the manager that bound the socket.
    let path = Address::Path(child_variable("PLACE").into());
    let (_stream, peer) = connect(&path, &ConnectOptions::default()).await.unwrap();
    let seen = peer.as_local().unwrap().pid().value().copied();
    assert_eq!(seen, Some(std::process::id()));

    let connection: Address = "fd:connection".parse().unwrap();
    drop(
        connect(&connection, &ConnectOptions::default())
            .await
            .unwrap(),
    );
    let again = connect(&connection, &ConnectOptions::default()).await;
    let again = again.unwrap_err();
    let ConnectFault::Activation(again) = again.fault() else {
        unreachable!("{again:?}");
    };
    assert!(matches!(**again, ActivationError::Taken { .. }));
}

#[tokio::test]
#[ignore = "runs as a child of what_a_manager_passes_is_taken_once_by_name_or_number"]
async fn activated_child() {
    let passed = systemd::descriptors().unwrap();
    let names: Vec<&str> = passed.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(
        names,
        ["web", "web", "rpc", "log", "state", "connection", "late"]
    );
    for one in &passed {
        // The kernel shows close-on-exec among the flags, in octal.
        let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", one.number)).unwrap();
        assert!(is_closed_on_exec(&flags), "{}: {flags}", one.number);
    }

    refused_ones();
    // What was refused is still there for whoever wants it.
    let rpc = Listener::options()
        .kind(SocketKind::Seqpacket)
        .bind("fd:rpc")
        .unwrap();
    assert_eq!(rpc.kind(), SocketKind::Seqpacket);
    let log = Listener::options()
        .kind(SocketKind::Datagram)
        .bind("fd:6")
        .unwrap();
    drop(blocking::UnixDatagram::bound(log).unwrap());
    let mut state = String::new();
    let mut file = std::fs::File::from(systemd::take("state").unwrap());
    std::io::Seek::rewind(&mut file).unwrap();
    file.read_to_string(&mut state).unwrap();
    assert_eq!(state, "kept");

    clients_and_connections().await;
    let left = systemd::descriptors().unwrap();
    let left: Vec<&str> = left
        .iter()
        .filter(|one| !one.is_taken)
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(left, ["late"]);

    let printed = crate::spawn::output_of(Spawn::new("env"));
    for variable in systemd::VARIABLES {
        assert!(!printed.contains(variable), "{printed}");
    }
}

fn is_closed_on_exec(fdinfo: &str) -> bool {
    let flags = fdinfo.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
    flags & rustix::fs::OFlags::CLOEXEC.bits() != 0
}

#[test]
fn what_is_announced_wrongly_is_refused() {
    let one = || vec![listener("autobind:", SocketKind::Stream)];
    for (variables, part) in [
        ("LISTEN_PID=$$ LISTEN_FDS=1", "OK"),
        // Descriptor 4 is the line to the parent.
        (
            "LISTEN_PID=$$ LISTEN_FDS=3",
            "descriptor 5 (\"unknown\") was announced",
        ),
        (
            "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=a:b",
            "2 names for 1 descriptors",
        ),
        ("LISTEN_PID=$$ LISTEN_FDS=one", "LISTEN_FDS is \"one\""),
        ("LISTEN_PID=$$", "LISTEN_FDS is not set"),
        ("LISTEN_FDS=1", "LISTEN_PID is not set"),
        (
            "LISTEN_PID=1 LISTEN_FDS=1",
            "the variables are another one's",
        ),
        (
            "LISTEN_PID=$$ LISTEN_PIDFDID=1 LISTEN_FDS=1",
            "the variables are another one's",
        ),
        ("TRUE=1", "no service manager passed anything"),
    ] {
        let fds = one();
        let (passed, printed) = activated("systemd::announced_child", fds, variables);
        assert!(passed && printed.contains(part), "{variables}: {printed}");
    }
}

#[test]
#[ignore = "runs as a child of what_is_announced_wrongly_is_refused"]
fn announced_child() {
    // Twice: a refusal is no reason to believe it the next time.
    let error = |_| match Listener::options().bind("fd:unknown") {
        Ok(_) => "OK".to_owned(),
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            text
        }
    };
    let [first, second] = [1, 2].map(error);
    println!("\n{first}");
    assert!(first == "OK" || first == second, "{first} / {second}");
}

#[test]
fn the_process_that_is_meant_is_found_by_its_pidfd() {
    let (passed, printed) = activated(
        "systemd::meant_child",
        vec![listener("autobind:", SocketKind::Stream)],
        "STAGE=1",
    );
    assert!(passed, "{printed}");
}

#[test]
#[ignore = "runs as a child of the_process_that_is_meant_is_found_by_its_pidfd"]
fn meant_child() {
    if child_variable("STAGE") == "2" {
        Listener::options().bind("fd:meant").unwrap();
        return;
    }
    let pid = rustix::process::getpid();
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    let inode = std::fs::File::from(pidfd).metadata().unwrap().ino();
    // The same process goes on, with what a manager would have said to it.
    let error = Command::new(std::env::current_exe().unwrap())
        .args(std::env::args_os().skip(1))
        .env("STAGE", "2")
        .env("LISTEN_PID", std::process::id().to_string())
        .env("LISTEN_PIDFDID", inode.to_string())
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "meant")
        .exec();
    unreachable!("{error}");
}
