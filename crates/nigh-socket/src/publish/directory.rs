//! The directory of a socket, held open: every later step is relative to it, so that it cannot be swapped meanwhile.
//!
//! Trap: `sun_path` has 107 bytes, so names are reached as `/proc/self/fd/N/NAME`; without /proc nothing can be bound.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::entry::Entry;
use crate::listener::{BindFault, Operation};

/// A directory that was opened once.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Opens it; with `create`, makes it first when it is missing, with exactly that mode.
    pub(crate) fn open(path: &Path, create: Option<u32>) -> Result<Self, BindFault> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let created = match create {
            Some(mode) => make(path, mode)?,
            None => false,
        };
        let mut flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if created {
            flags |= OFlags::NOFOLLOW;
        }
        let directory = Self::look(path, flags)
            .map_err(|error| Operation::OpenDirectory.failed(path, error))?;
        if let (true, Some(mode)) = (created, create) {
            directory.set_mode(mode)?;
        }
        Ok(directory)
    }

    /// Opens the directory that a file is in; an empty path is the working directory.
    pub(crate) fn of_file(parent: &Path) -> Result<Self, Errno> {
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        Self::look(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)
    }

    fn look(path: &Path, flags: OFlags) -> Result<Self, Errno> {
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        let path = path.to_owned();
        Ok(Self { fd, path })
    }

    /// Its path as it was given, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// A path to `name` in it that is short and survives a rename of the directory.
    pub(crate) fn proc_path(&self, name: &OsStr) -> PathBuf {
        Path::new(&self.proc_self()).join(name)
    }

    /// What stands at `name`, without following a link.
    pub(crate) fn entry(&self, name: &OsStr) -> Result<Option<Entry>, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Entry::new(fd).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes a name that the caller has compared under the lock.
    pub(crate) fn unlink(&self, name: &OsStr) -> Result<(), Errno> {
        rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())
    }

    /// Refuses a directory in which somebody else could remove the socket and bind their own in its place.
    ///
    /// Writable by all, or by a group that is none of ours, and not sticky. Its owner is trusted, and so are the
    /// directories above it.
    pub(crate) fn refuse_shared(&self) -> Result<(), BindFault> {
        let stat = rustix::fs::fstat(&self.fd)
            .map_err(|error| Operation::OpenDirectory.failed(&self.path, error))?;
        if !is_shared(&stat) {
            return Ok(());
        }
        Err(BindFault::SharedDirectory {
            directory: self.path.clone(),
            mode: stat.st_mode & 0o7777,
            gid: stat.st_gid,
        })
    }

    fn proc_self(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }

    fn set_mode(&self, mode: u32) -> Result<(), BindFault> {
        let failed = |error| Operation::CreateDirectory.failed(&self.path, error);
        let owner = rustix::fs::fstat(&self.fd).map_err(failed)?.st_uid;
        // Somebody put another directory in the place of the one just made.
        if owner != rustix::process::geteuid().as_raw() {
            return Err(failed(Errno::PERM));
        }
        rustix::fs::chmod(self.proc_self(), Mode::from_raw_mode(mode)).map_err(failed)
    }
}

/// Whether somebody else could remove a file in it and put another in its place.
pub(crate) fn is_shared(stat: &Stat) -> bool {
    let is_sticky = stat.st_mode & 0o1000 != 0;
    let by_all = stat.st_mode & 0o002 != 0;
    let by_group = stat.st_mode & 0o020 != 0 && !is_own_group(stat.st_gid);
    !is_sticky && (by_all || by_group)
}

/// Makes the directory, closed to others until its mode is set; false when it was there before.
fn make(path: &Path, mode: u32) -> Result<bool, BindFault> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(mode & 0o700)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(error) => Err(Operation::CreateDirectory.failed(path, error)),
    }
}

/// The effective group, root's, or one of the supplementary groups of this process.
fn is_own_group(gid: u32) -> bool {
    gid == 0
        || rustix::process::getegid().as_raw() == gid
        || rustix::process::getgroups()
            .is_ok_and(|groups| groups.iter().any(|group| group.as_raw() == gid))
}
