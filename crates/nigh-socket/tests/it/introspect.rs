//! Introspection against sockets of this test: names, queues, owners, files and marks as the kernel really gives them.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper's broken precondition is a failed test"
)]

use std::fs::{self, Permissions};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use nigh_socket::introspect::{self, ListenerInfo, Location, Mark, Name, State, Survey};
use nigh_socket::{Existing, Listener, SocketKind};
use nigh_testkit::{Child, TempSocket, child_variable, require_root, skip_unless};

fn survey(socket: &TempSocket) -> Survey {
    introspect::survey(&[socket.directory().to_owned()]).unwrap()
}

/// The one listener whose file, place or bound name is this path.
fn find(survey: &Survey, path: &Path) -> ListenerInfo {
    let is_it = |listener: &&ListenerInfo| match (&listener.location, &listener.socket.name) {
        (Location::File(file), _) => file.path == path,
        (Location::Replaced(place) | Location::Removed(place), _) => place == path,
        (_, Name::Path(name)) => name == path,
        _ => false,
    };
    let mut found = survey.listeners.iter().filter(is_it);
    let listener = found
        .next()
        .unwrap_or_else(|| panic!("{} is not listed", path.display()));
    assert!(found.next().is_none(), "{} is listed twice", path.display());
    listener.clone()
}

fn is_ours(listener: &ListenerInfo) -> bool {
    listener.owners.iter().any(|owner| {
        owner.pid == std::process::id() && owner.executable == std::env::current_exe().ok()
    })
}

#[test]
fn a_published_socket_is_listed_under_its_published_path() {
    let socket = TempSocket::private();
    let listener = Listener::options()
        .mode(0o660)
        .backlog(5)
        .bind(socket.address().as_str())
        .unwrap();
    let found = find(&survey(&socket), socket.path());
    assert_eq!(found.file().unwrap().mode, 0o660);
    assert_eq!(found.socket.state, State::Listening);
    assert_eq!(found.socket.kind, Some(SocketKind::Stream));
    assert_eq!((found.socket.queued, found.socket.queue_max), (0, 5));
    assert_eq!(found.socket.uid, Some(rustix::process::geteuid().as_raw()));
    assert_eq!(found.marks(), []);
    assert!(is_ours(&found), "{:?}", found.owners);
    drop(listener);
    assert!(survey(&socket).strays.is_empty());
}

#[test]
fn open_modes_and_abstract_names_are_marked() {
    let socket = TempSocket::private();
    let _path = UnixListener::bind(socket.path()).unwrap();
    fs::set_permissions(socket.path(), Permissions::from_mode(0o777)).unwrap();
    assert_eq!(
        find(&survey(&socket), socket.path()).marks(),
        [Mark::WorldWritable]
    );

    let name = format!("nigh-introspect-{}\0\u{ff}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _abstract = UnixDatagram::bind_addr(&address).unwrap();
    let survey = survey(&socket);
    let wanted = Name::Abstract(name.into_bytes());
    let found = survey
        .listeners
        .iter()
        .find(|listener| listener.socket.name == wanted)
        .unwrap();
    assert_eq!(found.socket.kind, Some(SocketKind::Datagram));
    assert_eq!(found.marks(), [Mark::Abstract]);
}

#[test]
fn a_socket_whose_file_is_gone_or_another_is_marked() {
    let socket = TempSocket::private();
    let _listener = UnixListener::bind(socket.path()).unwrap();
    fs::rename(socket.path(), socket.join("renamed")).unwrap();
    let found = find(&survey(&socket), &socket.join("renamed"));
    assert_eq!(found.marks(), []);

    fs::remove_file(socket.join("renamed")).unwrap();
    assert_eq!(
        find(&survey(&socket), socket.path()).marks(),
        [Mark::Removed]
    );

    let _successor = UnixListener::bind(socket.path()).unwrap();
    let marks: Vec<Vec<Mark>> = survey(&socket)
        .listeners
        .iter()
        .filter(|listener| listener.socket.name == Name::Path(socket.path().to_owned()))
        .map(ListenerInfo::marks)
        .collect();
    assert_eq!(
        marks
            .iter()
            .filter(|marks| marks.contains(&Mark::Replaced))
            .count(),
        1,
        "{marks:?}"
    );
    assert_eq!(marks.len(), 2);
}

#[test]
fn a_server_that_was_taken_over_is_marked_at_the_path_it_had() {
    let socket = TempSocket::private();
    let address = socket.address();
    let _old = Listener::options().bind(address.as_str()).unwrap();
    let _new = Listener::options()
        .existing(Existing::TakeOver)
        .bind(address.as_str())
        .unwrap();
    let survey = survey(&socket);
    let old = Location::Replaced(socket.path().to_owned());
    let replaced = survey
        .listeners
        .iter()
        .filter(|listener| listener.location == old);
    assert_eq!(replaced.count(), 1);
    let current = survey.listeners.iter().filter_map(ListenerInfo::file);
    assert_eq!(current.filter(|file| file.path == socket.path()).count(), 1);
}

#[test]
fn clients_that_wait_are_counted_and_known() {
    let socket = TempSocket::private();
    let _listener = Listener::options()
        .backlog(1)
        .bind(socket.address().as_str())
        .unwrap();
    let _clients = [0, 1].map(|_| UnixStream::connect(socket.path()).unwrap());
    let found = find(&survey(&socket), socket.path());
    assert_eq!((found.socket.queued, found.socket.queue_max), (2, 1));
    assert_eq!(found.marks(), [Mark::BacklogFull]);
    let all = introspect::sockets().unwrap();
    let waiting = all
        .iter()
        .filter(|socket| found.socket.pending.contains(&socket.inode));
    let states: Vec<State> = waiting.map(|socket| socket.state).collect();
    assert_eq!(states, [State::Connected; 2]);
}

#[test]
fn a_crowd_at_one_listener_hides_no_other_socket() {
    const CROWD: u32 = 4_096;
    let most = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    skip_unless!(
        most.trim().parse::<u32>().unwrap() >= CROWD,
        "needs net.core.somaxconn of 4096"
    );
    let socket = TempSocket::private();
    // The kernel lists by inode number modulo 256; it is the first in its list that can end it.
    let bind = |number: u32| {
        let path = socket.join(number.to_string());
        let listener = UnixListener::bind(&path).unwrap();
        (fs::metadata(&path).unwrap().ino() % 256, path, listener)
    };
    let mut listeners: Vec<_> = (0..256).map(bind).collect();
    listeners.sort_by_key(|(place, ..)| *place);
    let (_, crowded, _) = &listeners[0];
    // A client that gives up still waits, and costs this process no descriptor.
    (0..CROWD).for_each(|_| drop(UnixStream::connect(crowded).unwrap()));

    let survey = survey(&socket);
    assert_eq!(find(&survey, crowded).socket.queued, CROWD);
    for (_, path, _) in &listeners {
        find(&survey, path);
    }
}

#[test]
fn a_bound_socket_that_does_not_listen_is_marked() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, socket};
    let place = TempSocket::private();
    let bound = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&bound, &SocketAddrUnix::new(place.path()).unwrap()).unwrap();
    let marks = find(&survey(&place), place.path()).marks();
    assert!(marks.contains(&Mark::NotListening), "{marks:?}");
}

