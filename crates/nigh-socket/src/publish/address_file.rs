//! A file that says where a server is: written whole or not at all, read by clients that do not know its name or port.
//!
//! The server holds a lock on it for as long as it lives, so a dead server's file is told from a living one's.
//! Trap: whoever can write the file, or put another in its place, chooses whom clients talk to.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::Errno;

use super::directory::{self, Directory};
use super::entry::{Entry, FileKind};
use super::lock::{Lock, LockError};
use super::names::Names;
use super::{Outcome, Published, Temporary, leftovers};
use crate::address::{Address, AddressError, PATH_BYTES_MAX};
use crate::listener::{BindFault, Existing};
use crate::sys::ofd;

/// Longest file read: a path with every byte escaped, its scheme, and the end of the line.
const FILE_BYTES_MAX: usize = 3 * PATH_BYTES_MAX + 64;

/// Everybody may read it, its owner alone may write it, whatever the umask: an address is no secret.
const MODE: u32 = 0o644;

/// How often the name is looked at again after something that takes no lock has changed it.
const LOOKS_MAX: u32 = 16;

/// An address could not be published in a file, or a file tells none.
#[derive(Debug)]
pub struct PublishedError {
    file: PathBuf,
    fault: PublishedFault,
}

/// What is wrong with a file that should tell an address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishedFault {
    /// The path names no file.
    #[error("the path names no file")]
    NoFileName,
    /// Something that is no regular file is there.
    #[error("it is {0}")]
    NotRegular(FileKind),
    /// Its owner is neither this user nor root nor the owner of the directory.
    #[error("it belongs to uid {uid}, who may not speak for a server here")]
    ForeignOwner {
        /// Its owner.
        uid: u32,
    },
    /// Others may write it.
    #[error("others can write to it (mode {mode:04o})")]
    Writable {
        /// Its mode.
        mode: u32,
    },
    /// Others may put another file in its place.
    #[error("others can write to its directory (mode {mode:04o}, gid {gid}), which is not sticky")]
    SharedDirectory {
        /// Mode of the directory.
        mode: u32,
        /// Group of the directory.
        gid: u32,
    },
    /// It has more bytes than an address can have.
    #[error("it is longer than an address can be")]
    TooLong,
    /// It is not one line of text.
    #[error("it is not one line of text")]
    NotOneLine,
    /// Its line is no address.
    #[error("its line is no address")]
    Malformed(#[source] AddressError),
    /// The address means nothing to other processes, or the same only here.
    #[error("{0} leads nowhere from another process")]
    Unreachable(Address),
    /// It holds something else than an address, and is left alone.
    #[error("it holds something else than an address, and is left alone")]
    NotAnAddress,
    /// A living server has published its address there.
    #[error("a living server has published its address there")]
    InUse,
    /// A dead server's address is there, and [`Existing::Fail`] leaves it.
    #[error("a dead server's address is there")]
    Stale,
    /// The lock beside it could not be taken.
    #[error("cannot get hold of its name")]
    Lock(#[source] LockError),
    /// Something that does not take the lock changed the name each time it had been looked at.
    #[error("something else keeps changing what is there")]
    Contended,
    /// The system refused a step.
    #[error("cannot {step} it")]
    System {
        /// The step.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl PublishedError {
    /// The file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What is wrong with it.
    #[must_use]
    pub fn fault(&self) -> &PublishedFault {
        &self.fault
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match &self.fault {
            PublishedFault::ForeignOwner { .. }
            | PublishedFault::Writable { .. }
            | PublishedFault::SharedDirectory { .. } => {
                "have the server publish in a directory of its own, such as /run/NAME or $XDG_RUNTIME_DIR"
            }
            PublishedFault::NotAnAddress | PublishedFault::NotRegular(_) => {
                "choose another file, or move what is there"
            }
            PublishedFault::InUse => "stop it, or take the address over from it",
            PublishedFault::Stale => "replace stale addresses, or remove the file",
            PublishedFault::Unreachable(Address::Fd(_) | Address::Activated(_)) => {
                "give clients the path that the inherited socket is known by"
            }
            PublishedFault::Lock(error) => return error.hint(),
            PublishedFault::System { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                "the server must be able to write to the directory, and clients to read the file"
            }
            _ => return None,
        })
    }
}

impl fmt::Display for PublishedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "address file {}: {}", self.file.display(), self.fault)
    }
}

impl std::error::Error for PublishedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.fault)
    }
}

fn system(step: &'static str) -> impl Fn(Errno) -> PublishedFault {
    move |error| PublishedFault::System {
        step,
        source: error.into(),
    }
}

