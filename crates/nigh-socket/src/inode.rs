//! Which file a descriptor leads to, asked without waiting for a network or user file system.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, StatxFlags, makedev, statx};

/// A file's identity on this machine for as long as it exists.
///
/// Trap: all anonymous files of one kind may share one inode, and both ends of a pipe do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Inode {
    /// As in `st_dev`.
    pub device: u64,
    /// As in `st_ino`.
    pub number: u64,
}

impl Inode {
    /// Asks what is cached: the answer never depends on a server elsewhere.
    ///
    /// # Errors
    /// What `statx(2)` reports.
    pub fn of(fd: impl AsFd) -> io::Result<Self> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let found = statx(fd, "", flags, StatxFlags::INO)?;
        Ok(Self {
            device: makedev(found.stx_dev_major, found.stx_dev_minor),
            number: found.stx_ino,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn the_numbers_are_those_of_stat() {
        let found = Inode::of(std::fs::File::open("/proc/self/exe").unwrap()).unwrap();
        let expected = std::fs::metadata("/proc/self/exe").unwrap();
        assert_eq!(
            (found.device, found.number),
            (expected.dev(), expected.ino())
        );
    }
}
