//! Listening at each kind of address: what it is called afterwards, and what is refused.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::{Command, Stdio};

use nigh_socket::{Address, BindFault, InheritedError, Listener, SocketKind};
use nigh_testkit::{Child, TempSocket};
use rustix::io::FdFlags;

use crate::servers;

/// A descriptor number as exec would leave it, open and not close-on-exec: a child of another test would inherit it.
fn inherited(fd: impl Into<OwnedFd>) -> i32 {
    rustix::io::dup(fd.into()).unwrap().into_raw_fd()
}

fn is_close_on_exec(fd: impl AsFd) -> bool {
    rustix::io::fcntl_getfd(fd)
        .unwrap()
        .contains(FdFlags::CLOEXEC)
}

#[test]
fn a_path_is_published_and_removed() {
    let place = TempSocket::private();
    let listener = Listener::options().bind(place.address().as_str()).unwrap();
    assert_eq!(listener.address(), &Address::Path(place.path().into()));
    assert_eq!(listener.kind(), SocketKind::Stream);
    assert!(listener.is_local());
    assert_eq!(place.names(), [".s.nigh-lock", "s"]);
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let client = UnixStream::connect(place.path()).unwrap();
    let accepted = UnixStream::from(listener.accept().unwrap());
    (&accepted).write_all(b"x").unwrap();
    drop((client, accepted));
    listener.close().unwrap();
    assert_eq!(place.names(), [".s.nigh-lock"]);
}

#[test]
fn every_descriptor_is_closed_on_exec() {
    let place = TempSocket::private();
    let listener = Listener::options().bind(place.path()).unwrap();
    let _client = UnixStream::connect(place.path()).unwrap();
    assert!(is_close_on_exec(&listener));
    assert!(is_close_on_exec(listener.accept().unwrap()));
    // The directory that stays open for the removal, too: nothing of ours in the fd table of an exec'd child.
    let listed = Command::new("ls")
        .args(["-l", "/proc/self/fd"])
        .output()
        .unwrap();
    let directory = place.directory().to_str().unwrap();
    assert!(!String::from_utf8_lossy(&listed.stdout).contains(directory));
}

