//! `published:FILE`: a server whose name the kernel picks tells clients in a file, atomically, safely, and as long as it lives.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper's broken precondition is a failed test"
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nigh_socket::{
    Address, BindFault, Cause, ConnectFault, ConnectOptions, Existing, Listener, PublishedFault,
    SocketKind, Stream, UnixDatagram, blocking, connect, connect_packet, resolve,
};
use nigh_testkit::{Child, TempSocket, child_variable};

fn published(file: &Path) -> Address {
    Address::Published(file.to_owned())
}

fn at_once() -> ConnectOptions {
    ConnectOptions::default().wait(false)
}

fn bind_fault(existing: Existing, file: &Path) -> PublishedFault {
    let options = Listener::options().existing(existing).publish(file);
    match options.bind("autobind:").unwrap_err().fault() {
        BindFault::Published(error) => {
            assert_eq!(error.file(), file);
            copy(error.fault())
        }
        other => panic!("{other:?}"),
    }
}

async fn read_fault(file: &Path) -> PublishedFault {
    let error = connect(&published(file), &ConnectOptions::default()).await;
    match error.unwrap_err().fault() {
        ConnectFault::Published(error) => copy(error.fault()),
        other => panic!("{other:?}"),
    }
}

/// As far as these tests compare.
fn copy(fault: &PublishedFault) -> PublishedFault {
    match fault {
        PublishedFault::InUse => PublishedFault::InUse,
        PublishedFault::Stale => PublishedFault::Stale,
        PublishedFault::NotAnAddress => PublishedFault::NotAnAddress,
        PublishedFault::NotRegular(kind) => PublishedFault::NotRegular(*kind),
        PublishedFault::ForeignOwner { uid } => PublishedFault::ForeignOwner { uid: *uid },
        PublishedFault::Writable { mode } => PublishedFault::Writable { mode: *mode },
        PublishedFault::SharedDirectory { mode, gid } => PublishedFault::SharedDirectory {
            mode: *mode,
            gid: *gid,
        },
        PublishedFault::TooLong => PublishedFault::TooLong,
        PublishedFault::NotOneLine => PublishedFault::NotOneLine,
        PublishedFault::Unreachable(address) => PublishedFault::Unreachable(address.clone()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn clients_of_every_kind_find_a_server_that_published_its_address() {
    let place = TempSocket::private();
    let file = place.join("address");
    let options = Listener::options().publish(&file);

    let listener = options.bind("autobind:").unwrap();
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text, format!("{}\n", listener.address()));
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o644
    );
    let (stream, _) = connect(&published(&file), &at_once()).await.unwrap();
    assert!(matches!(stream, Stream::Unix(_)));
    let found = resolve(&published(&file), &at_once()).await.unwrap();
    assert_eq!(&found, listener.address());
    drop(listener);
    assert_eq!(place.names(), [".address.nigh-lock"]);

    let listener = options.bind("tcp:127.0.0.1:0").unwrap();
    let (stream, _) = connect(&published(&file), &at_once()).await.unwrap();
    assert!(matches!(stream, Stream::Tcp(_)));
    drop(listener);

    let packets = options.clone().kind(SocketKind::Seqpacket);
    let listener = packets.bind("autobind:").unwrap();
    connect_packet(&published(&file), &at_once()).await.unwrap();
    blocking::connect_packet(&published(&file), &at_once()).unwrap();
    drop(listener);

    let datagrams = options.kind(SocketKind::Datagram);
    let server = UnixDatagram::bound(datagrams.bind("autobind:").unwrap()).unwrap();
    let client = UnixDatagram::unbound().unwrap();
    client.connect(&published(&file)).unwrap();
    client
        .try_send(&[std::io::IoSlice::new(b"x")], &[])
        .unwrap();
    let received = server.try_recv(&mut [0; 8]).unwrap();
    assert_eq!(received.length, 1);
    drop(server);
    assert_eq!(place.names(), [".address.nigh-lock"]);
}

#[tokio::test]
async fn a_relative_path_is_published_as_an_absolute_one() {
    let place = TempSocket::private();
    let file = place.join("address");
    let depth = std::env::current_dir().unwrap().components().count();
    let relative = Path::new(&"../".repeat(depth)).join(place.path().strip_prefix("/").unwrap());
    let options = Listener::options().publish(&file);
    let listener = options.bind(relative).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("unix:/"), "{text}");
    connect(&published(&file), &at_once()).await.unwrap();
    drop(listener);
    assert_eq!(place.names(), [".address.nigh-lock", ".s.nigh-lock"]);
}