/// The address in the file; `None` when there is no file (yet).
pub(crate) fn read(file: &Path) -> Result<Option<Address>, Box<PublishedError>> {
    read_checked(file).map_err(|fault| {
        let file = file.to_owned();
        Box::new(PublishedError { file, fault })
    })
}

fn read_checked(file: &Path) -> Result<Option<Address>, PublishedFault> {
    let (parent, name) = split(file)?;
    let directory = match Directory::of_file(parent) {
        Err(Errno::NOENT) => return Ok(None),
        directory => directory.map_err(system("open the directory of"))?,
    };
    let opened = match open(&directory, name) {
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(PublishedFault::NotRegular(FileKind::Symlink)),
        Err(Errno::NXIO) => return Err(PublishedFault::NotRegular(FileKind::Socket)),
        opened => opened.map_err(system("open"))?,
    };
    let stat = rustix::fs::fstat(&opened).map_err(system("look at"))?;
    let around = rustix::fs::fstat(directory.fd()).map_err(system("look at the directory of"))?;
    trust(&stat, &around)?;
    let address = parse(&contents(opened)?)?;
    match reachable(&address) {
        true => Ok(Some(address)),
        false => Err(PublishedFault::Unreachable(address)),
    }
}

/// Only whom the directory's owner trusts may have written it.
fn trust(stat: &Stat, around: &Stat) -> Result<(), PublishedFault> {
    let found = FileKind::of(stat);
    if found != FileKind::Regular {
        return Err(PublishedFault::NotRegular(found));
    }
    let mode = stat.st_mode & 0o7777;
    if mode & 0o022 != 0 {
        return Err(PublishedFault::Writable { mode });
    }
    if directory::is_shared(around) {
        return Err(PublishedFault::SharedDirectory {
            mode: around.st_mode & 0o7777,
            gid: around.st_gid,
        });
    }
    let uid = stat.st_uid;
    if uid == 0 || uid == rustix::process::geteuid().as_raw() || uid == around.st_uid {
        return Ok(());
    }
    Err(PublishedFault::ForeignOwner { uid })
}

fn open(directory: &Directory, name: &OsStr) -> Result<OwnedFd, Errno> {
    // NONBLOCK: a named pipe planted here must not stop us.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(directory.fd(), name, flags | OFlags::NOCTTY, Mode::empty())
}

fn contents(file: OwnedFd) -> Result<Vec<u8>, PublishedFault> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(FILE_BYTES_MAX + 1).unwrap_or(u64::MAX);
    match File::from(file).take(limit).read_to_end(&mut bytes) {
        Ok(length) if length > FILE_BYTES_MAX => Err(PublishedFault::TooLong),
        Ok(_) => Ok(bytes),
        Err(source) => Err(PublishedFault::System {
            step: "read",
            source,
        }),
    }
}

fn parse(bytes: &[u8]) -> Result<Address, PublishedFault> {
    let line = bytes.strip_suffix(b"\n").unwrap_or_default();
    match std::str::from_utf8(line) {
        Ok(line) if !line.is_empty() && !line.contains('\n') => {
            line.parse().map_err(PublishedFault::Malformed)
        }
        _ => Err(PublishedFault::NotOneLine),
    }
}

/// Whether the address means the same to every process of this machine.
fn reachable(address: &Address) -> bool {
    match address {
        Address::Path(path) => path.is_absolute(),
        Address::Abstract(_) => true,
        Address::Tcp { port, .. } => *port != 0,
        _ => false,
    }
}

/// Where, and what to do with what is there already.
#[derive(Debug, Clone)]
pub(crate) struct Wanted<'a> {
    pub(crate) file: &'a Path,
    pub(crate) existing: Existing,
    pub(crate) lock_wait: Duration,
}

/// Publishes the address: from now on the file has it, and nothing else was ever to be read there.
pub(crate) fn write(wanted: &Wanted<'_>, address: Address) -> Result<Published, BindFault> {
    write_checked(wanted, address).map_err(|fault| {
        let file = wanted.file.to_owned();
        BindFault::Published(Box::new(PublishedError { file, fault }))
    })
}