#[test]
fn only_files_that_nobody_serves_are_stale() {
    let socket = TempSocket::private();
    drop(UnixListener::bind(socket.join("dead")).unwrap());
    let _live = UnixListener::bind(socket.join("live")).unwrap();
    let client = UnixDatagram::bind(socket.join("client")).unwrap();
    let _server = UnixDatagram::bind(socket.join("server")).unwrap();
    client.connect(socket.join("server")).unwrap();
    fs::write(socket.join("file"), "").unwrap();
    let survey = survey(&socket);
    let strays: Vec<_> = survey
        .strays
        .iter()
        .map(|stray| (stray.file.path.clone(), stray.mark()))
        .collect();
    assert_eq!(strays, [(socket.join("dead"), Mark::Stale)]);
}

#[test]
fn both_ends_of_a_connection_name_each_other() {
    let (_a, _b) = UnixStream::pair().unwrap();
    let all = introspect::sockets().unwrap();
    let paired = all.iter().filter(|socket| {
        socket.peer.is_some_and(|peer| {
            all.iter()
                .any(|other| other.inode == peer && other.peer == Some(socket.inode))
        })
    });
    assert!(paired.count() >= 2);
}

#[test]
fn a_relative_name_is_resolved_through_its_server() {
    let socket = TempSocket::private();
    let mut server = Child::test("introspect::serves_a_relative_name")
        .env("NIGH_NAME", socket.path().strip_prefix("/").unwrap())
        .spawn();
    let _ = server.wait_for("READY");
    // Without roots nothing but the server's own directory can tell.
    let found = find(&introspect::survey(&[]).unwrap(), socket.path());
    assert_eq!(found.owners[0].pid, server.child.id());
}

#[test]
#[ignore = "runs as a child of a_relative_name_is_resolved_through_its_server"]
fn serves_a_relative_name() {
    let name = child_variable("NIGH_NAME");
    assert!(Path::new(&name).is_relative());
    let _listener = UnixListener::bind(name).unwrap();
    println!("READY");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn another_user_sees_the_socket_but_not_its_server() {
    require_root!();
    let socket = TempSocket::shared();
    let _listener = Listener::options().bind(socket.address().as_str()).unwrap();
    Child::test("introspect::sees_it_as_another_user")
        .user(61_004, 61_004, &[])
        .env("NIGH_DIRECTORY", socket.directory())
        .run()
        .assert_success();
}

#[test]
#[ignore = "runs as a child of another_user_sees_the_socket_but_not_its_server"]
fn sees_it_as_another_user() {
    let directory = child_variable("NIGH_DIRECTORY");
    let survey = introspect::survey(&[directory.clone().into()]).unwrap();
    let found = find(&survey, &Path::new(&directory).join("s"));
    assert_eq!(found.file().unwrap().uid, 0);
    assert_eq!(found.owners, []);
    assert!(survey.hidden_processes > 0);
}
