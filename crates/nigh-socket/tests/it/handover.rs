//! Hand-over between two processes: what travels, who is seen, and what remains when one of them dies at any step.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nigh_socket::handover::{HandoverError, HandoverOptions, Succession, Tenure, Watched};
use nigh_socket::{
    Address, ConnectOptions, Listener, ListenerOptions, LocalPeer, SocketKind, connect_packet,
};
use nigh_testkit::{Child, Running, TempSocket, child_variable, require_root};
use rustix::net::sockopt;

pub(crate) fn options(kind: SocketKind) -> ListenerOptions {
    Listener::options().kind(kind)
}

pub(crate) fn control(place: &TempSocket) -> Address {
    Address::Path(beside(place, "control"))
}

fn beside(place: &TempSocket, name: &str) -> PathBuf {
    place.path().with_file_name(name)
}

pub(crate) async fn begin(control: &Address) -> Result<Succession, HandoverError> {
    Succession::begin(control.clone(), HandoverOptions::default()).await
}

/// The first process in office, with these listeners.
pub(crate) async fn first(control: &Address, listeners: &[&Listener]) -> Tenure {
    let succession = begin(control).await.unwrap();
    assert!(succession.predecessor().is_none());
    succession.take_over(listeners).await.unwrap()
}

/// One of each kind, by address and by name.
fn all_kinds(place: &TempSocket) -> Vec<(ListenerOptions, Address)> {
    let path = |name| Address::Path(beside(place, name));
    let tcp = Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port: 0,
    };
    vec![
        (options(SocketKind::Stream).mode(0o660), path("stream")),
        (options(SocketKind::Seqpacket), path("packet")),
        (options(SocketKind::Datagram), path("datagram")),
        (options(SocketKind::Stream).name("tcp"), tcp),
        (options(SocketKind::Stream).name("auto"), Address::Autobind),
    ]
}

fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).unwrap().ino()
}

fn same_socket(a: &Listener, b: &Listener) -> bool {
    sockopt::socket_cookie(a).unwrap() == sockopt::socket_cookie(b).unwrap()
}

#[tokio::test]
async fn every_kind_of_listener_travels() {
    let place = TempSocket::private();
    let control = control(&place);
    let kinds = all_kinds(&place);
    let bound = kinds
        .iter()
        .map(|(options, address)| options.bind(address.clone()).unwrap());
    let old: Vec<Listener> = bound.collect();
    let listeners: Vec<&Listener> = old.iter().collect();
    let mut tenure = first(&control, &listeners).await;
    let giving = async {
        let request = tenure.request().await.unwrap();
        let prepared = request.offer(&listeners).await.unwrap();
        prepared.give(&listeners).await.unwrap()
    };
    let taking = async {
        let mut succession = begin(&control).await.unwrap();
        assert!(succession.predecessor().is_some());
        let found = kinds.iter().map(|(options, address)| {
            let options = match address == &Address::Path(beside(&place, "stream")) {
                true => options.clone().backlog(7).mode(0o640),
                false => options.clone().backlog(7),
            };
            succession.listen(&options, address.clone()).unwrap()
        });
        let new: Vec<Listener> = found.collect();
        assert_eq!(succession.inherited().len(), 0);
        let tenure = succession.take_over(&new.iter().collect::<Vec<_>>()).await;
        (tenure.unwrap(), new)
    };
    let (given, (successor, new)) = tokio::join!(giving, taking);
    for (place, (old, new)) in old.iter().zip(&new).enumerate() {
        assert!(given.takes(place));
        assert!(same_socket(old, new), "{}", old.address());
        assert_eq!((old.address(), old.kind()), (new.address(), new.kind()));
    }
    // The names are the successor's: the old process's end leaves them, its own end takes them away.
    let path = beside(&place, "stream");
    let published = inode(&path);
    drop((given, tenure, old));
    assert_eq!(inode(&path), published);
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o640
    );
    UnixStream::connect(&path).unwrap();
    drop((successor, new));
    let left: Vec<_> = std::fs::read_dir(place.directory()).unwrap().collect();
    let sockets = left.iter().map(|entry| entry.as_ref().unwrap().file_name());
    let sockets: Vec<_> = sockets
        .filter(|name| !name.to_string_lossy().ends_with("lock"))
        .collect();
    assert!(sockets.is_empty(), "{sockets:?}");
}

#[tokio::test]
async fn a_control_socket_is_a_path_closed_to_others() {
    let place = TempSocket::private();
    let error = begin(&Address::Autobind).await.unwrap_err();
    assert!(matches!(error, HandoverError::NotAPath(_)), "{error}");
    let control = control(&place);
    let _tenure = first(&control, &[]).await;
    let mode = std::fs::metadata(beside(&place, "control"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Takes over everything there and serves until its standard input ends.
#[test]
#[ignore = "runs as a child of clients_see_the_successor_once_it_has_taken_over"]
fn successor_child() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let control: Address = child_variable("CONTROL").parse().unwrap();
        let mut succession = begin(&control).await.unwrap();
        let listeners = succession.take_all(&Listener::options());
        println!("offered {}", listeners.len());
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        let listeners: Vec<&Listener> = listeners.iter().collect();
        let _tenure = succession.take_over(&listeners).await.unwrap();
        println!("serving");
        let _end = std::io::stdin().read_line(&mut line).unwrap();
    });
}

/// Waits for a line of the child's while the runtime goes on.
async fn hear(mut child: Running, marker: &'static str) -> (String, Running) {
    let hearing = tokio::task::spawn_blocking(move || (child.wait_for(marker), child));
    hearing.await.unwrap()
}

