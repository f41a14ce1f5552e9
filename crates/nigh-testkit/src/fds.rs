//! Which descriptors this process holds, and what changed since.
//!
//! Trap: it sees the whole process. A test that uses it owns its process: one `#[test]` per binary, or a [`crate::Child`].

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

/// The open descriptors at one moment, each with what `/proc/self/fd` says it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenFds {
    targets: BTreeMap<u32, PathBuf>,
}

impl OpenFds {
    /// What is open now.
    ///
    /// # Panics
    /// When `/proc/self/fd` cannot be read.
    #[must_use]
    pub fn now() -> Self {
        let entries = fs::read_dir("/proc/self/fd").expect("/proc is mounted");
        let numbers: Vec<u32> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        // The directory's own descriptor is closed by now, so its link is gone and it drops out.
        let targets = numbers
            .into_iter()
            .filter_map(|number| {
                Some((
                    number,
                    fs::read_link(format!("/proc/self/fd/{number}")).ok()?,
                ))
            })
            .collect();
        Self { targets }
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.targets.len()
    }

    /// What `later` has that this has not, and the other way round, one per line; empty when nothing changed.
    #[must_use]
    pub fn difference(&self, later: &Self) -> String {
        let mut text = String::new();
        for (sign, from, to) in [('+', later, self), ('-', self, later)] {
            for (number, target) in &from.targets {
                if to.targets.get(number) != Some(target) {
                    let _ = writeln!(text, "{sign} {number} -> {}", target.display());
                }
            }
        }
        text
    }

    /// Checks that exactly the same descriptors are open again.
    ///
    /// # Panics
    /// When one was left open or closed, naming each and where it leads.
    pub fn assert_unchanged(&self) {
        let difference = self.difference(&Self::now());
        assert!(
            difference.is_empty(),
            "open descriptors changed (+ left open, - gone):\n{difference}"
        );
    }
}

/// Lets this process open no descriptor with a number of `limit` or more. Only for a process of the test's own.
///
/// # Panics
/// When the hard limit is lower.
pub fn limit_descriptors(limit: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let lower = Rlimit {
        current: Some(limit),
        maximum,
    };
    setrlimit(Resource::Nofile, lower).expect("a limit below the hard one");
}

/// Gives up `fd` as a child of exec would find it: open under the number returned, and not close-on-exec.
///
/// # Panics
/// When it is not open.
#[must_use]
pub fn inherited(fd: OwnedFd) -> RawFd {
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).expect("an open descriptor");
    fd.into_raw_fd()
}