#[tokio::test]
async fn the_file_is_waited_for_like_a_missing_server() {
    let place = TempSocket::private();
    let file = place.join("address");
    let error = connect(&published(&file), &at_once()).await.unwrap_err();
    let ConnectFault::Unavailable { cause, tries, .. } = error.fault() else {
        panic!("{error:?}");
    };
    assert_eq!((*cause, *tries), (Cause::Missing, 1));

    // First a dead server's address is there, then the living one's.
    fs::write(&file, "unix-abstract:nigh-nobody-is-here\n").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let address = published(&file);
    let options = ConnectOptions::default().timeout(Duration::from_secs(20));
    let connecting = tokio::spawn(async move { connect(&address, &options).await.map(|_| ()) });
    let publish = file.clone();
    let listener = tokio::task::spawn_blocking(move || {
        Listener::options()
            .publish(publish)
            .bind("autobind:")
            .unwrap()
    });
    let listener = listener.await.unwrap();
    connecting.await.unwrap().unwrap();
    drop(listener);
}

#[test]
fn a_living_servers_file_is_left_alone_and_a_dead_ones_is_replaced() {
    let place = TempSocket::private();
    let file = place.join("address");
    let options = Listener::options().publish(&file);
    let first = options.bind("autobind:").unwrap();
    for existing in [Existing::Fail, Existing::ReplaceStale] {
        assert!(matches!(bind_fault(existing, &file), PublishedFault::InUse));
    }
    let text = || fs::read_to_string(&file).unwrap();
    assert_eq!(text(), format!("{}\n", first.address()));

    let second = options.clone().existing(Existing::TakeOver);
    let second = second.bind("autobind:").unwrap();
    let line = format!("{}\n", second.address());
    assert_eq!(text(), line);
    // Not its own any more.
    first.close().unwrap();
    assert_eq!(text(), line);
    second.close().unwrap();
    assert!(!file.exists());

    fs::write(&file, "unix:/gone\n").unwrap();
    assert!(matches!(
        bind_fault(Existing::Fail, &file),
        PublishedFault::Stale
    ));
    let third = options.bind("autobind:").unwrap();
    assert_eq!(text(), format!("{}\n", third.address()));
}

#[test]
#[ignore = "runs as a child of the_next_server_follows_one_that_was_killed"]
fn publishes_and_hangs() {
    let file = PathBuf::from(child_variable("NIGH_PUBLISH"));
    let listener = Listener::options().publish(file).bind("autobind:").unwrap();
    println!("published {}", listener.address());
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn the_next_server_follows_one_that_was_killed() {
    let place = TempSocket::private();
    let file = place.join("address");
    let child = Child::test("published::publishes_and_hangs").env("NIGH_PUBLISH", &file);
    let mut child = child.spawn();
    let address = child.wait_for("published ");
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{address}\n"));
    assert!(matches!(
        bind_fault(Existing::ReplaceStale, &file),
        PublishedFault::InUse
    ));
    child.kill();
    let next = Listener::options()
        .publish(&file)
        .bind("autobind:")
        .unwrap();
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text, format!("{}\n", next.address()));
}