#[test]
fn a_started_child_does_not_keep_an_abstract_name() {
    let name = format!("unix-abstract:nigh-exec-{}", std::process::id());
    let listener = Listener::options().bind(name.as_str()).unwrap();
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    drop(listener);
    // Children that other tests start hold it until their exec; `cat` would for ever.
    servers::until(|| Listener::options().bind(name.as_str()).is_ok());
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn an_abstract_name_may_hold_any_bytes() {
    let name = [b"\0\xff/".as_slice(), &std::process::id().to_le_bytes()].concat();
    let address = Address::Abstract(name.clone());
    let listener = Listener::options().bind(&address).unwrap();
    assert_eq!(listener.address(), &address);
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    listener.accept().unwrap();
    let taken = Listener::options().bind(&address).unwrap_err();
    assert!(matches!(taken.fault(), BindFault::InUse), "{taken}");
    assert_eq!(taken.address(), Some(&address));
    assert!(taken.hint().is_some());
}

#[test]
fn autobind_says_which_name_it_got() {
    for kind in [
        SocketKind::Stream,
        SocketKind::Seqpacket,
        SocketKind::Datagram,
    ] {
        let listener = Listener::options().kind(kind).bind("autobind:").unwrap();
        let Address::Abstract(name) = listener.address() else {
            panic!("{:?}", listener.address());
        };
        assert_eq!(name.len(), 5, "five hexadecimal digits");
        if kind == SocketKind::Stream {
            UnixStream::connect_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
            listener.accept().unwrap();
        }
    }
}

#[test]
fn permissions_without_a_file_are_refused() {
    for address in [
        "unix-abstract:nigh-mode",
        "autobind:",
        "fd:0",
        "tcp:127.0.0.1:0",
    ] {
        let options = Listener::options();
        for options in [
            options.clone().mode(0o600),
            options.clone().owner("root"),
            options.clone().group_id(0),
            options.clone().create_parent(0o700),
        ] {
            let error = options.bind(address).unwrap_err();
            assert!(matches!(error.fault(), BindFault::NoFile), "{error}");
        }
    }
}

#[test]
fn tcp_says_which_port_it_got() {
    let listener = Listener::options().bind("tcp:127.0.0.1:0").unwrap();
    let Address::Tcp { host, port } = listener.address() else {
        panic!("{:?}", listener.address());
    };
    assert_eq!(host, "127.0.0.1");
    assert_ne!(*port, 0);
    assert!(!listener.is_local());
    TcpStream::connect((host.as_str(), *port)).unwrap();
    assert!(is_close_on_exec(listener.accept().unwrap()));
    let taken = Listener::options().bind(listener.address()).unwrap_err();
    assert!(matches!(taken.fault(), BindFault::InUse), "{taken}");
    let packets = Listener::options().kind(SocketKind::Seqpacket);
    let refused = packets.bind("tcp:127.0.0.1:0").unwrap_err();
    assert!(matches!(
        refused.fault(),
        BindFault::Kind(SocketKind::Seqpacket)
    ));
}

#[test]
fn tcp_of_an_unknown_host_says_so() {
    let error = Listener::options()
        .bind("tcp:no-such-host.invalid:1")
        .unwrap_err();
    assert!(matches!(error.fault(), BindFault::Resolve(_)), "{error}");
}

#[test]
fn an_inherited_listener_is_taken_once_and_its_path_left() {
    Child::test("bind::inherited_child").run().assert_success();
}

#[test]
#[ignore = "runs as a child of an_inherited_listener_is_taken_once_and_its_path_left"]
fn inherited_child() {
    let place = TempSocket::private();
    let number = inherited(UnixListener::bind(place.path()).unwrap());
    let address = format!("fd:{number}");
    let listener = Listener::options().bind(address.as_str()).unwrap();
    assert_eq!(listener.as_raw_fd(), number);
    assert!(listener.is_local());
    assert!(is_close_on_exec(&listener));
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let again = Listener::options().bind(address.as_str()).unwrap_err();
    assert!(
        matches!(again.fault(), BindFault::Inherited(InheritedError::Owned(n)) if *n == number),
        "{again}"
    );
    listener.close().unwrap();
    assert!(place.path().exists());
}

#[test]
fn an_inherited_descriptor_is_looked_at_first() {
    Child::test("bind::unsuitable_child").run().assert_success();
}

#[test]
#[ignore = "runs as a child of an_inherited_descriptor_is_looked_at_first"]
fn unsuitable_child() {
    let place = TempSocket::private();
    let refused = |fd: OwnedFd| {
        let number = inherited(fd);
        let error = Listener::options().bind(Address::Fd(number)).unwrap_err();
        // It is left as it was, and ours to close.
        let left = Listener::options().bind(Address::Fd(number)).unwrap_err();
        assert_eq!(left.to_string(), error.to_string());
        std::error::Error::source(&error).unwrap().to_string()
    };
    let file = std::fs::File::create(place.join("f")).unwrap();
    assert_eq!(refused(file.into()), "not a socket");
    let (connected, _peer) = UnixStream::pair().unwrap();
    assert_eq!(refused(connected.into()), "it does not listen");
    let datagram = std::os::unix::net::UnixDatagram::unbound().unwrap();
    assert_eq!(refused(datagram.into()), "its type is datagram, not stream");
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(refused(udp.into()), "a socket of an unsupported family");
    let closed = Listener::options().bind("fd:1000000").unwrap_err();
    assert!(matches!(
        closed.fault(),
        BindFault::Inherited(InheritedError::NotOpen(1_000_000))
    ));
}

#[test]
fn an_owned_descriptor_is_adopted() {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = Listener::options().adopt(tcp.into()).unwrap();
    assert!(!listener.is_local());
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn what_is_no_address_to_listen_on_is_refused() {
    let malformed = Listener::options().bind("nonsense").unwrap_err();
    assert!(matches!(malformed.fault(), BindFault::Malformed(_)));
    assert!(malformed.hint().is_some());
    let client = Listener::options().bind("https://localhost:1").unwrap_err();
    assert!(matches!(client.fault(), BindFault::NotForListening));
    let by_hand = Listener::options()
        .bind(Address::Path("/tmp/".into()))
        .unwrap_err();
    assert!(matches!(by_hand.fault(), BindFault::Malformed(_)));
}
