//! Opening files for others: as a place only, or beneath a directory that nothing leads out of.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// Opens a file of any kind as a place in the file system only (`O_PATH`): without rights, and without touching it.
///
/// # Errors
/// What `open(2)` reports.
pub fn open_path(path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(openat(CWD, path.as_ref(), flags, Mode::empty())?)
}

/// Opens what `name` leads to beneath `root`, an open directory, for somebody who chose the name: neither `..` nor a link
/// leads out of it, also while others change it (`openat2`, Linux 5.6), and a pipe or device is not waited for.
///
/// # Errors
/// `EXDEV` where the name leads out, otherwise what `openat2(2)` reports.
pub fn open_beneath(
    root: impl AsFd,
    name: impl AsRef<Path>,
    writable: bool,
) -> io::Result<OwnedFd> {
    /// The kernel asks to try again when something was renamed meanwhile.
    const TRIES: usize = 16;
    let access = if writable {
        OFlags::RDWR
    } else {
        OFlags::RDONLY
    };
    let flags = access | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 1..TRIES {
        match openat2(&root, name.as_ref(), flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return Ok(opened?),
        }
    }
    Ok(openat2(
        &root,
        name.as_ref(),
        flags,
        Mode::empty(),
        resolve,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out_of_the_root() {
        let root = std::fs::File::open("/proc/self").unwrap();
        open_beneath(&root, "stat", false).unwrap();
        for name in [
            "../uptime",
            "/proc/uptime",
            "cwd",
            "exe",
            "stat/../../uptime",
        ] {
            assert!(open_beneath(&root, name, false).is_err(), "{name}");
        }
    }
}
