//! Checks for descriptors that arrived: what is it, what may be done with it, is it what it is said to be.
//!
//! Trap: an access mode says what *this* descriptor allows. Whoever may write the file can open it again through `/proc`;
//! only seals keep a memory file from changing.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, SealFlags};
use rustix::io::Errno;

use crate::inherit::{InheritedError, check_connection, check_listener};
use crate::listener::SocketKind;
use crate::publish::entry::FileKind;

/// What may be done with a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Access {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Read and write.
    ReadWrite,
    /// Neither: it only stands for the file (`O_PATH`).
    Path,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "for reading",
            Self::Write => "for writing",
            Self::ReadWrite => "for reading and writing",
            Self::Path => "as a path only",
        })
    }
}

/// A descriptor is not what it has to be. It is up to its owner to close it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FdError {
    /// Another kind of file.
    #[error("descriptor: {found}, not {wanted}")]
    Kind {
        /// What it has to be.
        wanted: FileKind,
        /// What it is.
        found: FileKind,
    },
    /// It is open for something else.
    #[error("descriptor: open {found}, not {wanted}")]
    Access {
        /// What it has to allow.
        wanted: Access,
        /// What it allows.
        found: Access,
    },
    /// A memory file, or another, that its sender can still change.
    #[error("descriptor: not sealed, it can still change")]
    NotSealed,
    /// Not the socket it has to be.
    #[error("descriptor: not the right socket")]
    Socket(#[source] InheritedError),
    /// Another file than the one at that path.
    #[error("descriptor: not the file at {}", path.display())]
    OtherFile {
        /// The path.
        path: PathBuf,
    },
    /// The system refused to tell.
    #[error("descriptor: cannot tell what it is")]
    System(#[source] io::Error),
}

/// What kind of file it leads to. Pipes are [`FileKind::Fifo`]; event descriptors and the like [`FileKind::Other`].
///
/// # Errors
/// What `fstat(2)` reports.
pub fn kind(fd: impl AsFd) -> io::Result<FileKind> {
    Ok(FileKind::of(&rustix::fs::fstat(fd)?))
}

/// What it is open for.
///
/// # Errors
/// What `fcntl(2)` reports.
pub fn access(fd: impl AsFd) -> io::Result<Access> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(if flags.contains(OFlags::PATH) {
        Access::Path
    } else if flags.contains(OFlags::RDWR) {
        Access::ReadWrite
    } else if flags.contains(OFlags::WRONLY) {
        Access::Write
    } else {
        Access::Read
    })
}

/// Demands a kind of file.
///
/// # Errors
/// [`FdError::Kind`] when it is another.
pub fn require_kind(fd: impl AsFd, wanted: FileKind) -> Result<(), FdError> {
    let found = kind(fd).map_err(FdError::System)?;
    if found == wanted {
        return Ok(());
    }
    Err(FdError::Kind { wanted, found })
}

/// Demands that it is open for exactly this.
///
/// # Errors
/// [`FdError::Access`] when it is open for more, less or something else.
pub fn require_access(fd: impl AsFd, wanted: Access) -> Result<(), FdError> {
    let found = access(fd).map_err(FdError::System)?;
    if found == wanted {
        return Ok(());
    }
    Err(FdError::Access { wanted, found })
}

/// Demands that nobody can change the file's contents or its length any more: a memory file with all four seals.
///
/// # Errors
/// [`FdError::NotSealed`], also for what cannot be sealed at all.
pub fn require_sealed(fd: impl AsFd) -> Result<(), FdError> {
    let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    match rustix::fs::fcntl_get_seals(fd) {
        Ok(seals) if seals.contains(all) => Ok(()),
        // EBADF: a path only.
        Ok(_) | Err(Errno::INVAL | Errno::BADF) => Err(FdError::NotSealed),
        Err(error) => Err(FdError::System(error.into())),
    }
}

/// Demands a listening socket of that kind, Unix or TCP.
///
/// # Errors
/// [`FdError::Socket`] with what is wrong with it.
pub fn require_listening(fd: impl AsFd, kind: SocketKind) -> Result<(), FdError> {
    match check_listener(fd.as_fd(), kind) {
        Ok(_) => Ok(()),
        Err(error) => Err(FdError::Socket(error)),
    }
}

/// Demands a connected socket of that kind, Unix or TCP.
///
/// # Errors
/// [`FdError::Socket`] with what is wrong with it.
pub fn require_connected(fd: impl AsFd, kind: SocketKind) -> Result<(), FdError> {
    match check_connection(fd.as_fd(), kind) {
        Ok(_) => Ok(()),
        Err(error) => Err(FdError::Socket(error)),
    }
}

/// Demands that it leads to the file that is at `path` now, links followed. That file can be replaced a moment later.
///
/// # Errors
/// [`FdError::OtherFile`] when it does not; [`FdError::System`] when nothing is there.
pub fn require_same_file(fd: impl AsFd, path: &Path) -> Result<(), FdError> {
    let system = |error: Errno| FdError::System(error.into());
    // The descriptor pins its inode, so that the number cannot be another file's by now.
    let ours = rustix::fs::fstat(fd).map_err(system)?;
    let theirs = rustix::fs::stat(path).map_err(system)?;
    if (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino) {
        return Ok(());
    }
    Err(FdError::OtherFile { path: path.into() })
}
