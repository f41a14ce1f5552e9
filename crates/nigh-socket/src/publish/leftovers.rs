//! Removes temporary sockets whose makers died between bind and publish. Called under the lock, as they are made.
//!
//! So no living maker has one here that it still needs, whatever its pid is or was reused for; the kernel says which
//! are dead. Trap: pids lie across containers that share a directory, therefore they are not asked.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{Dir, Mode, OFlags};

use super::directory::Directory;
use super::entry::{FileKind, Life};
use super::names::Names;

/// A directory with more names than this is searched no further: the lock is held meanwhile.
const NAMES_MAX: usize = 65_536;

/// Removes what it can. A directory that may not be read, or a name that may not be removed, is left as it is.
pub(crate) fn remove(directory: &Directory, names: &Names) {
    remove_where(directory, names, |name| is_dead(directory, name));
}

/// Removes those that are dead by the caller's word.
pub(crate) fn remove_where(directory: &Directory, names: &Names, is_dead: impl Fn(&OsStr) -> bool) {
    for name in temporaries(directory, names) {
        if is_dead(&name) {
            match directory.unlink(&name) {
                Ok(()) => tracing::debug!(?name, "removed a dead server's temporary file"),
                Err(error) => tracing::debug!(?name, %error, "a temporary file stays"),
            }
        }
    }
}

fn temporaries(directory: &Directory, names: &Names) -> Vec<OsString> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(listing) = rustix::fs::openat(directory.fd(), ".", flags, Mode::empty()) else {
        return Vec::new();
    };
    let Ok(listing) = Dir::new(listing) else {
        return Vec::new();
    };
    listing
        .take(NAMES_MAX)
        .map_while(Result::ok)
        .filter(|entry| names.is_temporary(entry.file_name().to_bytes()))
        .map(|entry| OsString::from_vec(entry.file_name().to_bytes().to_vec()))
        .collect()
}

fn is_dead(directory: &Directory, name: &OsStr) -> bool {
    matches!(directory.entry(name), Ok(Some(entry)) if entry.kind() == FileKind::Socket && entry.life() == Ok(Life::Stale))
}
