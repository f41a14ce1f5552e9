//! Collects what has ended: the command's processes, and those whose parents have died.
//!
//! Trap: a wait for any child takes the end of the very child that somebody else waits for by its pidfd. So everything is
//! collected here, and nowhere else in this process.

use std::fmt;
use std::io;

use rustix::process::{Pid, Signal, WaitOptions, getpid};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// What it returned, if it did.
    pub(super) code: Option<i32>,
    /// What killed it, if something did.
    pub(super) signal: Option<i32>,
}

impl End {
    pub(super) fn is_success(self) -> bool {
        self.code == Some(0)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => f.write_str("an end of no known kind"),
        }
    }
}

/// Has processes whose parents die become our children, and not those of process 1.
pub(super) fn adopt() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(getpid()))?)
}

/// Everything that has ended, each with its pid.
pub(super) fn ended() -> Vec<(u32, End)> {
    let mut ended = Vec::new();
    // Until there is none, or none that has ended.
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        let end = End {
            code: status.exit_status(),
            signal: status.terminating_signal(),
        };
        ended.push((number(pid), end));
    }
    ended
}

/// Our children now, ended ones not yet collected among them.
pub(super) fn children() -> io::Result<Vec<Pid>> {
    let us = std::process::id();
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // One that is gone by now is nobody's child.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        // The name before it may hold anything, a parenthesis included.
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1)?.parse::<u32>().ok());
        if parent == Some(us) {
            children.extend(Pid::from_raw(pid));
        }
    }
    Ok(children)
}

/// Signals a process and all it has started, as far as they stayed in its group; false when none is left.
pub(super) fn signal_group(leader: u32, signal: Signal) -> bool {
    group(leader).is_some_and(|group| rustix::process::kill_process_group(group, signal).is_ok())
}

/// Whether anything of a group is left.
pub(super) fn has_group(leader: u32) -> bool {
    group(leader).is_some_and(|group| rustix::process::test_kill_process_group(group).is_ok())
}

/// Whether the process is of that group.
pub(super) fn is_in_group(pid: u32, leader: u32) -> bool {
    let group = group(pid).and_then(|pid| rustix::process::getpgid(Some(pid)).ok());
    group.map(number) == Some(leader)
}

fn group(leader: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(leader).ok()?)
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}
