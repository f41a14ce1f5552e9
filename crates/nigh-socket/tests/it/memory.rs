//! What arrived is what it is said to be; and a sealed memory file stays what it is.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::fs::File;
use std::io::{IoSlice, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};

use nigh_socket::fdcheck::{self, Access, FdError};
use nigh_socket::{
    FileKind, Listener, MemoryFile, SealedFile, SocketKind, UnixSeqpacket, UnixStream,
};
use nigh_testkit::{Child, OpenFds, TempSocket};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};

fn open(path: &std::path::Path, flags: OFlags) -> OwnedFd {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

#[test]
fn a_descriptor_is_described_by_kind_and_access() {
    let place = TempSocket::private();
    let path = place.join("file");
    std::fs::write(&path, "x").unwrap();
    for (flags, access) in [
        (OFlags::RDONLY, Access::Read),
        (OFlags::WRONLY, Access::Write),
        (OFlags::RDWR, Access::ReadWrite),
        (OFlags::PATH, Access::Path),
    ] {
        let fd = open(&path, flags);
        assert_eq!(fdcheck::access(&fd).unwrap(), access);
        fdcheck::require_access(&fd, access).unwrap();
        fdcheck::require_kind(&fd, FileKind::Regular).unwrap();
    }
    let fd = open(&path, OFlags::RDWR);
    let error = fdcheck::require_access(&fd, Access::Read).unwrap_err();
    assert_eq!(
        error.to_string(),
        "descriptor: open for reading and writing, not for reading"
    );
    let error = fdcheck::require_kind(&fd, FileKind::Directory).unwrap_err();
    assert_eq!(
        error.to_string(),
        "descriptor: a regular file, not a directory"
    );
    let (reader, writer) = std::io::pipe().unwrap();
    assert_eq!(fdcheck::kind(&reader).unwrap(), FileKind::Fifo);
    assert_eq!(fdcheck::access(&writer).unwrap(), Access::Write);
    let directory = open(place.directory(), OFlags::RDONLY);
    assert_eq!(fdcheck::kind(&directory).unwrap(), FileKind::Directory);
    let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
    assert_eq!(fdcheck::kind(&event).unwrap(), FileKind::Other);
    let link = place.join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let link = open(&link, OFlags::PATH | OFlags::NOFOLLOW);
    assert_eq!(fdcheck::kind(&link).unwrap(), FileKind::Symlink);
}

#[test]
fn a_descriptor_is_compared_with_the_file_at_a_path() {
    let place = TempSocket::private();
    let (path, other) = (place.join("file"), place.join("other"));
    std::fs::write(&path, "x").unwrap();
    let fd = open(&path, OFlags::PATH);
    fdcheck::require_same_file(&fd, &path).unwrap();
    std::os::unix::fs::symlink(&path, place.join("link")).unwrap();
    fdcheck::require_same_file(&fd, &place.join("link")).unwrap();
    std::fs::rename(&path, &other).unwrap();
    std::fs::write(&path, "x").unwrap();
    let error = fdcheck::require_same_file(&fd, &path).unwrap_err();
    assert!(matches!(error, FdError::OtherFile { .. }), "{error}");
    fdcheck::require_same_file(&fd, &other).unwrap();
    let error = fdcheck::require_same_file(&fd, &place.join("none")).unwrap_err();
    assert!(matches!(error, FdError::System(_)), "{error}");
}

#[tokio::test]
async fn sockets_are_told_apart() {
    let place = TempSocket::private();
    let listener = Listener::options().bind(place.path()).unwrap();
    let (stream, _other) = UnixStream::pair().unwrap();
    fdcheck::require_listening(&listener, SocketKind::Stream).unwrap();
    fdcheck::require_connected(&stream, SocketKind::Stream).unwrap();
    assert!(fdcheck::require_listening(&stream, SocketKind::Stream).is_err());
    assert!(fdcheck::require_connected(&listener, SocketKind::Stream).is_err());
    assert!(fdcheck::require_connected(&stream, SocketKind::Seqpacket).is_err());
    let file = open(place.directory(), OFlags::RDONLY);
    let error = fdcheck::require_connected(&file, SocketKind::Stream).unwrap_err();
    assert!(matches!(error, FdError::Socket(_)), "{error}");
}

fn sealed(bytes: &[u8]) -> SealedFile {
    let mut file = MemoryFile::create("nigh-test").unwrap();
    file.write_all(bytes).unwrap();
    file.seal().unwrap()
}

#[tokio::test]
async fn a_sealed_file_is_created_sent_verified_and_mapped() {
    let (a, b) = UnixSeqpacket::pair().unwrap();
    let file = sealed(b"snapshot");
    a.send(&[IoSlice::new(b"x")], &[file.as_fd()])
        .await
        .unwrap();
    drop(file);
    let received = b.recv(&mut [0; 8]).await.unwrap().into_packet().unwrap();
    let fd = received.fds.into_iter().next().unwrap();
    let file = SealedFile::verify(fd).unwrap();
    assert_eq!(file.length().unwrap(), 8);
    let mut part = [0; 4];
    file.read_exact_at(&mut part, 4).unwrap();
    assert_eq!(&part, b"shot");
    assert!(file.read_exact_at(&mut part, 5).is_err());
    let mapping = file.map().unwrap();
    drop(file);
    let read = std::thread::spawn(move || mapping.to_vec()).join().unwrap();
    assert_eq!(read, b"snapshot");
    assert!(sealed(b"").map().unwrap().is_empty());
}

#[test]
fn nobody_changes_a_sealed_file() {
    let file = sealed(b"snapshot");
    let mut other = File::from(file.as_fd().try_clone_to_owned().unwrap());
    assert!(other.write(b"X").is_err());
    for length in [0, 4, 100] {
        assert!(other.set_len(length).is_err());
    }
    assert!(rustix::fs::fcntl_add_seals(&other, SealFlags::FUTURE_WRITE).is_err());
    // Not even opened again.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&other));
    let mut again = File::options().read(true).write(true).open(path).unwrap();
    assert!(again.write(b"X").is_err());
    assert_eq!(&file.map().unwrap()[..], b"snapshot");
}

#[test]
fn what_can_still_change_is_refused() {
    let refused = |fd: OwnedFd| {
        let error = SealedFile::verify(fd).unwrap_err();
        assert!(matches!(error, FdError::NotSealed), "{error}");
    };
    let mut file = MemoryFile::create("nigh-test").unwrap();
    file.seek(SeekFrom::Start(3)).unwrap();
    file.write_all(b"x").unwrap();
    refused(file.as_fd().try_clone_to_owned().unwrap());
    let all = [
        SealFlags::SHRINK,
        SealFlags::GROW,
        SealFlags::WRITE,
        SealFlags::SEAL,
    ];
    for missing in 0..all.len() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create("nigh-test", flags).unwrap();
        for (at, seal) in all.into_iter().enumerate() {
            if at != missing {
                rustix::fs::fcntl_add_seals(&fd, seal).unwrap();
            }
        }
        refused(fd);
    }
    refused(rustix::fs::memfd_create("nigh-test", MemfdFlags::CLOEXEC).unwrap());
    let place = TempSocket::private();
    let path = place.join("file");
    std::fs::write(&path, "x").unwrap();
    refused(open(&path, OFlags::RDONLY));
    refused(open(&path, OFlags::PATH));
}

#[test]
fn no_memory_file_leaks_a_descriptor() {
    Child::test("memory::leak_child").run().assert_success();
}

#[test]
#[ignore = "runs as a child of no_memory_file_leaks_a_descriptor"]
fn leak_child() {
    let before = OpenFds::now();
    let mapping = sealed(b"snapshot").map().unwrap();
    // A mapping holds no descriptor.
    before.assert_unchanged();
    assert_eq!(&mapping[..], b"snapshot");
    let file = MemoryFile::create("nigh-test").unwrap();
    assert!(SealedFile::verify(file.as_fd().try_clone_to_owned().unwrap()).is_err());
    drop(file);
    before.assert_unchanged();
}