#[test]
fn an_address_that_was_never_published_is_cleaned_and_nothing_else() {
    let place = TempSocket::private();
    let leave = |name: &str, text: &str| fs::write(place.join(name), text).unwrap();
    leave(".a.nigh-999999-0", "unix:/gone\n");
    leave(".a.nigh-999998-0", "");
    leave(".a.nigh-999997-0", "my notes");
    leave(".b.nigh-999996-0", "unix:/gone\n");
    let options = Listener::options().publish(place.join("a"));
    drop(options.bind("autobind:").unwrap());
    let left = [".a.nigh-999997-0", ".a.nigh-lock", ".b.nigh-999996-0"];
    assert_eq!(place.names(), left);
}

#[test]
fn only_what_holds_an_address_is_ever_replaced() {
    let place = TempSocket::private();
    let file = place.join("notes");
    fs::write(&file, "my notes").unwrap();
    for existing in [Existing::Fail, Existing::ReplaceStale, Existing::TakeOver] {
        assert!(matches!(
            bind_fault(existing, &file),
            PublishedFault::NotAnAddress
        ));
    }
    assert_eq!(fs::read(&file).unwrap(), b"my notes");
    let link = place.join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for other in [link.as_path(), place.directory().join("sub").as_path()] {
        if other != link {
            fs::create_dir(other).unwrap();
        }
        assert!(matches!(
            bind_fault(Existing::TakeOver, other),
            PublishedFault::NotRegular(_)
        ));
    }
    // A socket whose address could not be published is not served either.
    let options = Listener::options().publish(&file);
    options.bind(place.path()).unwrap_err();
    assert!(!place.path().exists());
    // What cannot be reached by others is not published.
    let mut left = place.names();
    left.retain(|name| !name.starts_with('.'));
    assert_eq!(left, ["link", "notes", "sub"]);
}

#[tokio::test]
async fn a_file_that_others_could_have_written_is_not_believed() {
    let place = TempSocket::private();
    let file = place.join("address");
    let listener = Listener::options().bind(place.path()).unwrap();
    let line = format!("{}\n", listener.address());
    let write = |mode: u32| {
        fs::write(&file, &line).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    };
    write(0o644);
    connect(&published(&file), &at_once()).await.unwrap();
    for mode in [0o646, 0o664] {
        write(mode);
        let fault = read_fault(&file).await;
        assert!(matches!(fault, PublishedFault::Writable { .. }));
    }
    write(0o644);
    let directory = |mode| fs::set_permissions(place.directory(), Permissions::from_mode(mode));
    directory(0o777).unwrap();
    let fault = read_fault(&file).await;
    assert!(matches!(fault, PublishedFault::SharedDirectory { .. }));
    directory(0o1777).unwrap();
    connect(&published(&file), &at_once()).await.unwrap();
    directory(0o700).unwrap();

    let link = place.join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    assert!(matches!(
        read_fault(&link).await,
        PublishedFault::NotRegular(_)
    ));
    assert!(matches!(
        read_fault(place.path()).await,
        PublishedFault::NotRegular(_)
    ));
    fs::write(&file, "x".repeat(100_000)).unwrap();
    assert!(matches!(read_fault(&file).await, PublishedFault::TooLong));
    fs::write(&file, "").unwrap();
    assert!(matches!(
        read_fault(&file).await,
        PublishedFault::NotOneLine
    ));
    fs::write(&file, format!("published:{}\n", file.display())).unwrap();
    assert!(matches!(
        read_fault(&file).await,
        PublishedFault::Unreachable(_)
    ));
}

#[tokio::test]
async fn another_users_file_is_believed_in_that_users_directory_only() {
    nigh_testkit::require_root!();
    let place = TempSocket::shared();
    let file = place.join("address");
    let listener = Listener::options().bind(place.path()).unwrap();
    fs::write(&file, format!("{}\n", listener.address())).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    std::os::unix::fs::chown(&file, Some(61_998), None).unwrap();
    let fault = read_fault(&file).await;
    assert!(matches!(
        fault,
        PublishedFault::ForeignOwner { uid: 61_998 }
    ));
    std::os::unix::fs::chown(place.directory(), Some(61_998), None).unwrap();
    connect(&published(&file), &at_once()).await.unwrap();
}
