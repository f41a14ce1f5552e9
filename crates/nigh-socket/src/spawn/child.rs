//! A child that was started: its end is seen at once, whoever else holds the line.

use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use tokio::io::Interest;

use crate::process::Process;
use crate::sys::register::register;

/// Children that nobody watches any more and that have not ended yet: collected by and by.
static ORPHANS: Mutex<Vec<Process>> = Mutex::new(Vec::new());

/// A child process.
///
/// As a descriptor it becomes readable when the process ends. Dropping it neither kills nor waits: the child sees the end
/// of its line when that is dropped, and is collected when a later child is started or dropped.
#[derive(Debug)]
pub struct Child {
    process: Process,
    pid: u32,
    status: Mutex<Option<ExitStatus>>,
}

impl Child {
    pub(super) fn new(pidfd: OwnedFd, pid: Pid) -> Self {
        collect(&mut lock(&ORPHANS));
        Self {
            process: Process::new(pidfd),
            pid: pid.as_raw_nonzero().get().unsigned_abs(),
            status: Mutex::new(None),
        }
    }

    /// Its pid. Once it was waited for, another process may have that.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The process, which no later one with its pid is taken for.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Waits for its end: told by the process itself, not by the line, which a grandchild may hold open.
    ///
    /// # Errors
    /// What the reactor reports; `ECHILD` when something else in this process has waited for it.
    ///
    /// # Cancel safety
    /// Cancel safe: how it ended is kept for the next call.
    pub async fn exited(&self) -> io::Result<ExitStatus> {
        let duplicate = self.process.as_fd().try_clone_to_owned()?;
        let end = register(duplicate, Interest::READABLE)?;
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            end.readable().await?.clear_ready();
        }
    }

    /// As [`exited`](Self::exited), blocking this thread.
    ///
    /// # Errors
    /// `ECHILD` when something else in this process has waited for it.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            let mut end = [rustix::event::PollFd::new(
                &self.process,
                rustix::event::PollFlags::IN,
            )];
            match rustix::event::poll(&mut end, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// As for [`wait`](Self::wait).
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        let mut status = lock(&self.status);
        if status.is_none() {
            *status = ended(self.process.as_fd())?;
        }
        Ok(*status)
    }

    /// Kills it (`SIGKILL`). That it has ended already is no error.
    ///
    /// # Errors
    /// What `pidfd_send_signal(2)` reports: it has become another user's.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    /// Asks it to end (`SIGTERM`). That it has ended already is no error.
    ///
    /// # Errors
    /// As for [`kill`](Self::kill).
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Sends it a signal, by its number. That it has ended already is no error.
    ///
    /// # Errors
    /// `InvalidInput` for what is no signal; otherwise as for [`kill`](Self::kill).
    pub fn send_signal(&self, number: i32) -> io::Result<()> {
        match Signal::from_named_raw(number) {
            Some(signal) => self.signal(signal),
            None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.process, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let mut orphans = lock(&ORPHANS);
        if lock(&self.status).is_none() {
            orphans.push(self.process.clone());
        }
        collect(&mut orphans);
    }
}

/// Forgets those that have ended, so that they are no zombies.
fn collect(orphans: &mut Vec<Process>) {
    // One that cannot be waited for is not ours to collect.
    let still = mem::take(orphans)
        .into_iter()
        .filter(|orphan| matches!(ended(orphan.as_fd()), Ok(None)));
    *orphans = still.collect();
}

/// Collects the process, if it has ended.
fn ended(pidfd: BorrowedFd<'_>) -> io::Result<Option<ExitStatus>> {
    let found = loop {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(pidfd), options) {
            Err(Errno::INTR) => {}
            done => break done?,
        }
    };
    Ok(found.map(|found| {
        // As `wait(2)` has it: the exit code in the second byte, or a signal in the first.
        let signal = found.terminating_signal().unwrap_or(0);
        let dumped = if found.dumped() { 0x80 } else { 0 };
        ExitStatus::from_raw(found.exit_status().unwrap_or(0) << 8 | signal | dumped)
    }))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
