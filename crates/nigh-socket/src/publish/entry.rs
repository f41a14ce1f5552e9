//! What stands at a name: opened once without following it, then asked what it is and whether anybody serves it.
//!
//! Trap: a regular file and a directory refuse a connection just as a dead server's socket does, so the type comes first.

use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// The kind of a file that is not a socket and therefore never removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link, wherever it leads.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A character or block device.
    Device,
    /// A socket, where something else was expected.
    Socket,
    /// Something this list does not know.
    Other,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Regular => "a regular file",
            Self::Directory => "a directory",
            Self::Symlink => "a symbolic link",
            Self::Fifo => "a named pipe",
            Self::Device => "a device",
            Self::Socket => "a socket",
            Self::Other => "a file of an unknown kind",
        })
    }
}

impl FileKind {
    pub(crate) fn of(stat: &Stat) -> Self {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Self::Regular,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::CharacterDevice | FileType::BlockDevice => Self::Device,
            FileType::Socket => Self::Socket,
            FileType::Unknown => Self::Other,
        }
    }
}

/// Which inode it is. Holds for as long as something pins the inode: its number is reused at once after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// Whether a process still serves a socket file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Alive,
    Stale,
}

/// A name's inode, pinned by an `O_PATH` descriptor.
#[derive(Debug)]
pub(crate) struct Entry {
    fd: OwnedFd,
    stat: Stat,
}

impl Entry {
    pub(super) fn new(fd: OwnedFd) -> Result<Self, Errno> {
        let stat = rustix::fs::fstat(&fd)?;
        Ok(Self { fd, stat })
    }

    pub(crate) fn kind(&self) -> FileKind {
        FileKind::of(&self.stat)
    }

    pub(crate) fn owner(&self) -> u32 {
        self.stat.st_uid
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity {
            device: self.stat.st_dev,
            inode: self.stat.st_ino,
        }
    }

    /// The inode itself as a path, whatever its name is by now. Needs /proc.
    pub(crate) fn proc_path(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }

    /// Whether a socket is bound to this inode, whatever its type and however full its queue.
    ///
    /// Asks with a datagram socket: on a stream server that is a type error, so the server never sees a connection, and
    /// one that has bound and not yet called `listen` is found alive too. One whose listener was shut down is alive
    /// until it closes it.
    ///
    /// # Errors
    /// What `connect(2)` reports when it does not decide: `EACCES` without write permission on the socket, for one.
    pub(crate) fn life(&self) -> Result<Life, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let asker = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        match rustix::net::connect(&asker, &SocketAddrUnix::new(self.proc_path())?) {
            // A datagram server that talks to one peer only refuses others with EPERM.
            Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE | Errno::PERM) => Ok(Life::Alive),
            Err(Errno::CONNREFUSED) => Ok(Life::Stale),
            Err(error) => Err(error),
        }
    }
}
