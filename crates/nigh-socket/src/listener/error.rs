//! Why an address could not be listened on: which, at which step, whose fault, and what to do about it.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::SocketKind;
use crate::address::{Address, AddressError};
use crate::inherit::InheritedError;
use crate::publish::PublishedError;
use crate::publish::entry::FileKind;
use crate::publish::lock::LockError;
use crate::systemd::ActivationError;
use crate::users::UserError;

/// An address could not be listened on. Nothing was changed at its path.
#[derive(Debug)]
pub struct BindError {
    address: Option<Address>,
    fault: BindFault,
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.fault)
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Some(address) => write!(f, "listen on {address}: {}", self.fault),
            None => write!(f, "listen: {}", self.fault),
        }
    }
}

impl BindError {
    pub(super) fn new(address: Address, fault: BindFault) -> Self {
        Self {
            address: Some(address),
            fault,
        }
    }

    /// The address; none when its text was malformed.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        self.address.as_ref()
    }

    /// What went wrong.
    #[must_use]
    pub fn fault(&self) -> &BindFault {
        &self.fault
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        self.fault.hint()
    }
}

impl From<AddressError> for BindError {
    fn from(error: AddressError) -> Self {
        Self {
            address: None,
            fault: BindFault::Malformed(error),
        }
    }
}

impl From<Infallible> for BindError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// What went wrong when an address was to be listened on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindFault {
    /// The address is no address.
    #[error("malformed address")]
    Malformed(#[source] AddressError),
    /// A client's address.
    #[error("an address to connect to, not to listen on")]
    NotForListening,
    /// Mode, owner, group or a parent directory were asked for where there is no file to have them.
    #[error("only a path has a mode, an owner, a group and a directory")]
    NoFile,
    /// More than permission bits.
    #[error("mode {0:#o} has more than permission bits")]
    Mode(u32),
    /// A listener cannot be called so.
    #[error(
        "the name {0:?} is longer than 255 bytes, or has a colon or a character that is not visible ASCII"
    )]
    Name(String),
    /// TCP has no packets.
    #[error("no {0} sockets at this kind of address")]
    Kind(SocketKind),
    /// The path ends in a slash, in `..`, or is a root.
    #[error("the path names no file")]
    NoFileName,
    /// The inherited descriptor is not what is needed.
    #[error("unusable descriptor")]
    Inherited(#[from] InheritedError),
    /// What a service manager passed is not what is needed.
    #[error("no socket from the service manager")]
    Activation(#[source] Box<ActivationError>),
    /// The name of the owner or group is unknown.
    #[error("unusable owner or group")]
    Principal(#[source] UserError),
    /// The host name has no address.
    #[error("cannot resolve the host name")]
    Resolve(#[source] io::Error),
    /// Others could remove the socket and put theirs in its place.
    #[error("others can write to directory {} (mode {mode:04o}, gid {gid}), and it is not sticky", directory.display())]
    SharedDirectory {
        /// The directory.
        directory: PathBuf,
        /// Its mode.
        mode: u32,
        /// Its group.
        gid: u32,
    },
    /// The lock beside the socket could not be taken.
    #[error("cannot get hold of its name")]
    Lock(#[source] LockError),
    /// A living server has the address.
    #[error("a living server has it")]
    InUse,
    /// A dead server's socket is there, and [`super::Existing::Fail`] leaves it.
    #[error("a dead server's socket is there")]
    Stale,
    /// Something that is not a socket is there, and is left alone.
    #[error("{0} is there, and only sockets are ever replaced")]
    NotASocket(FileKind),
    /// Something that does not take the lock changed the name each time it had been looked at.
    #[error("something else keeps changing what is there")]
    Contended,
    /// Its address could not be published in a file.
    #[error("cannot publish the address")]
    Published(#[source] Box<PublishedError>),
    /// The system refused a step.
    #[error("{operation}{}{}", if object.is_some() { " " } else { "" }, object.as_deref().unwrap_or(Path::new("")).display())]
    System {
        /// The step.
        operation: Operation,
        /// The file it was about, where it was about one.
        object: Option<PathBuf>,
        /// What the system said.
        source: io::Error,
    },
}

/// A step of binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Make the parent directory.
    CreateDirectory,
    /// Open the parent directory.
    OpenDirectory,
    /// Look at what is there.
    Inspect,
    /// Ask whether a server is alive.
    Probe,
    /// Make a socket.
    Socket,
    /// Bind it.
    Bind,
    /// Set its file's owner and group.
    Owner,
    /// Set its file's mode.
    Mode,
    /// Listen.
    Listen,
    /// Give it its public name.
    Publish,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CreateDirectory => "cannot make directory",
            Self::OpenDirectory => "cannot open directory",
            Self::Inspect => "cannot see what is at",
            Self::Probe => "cannot tell whether a server is alive at",
            Self::Socket => "cannot make a socket",
            Self::Bind => "cannot bind",
            Self::Owner => "cannot set owner and group",
            Self::Mode => "cannot set the mode",
            Self::Listen => "cannot listen",
            Self::Publish => "cannot publish",
        })
    }
}

impl Operation {
    pub(crate) fn failed(self, object: impl Into<PathBuf>, error: Errno) -> BindFault {
        BindFault::System {
            operation: self,
            object: Some(object.into()),
            source: error.into(),
        }
    }

    pub(super) fn refused(self, source: impl Into<io::Error>) -> BindFault {
        BindFault::System {
            operation: self,
            object: None,
            source: source.into(),
        }
    }
}

impl From<ActivationError> for BindFault {
    fn from(error: ActivationError) -> Self {
        Self::Activation(Box::new(error))
    }
}

impl BindFault {
    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotForListening => Some("listen on tcp:HOST:PORT with TLS on top instead"),
            Self::Malformed(error) => error.hint(),
            Self::Inherited(error) => error.hint(),
            Self::Activation(error) => error.hint(),
            Self::Principal(error) => error.hint(),
            Self::Lock(error) => error.hint(),
            Self::SharedDirectory { .. } => Some(
                "use a directory of the server's own, such as /run/NAME or $XDG_RUNTIME_DIR, or allow a shared parent",
            ),
            Self::InUse => Some("stop it, or take the address over from it"),
            Self::Published(error) => error.hint(),
            Self::Stale => Some("replace stale sockets, or remove it"),
            Self::NotASocket(_) => Some("choose another path, or move what is there"),
            Self::System {
                operation, source, ..
            } => operation.hint(source.kind()),
            _ => None,
        }
    }
}

impl Operation {
    fn hint(self, kind: io::ErrorKind) -> Option<&'static str> {
        match (self, kind) {
            (Self::OpenDirectory, io::ErrorKind::NotFound) => {
                Some("make the directory first, or ask for it to be created")
            }
            (Self::CreateDirectory, io::ErrorKind::NotFound) => {
                Some("only the last directory is created: its own parent must be there")
            }
            (Self::Bind, io::ErrorKind::NotFound) => Some("is /proc mounted?"),
            (Self::Bind, io::ErrorKind::PermissionDenied) => Some(
                "the server must be able to write to the directory (for TCP, ports below 1024 need a capability)",
            ),
            (Self::Owner, io::ErrorKind::PermissionDenied) => {
                Some("only root can give a file away; others may choose among their own groups")
            }
            (Self::Probe | Self::Publish, io::ErrorKind::PermissionDenied) => {
                Some("the socket that is there belongs to another user")
            }
            _ => None,
        }
    }
}
