//! Who is at the other end of real sockets: this process, children under other users, dead ones, nobody.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nigh_socket::{
    Detail, Fact, LocalPeer, Peer, Policy, ProcessError, ProcessInfo, Source, Truth, Why,
};
use nigh_testkit::{Child, OpenFds, Running, TempSocket, child_variable, require_root};
use rustix::io::FdFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};

/// Ids that no user of a test machine has, and that are not the overflow id.
const UID: u32 = 54_321;
const GID: u32 = 54_322;

fn known<T>(fact: &Fact<T>) -> &T {
    fact.value().expect("a known fact")
}

/// A listener that every user may connect to.
fn open_listener(place: &TempSocket) -> UnixListener {
    let listener = UnixListener::bind(place.path()).unwrap();
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o666)).unwrap();
    listener
}

fn truth(policy: &str, peer: &LocalPeer) -> Truth {
    let policy: Policy = policy.parse().unwrap();
    policy.evaluate(&Peer::from(peer.clone())).truth()
}

#[test]
fn both_ends_of_a_pair_show_this_process() {
    for kind in [SocketType::STREAM, SocketType::SEQPACKET, SocketType::DGRAM] {
        let (a, _b) =
            rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
        let peer = LocalPeer::of(&a).unwrap();
        assert_eq!(peer.pid().value(), Some(&std::process::id()), "{kind:?}");
        assert_eq!(peer.pid().source(), Source::PeerCred);
        let process = known(peer.process());
        assert_eq!(process.pid(), Ok(std::process::id()));
        assert_eq!(process.is_alive(), Ok(true));
        assert_eq!(process.executable(), Ok(std::env::current_exe().unwrap()));
        assert!(process.cgroup().unwrap().is_absolute());
        assert!(process.unit().is_ok());
        let flags = rustix::io::fcntl_getfd(process).unwrap();
        assert!(flags.contains(FdFlags::CLOEXEC));
        // As user nobody our own uid is the overflow id, and unknown.
        if geteuid().as_raw() != 65534 {
            assert_eq!(peer.uid().value(), Some(&geteuid().as_raw()));
            assert_eq!(truth("same-user", &peer), Truth::Yes);
        }
    }
}

#[test]
fn a_socket_without_a_peer_gives_no_credentials() {
    let place = TempSocket::private();
    let bound = UnixDatagram::bind(place.path()).unwrap();
    let connected = UnixDatagram::unbound().unwrap();
    connected.connect(place.path()).unwrap();
    let fresh: OwnedFd =
        rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    let not_given = Fact::Unknown {
        source: Source::PeerCred,
        why: Why::NotGiven,
    };
    for socket in [bound.as_fd(), connected.as_fd(), fresh.as_fd()] {
        let peer = LocalPeer::of(socket).unwrap();
        assert_eq!(
            [peer.uid(), peer.gid(), peer.pid()],
            [&not_given, &not_given, &not_given]
        );
        assert!(!peer.groups().is_known() && !peer.process().is_known());
        assert_eq!(peer.to_string(), "uid unknown gid unknown pid unknown");
        for policy in ["same-user", "user:4294967295", "not user:0", "not group:0"] {
            assert_eq!(truth(policy, &peer), Truth::Unknown, "{policy}");
        }
        assert_eq!(truth("any", &peer), Truth::Yes);
    }
}

#[test]
fn what_is_no_unix_socket_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let error = LocalPeer::of(&tcp).unwrap_err();
    assert_eq!(error.to_string(), "not a Unix socket");
    let file = std::fs::File::open("/proc/self/status").unwrap();
    let error = LocalPeer::of(&file).unwrap_err();
    assert_eq!(
        error.raw_os_error(),
        Some(rustix::io::Errno::NOTSOCK.raw_os_error())
    );
}

/// Connects, says one word, and stays until the server closes.
#[test]
#[ignore = "runs as a child of a_process_is_read_while_it_lives_and_not_after"]
fn client_child() {
    let mut stream = UnixStream::connect(child_variable("SOCKET")).unwrap();
    stream.write_all(b"hello").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
}

