//! The descriptors that a service manager passed to this process: owned from the first look on, each taken once.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::ActivationError;
use super::announcement::{self, Announced, Variables};
use crate::inherit::InheritedError;
use crate::sys;

/// The first that is passed: behind the standard streams (sd_listen_fds(3)).
const FIRST: RawFd = 3;

/// Of the file system that pidfds live in since Linux 6.9. Before that their inode is one for all.
const PIDFS_MAGIC: i64 = 0x5049_4446;

/// One look at the environment for the whole process.
static PASSED: OnceLock<Result<Passed, ActivationError>> = OnceLock::new();

#[derive(Debug)]
struct Passed {
    to_another: bool,
    slots: Mutex<Vec<Slot>>,
}

#[derive(Debug)]
struct Slot {
    number: RawFd,
    name: String,
    /// Gone when it was taken.
    fd: Option<OwnedFd>,
}

/// A descriptor that a service manager passed, as it announced it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The number that it came with.
    pub number: RawFd,
    /// Its name; not unique. `unknown` where the manager gave none.
    pub name: String,
    /// Somebody in this process has taken it.
    pub is_taken: bool,
}

/// What was passed to this process, in order; empty when nothing was. All of it is closed on exec from the first look on,
/// by this or anything else that takes one. One that nobody takes stays open: callers of a listener nobody accepts from
/// wait in vain.
///
/// # Errors
/// See [`ActivationError`]: the same each time, for the environment is read once.
pub fn descriptors() -> Result<Vec<Descriptor>, ActivationError> {
    let slots = lock(passed()?);
    Ok(slots
        .iter()
        .map(|slot| Descriptor {
            number: slot.number,
            name: slot.name.clone(),
            is_taken: slot.fd.is_none(),
        })
        .collect())
}

/// Takes the first of that name that is not taken yet, whatever it is: a listener for
/// [`ListenerOptions::adopt`](crate::ListenerOptions::adopt), or state that was stored. An address (`fd:NAME`) takes a
/// listener by itself.
///
/// # Errors
/// See [`ActivationError`].
pub fn take(name: &str) -> Result<OwnedFd, ActivationError> {
    take_for(name, |_| Ok(())).map(|(fd, ())| fd)
}

/// Takes the first of that name that passes the check and is not taken yet.
pub(crate) fn take_for<T>(
    name: &str,
    check: impl Fn(BorrowedFd<'_>) -> Result<T, InheritedError>,
) -> Result<(OwnedFd, T), ActivationError> {
    let passed = passed()?;
    let mut slots = lock(passed);
    if slots.is_empty() {
        return Err(ActivationError::Nothing {
            to_another: passed.to_another,
        });
    }
    let mut unsuitable = None;
    let mut is_known = false;
    for slot in slots.iter_mut().filter(|slot| slot.name == name) {
        is_known = true;
        let Some(fd) = slot.fd.take() else { continue };
        match check(fd.as_fd()) {
            Ok(found) => return Ok((fd, found)),
            Err(source) => {
                slot.fd = Some(fd);
                unsuitable.get_or_insert((slot.number, source));
            }
        }
    }
    let name = name.to_owned();
    Err(match unsuitable {
        Some((number, source)) => ActivationError::Unsuitable {
            name,
            number,
            source,
        },
        None if is_known => ActivationError::Taken { name },
        None => ActivationError::Unknown {
            name,
            known: slots
                .iter()
                .map(|slot| format!("{:?}", slot.name))
                .collect(),
        },
    })
}

/// Takes the one of that number; none when it is not among those that were passed.
pub(crate) fn take_number<T>(
    number: RawFd,
    check: impl Fn(BorrowedFd<'_>) -> Result<T, InheritedError>,
) -> Result<Option<(OwnedFd, T)>, ActivationError> {
    let mut slots = lock(passed()?);
    let Some(slot) = slots.iter_mut().find(|slot| slot.number == number) else {
        return Ok(None);
    };
    let name = slot.name.clone();
    let Some(fd) = slot.fd.take() else {
        return Err(ActivationError::Taken { name });
    };
    match check(fd.as_fd()) {
        Ok(found) => Ok(Some((fd, found))),
        Err(source) => {
            slot.fd = Some(fd);
            Err(ActivationError::Unsuitable {
                name,
                number,
                source,
            })
        }
    }
}

fn passed() -> Result<&'static Passed, ActivationError> {
    PASSED
        .get_or_init(collect)
        .as_ref()
        .map_err(ActivationError::Announcement)
}

/// Reads the announcement and owns everything that it names.
fn collect() -> Result<Passed, ActivationError> {
    let variable = |name| std::env::var_os(name);
    let variables = Variables {
        pid: variable("LISTEN_PID"),
        process: variable("LISTEN_PIDFDID"),
        count: variable("LISTEN_FDS"),
        names: variable("LISTEN_FDNAMES"),
    };
    let announced = announcement::read(variables, std::process::id(), own_inode)?;
    let to_another = announced == Announced::ToAnother;
    let names = match announced {
        Announced::Named(names) => names,
        Announced::Nothing | Announced::ToAnother => Vec::new(),
    };
    let mut slots = Vec::with_capacity(names.len());
    for (number, name) in (FIRST..).zip(names) {
        match sys::inherit::own(number) {
            Ok(fd) => slots.push(Slot {
                number,
                name,
                fd: Some(fd),
            }),
            Err(source) => {
                return Err(ActivationError::Announced {
                    number,
                    name,
                    source,
                });
            }
        }
    }
    Ok(Passed {
        to_another,
        slots: Mutex::new(slots),
    })
}

/// What identifies this process for as long as the machine runs; none where the kernel has no such thing.
fn own_inode() -> io::Result<Option<u64>> {
    let ourselves = pidfd_open(getpid(), PidfdFlags::empty())?;
    if rustix::fs::fstatfs(&ourselves)?.f_type as i64 != PIDFS_MAGIC {
        return Ok(None);
    }
    use std::os::unix::fs::MetadataExt as _;
    Ok(Some(fs::File::from(ourselves).metadata()?.ino()))
}

fn lock(passed: &Passed) -> MutexGuard<'_, Vec<Slot>> {
    passed.slots.lock().unwrap_or_else(PoisonError::into_inner)
}
