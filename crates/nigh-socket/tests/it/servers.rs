//! Servers made without this library, living and dead, for the tests of binding and connecting.
//!
//! Trap: a child that another test starts has copies of all our descriptors until its exec, so what was closed here may
//! live for a moment longer. Whoever needs it dead waits until it is.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::os::fd::OwnedFd;
use std::path::Path;

use nigh_socket::SocketKind;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// How often something is looked at before it counts as never going to happen.
const LOOKS_MAX: u32 = 1_000_000;

/// Waits until it is so.
pub(crate) fn until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..LOOKS_MAX {
        if is_so() {
            return;
        }
        std::thread::yield_now();
    }
    assert!(is_so(), "it never came to be");
}

/// A socket bound to the path; with a backlog it listens, unless it is a datagram socket.
pub(crate) fn living(path: &Path, kind: SocketKind, backlog: Option<i32>) -> OwnedFd {
    let server = socket(kind);
    rustix::net::bind(&server, &SocketAddrUnix::new(path).unwrap()).unwrap();
    if let Some(backlog) = backlog.filter(|_| kind != SocketKind::Datagram) {
        rustix::net::listen(&server, backlog).unwrap();
    }
    server
}

/// A socket file whose server is gone.
pub(crate) fn dead(path: &Path, kind: SocketKind) {
    drop(living(path, kind, Some(8)));
    let address = SocketAddrUnix::new(path).unwrap();
    until(|| {
        rustix::net::connect(socket(SocketKind::Datagram), &address) == Err(Errno::CONNREFUSED)
    });
}

fn socket(kind: SocketKind) -> OwnedFd {
    let kind = match kind {
        SocketKind::Stream => SocketType::STREAM,
        SocketKind::Seqpacket => SocketType::SEQPACKET,
        _ => SocketType::DGRAM,
    };
    rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap()
}
