//! Takes a published name away again: under the lock, and only while it still leads to our own socket.
//!
//! Trap: inode numbers are reused at once, so the socket must stay open (it pins its inode) until this is done.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use super::directory::Directory;
use super::entry::{Entry, Identity};
use super::lock::{Lock, LockError};
use super::names::Names;

/// Why a socket's name could not be taken away. The name is left, refuses connections, and the next start replaces it.
#[derive(Debug)]
pub struct UnpublishError {
    path: PathBuf,
    fault: UnpublishFault,
}

impl fmt::Display for UnpublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remove {}: {}", self.path.display(), self.fault)
    }
}

impl std::error::Error for UnpublishError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.fault)
    }
}

/// What kept a socket's name in place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpublishFault {
    /// The lock beside it.
    #[error("cannot get hold of its name")]
    Lock(#[from] LockError),
    /// It could not be seen whose socket is there by now.
    #[error("cannot see what is there")]
    Inspect(#[source] io::Error),
    /// `unlink(2)` failed.
    #[error("unlink failed")]
    Unlink(#[source] io::Error),
}

impl UnpublishError {
    /// The published path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What went wrong.
    #[must_use]
    pub fn fault(&self) -> &UnpublishFault {
        &self.fault
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match &self.fault {
            UnpublishFault::Lock(error) => error.hint(),
            UnpublishFault::Inspect(_) => None,
            UnpublishFault::Unlink(_) => Some(
                "the server may have dropped the rights it bound with; the next start replaces the stale socket",
            ),
        }
    }
}

/// The name a socket, or its address, was published under.
#[derive(Debug)]
pub(crate) struct Published {
    directory: Directory,
    name: OsString,
    names: Names,
    identity: Identity,
    pid: u32,
    /// Pins the inode, and says that we live, where the socket does not.
    _held: Option<OwnedFd>,
}

impl Published {
    pub(crate) fn new(
        directory: Directory,
        name: OsString,
        names: Names,
        identity: Identity,
    ) -> Self {
        Self {
            directory,
            name,
            names,
            identity,
            pid: std::process::id(),
            _held: None,
        }
    }

    /// With the open file itself, which is to stay open until its name is removed.
    pub(crate) fn holding(self, file: OwnedFd) -> Self {
        Self {
            _held: Some(file),
            ..self
        }
    }

    /// Removes the name if it is still ours, waiting at most `wait` for the lock. The socket must still be open.
    pub(crate) fn unpublish(&self, wait: Duration) -> Result<(), UnpublishError> {
        // A forked child has a copy of us; the socket is its parent's.
        if self.pid != std::process::id() {
            return Ok(());
        }
        self.remove(wait).map_err(|fault| UnpublishError {
            path: self.directory.path().join(&self.name),
            fault,
        })
    }

    fn remove(&self, wait: Duration) -> Result<(), UnpublishFault> {
        // A successor's, or gone: no lock is needed to leave it alone.
        if !self.is_ours()? {
            return Ok(());
        }
        let _lock = Lock::acquire(&self.directory, &self.names.lock(), wait)?;
        if !self.is_ours()? {
            return Ok(());
        }
        match self.directory.unlink(&self.name) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(UnpublishFault::Unlink(error.into())),
        }
    }

    /// Which inode it was published as.
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// What stands at the name now.
    pub(crate) fn entry(&self) -> Result<Option<Entry>, Errno> {
        self.directory.entry(&self.name)
    }

    fn is_ours(&self) -> Result<bool, UnpublishFault> {
        match self.directory.entry(&self.name) {
            Ok(entry) => Ok(entry.is_some_and(|entry| entry.identity() == self.identity)),
            Err(error) => Err(UnpublishFault::Inspect(error.into())),
        }
    }
}
