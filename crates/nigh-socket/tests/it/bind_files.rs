//! The files around a socket: its owner, group and mode, its directory, its lock, and names longer than `sun_path`.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::fs::{self, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nigh_socket::{BindFault, FileKind, Listener, LockError, Operation};
use nigh_testkit::{TempSocket, require_root};
use rustix::fs::FlockOperation;

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_mode_is_what_was_asked_for() {
    for mode in [0o600, 0o660, 0o666, 0o222, 0o777, 0] {
        let place = TempSocket::private();
        let _listener = Listener::options().mode(mode).bind(place.path()).unwrap();
        assert_eq!(mode_of(place.path()), mode);
    }
    let place = TempSocket::private();
    let _listener = Listener::options().bind(place.path()).unwrap();
    assert_eq!(mode_of(place.path()), 0o600, "the default");
    let more = Listener::options().mode(0o4600).bind(place.path());
    assert!(matches!(more.unwrap_err().fault(), BindFault::Mode(0o4600)));
}

#[test]
fn owner_and_group_are_set_by_number_and_by_name() {
    require_root!();
    let place = TempSocket::private();
    let options = Listener::options().mode(0o660);
    let numbers = options.clone().owner_id(1234).group_id(5678);
    let names = options.clone().owner("1234").group("5678");
    for options in [numbers, names] {
        let _listener = options.bind(place.path()).unwrap();
        let file = fs::metadata(place.path()).unwrap();
        assert_eq!((file.uid(), file.gid()), (1234, 5678));
        assert_eq!(mode_of(place.path()), 0o660);
    }
    let _listener = options.owner("nobody").bind(place.path()).unwrap();
    let file = fs::metadata(place.path()).unwrap();
    assert_eq!((file.uid(), file.gid()), (65534, 0));
}

#[test]
fn an_unknown_owner_is_found_out_before_anything_is_made() {
    let place = TempSocket::private();
    for options in [
        Listener::options().owner("no-such-user"),
        Listener::options().group("no-such-group"),
    ] {
        let error = options.bind(place.path()).unwrap_err();
        assert!(matches!(error.fault(), BindFault::Principal(_)), "{error}");
    }
    assert!(place.names().is_empty());
}

#[test]
fn a_path_longer_than_sun_path_works() {
    let place = TempSocket::private();
    let mut directory = place.directory().to_owned();
    while directory.as_os_str().len() < 272 {
        directory.push("d".repeat(40));
    }
    fs::create_dir_all(&directory).unwrap();
    for name in [
        "s".to_owned(),
        "n".repeat(48),
        "n".repeat(49),
        "n".repeat(255),
    ] {
        let path = directory.join(&name);
        let listener = Listener::options().bind(&path).unwrap();
        assert!(path.exists());
        let handle = fs::File::open(&directory).unwrap();
        let short = format!("/proc/self/fd/{}/{name}", handle.as_raw_fd());
        if short.len() <= 107 {
            UnixStream::connect(short).unwrap();
            listener.accept().unwrap();
        }
        let taken = Listener::options().bind(&path).unwrap_err();
        assert!(matches!(taken.fault(), BindFault::InUse), "{taken}");
        drop(listener);
        assert!(!path.exists());
    }
    let too_long = Listener::options().bind(directory.join("n".repeat(256)));
    let error = too_long.unwrap_err();
    assert!(matches!(error.fault(), BindFault::System { .. }), "{error}");
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    let refused = |place: &TempSocket| {
        let error = Listener::options().bind(place.path()).unwrap_err();
        assert!(
            matches!(error.fault(), BindFault::SharedDirectory { .. }),
            "{error}"
        );
        assert!(error.hint().is_some());
        assert!(place.names().is_empty(), "not even a lock file was made");
        let allowed = Listener::options().allow_shared_parent(true);
        allowed.bind(place.path()).unwrap();
    };
    refused(&TempSocket::with_mode(0o777));
    refused(&TempSocket::with_mode(0o703));
    for mode in [0o1777, 0o755, 0o770] {
        // Our own group may write: its members are meant to.
        let place = TempSocket::with_mode(mode);
        Listener::options().bind(place.path()).unwrap();
    }
    require_root!();
    let place = TempSocket::with_mode(0o770);
    chown(place.directory(), None, Some(1234)).unwrap();
    refused(&place);
}

