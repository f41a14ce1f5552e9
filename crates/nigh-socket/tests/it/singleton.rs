//! One instance per user or system: who is first, and that the second talks to it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;

use nigh_socket::{
    Acceptor, Claim, ConnectFault, Instance, Listener, Policy, Running, Singleton, SingletonError,
    blocking,
};
use nigh_testkit::{Child, TempSocket, require_root};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn first(singleton: &Singleton) -> (Instance, Listener) {
    match singleton.claim().unwrap() {
        Claim::First { instance, listener } => (instance, listener),
        Claim::Second(running) => panic!("{running:?}"),
    }
}

fn second(singleton: &Singleton) -> Running {
    match singleton.claim().unwrap() {
        Claim::Second(running) => running,
        first @ Claim::First { .. } => panic!("{first:?}"),
    }
}

fn places(place: &TempSocket) -> [Singleton; 3] {
    let name = || format!("test-{}-{:p}", std::process::id(), place);
    [
        Singleton::new(name()).in_directory(place.path().parent().unwrap()),
        Singleton::new(name()).by_abstract_name(),
        Singleton::new(name()).by_abstract_name_of_the_system(),
    ]
}

#[tokio::test]
async fn the_second_start_talks_to_the_first_and_takes_its_place_later() {
    let place = TempSocket::private();
    for singleton in places(&place) {
        let (instance, listener) = first(&singleton);
        let running = second(&singleton);
        let mut acceptor = Acceptor::new(listener).unwrap();
        let (talking, accepted) = tokio::join!(running.connect(), acceptor.accept());
        let (mut stream, _) = talking.unwrap();
        stream.write_all(b"open the window").await.unwrap();
        drop(stream);
        let admitted = accepted.unwrap().admit(&Policy::same_user()).unwrap();
        let mut heard = String::new();
        let mut stream = admitted.into_parts().0.into_stream().unwrap();
        stream.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "open the window");
        drop((acceptor, instance));
        first(&singleton);
    }
}

#[test]
fn without_a_runtime_it_is_the_same() {
    let place = TempSocket::private();
    for singleton in places(&place) {
        let (_instance, listener) = first(&singleton);
        let running = second(&singleton);
        let talking = std::thread::spawn(move || {
            let (mut stream, peer) = running.connect_blocking().unwrap();
            stream.write_all(b"hello").unwrap();
            peer
        });
        let mut acceptor = blocking::Acceptor::new(listener);
        let admitted = acceptor.accept().unwrap().admit(&Policy::any()).unwrap();
        let mut heard = String::new();
        let mut stream = admitted.into_parts().0.into_stream().unwrap();
        stream.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "hello");
        assert!(talking.join().unwrap().as_local().is_some());
    }
}

/// However many start at once, one is first.
#[test]
fn of_many_starts_one_is_first() {
    let place = TempSocket::private();
    for singleton in places(&place) {
        let barrier = std::sync::Barrier::new(8);
        let claims: Vec<Claim> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        singleton.claim().unwrap()
                    })
                })
                .collect();
            starts
                .into_iter()
                .map(|start| start.join().unwrap())
                .collect()
        });
        let firsts = claims
            .iter()
            .filter(|claim| matches!(claim, Claim::First { .. }));
        assert_eq!(firsts.count(), 1);
    }
}

/// The kernel lets go of the lock, however the holder ends; its socket is replaced.
#[test]
fn a_first_that_was_killed_is_replaced() {
    let place = TempSocket::private();
    let directory = place.path().parent().unwrap().to_owned();
    let mut child = Child::test("singleton::holds_until_it_is_killed")
        .env("DIRECTORY", &directory)
        .spawn();
    assert_eq!(child.wait_for("ready:"), "");
    let singleton = Singleton::new("killed").in_directory(&directory);
    second(&singleton);
    child.child.kill().unwrap();
    child.child.wait().unwrap();
    assert!(directory.join("killed.sock").exists());
    first(&singleton);
    assert!(!directory.join("killed.sock").exists());
}

