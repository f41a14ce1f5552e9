//! A bound, listening socket and what is known of its name. No runtime: the accept loop is built on it.
//!
//! ListenerOptions -> bind (publish/) -> Listener -> accept .. close. Trap: a name is removed only by the process that
//! bound it and only while it still leads to this very socket; a forked child's copy and a successor's name are left.

mod advertised;
mod error;
mod handed;
mod kept;
mod options;
mod path;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, SocketType};

pub use error::{BindError, BindFault, Operation};
pub use options::ListenerOptions;

use crate::address::Address;
use crate::publish::{Published, UnpublishError};

/// How long `close` and `Drop` wait for the lock beside the socket. It is held for milliseconds; a hung holder costs
/// a stale file, which the next start replaces, and not our shutdown.
const UNPUBLISH_WAIT: Duration = Duration::from_millis(250);

/// The type of a socket: what a message is on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SocketKind {
    /// `SOCK_STREAM`: bytes without boundaries.
    #[default]
    Stream,
    /// `SOCK_SEQPACKET`: a connection with message boundaries.
    Seqpacket,
    /// `SOCK_DGRAM`: messages without a connection.
    Datagram,
}

impl SocketKind {
    pub(crate) fn socket_type(self) -> SocketType {
        match self {
            Self::Stream => SocketType::STREAM,
            Self::Seqpacket => SocketType::SEQPACKET,
            Self::Datagram => SocketType::DGRAM,
        }
    }

    pub(crate) fn of(found: SocketType) -> Option<Self> {
        match found {
            SocketType::STREAM => Some(Self::Stream),
            SocketType::SEQPACKET => Some(Self::Seqpacket),
            SocketType::DGRAM => Some(Self::Datagram),
            _ => None,
        }
    }
}

impl fmt::Display for SocketKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stream => "stream",
            Self::Seqpacket => "seqpacket",
            Self::Datagram => "datagram",
        })
    }
}

/// What to do when something stands at the path already. Whatever is not a socket is never removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Existing {
    /// Fail, whether it is alive or not.
    Fail,
    /// Replace the socket of a dead server; fail when a living one has it.
    #[default]
    ReplaceStale,
    /// Replace the socket of a living server too, without a moment in which a connect fails. The old server keeps the
    /// connections it has and those waiting in its queue, and should drain for a while.
    TakeOver,
}

/// A bound socket: listening (stream, seqpacket) or receiving (datagram), non-blocking, close-on-exec.
///
/// Dropping it removes its path, if that is still its own: see [`Listener::close`].
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    /// Taken when the name is given back, which the server does before it stops accepting.
    published: Mutex<Option<Published>>,
    /// The name is a successor's by now, or still a predecessor's: it is not ours to remove.
    is_lent: AtomicBool,
    /// The file that tells clients the address.
    advertised: Mutex<Option<advertised::Advertised>>,
    address: Address,
    /// What it is called in a hand-over; often nothing.
    name: String,
    kind: SocketKind,
    is_local: bool,
    /// Others may hold the same socket: a parent, a service manager.
    is_shared: bool,
    /// How it came from a predecessor, until it is taken over.
    handed: Option<handed::Handed>,
}

impl Listener {
    /// Options to bind with; see there for the defaults.
    pub fn options() -> ListenerOptions {
        ListenerOptions::default()
    }

    /// The address as published: the path that was asked for, the abstract name the kernel chose for `autobind:`, the
    /// port it chose for port 0.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether callers may send descriptors to this listener now. Always true of a Unix socket on a kernel before
    /// Linux 6.16, which cannot refuse them, and never of TCP.
    ///
    /// # Errors
    /// What `getsockopt(2)` reports.
    pub fn passes_rights(&self) -> io::Result<bool> {
        Ok(self.is_local && crate::sys::opt::passes_rights(self.fd.as_fd())?)
    }

