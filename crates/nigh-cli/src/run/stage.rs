//! The step between `nigh run` and its command: a process that knows its own id, and then becomes the command.
//!
//! Trap: `LISTEN_PID` is the id of the process that reads it, which nobody knows before it exists; `posix_spawn` runs no
//! code of ours that could find out.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nigh_socket::spawn::{self, from_parent};
use rustix::process::{PidfdFlags, Signal, getpid, getppid, pidfd_open};

use super::RunError;
use crate::cli::StageArgs;
use crate::error::Failure;

/// Becomes the command; what keeps it from that is told on the line.
pub(crate) fn run(args: &StageArgs) -> Result<(), Failure> {
    // Closed by exec, which is how the supervisor hears that there is a command.
    let line = from_parent().map_err(|_| RunError::Orphan)?;
    let mut line = File::from(OwnedFd::from(line));
    // Ends with the supervisor, even if that is killed; a terminal's ^C is the supervisor's to pass on.
    let settled = rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .and_then(|()| rustix::process::setpgid(None, None));
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if parent != Some(args.parent) {
        return Err(RunError::Orphan.into());
    }
    let error = match settled {
        Ok(()) => command(args).exec(),
        Err(error) => error.into(),
    };
    // Nobody is left to tell when this fails.
    let _ = write!(line, "{error}");
    Err(RunError::Command {
        program: args.command[0].to_string_lossy().into_owned(),
        message: error.to_string(),
    }
    .into())
}

fn command(args: &StageArgs) -> Command {
    let mut command = Command::new(&args.command[0]);
    let pid = std::process::id().to_string();
    command.args(&args.command[1..]).env_remove(spawn::VARIABLE);
    if std::env::var_os("LISTEN_FDS").is_some() {
        command.env("LISTEN_PID", &pid);
        // An older kernel has no such number, and the id alone has to do.
        let identity = pidfd_open(getpid(), PidfdFlags::empty())
            .ok()
            .and_then(|pidfd| File::from(pidfd).metadata().ok());
        if let Some(identity) = identity {
            command.env("LISTEN_PIDFDID", identity.ino().to_string());
        }
    }
    if std::env::var_os("WATCHDOG_USEC").is_some() {
        command.env("WATCHDOG_PID", pid);
    }
    command
}
