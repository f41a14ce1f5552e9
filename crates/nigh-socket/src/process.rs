//! The process behind a connection, through its pidfd: executable, cgroup, systemd unit, for display and audit.
//!
//! Each look at `/proc` is `pid from the pidfd, read, still alive?`: a process that is alive after the read had its pid
//! during the read. Trap: none of it may authorise. A process can exec another program at any moment.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::cgroup::{self, Unit};
use crate::sys::pidfd;

/// A process that cannot be confused with a later one of the same pid. Cloning is cheap.
///
/// As a descriptor it becomes readable when the process ends.
#[derive(Debug, Clone)]
pub struct Process {
    pidfd: Arc<OwnedFd>,
}

/// Something of a process that could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// It has ended, so that nothing can be read of it any more.
    #[error("the process has ended")]
    Ended,
    /// It runs in a pid namespace that this one does not see into.
    #[error("the process is in another pid namespace")]
    OtherPidNamespace,
    /// Only its owner and root may read this.
    #[error("not permitted to read the {what} of process {pid}")]
    NotPermitted {
        /// What was to be read.
        what: Detail,
        /// Its pid, as `/proc` counts.
        pid: u32,
    },
    /// It is alive, but `/proc` has no such entry: it is hidden (`hidepid=`), or a kernel thread.
    #[error("/proc does not show the {what} of process {pid}")]
    Hidden {
        /// What was to be read.
        what: Detail,
        /// Its pid, as `/proc` counts.
        pid: u32,
    },
    /// This kernel does not offer it.
    #[error("this kernel does not tell the {what} of a process")]
    Unsupported {
        /// What was to be read.
        what: Detail,
    },
    /// The kernel's answer has another form than this library knows.
    #[error("the {what} of the process is in an unknown form")]
    Malformed {
        /// What was to be read.
        what: Detail,
    },
    /// Another error, for example `/proc` not being mounted.
    #[error("cannot read the {what} of the process: {}", io::Error::from_raw_os_error(*.errno))]
    Failed {
        /// What was to be read.
        what: Detail,
        /// The error number.
        errno: i32,
    },
}

/// What was to be read of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Detail {
    /// Whether it is alive.
    State,
    /// Its pid, from `/proc/self/fdinfo`.
    Pid,
    /// Its executable, `/proc/PID/exe`.
    Executable,
    /// Its control group, `/proc/PID/cgroup`.
    Cgroup,
    /// `PIDFD_GET_INFO`.
    Info,
}

/// What the kernel says now of a process (`PIDFD_GET_INFO`, Linux 6.13), not what it was when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProcessInfo {
    /// It runs, or its parent has not collected it yet.
    #[non_exhaustive]
    Running {
        /// Its pid in this pid namespace.
        pid: u32,
        /// The pid of its parent; 0 when that is outside this pid namespace.
        parent: u32,
        /// Its user ids; one that is not mapped here is shown as the overflow id.
        uid: Ids,
        /// Its group ids, in the same way.
        gid: Ids,
        /// The inode number of its control group, where the kernel has cgroup v2.
        cgroup_id: Option<u64>,
    },
    /// It has ended (told from Linux 6.15 on).
    #[non_exhaustive]
    Ended {
        /// How.
        status: ExitStatus,
    },
}

/// The four ids a process has of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// Who started it.
    pub real: u32,
    /// Whose rights it has.
    pub effective: u32,
    /// Whom it may become again.
    pub saved: u32,
    /// Whose rights it has on files.
    pub filesystem: u32,
}

impl Process {
    pub(crate) fn new(pidfd: OwnedFd) -> Self {
        Self {
            pidfd: Arc::new(pidfd),
        }
    }

