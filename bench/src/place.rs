//! Where the two processes run, and what their allocator does.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::thread::CpuSet;

use crate::Failure;

/// Which cores client and server may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// Both on core 0: the view with the least noise.
    Same,
    /// Each on its own core.
    Split,
    /// Wherever the kernel puts them.
    Unpinned,
}

impl Place {
    pub(crate) fn named(name: &str) -> Result<Self, Failure> {
        match name {
            "same" => Ok(Self::Same),
            "split" => Ok(Self::Split),
            "unpinned" => Ok(Self::Unpinned),
            _ => Err(format!("{name:?} is no place: same, split or unpinned").into()),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Split => "split",
            Self::Unpinned => "unpinned",
        }
    }

    /// Moves this process there.
    pub(crate) fn take(self, is_server: bool) -> Result<(), Failure> {
        let mut cores = CpuSet::new();
        match self {
            Self::Same => cores.set(0),
            Self::Split => cores.set(usize::from(is_server)),
            Self::Unpinned => (0..CpuSet::MAX_CPU).for_each(|core| cores.set(core)),
        }
        Ok(rustix::thread::sched_setaffinity(None, &cores)?)
    }
}

/// glibc gives large buffers back to the kernel with each call, and page faults then cost more than any wire. Both
/// processes keep them; this one starts itself again for that. True: that has happened and is over.
pub(crate) fn keeps_memory() -> Result<bool, Failure> {
    const KEEP: &str = "67108864";
    if std::env::var("MALLOC_TRIM_THRESHOLD_").is_ok_and(|value| value == KEEP) {
        return Ok(false);
    }
    let mut again = Command::new(std::env::current_exe()?);
    again
        .args(std::env::args().skip(1))
        .env("MALLOC_TRIM_THRESHOLD_", KEEP)
        .env("MALLOC_MMAP_THRESHOLD_", "33554432");
    Err(again.exec().into())
}