/// Connects, says one word, and ends.
#[test]
#[ignore = "runs as a child of a_client_that_died_before_accept_is_still_known"]
fn brief_client_child() {
    let mut stream = UnixStream::connect(child_variable("SOCKET")).unwrap();
    stream.write_all(b"hello").unwrap();
}

fn connect_as(
    place: &TempSocket,
    listener: &UnixListener,
    groups: &[u32],
) -> (Running, UnixStream, LocalPeer) {
    let client = Child::test("identity::client_child")
        .env("SOCKET", place.path())
        .user(UID, GID, groups)
        .spawn();
    let (stream, _) = listener.accept().unwrap();
    let peer = LocalPeer::of(&stream).unwrap();
    (client, stream, peer)
}

#[test]
fn a_client_of_another_user_is_known_with_its_groups() {
    require_root!();
    let place = TempSocket::shared();
    let listener = open_listener(&place);
    let (client, _stream, peer) = connect_as(&place, &listener, &[4, 27, 65534]);
    assert_eq!((known(peer.uid()), known(peer.gid())), (&UID, &GID));
    assert_eq!(known(peer.pid()), &client.child.id());
    let mut groups = known(peer.groups()).clone();
    groups.sort_unstable();
    assert_eq!((groups, peer.unmapped_groups()), (vec![4, 27], 1));
    let table = [
        ("user:54321", Truth::Yes),
        ("group:54322", Truth::Yes),
        ("group:27", Truth::Yes),
        ("group:28", Truth::Unknown),
        ("group:65534", Truth::Unknown),
        ("same-user or user:0", Truth::No),
        ("user:root", Truth::No),
        ("not user:root and group:4", Truth::Yes),
    ];
    for (policy, expected) in table {
        assert_eq!(truth(policy, &peer), expected, "{policy}");
    }
    let policy: Policy = "user:root".parse().unwrap();
    assert_eq!(
        policy.evaluate(&Peer::from(peer)).to_string(),
        "refused: user:root (uid 0): the caller's uid is 54321"
    );
}

#[test]
fn a_client_without_groups_has_a_definite_no() {
    require_root!();
    let place = TempSocket::shared();
    let listener = open_listener(&place);
    let (_client, _stream, peer) = connect_as(&place, &listener, &[]);
    assert_eq!(known(peer.groups()), &[] as &[u32]);
    assert_eq!(truth("group:27", &peer), Truth::No);
    assert_eq!(truth("not group:27", &peer), Truth::Yes);
}

#[test]
fn more_groups_than_the_first_buffer_holds_are_all_there() {
    require_root!();
    let place = TempSocket::shared();
    let listener = open_listener(&place);
    let wanted: Vec<u32> = (60_000..60_500).collect();
    let (_client, _stream, peer) = connect_as(&place, &listener, &wanted);
    let mut groups = known(peer.groups()).clone();
    groups.sort_unstable();
    assert_eq!(groups, wanted);
    assert_eq!(truth("group:60499", &peer), Truth::Yes);
}

#[test]
fn a_process_is_read_while_it_lives_and_not_after() {
    let place = TempSocket::shared();
    let listener = open_listener(&place);
    let mut client = Child::test("identity::client_child")
        .env("SOCKET", place.path())
        .spawn();
    let (stream, _) = listener.accept().unwrap();
    let peer = LocalPeer::of(&stream).unwrap();
    let process = known(peer.process()).clone();
    assert_eq!(process.pid(), Ok(client.child.id()));
    let shown = std::fs::read_link(format!("/proc/{}/exe", client.child.id())).unwrap();
    assert_eq!(process.executable(), Ok(shown));
    assert!(process.cgroup().is_ok());
    match process.info() {
        Ok(ProcessInfo::Running {
            pid, parent, uid, ..
        }) => {
            assert_eq!((pid, parent), (client.child.id(), std::process::id()));
            assert_eq!(uid.effective, geteuid().as_raw());
            assert_eq!(uid.real, uid.filesystem);
        }
        other => assert_eq!(other, Err(ProcessError::Unsupported { what: Detail::Info })),
    }
    client.kill();
    assert_eq!(process.is_alive(), Ok(false));
    assert_eq!(process.pid(), Err(ProcessError::Ended));
    assert_eq!(process.executable(), Err(ProcessError::Ended));
    assert_eq!(process.unit(), Err(ProcessError::Ended));
    match process.info() {
        Ok(info) => assert!(
            matches!(info, ProcessInfo::Ended { status, .. } if status == ExitStatus::from_raw(9)),
            "{info:?}"
        ),
        Err(error) => assert!(
            matches!(
                error,
                ProcessError::Unsupported { .. } | ProcessError::Ended
            ),
            "{error}"
        ),
    }
}

