//! Who is connected to a socket: both ends, queues, descriptors on their way, and those still in the backlog.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::{IoSlice, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use nigh_socket::introspect::{self, ConnectionInfo, EndInfo, Peers, Stage};
use nigh_socket::{Address, Facility, Listener, Offer, SocketKind, blocking, facilities};
use nigh_testkit::{Child, TempSocket, child_variable, require_root};

fn peers(place: &TempSocket) -> Peers {
    introspect::peers(&Address::Path(place.path().to_owned())).unwrap()
}

fn is_ours(end: &EndInfo) -> bool {
    let ours = std::process::id();
    end.owners.iter().any(|owner| owner.pid == ours)
}

fn only(peers: &Peers, stage: Stage) -> ConnectionInfo {
    let mut found = peers
        .connections
        .iter()
        .filter(|found| found.stage == stage);
    let connection = found.next().unwrap().clone();
    assert!(found.next().is_none());
    connection
}

#[test]
fn both_ends_of_a_connection_are_known_with_what_waits_between_them() {
    let place = TempSocket::private();
    // Published by renaming: the kernel remembers another name.
    let listener = Listener::options().bind(place.path()).unwrap();
    let mut client = UnixStream::connect(place.path()).unwrap();
    let _server = UnixStream::from(listener.accept().unwrap());
    client.write_all(&[0; 5000]).unwrap();

    let found = peers(&place);
    assert_eq!(found.listeners.len(), 1);
    let connection = only(&found, Stage::Accepted);
    let (server, client) = (connection.server.unwrap(), connection.client.unwrap());
    assert!(is_ours(&server) && is_ours(&client));
    assert_eq!(server.socket.queued, 5000);
    assert!(client.socket.queue_max >= 5000, "{client:?}");
    assert!(client.socket.send_buffer.is_some_and(|bytes| bytes > 5000));
    assert!(client.fill().is_some_and(|fill| fill > 0), "{client:?}");
    assert_eq!((client.socket.queued, server.fill()), (0, Some(0)));
    assert_eq!(server.socket.peer, Some(client.socket.inode));
}

#[test]
fn clients_still_in_the_backlog_are_known() {
    let place = TempSocket::private();
    let _listener = UnixListener::bind(place.path()).unwrap();
    let _clients = [
        UnixStream::connect(place.path()).unwrap(),
        UnixStream::connect(place.path()).unwrap(),
    ];
    let found = peers(&place);
    assert_eq!(found.listeners[0].socket.queued, 2);
    assert_eq!(found.connections.len(), 2);
    for connection in &found.connections {
        assert_eq!(connection.stage, Stage::Waiting);
        assert!(connection.server.is_none());
        assert!(is_ours(connection.client.as_ref().unwrap()));
    }
}

#[test]
fn descriptors_on_their_way_are_counted() {
    let place = TempSocket::private();
    let options = Listener::options().kind(SocketKind::Seqpacket);
    let listener = options.pass_rights(true).bind(place.path()).unwrap();
    let (client, _) = blocking::connect_packet(
        &Address::Path(place.path().to_owned()),
        &nigh_socket::ConnectOptions::default(),
    )
    .unwrap();
    let _server = listener.accept().unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    let fds = [file.as_fd(), file.as_fd()];
    client.send(&[IoSlice::new(b"x")], &fds).unwrap();
    let server = only(&peers(&place), Stage::Accepted).server.unwrap();
    assert_eq!(server.socket.queued, 1);
    // Kernels that do not count them leave the line out.
    assert!(matches!(server.fds_queued, Some(2) | None), "{server:?}");
}

#[test]
fn senders_of_datagrams_are_known_once_they_are_connected() {
    let place = TempSocket::private();
    let _server = UnixDatagram::bind(place.path()).unwrap();
    let client = UnixDatagram::unbound().unwrap();
    client.connect(place.path()).unwrap();
    client.send(b"abc").unwrap();
    let connection = only(&peers(&place), Stage::Sending);
    assert_eq!(connection.server.unwrap().socket.queued, 3);
    assert!(is_ours(&connection.client.unwrap()));
}

#[test]
fn an_end_that_is_gone_is_told() {
    let place = TempSocket::private();
    let listener = UnixListener::bind(place.path()).unwrap();
    let client = UnixStream::connect(place.path()).unwrap();
    let (_server, _) = listener.accept().unwrap();
    drop(client);
    let connection = only(&peers(&place), Stage::Accepted);
    assert!(connection.client.is_none() && connection.server.is_some());
}

#[test]
fn every_facility_is_tried() {
    let found = facilities();
    let offer = |wanted| {
        let mut found = found.iter().filter(|(facility, _)| *facility == wanted);
        &found.next().unwrap().1
    };
    // Whatever the kernel: the tests of this crate could not run without.
    for needed in [
        Facility::MemorySeals,
        Facility::FileLocks,
        Facility::SocketList,
    ] {
        assert!(matches!(offer(needed), Offer::Yes), "{needed}");
    }
    for (facility, offer) in &found {
        assert!(!matches!(offer, Offer::Unknown(_)), "{facility}: {offer:?}");
        assert_ne!(facility.meaning(true), facility.meaning(false));
    }
}

#[test]
#[ignore = "runs as a child of another_user_sees_the_connection_and_not_the_processes"]
fn looks_as_another_user() {
    let address: Address = child_variable("NIGH_ADDRESS").parse().unwrap();
    let found = introspect::peers(&address).unwrap();
    let connection = only(&found, Stage::Accepted);
    let (server, client) = (connection.server.unwrap(), connection.client.unwrap());
    assert_eq!(server.socket.queued, 4);
    assert_eq!(server.socket.peer, Some(client.socket.inode));
    assert!(client.socket.uid.is_some_and(|uid| uid == 0));
    assert!(server.owners.is_empty() && client.owners.is_empty());
    assert_eq!(only(&found, Stage::Waiting).server, None);
    assert!(found.hidden_processes > 0);
}

#[test]
fn another_user_sees_the_connection_and_not_the_processes() {
    require_root!();
    let place = TempSocket::shared();
    let listener = Listener::options().bind(place.path()).unwrap();
    let mut client = UnixStream::connect(place.path()).unwrap();
    let _server = listener.accept().unwrap();
    client.write_all(b"four").unwrap();
    let _waiting = UnixStream::connect(place.path()).unwrap();
    Child::test("peers::looks_as_another_user")
        .user(61_994, 61_994, &[])
        .env("NIGH_ADDRESS", place.address())
        .run()
        .assert_success();
}
