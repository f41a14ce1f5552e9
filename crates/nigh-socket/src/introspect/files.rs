//! Where a socket's file is now, and which socket files nobody serves.
//!
//! Trap: the kernel remembers the name at bind. A server that renames its socket into place (nigh does) has another one
//! now, so files are found by device and inode: beside the bound name, in the server's directory, or under the roots.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::message::FileId;
use super::processes::Owner;
use super::{Location, SocketFile, Stray};

/// Entries looked at under all roots together.
const ENTRIES_MAX: usize = 100_000;

/// Directories entered below a root.
const DEPTH_MAX: usize = 4;

/// Entries looked at in one directory for a socket that was renamed.
const SIBLINGS_MAX: usize = 4_096;

/// The socket files found under some directories.
#[derive(Debug, Default)]
pub(super) struct Files {
    by_id: HashMap<FileId, SocketFile>,
    left: usize,
}

impl Files {
    /// Looks through the directories, without following links; what cannot be read is left out.
    pub(super) fn under(roots: &[PathBuf]) -> Self {
        let mut files = Self {
            by_id: HashMap::new(),
            left: ENTRIES_MAX,
        };
        for root in roots {
            files.walk(root, DEPTH_MAX);
        }
        files
    }

    fn walk(&mut self, directory: &Path, depth: usize) {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        for entry in entries {
            let Some(left) = self.left.checked_sub(1) else {
                return;
            };
            self.left = left;
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let path = entry.path();
            if kind.is_dir() && depth > 0 {
                self.walk(&path, depth - 1);
            } else if let Some((id, file)) = socket_at(&path) {
                self.by_id.entry(id).or_insert(file);
            }
        }
    }

    /// Finds the file of a path socket.
    pub(super) fn locate(&self, bound: &Path, id: Option<FileId>, owners: &[Owner]) -> Location {
        let Some(id) = id else {
            return Location::Unknown;
        };
        let known = self.by_id.get(&id).cloned();
        let place = place(bound, owners);
        if let Some(path) = &place {
            let beside = socket_at(path)
                .filter(|(found, _)| *found == id)
                .map(|(_, file)| file);
            if let Some(file) = beside.or_else(|| sibling(path, id)) {
                return Location::File(file);
            }
        }
        match (known, place) {
            (Some(file), _) => Location::File(file),
            (None, Some(path)) => missing(&path),
            (None, None) => Location::Unknown,
        }
    }

    /// Socket files that belong to no socket, of those in `known`.
    pub(super) fn strays(mut self, known: &HashSet<FileId>) -> Vec<Stray> {
        self.by_id.retain(|id, _| !known.contains(id));
        let mut strays: Vec<Stray> = self.by_id.into_values().filter_map(stray).collect();
        strays.sort_by(|a, b| a.file.path.cmp(&b.file.path));
        strays
    }
}

/// The bound name as a path that means the same to us as to the server; `None` when that cannot be known.
fn place(bound: &Path, owners: &[Owner]) -> Option<PathBuf> {
    let ours = fs::read_link("/proc/self/ns/mnt").ok();
    let namespace = |owner: &Owner| fs::read_link(format!("/proc/{}/ns/mnt", owner.pid)).ok();
    if owners.iter().any(|owner| namespace(owner) != ours) {
        return None;
    }
    if let Ok(rest) = bound.strip_prefix("/proc/self") {
        let path = Path::new("/proc")
            .join(owners.first()?.pid.to_string())
            .join(rest);
        let directory = fs::read_link(path.parent()?).ok()?;
        return Some(directory.join(published(path.file_name()?)));
    }
    if bound.is_absolute() {
        return Some(bound.to_owned());
    }
    let directory = fs::read_link(format!("/proc/{}/cwd", owners.first()?.pid)).ok()?;
    Some(directory.join(bound))
}

/// `NAME` of `.NAME.nigh-PID-N`, under which our own listeners are bound before they get their name.
fn published(name: &OsStr) -> &OsStr {
    let inner = || {
        let (name, number) = name.as_bytes().strip_prefix(b".").and_then(|rest| {
            let at = rest.windows(6).rposition(|part| part == b".nigh-")?;
            Some((&rest[..at], &rest[at + 6..]))
        })?;
        let is_number = number
            .iter()
            .all(|byte| byte.is_ascii_digit() || *byte == b'-');
        is_number.then(|| OsStr::from_bytes(name))
    };
    inner().unwrap_or(name)
}

fn missing(path: &Path) -> Location {
    match rustix::fs::lstat(path) {
        Ok(_) => Location::Replaced(path.to_owned()),
        Err(Errno::NOENT | Errno::NOTDIR) => Location::Removed(path.to_owned()),
        Err(_) => Location::Unknown,
    }
}

fn sibling(path: &Path, id: FileId) -> Option<SocketFile> {
    let entries = fs::read_dir(path.parent()?)
        .ok()?
        .flatten()
        .take(SIBLINGS_MAX);
    let sockets = entries.filter_map(|entry| socket_at(&entry.path()));
    sockets
        .filter(|(found, _)| *found == id)
        .map(|(_, file)| file)
        .next()
}

fn socket_at(path: &Path) -> Option<(FileId, SocketFile)> {
    let stat = rustix::fs::lstat(path).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return None;
    }
    let file = SocketFile {
        path: path.to_owned(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
    };
    Some((id_of(&stat), file))
}

/// The socket that a path leads to, links followed.
pub(super) fn socket_behind(path: &Path) -> Option<(FileId, SocketFile)> {
    socket_at(&fs::canonicalize(path).ok()?)
}

fn id_of(stat: &Stat) -> FileId {
    let [a, b, c, d, ..] = stat.st_ino.to_le_bytes();
    FileId {
        major: rustix::fs::major(stat.st_dev),
        minor: rustix::fs::minor(stat.st_dev),
        inode: u32::from_le_bytes([a, b, c, d]),
    }
}

/// Asks whether anybody serves the file. A connect of a type that hardly any server has tells without being accepted.
fn stray(file: SocketFile) -> Option<Stray> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).ok()?;
    let address = SocketAddrUnix::new(&file.path).ok()?;
    match rustix::net::connect(&socket, &address) {
        Err(Errno::CONNREFUSED) => Some(Stray {
            file,
            is_served: false,
        }),
        Ok(()) | Err(Errno::PROTOTYPE | Errno::AGAIN) => Some(Stray {
            file,
            is_served: true,
        }),
        // Not ours to ask, or gone meanwhile.
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_temporary_names_are_unwrapped() {
        for (bound, name) in [
            (".app.nigh-12-0", "app"),
            (".a.nigh-1-0.nigh-12-34", "a.nigh-1-0"),
            (".app.nigh-lock", ".app.nigh-lock"),
            ("app.nigh-12-0", "app.nigh-12-0"),
            (".app", ".app"),
        ] {
            assert_eq!(published(OsStr::new(bound)), name);
        }
    }
}
