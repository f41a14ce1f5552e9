//! The lock beside a socket: held while its name changes hands, from probe to publish and from compare to unlink.
//!
//! Trap: never removed. Whoever removes a lock file lets two processes hold "the" lock at once.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::directory::Directory;
use super::entry::FileKind;

/// Pauses between two tries.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// How often a lock file that others remove or exchange under us is opened again.
const OPENINGS_MAX: u32 = 16;

/// Why the lock beside a socket could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process held it all the time: it hangs, or was stopped, while it publishes or removes its socket.
    #[error("lock file {} was held by another process for {waited:?}", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// For how long it was tried.
        waited: Duration,
    },
    /// Something else stands at its name.
    #[error("lock file {} is {found}", path.display())]
    NotRegular {
        /// The lock file.
        path: PathBuf,
        /// What stands there.
        found: FileKind,
    },
    /// It belongs to somebody who is neither this user nor root, and could hold it for ever.
    #[error("lock file {} belongs to uid {uid}", path.display())]
    ForeignOwner {
        /// The lock file.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// It was removed or exchanged each time it had been opened.
    #[error("lock file {} does not stay in place", path.display())]
    Unstable {
        /// The lock file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("lock file {} cannot be opened or locked", path.display())]
    System {
        /// The lock file.
        path: PathBuf,
        /// What `open(2)`, `fstat(2)` or `flock(2)` reported.
        source: io::Error,
    },
}

impl LockError {
    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Held { .. } => Some(
                "`fuser -v FILE` names the process that holds it; it is held for milliseconds normally",
            ),
            Self::NotRegular { .. } | Self::ForeignOwner { .. } => {
                Some("remove it if nothing else needs it, and see who can write to this directory")
            }
            Self::Unstable { .. } => Some("keep clean-up jobs from removing `.*.nigh-lock` files"),
            Self::System { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => Some(
                    "it may be left by a server that ran as root or as another user: remove it then",
                ),
                _ => None,
            },
        }
    }
}

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: OwnedFd,
}

impl Lock {
    /// Waits at most `wait` for it.
    pub(crate) fn acquire(
        directory: &Directory,
        name: &OsStr,
        wait: Duration,
    ) -> Result<Self, LockError> {
        let path = || directory.path().join(name);
        let system = |error: Errno| LockError::System {
            path: path(),
            source: error.into(),
        };
        let started = Instant::now();
        for _ in 0..OPENINGS_MAX {
            let file = open(directory, name)?;
            if !flock_within(&file, started, wait).map_err(system)? {
                return Err(LockError::Held {
                    path: path(),
                    waited: started.elapsed(),
                });
            }
            let lock = Self { file };
            // A tidy-up job may have removed the file while we waited: then this lock excludes nobody.
            if lock.is_at(directory, name).map_err(system)? {
                return Ok(lock);
            }
        }
        Err(LockError::Unstable { path: path() })
    }

    fn is_at(&self, directory: &Directory, name: &OsStr) -> Result<bool, Errno> {
        let ours = rustix::fs::fstat(&self.file)?;
        match rustix::fs::statat(directory.fd(), name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => Ok((there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave it held by a child that was forked meanwhile and has a copy.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// Opens the lock file, or makes it; only a regular file that is ours or root's will do.
fn open(directory: &Directory, name: &OsStr) -> Result<OwnedFd, LockError> {
    let path = || directory.path().join(name);
    let system = |error: Errno| LockError::System {
        path: path(),
        source: error.into(),
    };
    // NONBLOCK: a named pipe planted here must not stop us.
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    for _ in 0..OPENINGS_MAX {
        // Two steps: with O_CREAT the kernel refuses to open what another user made in a sticky directory.
        match rustix::fs::openat(directory.fd(), name, flags, mode) {
            Ok(file) => return checked(file, path()),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(refused(directory, name, error)),
        }
        let create = flags | OFlags::CREATE | OFlags::EXCL;
        match rustix::fs::openat(directory.fd(), name, create, mode) {
            Ok(file) => {
                // The umask may have taken the owner's bits; the next starter needs them.
                rustix::fs::fchmod(&file, mode).map_err(system)?;
                return Ok(file);
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(system(error)),
        }
    }
    Err(LockError::Unstable { path: path() })
}

fn checked(file: OwnedFd, path: PathBuf) -> Result<OwnedFd, LockError> {
    let stat = match rustix::fs::fstat(&file) {
        Ok(stat) => stat,
        Err(error) => {
            return Err(LockError::System {
                path,
                source: error.into(),
            });
        }
    };
    let found = FileKind::of(&stat);
    if found != FileKind::Regular {
        return Err(LockError::NotRegular { path, found });
    }
    let uid = stat.st_uid;
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        return Err(LockError::ForeignOwner { path, uid });
    }
    Ok(file)
}

/// Why the file could not be opened: mostly because it is no file.
fn refused(directory: &Directory, name: &OsStr, error: Errno) -> LockError {
    let path = directory.path().join(name);
    match directory.entry(name) {
        Ok(Some(entry)) if entry.kind() != FileKind::Regular => LockError::NotRegular {
            path,
            found: entry.kind(),
        },
        _ => LockError::System {
            path,
            source: error.into(),
        },
    }
}

/// True when the lock was taken, false when the time was up.
fn flock_within(file: &OwnedFd, started: Instant, wait: Duration) -> Result<bool, Errno> {
    let mut pause = PAUSE_MIN;
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::AGAIN) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error),
        }
        let left = wait.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Ok(false);
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
