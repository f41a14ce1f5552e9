//! A socket, or a file with its address, under a temporary name until it is published; dropped before that, the name is removed.
//!
//! Trap: `rename` removes whatever stands at the target. So an occupied target is exchanged, looked at, then removed.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;

use super::directory::Directory;
use super::entry::{Entry, FileKind, Identity};
use super::names::Names;
use crate::listener::{BindFault, Operation};

/// How many temporary names of this pid may be in use by others (pid namespaces that share the directory).
const TRIES_MAX: u16 = 128;

/// A bound socket, or a written file, that has only its temporary name yet.
#[derive(Debug)]
pub(crate) struct Temporary<'a> {
    directory: &'a Directory,
    name: OsString,
    entry: Entry,
    published: bool,
}

/// What came of an attempt to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Published,
    /// The target changed since it was looked at, by somebody who does not take the lock. Look again.
    Changed,
}

impl<'a> Temporary<'a> {
    /// Binds the socket to a free temporary name.
    pub(crate) fn bind(
        directory: &'a Directory,
        names: &Names,
        socket: &OwnedFd,
    ) -> Result<Self, BindFault> {
        let pid = std::process::id();
        for n in 0..TRIES_MAX {
            let name = names.temporary(pid, n);
            let failed = |error| Operation::Bind.failed(directory.path().join(&name), error);
            let address = SocketAddrUnix::new(directory.proc_path(&name)).map_err(failed)?;
            match rustix::net::bind(socket, &address) {
                Ok(()) => {}
                Err(Errno::ADDRINUSE) => continue,
                Err(error) => return Err(failed(error)),
            }
            let entry = directory.entry(&name).map_err(failed)?;
            return match entry {
                Some(entry) if entry.kind() == FileKind::Socket && is_ours(&entry) => Ok(Self {
                    directory,
                    name,
                    entry,
                    published: false,
                }),
                // Removed or exchanged at once: the directory is somebody else's to play in.
                _ => Err(BindFault::Contended),
            };
        }
        Err(BindFault::Contended)
    }

    /// Writes a file under a free temporary name, with exactly this mode; the descriptor is the open file.
    pub(crate) fn file(
        directory: &'a Directory,
        names: &Names,
        bytes: &[u8],
        mode: u32,
    ) -> Result<(Self, OwnedFd), Errno> {
        let pid = std::process::id();
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for n in 0..TRIES_MAX {
            let name = names.temporary(pid, n);
            let opened = rustix::fs::openat(
                directory.fd(),
                &name,
                flags,
                Mode::from_raw_mode(mode & 0o600),
            );
            let fd = match opened {
                Err(Errno::EXIST) => continue,
                opened => opened?,
            };
            let entry = Entry::new(rustix::io::fcntl_dupfd_cloexec(&fd, 0)?)?;
            let temporary = Self {
                directory,
                name,
                entry,
                published: false,
            };
            let mut file = std::fs::File::from(fd);
            file.write_all(bytes)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
            return Ok((temporary, file.into()));
        }
        Err(Errno::EXIST)
    }

    /// The inode, to set its owner and mode by.
    pub(crate) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Gives the socket the name `target`, where nothing stood when the caller looked.
    pub(crate) fn publish_new(&mut self, target: &OsStr) -> Result<Outcome, BindFault> {
        match self.rename(target, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(self.done()),
            Err(Errno::EXIST) => Ok(Outcome::Changed),
            Err(Errno::INVAL | Errno::NOSYS) => self.publish_by_link(target),
            Err(error) => Err(self.failed(target, error)),
        }
    }

    /// Gives the socket the name `target`, which `old` had when the caller looked; removes `old`.
    /// The caller's descriptor of `old` pins its inode: no other file can have its number.
    pub(crate) fn publish_over(
        &mut self,
        target: &OsStr,
        old: &Entry,
    ) -> Result<Outcome, BindFault> {
        match self.rename(target, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(Outcome::Changed),
            // No exchange on this file system: the caller looked under the lock a moment ago.
            Err(Errno::INVAL | Errno::NOSYS) => {
                return match self.rename(target, RenameFlags::empty()) {
                    Ok(()) => Ok(self.done()),
                    Err(error) => Err(self.failed(target, error)),
                };
            }
            Err(error) => return Err(self.failed(target, error)),
        }
        if is_at(self.directory, &self.name, old.identity()) {
            if let Err(error) = self.directory.unlink(&self.name) {
                tracing::debug!(name = ?self.name, %error, "a replaced socket stays under a temporary name");
            }
            return Ok(self.done());
        }
        // Not what was looked at: it gets its name back, untouched.
        match self.rename(target, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(Outcome::Changed),
            Err(error) => {
                self.published = true;
                Err(self.failed(target, error))
            }
        }
    }

    fn publish_by_link(&mut self, target: &OsStr) -> Result<Outcome, BindFault> {
        let fd = self.directory.fd();
        match rustix::fs::linkat(fd, &self.name, fd, target, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(Outcome::Changed),
            Err(error) => return Err(self.failed(target, error)),
        }
        let _ = self.directory.unlink(&self.name);
        Ok(self.done())
    }

    fn rename(&self, target: &OsStr, flags: RenameFlags) -> Result<(), Errno> {
        let fd = self.directory.fd();
        rustix::fs::renameat_with(fd, &self.name, fd, target, flags)
    }

    fn done(&mut self) -> Outcome {
        self.published = true;
        Outcome::Published
    }

    fn failed(&self, target: &OsStr, error: Errno) -> BindFault {
        Operation::Publish.failed(self.directory.path().join(target), error)
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.published && is_at(self.directory, &self.name, self.entry.identity()) {
            let _ = self.directory.unlink(&self.name);
        }
    }
}

fn is_at(directory: &Directory, name: &OsStr, expected: Identity) -> bool {
    matches!(directory.entry(name), Ok(Some(entry)) if entry.identity() == expected)
}

fn is_ours(entry: &Entry) -> bool {
    entry.owner() == rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketType};
    use std::path::Path;

    fn with_temporary(run: impl FnOnce(&Path, &mut Temporary<'_>)) {
        let place = nigh_testkit::TempSocket::private();
        let directory = Directory::open(place.directory(), None).unwrap();
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        let names = Names::of(OsStr::new("s"));
        let mut temporary = Temporary::bind(&directory, &names, &socket).unwrap();
        run(place.directory(), &mut temporary);
    }

    #[test]
    fn link_is_exclusive_too() {
        with_temporary(|place, temporary| {
            std::fs::write(place.join("taken"), "kept").unwrap();
            let taken = temporary.publish_by_link(OsStr::new("taken")).unwrap();
            assert_eq!(taken, Outcome::Changed);
            let free = temporary.publish_by_link(OsStr::new("s")).unwrap();
            assert_eq!(free, Outcome::Published);
            let mut names: Vec<_> = std::fs::read_dir(place)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            names.sort();
            assert_eq!(names, ["s", "taken"]);
            assert_eq!(std::fs::read(place.join("taken")).unwrap(), b"kept");
        });
    }

    #[test]
    fn what_was_not_looked_at_gets_its_name_back() {
        with_temporary(|place, temporary| {
            std::fs::write(place.join("s"), "kept").unwrap();
            // The caller saw some other inode there: here, for want of another, our own.
            let seen = temporary.directory.entry(&temporary.name).unwrap().unwrap();
            let outcome = temporary.publish_over(OsStr::new("s"), &seen).unwrap();
            assert_eq!(outcome, Outcome::Changed);
            assert_eq!(std::fs::read(place.join("s")).unwrap(), b"kept");
        });
    }
}
