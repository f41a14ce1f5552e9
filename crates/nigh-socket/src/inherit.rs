//! Descriptors that were inherited or handed in: looked at before they are believed.
//!
//! Trap: whether it is non-blocking belongs to the open file, so whoever else holds the socket sees that change.

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::listener::SocketKind;

/// Why a descriptor cannot be used for what it was given for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InheritedError {
    /// No descriptor of this number is open.
    #[error("no open descriptor has the number {0}")]
    NotOpen(RawFd),
    /// It is close-on-exec, so it was opened inside this process (or taken over before) and has an owner.
    #[error("descriptor {0} was not inherited: something in this process owns it")]
    Owned(RawFd),
    /// Not a socket at all.
    #[error("not a socket")]
    NotASocket,
    /// Neither a Unix nor an internet socket.
    #[error("a socket of an unsupported family")]
    Family,
    /// The socket has another type.
    #[error("its type is {found}, not {wanted}")]
    Kind {
        /// What was asked for.
        wanted: SocketKind,
        /// What it is.
        found: FoundKind,
    },
    /// A listener was wanted, and nobody called `listen` on it.
    #[error("it does not listen")]
    NotListening,
    /// A connection was wanted, and it has no peer.
    #[error("it is not connected")]
    NotConnected,
    /// A socket, but not the one that was announced.
    #[error("it is another socket than was announced")]
    Another,
    /// The system refused to tell.
    #[error("the system refused")]
    System(#[source] io::Error),
}

/// The type of a socket that was found where another was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundKind(SocketType);

impl fmt::Display for FoundKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SocketKind::of(self.0) {
            Some(kind) => kind.fmt(f),
            None => write!(f, "number {}", self.0.as_raw()),
        }
    }
}

impl InheritedError {
    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotOpen(_) => Some(
                "systemd passes sockets from number 3 on; a shell opens one with a redirection",
            ),
            Self::Owned(_) => Some(
                "an inherited descriptor can be taken over once; hand it in as an OwnedFd if it is yours",
            ),
            Self::NotListening => {
                Some("in a systemd .socket unit, set Accept=no, which passes the listening socket")
            }
            Self::Kind { .. } => Some(
                "ListenStream= makes a stream socket, ListenSequentialPacket= and ListenDatagram= the others",
            ),
            _ => None,
        }
    }
}

/// What a descriptor was found to be good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// A Unix socket, as opposed to TCP.
    pub(crate) is_local: bool,
}

/// Checks that it is a socket that listens (a datagram socket: exists), of that kind.
pub(crate) fn check_listener(
    fd: BorrowedFd<'_>,
    kind: SocketKind,
) -> Result<Found, InheritedError> {
    let found = check_socket(fd, kind)?;
    let listens = sockopt::socket_acceptconn(fd).map_err(system)?;
    if kind != SocketKind::Datagram && !listens {
        return Err(InheritedError::NotListening);
    }
    Ok(found)
}

/// Checks that it is a connected socket of that kind.
pub(crate) fn check_connection(
    fd: BorrowedFd<'_>,
    kind: SocketKind,
) -> Result<Found, InheritedError> {
    let found = check_socket(fd, kind)?;
    match rustix::net::getpeername(fd) {
        Ok(_) => Ok(found),
        Err(Errno::NOTCONN) => Err(InheritedError::NotConnected),
        Err(error) => Err(system(error)),
    }
}

fn check_socket(fd: BorrowedFd<'_>, wanted: SocketKind) -> Result<Found, InheritedError> {
    let found = match sockopt::socket_type(fd) {
        Ok(found) => found,
        Err(Errno::NOTSOCK) => return Err(InheritedError::NotASocket),
        Err(error) => return Err(system(error)),
    };
    let is_local = match sockopt::socket_domain(fd).map_err(system)? {
        AddressFamily::UNIX => true,
        // UDP is no transport of ours.
        AddressFamily::INET | AddressFamily::INET6 if found == SocketType::STREAM => false,
        _ => return Err(InheritedError::Family),
    };
    if found != wanted.socket_type() {
        let found = FoundKind(found);
        return Err(InheritedError::Kind { wanted, found });
    }
    Ok(Found { is_local })
}

/// Makes it non-blocking and close-on-exec, as everything is that this crate opens.
pub(crate) fn prepare(fd: BorrowedFd<'_>) -> Result<(), InheritedError> {
    rustix::io::ioctl_fionbio(fd, true).map_err(system)?;
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC).map_err(system)
}

pub(crate) fn system(error: Errno) -> InheritedError {
    InheritedError::System(error.into())
}