#[test]
#[ignore = "runs as a child of a_first_that_was_killed_is_replaced"]
fn holds_until_it_is_killed() {
    let directory = nigh_testkit::child_variable("DIRECTORY");
    let _held = first(&Singleton::new("killed").in_directory(directory));
    println!("ready:");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Trap: anybody can take an abstract name; the one that talks finds out.
#[tokio::test]
async fn another_users_first_is_not_talked_to() {
    require_root!();
    let name = format!("squatted-{}", std::process::id());
    let mut child = Child::test("singleton::squats")
        .user(61_005, 61_005, &[])
        .env("NAME", format!("unix-abstract:nigh/0/{name}"))
        .spawn();
    assert_eq!(child.wait_for("ready:"), "");
    let running = second(&Singleton::new(&name).by_abstract_name());
    let refused = running.connect().await.unwrap_err();
    assert!(
        matches!(refused.fault(), ConnectFault::Server(_)),
        "{refused:?}"
    );
}

#[test]
#[ignore = "runs as a child of another_users_first_is_not_talked_to"]
fn squats() {
    let name = nigh_testkit::child_variable("NAME");
    let _squatter = Listener::options().bind(name.as_str()).unwrap();
    println!("ready:");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn what_cannot_be_told_is_an_error() {
    let place = TempSocket::private();
    let directory = place.path().parent().unwrap();
    for name in ["", ".hidden", "a/b", "a\0b", &"x".repeat(65)] {
        let refused = Singleton::new(name).in_directory(directory).claim();
        assert!(matches!(refused, Err(SingletonError::Name(_))), "{name}");
    }
    let refused = Singleton::new("x")
        .in_directory("/no/such")
        .claim()
        .unwrap_err();
    assert!(matches!(refused, SingletonError::Directory { .. }) && refused.hint().is_some());
    let open = directory.join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
    let refused = Singleton::new("x").in_directory(&open).claim();
    assert!(matches!(refused, Err(SingletonError::Directory { .. })));
    std::fs::create_dir(directory.join("planted.lock")).unwrap();
    let refused = Singleton::new("planted")
        .in_directory(directory)
        .claim()
        .unwrap_err();
    assert!(matches!(refused, SingletonError::Lock(_)) && refused.hint().is_some());
    // Not a socket: it is never removed.
    std::fs::write(directory.join("file.sock"), "").unwrap();
    let refused = Singleton::new("file")
        .in_directory(directory)
        .claim()
        .unwrap_err();
    assert!(matches!(refused, SingletonError::Bind(_)) && refused.hint().is_some());
}

#[test]
fn the_place_is_in_the_users_runtime_directory() {
    let place = TempSocket::private();
    Child::test("singleton::in_runtime_directory")
        .env("XDG_RUNTIME_DIR", place.path().parent().unwrap())
        .run()
        .assert_success();
    let nowhere = Child::test("singleton::in_no_directory").env("XDG_RUNTIME_DIR", "relative");
    if rustix::process::geteuid().is_root() {
        nowhere.user(61_006, 61_006, &[]).run().assert_success();
    }
}

#[test]
#[ignore = "runs as a child of the_place_is_in_the_users_runtime_directory"]
fn in_runtime_directory() {
    let directory = nigh_testkit::child_variable("XDG_RUNTIME_DIR");
    let (_instance, listener) = first(&Singleton::new("placed"));
    assert_eq!(
        listener.address().to_string(),
        format!("unix:{directory}/placed.sock")
    );
    assert!(
        std::path::Path::new(&directory)
            .join("placed.lock")
            .exists()
    );
}

#[test]
#[ignore = "runs as a child of the_place_is_in_the_users_runtime_directory"]
fn in_no_directory() {
    let refused = Singleton::new("placed").claim().unwrap_err();
    assert!(
        matches!(refused, SingletonError::NoDirectory { uid: 61_006 }),
        "{refused:?}"
    );
}