fn write_checked(wanted: &Wanted<'_>, address: Address) -> Result<Published, PublishedFault> {
    let address = match address {
        Address::Path(path) => {
            let path = std::path::absolute(path).map_err(|source| PublishedFault::System {
                step: "find the working directory for",
                source,
            })?;
            Address::Path(path)
        }
        other => other,
    };
    if !reachable(&address) {
        return Err(PublishedFault::Unreachable(address));
    }
    let (parent, name) = split(wanted.file)?;
    let directory = Directory::of_file(parent).map_err(system("open the directory of"))?;
    let around = rustix::fs::fstat(directory.fd()).map_err(system("look at the directory of"))?;
    if directory::is_shared(&around) {
        return Err(PublishedFault::SharedDirectory {
            mode: around.st_mode & 0o7777,
            gid: around.st_gid,
        });
    }
    let names = Names::of(name);
    let lock =
        Lock::acquire(&directory, &names.lock(), wanted.lock_wait).map_err(PublishedFault::Lock)?;
    leftovers::remove_where(&directory, &names, |name| is_leftover(&directory, name));
    look(&directory, name, wanted.existing)?;
    let line = format!("{address}\n");
    let (mut temporary, file) =
        Temporary::file(&directory, &names, line.as_bytes(), MODE).map_err(system("write"))?;
    if !ofd::lock(file.as_fd()).map_err(system("lock"))? {
        return Err(PublishedFault::Contended);
    }
    rename(&mut temporary, &directory, name, wanted.existing)?;
    let identity = temporary.entry().identity();
    drop(temporary);
    drop(lock);
    Ok(Published::new(directory, name.to_owned(), names, identity).holding(file))
}

/// Whether a server died between writing its address and publishing it: under the lock nobody else is about to.
fn is_leftover(directory: &Directory, name: &OsStr) -> bool {
    let is_ours = |entry: &Entry| {
        entry.kind() == FileKind::Regular && entry.owner() == rustix::process::geteuid().as_raw()
    };
    match (directory.entry(name), open(directory, name)) {
        (Ok(Some(entry)), Ok(file)) if is_ours(&entry) => {
            contents(file).is_ok_and(|bytes| bytes.is_empty() || parse(&bytes).is_ok())
        }
        _ => false,
    }
}

fn rename(
    temporary: &mut Temporary<'_>,
    directory: &Directory,
    name: &OsStr,
    existing: Existing,
) -> Result<(), PublishedFault> {
    for _ in 0..LOOKS_MAX {
        let outcome = match look(directory, name, existing)? {
            None => temporary.publish_new(name),
            Some(old) => temporary.publish_over(name, &old),
        };
        match outcome {
            Ok(Outcome::Published) => return Ok(()),
            Ok(Outcome::Changed) => {}
            Err(BindFault::System { source, .. }) => {
                return Err(PublishedFault::System {
                    step: "publish",
                    source,
                });
            }
            Err(_) => return Err(PublishedFault::Contended),
        }
    }
    Err(PublishedFault::Contended)
}

/// What may be replaced at the name: nothing, or this inode. Only what is an address is ever replaced.
fn look(
    directory: &Directory,
    name: &OsStr,
    existing: Existing,
) -> Result<Option<Entry>, PublishedFault> {
    let Some(entry) = directory.entry(name).map_err(system("look at"))? else {
        return Ok(None);
    };
    if entry.kind() != FileKind::Regular {
        return Err(PublishedFault::NotRegular(entry.kind()));
    }
    let file = match open(directory, name) {
        Err(Errno::NOENT) => return Ok(None),
        opened => opened.map_err(system("open"))?,
    };
    let is_alive = ofd::is_locked(file.as_fd()).map_err(system("see who has"))?;
    if parse(&contents(file)?).is_err() {
        return Err(PublishedFault::NotAnAddress);
    }
    match (existing, is_alive) {
        (Existing::TakeOver, _) | (Existing::ReplaceStale, false) => Ok(Some(entry)),
        (_, true) => Err(PublishedFault::InUse),
        (Existing::Fail, false) => Err(PublishedFault::Stale),
    }
}

fn split(file: &Path) -> Result<(&Path, &OsStr), PublishedFault> {
    match (file.parent(), file.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name)),
        _ => Err(PublishedFault::NoFileName),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_that_leads_somewhere_is_an_address() {
        for text in ["unix:/x\n", "unix-abstract:%00a\n", "tcp:127.0.0.1:80\n"] {
            let address = parse(text.as_bytes()).unwrap();
            assert!(reachable(&address), "{text}");
        }
        for text in [
            "unix:x\n",
            "tcp:h:0\n",
            "fd:3\n",
            "autobind:\n",
            "published:/x\n",
            "https://h:1\n",
        ] {
            assert!(!reachable(&parse(text.as_bytes()).unwrap()), "{text}");
        }
        for bytes in [
            &b""[..],
            b"\n",
            b"unix:/x",
            b"unix:/x\nunix:/y\n",
            b"unix:/\xff\n",
        ] {
            assert!(
                matches!(parse(bytes), Err(PublishedFault::NotOneLine)),
                "{bytes:?}"
            );
        }
        assert!(matches!(parse(b"x\n"), Err(PublishedFault::Malformed(_))));
    }
}