/// Who listens there, by the kernel's word to a client.
pub(crate) fn listening_pid(path: &Path) -> u32 {
    let peer = LocalPeer::of(UnixStream::connect(path).unwrap()).unwrap();
    *peer.pid().value().unwrap()
}

async fn controlling_pid(control: &Address) -> u32 {
    let (_socket, peer) = connect_packet(control, &ConnectOptions::default())
        .await
        .unwrap();
    *peer.as_local().unwrap().pid().value().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_see_the_successor_once_it_has_taken_over() {
    use std::io::Write as _;
    let place = TempSocket::private();
    let control = control(&place);
    let listener = Listener::options().bind(place.path()).unwrap();
    let listeners = [&listener];
    let mut tenure = first(&control, &listeners).await;
    let mut child = Child::test("handover::successor_child")
        .env("CONTROL", control.to_string())
        .spawn();
    let mut stdin = child.child.stdin.take().unwrap();
    let request = tenure.request().await.unwrap();
    let peer = request.peer().as_local().unwrap().pid().value().copied();
    assert_eq!(peer, Some(child.child.id()));
    let offer = request.offer(&listeners);
    let waiting = async {
        let (offered, child) = hear(child, "offered ").await;
        assert_eq!(offered, "1");
        // Offered is not taken: clients still see this process.
        assert_eq!(listening_pid(place.path()), std::process::id());
        writeln!(stdin).unwrap();
        child
    };
    let (prepared, child) = tokio::join!(offer, waiting);
    let mut given = prepared.unwrap().give(&listeners).await.unwrap();
    let (_, mut child) = hear(child, "serving").await;
    assert_eq!(listening_pid(place.path()), child.child.id());
    assert_eq!(controlling_pid(&control).await, child.child.id());
    // It dies, and the old process, which still has everything, serves on as itself.
    child.kill();
    assert_eq!(given.watch().await.unwrap(), Watched::Died);
    given.take_back(&listeners).unwrap();
    assert_eq!(listening_pid(place.path()), std::process::id());
    drop(listener);
    assert!(!place.path().exists(), "the name is its own again");
}

/// A predecessor that offers its listener, and is killed by its parent as far as `STEP`.
#[test]
#[ignore = "runs as a child of a_predecessor_killed_at_any_step_is_followed_without_it"]
fn predecessor_child() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let control: Address = child_variable("CONTROL").parse().unwrap();
        let path = child_variable("SOCKET");
        let listener = Listener::options().bind(Path::new(&path)).unwrap();
        let listeners = [&listener];
        let mut tenure = first(&control, &listeners).await;
        println!("serving");
        let request = tenure.request().await.unwrap();
        println!("asked");
        if child_variable("STEP") == "asked" {
            std::future::pending::<()>().await;
        }
        let prepared = request.offer(&listeners).await.unwrap();
        println!("prepared");
        if child_variable("STEP") == "prepared" {
            std::future::pending::<()>().await;
        }
        let _given = prepared.give(&listeners).await.unwrap();
        println!("given");
        std::future::pending::<()>().await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_predecessor_killed_at_any_step_is_followed_without_it() {
    for step in ["asked", "prepared", "given"] {
        let place = TempSocket::private();
        let control = control(&place);
        let child = Child::test("handover::predecessor_child")
            .env("CONTROL", control.to_string())
            .env("SOCKET", place.path())
            .env("STEP", step)
            .spawn();
        let (_, child) = hear(child, "serving").await;
        let killing = async { hear(child, step).await.1.kill() };
        let taking = async {
            let mut succession = begin(&control).await.unwrap();
            let listener = succession.listen(&Listener::options(), place.address().as_str());
            let listener = listener.unwrap();
            let tenure = succession.take_over(&[&listener]).await.unwrap();
            (tenure, listener)
        };
        let ((tenure, listener), ()) = tokio::join!(taking, killing);
        assert_eq!(listening_pid(place.path()), std::process::id(), "{step}");
        listener.accept().unwrap();
        assert_eq!(controlling_pid(&control).await, std::process::id());
        drop((tenure, listener));
        assert!(!place.path().exists(), "{step}: the name was not its own");
    }
}

#[tokio::test]
async fn a_successor_that_leaves_in_order_is_not_followed_by_its_predecessor() {
    let place = TempSocket::private();
    let control = control(&place);
    let mut tenure = first(&control, &[]).await;
    let giving = async {
        let request = tenure.request().await.unwrap();
        request.offer(&[]).await.unwrap().give(&[]).await.unwrap()
    };
    let taking = async { begin(&control).await.unwrap().take_over(&[]).await.unwrap() };
    let (mut given, mut successor) = tokio::join!(giving, taking);
    drop(successor.take_predecessor().unwrap().farewell());
    assert_eq!(given.watch().await.unwrap(), Watched::LeftInOrder);
}

#[test]
#[ignore = "runs as a child of another_users_process_is_refused_on_either_side"]
fn stranger_child() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let error = begin(&child_variable("CONTROL").parse().unwrap())
            .await
            .unwrap_err();
        println!("{error}");
        assert!(matches!(
            error,
            HandoverError::NotAdmitted { .. }
                | HandoverError::Left(_)
                | HandoverError::Refused { .. }
        ));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn another_users_process_is_refused_on_either_side() {
    require_root!();
    let place = TempSocket::shared();
    let control = control(&place);
    let mut tenure = first(&control, &[]).await;
    // The mode alone keeps others out; were it opened by a slip, each side would still look who is there.
    let open = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(beside(&place, "control"), open).unwrap();
    let child = Child::test("handover::stranger_child")
        .env("CONTROL", control.to_string())
        .user(65533, 65533, &[])
        .run_async();
    tokio::select! {
        _ = tenure.request() => panic!("a stranger is no successor"),
        outcome = child => outcome.assert_success(),
    }
}
