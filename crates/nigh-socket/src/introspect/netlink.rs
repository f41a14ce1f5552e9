//! Asks the kernel for its Unix sockets over netlink; needs no privilege and sees this network namespace.

use std::cell::Cell;
use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::IntrospectError;
use super::message::{self, Diag, FileId, Progress};

/// More sockets than this are not listed: they would take some 50 MiB here.
const SOCKETS_MAX: usize = 262_144;

/// The kernel fills at most 32 KiB per datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// The kernel answers from memory; a longer silence is a fault.
const PATIENCE: Duration = Duration::from_secs(5);

/// Lists are compared until one brings nothing new, but no more than this many are asked for.
const LISTS_MAX: usize = 4;

/// Every Unix socket of this network namespace.
///
/// Trap: the kernel makes the list in pieces, and a socket can slip through between two when others are closed
/// meanwhile; so it is asked again until nothing new appears.
pub(super) fn sockets() -> Result<Vec<Diag>, IntrospectError> {
    let kernel = Kernel::open()?;
    let mut found = kernel.list()?;
    let mut known: HashSet<u32> = found.iter().map(|socket| socket.inode).collect();
    for _ in 1..LISTS_MAX {
        let before = found.len();
        found.extend(
            kernel
                .list()?
                .into_iter()
                .filter(|socket| known.insert(socket.inode)),
        );
        if found.len() == before {
            break;
        }
    }
    for listener in found.iter_mut().filter(|socket| socket.has_queue()) {
        listener.pending = kernel.pending(listener.inode)?;
    }
    Ok(found)
}

/// The file that one socket was bound to; `None` when it is gone, or has none.
pub(super) fn file(inode: u32) -> Result<Option<FileId>, IntrospectError> {
    let kernel = Kernel::open()?;
    let sequence = kernel.ask(|sequence| message::request_file(sequence, inode))?;
    let mut found = Vec::new();
    while kernel.read(sequence, &mut found)? == Progress::More && found.is_empty() {}
    Ok(found.pop().and_then(|socket| socket.file))
}

/// A sock_diag socket. Each question has its own number, so that what is left of an earlier answer is not taken for a
/// later one's.
struct Kernel {
    socket: OwnedFd,
    asked: Cell<u32>,
}

impl Kernel {
    fn open() -> Result<Self, IntrospectError> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            Some(SOCK_DIAG),
        )
        .map_err(failed("open a sock_diag socket"))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))
            .map_err(failed("set up a sock_diag socket"))?;
        let asked = Cell::new(0);
        Ok(Self { socket, asked })
    }

    /// Asks what `request` makes of the question's number, and returns that.
    fn ask(&self, request: impl FnOnce(u32) -> Vec<u8>) -> Result<u32, IntrospectError> {
        let sequence = self.asked.get().wrapping_add(1);
        self.asked.set(sequence);
        let request = request(sequence);
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.socket, &request, SendFlags::empty(), &kernel)
            .map_err(failed("ask for the Unix sockets"))?;
        Ok(sequence)
    }

    fn list(&self) -> Result<Vec<Diag>, IntrospectError> {
        let sequence = self.ask(message::request_all)?;
        let mut found = Vec::new();
        loop {
            match self.read(sequence, &mut found)? {
                Progress::Done => return Ok(found),
                Progress::Refused(errno) => {
                    let error = io::Error::from_raw_os_error(errno);
                    return Err(IntrospectError::Kernel {
                        operation: "list the Unix sockets",
                        error,
                    });
                }
                Progress::More if found.len() > SOCKETS_MAX => {
                    return Err(IntrospectError::TooMany { limit: SOCKETS_MAX });
                }
                Progress::More => {}
            }
        }
    }

    /// Who waits at a listener; nobody when it is gone, or when they are more than one answer holds.
    fn pending(&self, inode: u32) -> Result<Vec<u32>, IntrospectError> {
        let sequence = self.ask(|sequence| message::request_pending(sequence, inode))?;
        let mut found = Vec::new();
        // The answer to this question is one message: the listener, or why not.
        while self.read(sequence, &mut found)? == Progress::More && found.is_empty() {}
        let listener = found.pop().filter(|listener| listener.inode == inode);
        Ok(listener
            .map(|listener| listener.pending)
            .unwrap_or_default())
    }

    /// One datagram of the kernel's.
    fn read(&self, sequence: u32, found: &mut Vec<Diag>) -> Result<Progress, IntrospectError> {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let received =
                rustix::net::recvfrom(&self.socket, buffer.as_mut_slice(), RecvFlags::TRUNC);
            let (held, length, sender) = match received {
                Err(Errno::INTR) => continue,
                received => received.map_err(failed("read the list of Unix sockets"))?,
            };
            let from = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok());
            if from.is_none_or(|from| from.pid() != 0) {
                continue;
            }
            if length > held {
                return Err(IntrospectError::Truncated { length });
            }
            return Ok(message::parse(&buffer[..held], sequence, found)?);
        }
    }
}

fn failed(operation: &'static str) -> impl Fn(Errno) -> IntrospectError {
    move |error| IntrospectError::Kernel {
        operation,
        error: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn what_is_left_of_an_answer_is_not_taken_for_the_next() {
        let place = nigh_testkit::TempSocket::private();
        let listener = UnixListener::bind(place.path()).unwrap();
        let _client = UnixStream::connect(place.path()).unwrap();
        let inode = rustix::fs::fstat(&listener).unwrap().st_ino;
        let inode = u32::try_from(inode).unwrap();

        let kernel = Kernel::open().unwrap();
        // Asked, and its answer not read.
        let first = kernel.ask(message::request_all).unwrap();
        assert_eq!(kernel.pending(inode).unwrap().len(), 1);
        let second = kernel.ask(|sequence| message::request_pending(sequence, inode));
        assert_ne!(second.unwrap(), first);
    }
}
