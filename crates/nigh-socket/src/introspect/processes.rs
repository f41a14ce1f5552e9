//! Which processes hold which sockets, from `/proc/*/fd`: those of other users only root may see.
//!
//! Trap: between reading a link and naming its process the pid may be another's. This is for display and nothing else.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Links looked at: a machine with more open files gets an incomplete answer instead of a slow one.
const LINKS_MAX: usize = 2_000_000;

/// A process that holds a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owner {
    /// Its process id here.
    pub pid: u32,
    /// Its executable; `None` when this user may not know it.
    pub executable: Option<PathBuf>,
}

/// Socket inodes and their holders.
#[derive(Debug, Default)]
pub(super) struct Holders {
    by_inode: HashMap<u32, Vec<u32>>,
    /// Processes whose descriptors could not be read, or were left out.
    pub(super) unreadable: usize,
}

impl Holders {
    /// Looks at every process once.
    pub(super) fn scan() -> Self {
        let mut holders = Self::default();
        let mut links = 0;
        for pid in pids() {
            let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
                // A process that has ended meanwhile is not one that is hidden.
                holders.unreadable += usize::from(Path::new(&format!("/proc/{pid}/stat")).exists());
                continue;
            };
            if links > LINKS_MAX {
                holders.unreadable += 1;
                continue;
            }
            for entry in entries.flatten() {
                links += 1;
                if let Some(inode) = fs::read_link(entry.path()).ok().as_deref().and_then(inode) {
                    let pids = holders.by_inode.entry(inode).or_default();
                    if pids.last() != Some(&pid) {
                        pids.push(pid);
                    }
                }
            }
        }
        holders
    }

    /// The processes that hold this socket.
    pub(super) fn of(&self, inode: u32) -> Vec<Owner> {
        let pids = self.by_inode.get(&inode).into_iter().flatten();
        pids.map(|pid| Owner {
            pid: *pid,
            executable: fs::read_link(format!("/proc/{pid}/exe")).ok(),
        })
        .collect()
    }
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids
}

/// The inode of `socket:[INODE]`.
fn inode(link: &Path) -> Option<u32> {
    link.to_str()?
        .strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_have_a_socket_inode() {
        assert_eq!(inode(Path::new("socket:[4711]")), Some(4711));
        for other in [
            "pipe:[4711]",
            "/tmp/socket:[1]",
            "socket:[x]",
            "socket:[1] (deleted)",
        ] {
            assert_eq!(inode(Path::new(other)), None, "{other}");
        }
    }
}