#[test]
fn a_missing_directory_is_made_on_request_only() {
    let place = TempSocket::private();
    let directory = place.join("d");
    let path = directory.join("s");
    let error = Listener::options().bind(&path).unwrap_err();
    assert!(
        matches!(error.fault(), BindFault::System { operation: Operation::OpenDirectory, object: Some(object), .. } if object == &directory),
        "{error}"
    );
    assert!(error.hint().is_some());
    let create = Listener::options().create_parent(0o751);
    create.bind(&path).unwrap();
    assert_eq!(mode_of(&directory), 0o751);
    // One that is there keeps its mode.
    fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
    create.bind(&path).unwrap();
    assert_eq!(mode_of(&directory), 0o700);
    let deeper = create.bind(place.join("x/y/s")).unwrap_err();
    assert!(deeper.to_string().contains("cannot make directory"));
    assert!(deeper.hint().is_some());
}

#[test]
fn a_lock_that_is_no_file_of_ours_is_refused() {
    let place = TempSocket::private();
    let lock = place.join(".s.nigh-lock");
    let fault = || {
        let error = Listener::options().bind(place.path()).unwrap_err();
        assert!(error.hint().is_some());
        match error.fault() {
            BindFault::Lock(LockError::NotRegular { path, found }) => {
                assert_eq!(path, &lock);
                *found
            }
            other => panic!("{other:?}"),
        }
    };
    fs::write(place.join("victim"), "").unwrap();
    symlink(place.join("victim"), &lock).unwrap();
    assert_eq!(fault(), FileKind::Symlink);
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    assert_eq!(fault(), FileKind::Directory);
    fs::remove_dir(&lock).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &lock, rustix::fs::Mode::RWXU).unwrap();
    assert_eq!(fault(), FileKind::Fifo);
    assert!(!place.path().exists());
}

#[test]
fn a_lock_that_belongs_to_another_user_is_refused() {
    require_root!();
    let place = TempSocket::private();
    let lock = place.join(".s.nigh-lock");
    fs::write(&lock, "").unwrap();
    chown(&lock, Some(1234), None).unwrap();
    let error = Listener::options().bind(place.path()).unwrap_err();
    assert!(
        matches!(
            error.fault(),
            BindFault::Lock(LockError::ForeignOwner { uid: 1234, .. })
        ),
        "{error}"
    );
}

#[test]
fn a_lock_that_hangs_is_waited_for_within_bounds() {
    let place = TempSocket::private();
    let listener = Listener::options().bind(place.path()).unwrap();
    let lock = fs::File::open(place.join(".s.nigh-lock")).unwrap();
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
    let options = Listener::options().lock_wait(Duration::from_millis(20));
    let error = options.bind(place.path()).unwrap_err();
    assert!(
        matches!(error.fault(), BindFault::Lock(LockError::Held { waited, .. }) if *waited >= Duration::from_millis(20)),
        "{error}"
    );
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains(".s.nigh-lock"), "{source}");
    // Our end is not held up either: the socket stays behind, stale.
    let stays = listener.close().unwrap_err();
    assert!(stays.hint().is_some());
    assert_eq!(stays.path(), place.path());
    drop(lock);
    Listener::options().bind(place.path()).unwrap();
}

#[test]
fn a_lock_is_waited_for_while_it_is_held_shortly() {
    let place = TempSocket::private();
    drop(Listener::options().bind(place.path()).unwrap());
    let lock = fs::File::open(place.join(".s.nigh-lock")).unwrap();
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| Listener::options().bind(place.path()).unwrap());
        for _ in 0..100 {
            std::thread::yield_now();
        }
        drop(lock);
        waiting.join().unwrap();
    });
}