    /// Whether it still runs. A process that ended and was not collected by its parent does not.
    ///
    /// # Errors
    /// When the pidfd cannot be polled.
    pub fn is_alive(&self) -> Result<bool, ProcessError> {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        loop {
            let mut end = [PollFd::new(&self.pidfd, PollFlags::IN)];
            match poll(&mut end, Some(&now)) {
                Ok(0) => return Ok(true),
                Ok(_) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(Detail::State, errno.raw_os_error())),
            }
        }
    }

    /// Its pid, as `/proc` counts.
    ///
    /// # Errors
    /// When it has ended or is in another pid namespace, or `/proc` cannot be read.
    pub fn pid(&self) -> Result<u32, ProcessError> {
        let path = format!("/proc/self/fdinfo/{}", self.pidfd.as_raw_fd());
        let text = fs::read_to_string(path)
            .map_err(|error| failed(Detail::Pid, error.raw_os_error().unwrap_or(libc::EIO)))?;
        pid_of_fdinfo(&text)
    }

    /// The path of its executable as `/proc/PID/exe` shows it, with ` (deleted)` behind it when the file was removed.
    ///
    /// # Errors
    /// Of another user's process only root may read it.
    pub fn executable(&self) -> Result<PathBuf, ProcessError> {
        self.read(Detail::Executable, |pid| {
            fs::read_link(format!("/proc/{pid}/exe"))
        })
    }

    /// Its control group, seen from ours: the unified (v2) one, or systemd's own on a hybrid system.
    ///
    /// # Errors
    /// When it has ended, is hidden, or has neither.
    pub fn cgroup(&self) -> Result<PathBuf, ProcessError> {
        let text = self.read(Detail::Cgroup, |pid| {
            fs::read(format!("/proc/{pid}/cgroup"))
        })?;
        match cgroup::path(&text) {
            Some(path) => Ok(std::ffi::OsString::from_vec(path.to_vec()).into()),
            None => Err(ProcessError::Malformed {
                what: Detail::Cgroup,
            }),
        }
    }

    /// The systemd unit it runs in, by its control group; `None` when that is not below any unit.
    ///
    /// # Errors
    /// As for [`cgroup`](Self::cgroup).
    pub fn unit(&self) -> Result<Option<Unit>, ProcessError> {
        Ok(Unit::of_cgroup(&self.cgroup()?))
    }

    /// Its ids as they are now, or how it ended.
    ///
    /// # Errors
    /// When the kernel is older than Linux 6.13, or the process is in another pid namespace.
    pub fn info(&self) -> Result<ProcessInfo, ProcessError> {
        let what = Detail::Info;
        let raw = match pidfd::info(self.pidfd.as_fd()) {
            Ok(raw) => raw,
            Err(Errno::NOTTY | Errno::INVAL) => return Err(ProcessError::Unsupported { what }),
            Err(Errno::REMOTE) => return Err(ProcessError::OtherPidNamespace),
            // Before Linux 6.15 also for a process that has ended.
            Err(Errno::SRCH) => {
                return Err(match self.is_alive()? {
                    true => ProcessError::OtherPidNamespace,
                    false => ProcessError::Ended,
                });
            }
            Err(errno) => return Err(failed(what, errno.raw_os_error())),
        };
        if raw.mask & pidfd::EXIT != 0 {
            return Ok(ProcessInfo::Ended {
                status: ExitStatus::from_raw(raw.exit_code),
            });
        }
        if raw.mask & pidfd::CREDENTIALS == 0 {
            return Err(ProcessError::Malformed { what });
        }
        Ok(ProcessInfo::Running {
            pid: raw.tgid,
            parent: raw.ppid,
            uid: Ids {
                real: raw.ruid,
                effective: raw.euid,
                saved: raw.suid,
                filesystem: raw.fsuid,
            },
            gid: Ids {
                real: raw.rgid,
                effective: raw.egid,
                saved: raw.sgid,
                filesystem: raw.fsgid,
            },
            cgroup_id: (raw.mask & pidfd::CGROUP_ID != 0).then_some(raw.cgroupid),
        })
    }

    /// Reads from `/proc/PID` and then makes sure that it was this process's.
    fn read<T>(
        &self,
        what: Detail,
        read: impl FnOnce(u32) -> io::Result<T>,
    ) -> Result<T, ProcessError> {
        let pid = self.pid()?;
        let outcome = read(pid);
        if !self.is_alive()? {
            return Err(ProcessError::Ended);
        }
        outcome.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => ProcessError::NotPermitted { what, pid },
            io::ErrorKind::NotFound => ProcessError::Hidden { what, pid },
            _ => failed(what, error.raw_os_error().unwrap_or(libc::EIO)),
        })
    }
}

impl ProcessError {
    /// What an operator can do about it.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotPermitted { .. } => Some("run as root, or as the user of that process"),
            Self::Hidden { .. } => Some("mount /proc without hidepid="),
            Self::OtherPidNamespace => {
                Some("look from the namespace of that process, or from one around it")
            }
            _ => None,
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl std::fmt::Display for Detail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::State => "state",
            Self::Pid => "pid",
            Self::Executable => "executable",
            Self::Cgroup => "control group",
            Self::Info => "present ids",
        })
    }
}

const fn failed(what: Detail, errno: i32) -> ProcessError {
    ProcessError::Failed { what, errno }
}

/// The `Pid:` line of a pidfd's fdinfo: -1 once the process is collected, 0 where it cannot be seen.
fn pid_of_fdinfo(text: &str) -> Result<u32, ProcessError> {
    let value = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    match value.map(|value| value.trim().parse::<i64>()) {
        Some(Ok(-1)) => Err(ProcessError::Ended),
        Some(Ok(0)) => Err(ProcessError::OtherPidNamespace),
        Some(Ok(pid)) => {
            u32::try_from(pid).map_err(|_| ProcessError::Malformed { what: Detail::Pid })
        }
        Some(Err(_)) | None => Err(ProcessError::Malformed { what: Detail::Pid }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Detail, ProcessError, pid_of_fdinfo};

    #[test]
    fn the_pid_line_is_read_with_its_special_values() {
        let head = "pos:\t0\nflags:\t02000002\nmnt_id:\t15\n";
        let read = |value: &str| pid_of_fdinfo(&format!("{head}Pid:\t{value}\nNSpid:\t9\n"));
        let malformed = Err(ProcessError::Malformed { what: Detail::Pid });
        assert_eq!(read("4242"), Ok(4242));
        assert_eq!(read("-1"), Err(ProcessError::Ended));
        assert_eq!(read("0"), Err(ProcessError::OtherPidNamespace));
        assert_eq!(read("-2"), malformed);
        assert_eq!(read("x"), malformed);
        assert_eq!(pid_of_fdinfo(head), malformed);
    }

    #[test]
    fn errors_name_what_was_read() {
        let what = Detail::Executable;
        let error = ProcessError::NotPermitted { what, pid: 7 };
        assert_eq!(
            error.to_string(),
            "not permitted to read the executable of process 7"
        );
    }
}