    /// Lets callers send descriptors or not (`SO_PASSRIGHTS`): connections made from now on inherit it. Answers whether
    /// this kernel can be told so (Linux 6.16); on TCP there is nothing to tell. A [`Front`](crate::Front) does this for
    /// its listeners. A predecessor's listener is told when it is taken over.
    ///
    /// # Errors
    /// What `setsockopt(2)` reports.
    pub fn set_pass_rights(&self, pass: bool) -> io::Result<bool> {
        if !self.is_local || self.defer_pass_rights(pass) {
            return Ok(false);
        }
        Ok(crate::sys::opt::pass_rights(self.fd.as_fd(), pass)?)
    }

    /// What it is called in a hand-over and in `LISTEN_FDNAMES`; empty if it was given no name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of the socket.
    #[must_use]
    pub fn kind(&self) -> SocketKind {
        self.kind
    }

    /// Whether it is a Unix socket, whose peers the kernel knows, as opposed to TCP.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// Takes one connection from the queue, non-blocking and close-on-exec.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; otherwise what `accept4(2)` reports, unclassified: an aborted connection, no
    /// descriptors left. `EOPNOTSUPP` on a datagram socket, which has no connections.
    pub fn accept(&self) -> io::Result<OwnedFd> {
        loop {
            match rustix::net::accept_with(&self.fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Err(Errno::INTR) => {}
                done => return done.map_err(io::Error::from),
            }
        }
    }

    /// Removes the path, and the file with the address, if they are still this socket's own, and closes the socket: what dropping does, with its errors.
    ///
    /// A path that a successor has published over, or that something else stands at by now, is left alone. Waits at
    /// most 250 ms for the lock beside the socket. In a forked child it only closes.
    ///
    /// # Errors
    /// When the path stays although it is ours. It refuses connections then, and the next start replaces it.
    pub fn close(self) -> Result<(), UnpublishError> {
        self.unpublish()
    }

    /// Removes the path as [`close`](Self::close) does, while those who have connected already can still be accepted.
    ///
    /// # Errors
    /// As for [`close`](Self::close).
    pub(crate) fn unpublish(&self) -> Result<(), UnpublishError> {
        // Who reads the address comes next to the socket, so the file goes first. A successor has its own by now.
        remove(&mut self.advertised(), |file| {
            file.unpublish(UNPUBLISH_WAIT)
        })?;
        if self.is_lent.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut published = self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        remove(&mut published, |name| name.unpublish(UNPUBLISH_WAIT))
    }

    fn advertised(&self) -> MutexGuard<'_, Option<advertised::Advertised>> {
        self.advertised
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether others hold the same socket: it came from a parent or a service manager, or a successor has it.
    pub(crate) fn is_inherited(&self) -> bool {
        self.is_shared || self.is_lent.load(Ordering::Acquire)
    }

    /// Whether a parent or a service manager gave it to us, and holds it too.
    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared
    }

    pub(crate) fn from_parts(
        fd: OwnedFd,
        published: Option<Published>,
        address: Address,
        kind: SocketKind,
        is_local: bool,
    ) -> Self {
        Self {
            fd,
            published: Mutex::new(published),
            is_lent: AtomicBool::new(false),
            is_shared: matches!(address, Address::Fd(_) | Address::Activated(_)),
            advertised: Mutex::new(None),
            address,
            name: String::new(),
            kind,
            is_local,
            handed: None,
        }
    }
}

/// Kept on failure, for another try when the listener is dropped.
fn remove<T>(
    ours: &mut Option<T>,
    unpublish: impl FnOnce(&T) -> Result<(), UnpublishError>,
) -> Result<(), UnpublishError> {
    if let Some(found) = ours {
        unpublish(found)?;
        *ours = None;
    }
    Ok(())
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The socket is still open here: it pins the inode that is compared.
        if let Err(error) = self.unpublish() {
            tracing::warn!(address = %self.address, %error, "a socket's path stays behind");
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