#[test]
fn a_client_that_died_before_accept_is_still_known() {
    require_root!();
    let place = TempSocket::shared();
    let listener = open_listener(&place);
    Child::test("identity::brief_client_child")
        .env("SOCKET", place.path())
        .user(UID, GID, &[27])
        .run()
        .assert_success();
    let (mut stream, _) = listener.accept().unwrap();
    let peer = LocalPeer::of(&stream).unwrap();
    assert_eq!((known(peer.uid()), known(peer.gid())), (&UID, &GID));
    assert_eq!(known(peer.groups()), &[27]);
    match peer.process() {
        Fact::Known { value, .. } => {
            assert_eq!(value.is_alive(), Ok(false));
            assert_eq!(value.executable(), Err(ProcessError::Ended));
        }
        // Before Linux 6.16.
        Fact::Unknown { why, .. } => {
            assert!(matches!(why, Why::Gone | Why::Unsupported), "{why}");
        }
    }
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello");
}

/// Connects to a server of root and looks at it.
#[test]
#[ignore = "runs as a child of another_users_process_is_not_permitted_to_be_read"]
fn looking_client_child() {
    let stream = UnixStream::connect(child_variable("SOCKET")).unwrap();
    let server = LocalPeer::of(&stream).unwrap();
    assert_eq!(server.uid().value(), Some(&0));
    assert_eq!(truth("same-user", &server), Truth::No);
    let process = known(server.process());
    let pid = *known(server.pid());
    assert_eq!(
        process.executable(),
        Err(ProcessError::NotPermitted {
            what: Detail::Executable,
            pid
        })
    );
    assert_eq!(process.is_alive(), Ok(true));
    assert!(process.cgroup().is_ok());
}

#[test]
fn another_users_process_is_not_permitted_to_be_read() {
    require_root!();
    let place = TempSocket::shared();
    let _listener = open_listener(&place);
    Child::test("identity::looking_client_child")
        .env("SOCKET", place.path())
        .user(UID, GID, &[])
        .run()
        .assert_success();
}

/// Asks with no descriptor left, then with some, and counts.
#[test]
#[ignore = "runs as a child of a_peer_holds_one_descriptor"]
fn counting_child() {
    let (a, _b) = UnixStream::pair().unwrap();
    let before = OpenFds::now();
    let limit = getrlimit(Resource::Nofile);
    let none_left = Rlimit {
        current: Some(0),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, none_left).unwrap();
    let peer = LocalPeer::of(&a).unwrap();
    setrlimit(Resource::Nofile, limit).unwrap();
    assert!(matches!(
        peer.process(),
        Fact::Unknown { source: Source::PeerPidfd, why: Why::Failed { errno } }
            if *errno == rustix::io::Errno::MFILE.raw_os_error()
    ));
    assert_eq!(peer.pid().value(), Some(&std::process::id()));
    before.assert_unchanged();

    let peer = LocalPeer::of(&a).unwrap();
    let copies = vec![peer.clone(); 100];
    assert_eq!(OpenFds::now().count(), before.count() + 1);
    let process = known(peer.process()).clone();
    drop((peer, copies));
    assert_eq!(process.is_alive(), Ok(true));
    drop(process);
    before.assert_unchanged();
}

#[test]
fn a_peer_holds_one_descriptor() {
    Child::test("identity::counting_child")
        .run()
        .assert_success();
}
