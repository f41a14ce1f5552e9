//! Why a child was not started, or has no line to its parent.

use std::ffi::OsString;
use std::io;
use std::os::fd::RawFd;
use std::path::Path;

use crate::inherit::InheritedError;
use crate::listener::SocketKind;

/// A child was not started.
#[derive(Debug, thiserror::Error)]
#[error("start {}", Path::new(.program).display())]
pub struct SpawnError {
    /// The program as it was given.
    pub program: OsString,
    /// What is wrong.
    #[source]
    pub fault: SpawnFault,
}

/// What is wrong with a child that was to be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnFault {
    /// An argument, a variable or a path has a NUL in it.
    #[error("an argument, a variable or the directory has a NUL in it")]
    Nul,
    /// The death of a peer is not noticed on a pair of datagram sockets.
    #[error("a {0} socket cannot be a line: it does not tell that the other end is gone")]
    Kind(SocketKind),
    /// The line can have the numbers 3 to 255, behind what the child gets besides.
    #[error(
        "the line cannot have the number {0}: only 3 to 255, behind the descriptors that the child gets"
    )]
    Number(RawFd),
    /// The pair of sockets could not be made, or a descriptor not be copied.
    #[error("no descriptors for the line")]
    Descriptors(#[source] io::Error),
    /// The program does not exist, may not be executed, or cannot be.
    #[error("the program cannot be executed")]
    Execute(#[source] io::Error),
    /// It runs, or has run, but cannot be watched: the system has no pidfds (before Linux 5.4), or no descriptors are left.
    /// It was killed.
    #[error("the process cannot be watched")]
    Watch(#[source] io::Error),
}

impl SpawnError {
    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match &self.fault {
            SpawnFault::Descriptors(_) | SpawnFault::Watch(_) => {
                Some("raise this process's limit of open files")
            }
            SpawnFault::Execute(error) => match error.kind() {
                io::ErrorKind::NotFound => {
                    Some("give a path, or see what PATH leads to; an interpreter may be missing")
                }
                io::ErrorKind::PermissionDenied => Some("see its mode, and the mount's `noexec`"),
                _ => None,
            },
            _ => None,
        }
    }
}

/// This process has no line to its parent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParentError {
    /// Nobody announced one: this process was not started by [`Spawn`](super::Spawn).
    #[error("the variable NIGH_PARENT is not set")]
    NotAnnounced,
    /// The announcement is in no form that this library writes.
    #[error("the variable NIGH_PARENT is {0:?}")]
    Malformed(OsString),
    /// The descriptor is not what was announced: the line was meant for an ancestor, or was taken before.
    #[error("descriptor {number} is not the line that was announced")]
    Descriptor {
        /// Its number.
        number: RawFd,
        /// What is wrong with it.
        source: InheritedError,
    },
}

impl ParentError {
    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotAnnounced => Some("it is not to be started by hand: its parent program does"),
            Self::Malformed(_) => Some("clear the variable"),
            Self::Descriptor { source, .. } => source.hint(),
        }
    }
}
