//! Why a service manager's descriptors cannot be used, or it cannot be told.

use std::ffi::OsString;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use crate::inherit::InheritedError;
use crate::message::SendError;

/// A descriptor from a service manager cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ActivationError {
    /// One variable of two is there.
    #[error("{0} is not set, but its companion is")]
    Incomplete(&'static str),
    /// A variable holds something else than it should.
    #[error("{variable} is {value:?}")]
    Malformed {
        /// Which.
        variable: &'static str,
        /// What it holds.
        value: OsString,
    },
    /// More descriptors than any manager passes.
    #[error("LISTEN_FDS announces {0} descriptors, more than 4096")]
    TooMany(usize),
    /// Names and descriptors differ in number.
    #[error("LISTEN_FDNAMES has {names} name{} for {descriptors} descriptors", if *.names == 1 { "" } else { "s" })]
    Names {
        /// How many names.
        names: usize,
        /// How many descriptors.
        descriptors: usize,
    },
    /// It cannot be told whether this is the process that is meant.
    #[error("cannot tell whether LISTEN_PIDFDID means this process")]
    Ourselves(#[source] io::Error),
    /// A descriptor that was announced is not there, or has an owner.
    #[error("descriptor {number} ({name:?}) was announced")]
    Announced {
        /// Its number.
        number: RawFd,
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: InheritedError,
    },
    /// The announcement as a whole is refused.
    #[error("what the service manager announced is not usable")]
    Announcement(#[source] &'static Self),
    /// Nothing was passed to this process.
    #[error("no service manager passed anything to this process{}", if *.to_another { ": the variables are another one's" } else { "" })]
    Nothing {
        /// The variables are there, and name another process.
        to_another: bool,
    },
    /// None has the name.
    #[error("no descriptor is called {name:?}; there {} {}", if .known.len() == 1 { "is" } else { "are" }, .known.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// All of the name are taken.
    #[error("{name:?} is taken already")]
    Taken {
        /// The name.
        name: String,
    },
    /// None of the name is what is needed.
    #[error("{name:?} (descriptor {number}) is not what is needed")]
    Unsuitable {
        /// The name.
        name: String,
        /// The first of that name.
        number: RawFd,
        /// What is wrong with it.
        source: InheritedError,
    },
}

impl ActivationError {
    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Incomplete(_)
            | Self::Malformed { .. }
            | Self::TooMany(_)
            | Self::Names { .. }
            | Self::Announced { .. } => Some(
                "the variables come from whoever started this process: systemd, systemd-socket-activate or nigh run",
            ),
            Self::Announcement(error) => error.hint(),
            Self::Nothing { to_another: true } => Some(
                "a wrapper must become the service with `exec`, so that it keeps the pid in LISTEN_PID",
            ),
            Self::Nothing { .. } => Some(
                "start the .socket unit, or try it with `nigh run --listen NAME=ADDR -- COMMAND` or systemd-socket-activate --fdname",
            ),
            Self::Unknown { .. } => Some(
                "FileDescriptorName= of the .socket unit gives the name, which is the unit's otherwise",
            ),
            Self::Taken { .. } => Some("a descriptor is used once; listen on it once"),
            Self::Unsuitable { source, .. } => source.hint().or(Some(
                "something else has the name: see FileDescriptorName= and FDNAME=",
            )),
            Self::Ourselves(_) => None,
        }
    }
}

/// The service manager was not told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotifyError {
    /// There is none.
    #[error("NOTIFY_SOCKET is not set")]
    Nobody,
    /// The address is of a kind that is not supported.
    #[error("NOTIFY_SOCKET is {0:?}, which is neither a path nor an abstract name")]
    Address(OsString),
    /// A virtual machine's way to its host.
    #[error("NOTIFY_SOCKET is {0:?}: vsock is not supported")]
    Vsock(OsString),
    /// A variable of the watchdog holds something else than it should.
    #[error("{variable} is {value:?}")]
    Malformed {
        /// Which.
        variable: &'static str,
        /// What it holds.
        value: OsString,
    },
    /// No socket to send with.
    #[error("no socket to tell the service manager with")]
    Socket(#[source] io::Error),
    /// It did not arrive.
    #[error("the service manager was not told")]
    Send(#[source] SendError),
    /// What was sent was not processed in time.
    #[error("the service manager did not answer within {0:?}")]
    Barrier(Duration),
    /// The name of something to be stored is none.
    #[error(
        "{0:?} is no name for a stored descriptor: at most 255 visible ASCII characters, no colon"
    )]
    Name(String),
}

impl NotifyError {
    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Nobody => Some("a service manager sets it: systemd, or nigh run"),
            Self::Address(_) => Some("it begins with a slash or with @"),
            Self::Vsock(_) => Some(
                "inside a virtual machine its own service manager is to be told, which tells the host",
            ),
            Self::Malformed { .. } => Some("WatchdogSec= of the service unit sets it"),
            Self::Send(SendError::NoReceiver) => {
                Some("nobody listens there: was the variable inherited from another service?")
            }
            Self::Barrier(_) => Some("the manager is busy, or is none"),
            _ => None,
        }
    }
}
