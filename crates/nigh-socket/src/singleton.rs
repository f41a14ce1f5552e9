//! One instance per user or system: the first start holds the place, the second one talks to the first.
//!
//! Traps: an abstract name is free for anybody to take, per network namespace and *per type of socket*, and a leaked copy of
//! the listener keeps it. A lock file has none of that, and is let go of by the kernel however its holder ends.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::address::Address;
use crate::blocking;
use crate::connect::{ConnectError, ConnectOptions, connect};
use crate::listener::{BindError, BindFault, Existing, Listener, ListenerOptions};
use crate::peer::Peer;
use crate::policy::Policy;
use crate::publish::directory::Directory;
use crate::publish::lock::{Lock, LockError};
use crate::stream::Stream;

/// What a name may have at most: with its ending it is a file name, and part of an abstract name.
const NAME_BYTES_MAX: usize = 64;

/// A place that one instance at a time can hold.
///
/// By default a lock file `NAME.lock` and a socket `NAME.sock` in the user's runtime directory: one instance per user.
#[derive(Debug, Clone)]
#[must_use]
pub struct Singleton {
    name: String,
    place: Place,
    server: Option<Policy>,
}

#[derive(Debug, Clone)]
enum Place {
    /// Of this user.
    Runtime,
    Directory(PathBuf),
    /// Of this user, or of the system.
    Abstract {
        per_user: bool,
    },
}

/// What came of trying to be the one instance.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one in a process, taken apart at once"
)]
pub enum Claim {
    /// This is the one.
    First {
        /// What makes it the one, until it is dropped or the process ends. Drop it after the listener.
        instance: Instance,
        /// Where later starts connect to.
        listener: Listener,
    },
    /// There is one already.
    Second(Running),
}

/// The right to be the one instance.
#[derive(Debug)]
pub struct Instance {
    _lock: Option<Lock>,
}

/// The instance that was there first.
#[derive(Debug)]
pub struct Running {
    address: Address,
    server: Policy,
}

/// It cannot be told whether this is the one instance.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SingletonError {
    /// The name has a slash or a NUL, is empty, begins with a dot, or is too long.
    #[error(
        "{0:?} is no name for a singleton: 1 to {NAME_BYTES_MAX} bytes, no slash, no dot in front"
    )]
    Name(String),
    /// This user has no runtime directory.
    #[error("no runtime directory of uid {uid}")]
    NoDirectory {
        /// The user.
        uid: u32,
    },
    /// The directory cannot be used.
    #[error("{} cannot be used", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What is wrong with it.
        source: BindFault,
    },
    /// The lock file cannot be used.
    #[error("cannot tell who is first")]
    Lock(#[source] LockError),
    /// This is the one instance, but later starts cannot reach it.
    #[error("cannot listen for later starts")]
    Bind(#[source] BindError),
}

impl SingletonError {
    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Name(_) => None,
            Self::NoDirectory { .. } => {
                Some("log in through the system's login manager, or choose a directory")
            }
            Self::Directory { source, .. } => source.hint(),
            Self::Lock(error) => error.hint(),
            Self::Bind(error) => error.hint(),
        }
    }
}

impl Singleton {
    /// One per user, by a lock file in `$XDG_RUNTIME_DIR` or `/run/user/UID`; in `/run` for root.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            place: Place::Runtime,
            server: None,
        }
    }

    /// By a lock file in that directory, which must not be one in which others can exchange files. For one per system:
    /// a directory of the service's own below `/run`.
    pub fn in_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.place = Place::Directory(directory.into());
        self
    }

    /// One per user, by an abstract name: no file, but also no protection against others who take the name first. Whoever
    /// talks to the first one is told if it is another user's.
    pub fn by_abstract_name(mut self) -> Self {
        self.place = Place::Abstract { per_user: true };
        self
    }

    /// As [`by_abstract_name`](Self::by_abstract_name), one per system (per network namespace).
    pub fn by_abstract_name_of_the_system(mut self) -> Self {
        self.place = Place::Abstract { per_user: false };
        self
    }

    /// Who the first one must be for later starts to talk to it. Default: this user, or root.
    pub fn server(mut self, policy: Policy) -> Self {
        self.server = Some(policy);
        self
    }

    /// Tries to be the one. Does not wait for another.
    ///
    /// # Errors
    /// [`SingletonError`]: neither first nor second, then.
    pub fn claim(&self) -> Result<Claim, SingletonError> {
        let name = self.name.as_bytes();
        let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
            && !name.starts_with(b".")
            && !name.iter().any(|byte| matches!(byte, b'/' | 0));
        if !is_name {
            return Err(SingletonError::Name(self.name.clone()));
        }
        match &self.place {
            Place::Runtime => self.claim_in(&runtime_directory()?),
            Place::Directory(directory) => self.claim_in(directory),
            Place::Abstract { per_user } => self.claim_abstract(*per_user),
        }
    }

    fn claim_in(&self, directory: &Path) -> Result<Claim, SingletonError> {
        let unusable = |source| SingletonError::Directory {
            directory: directory.to_owned(),
            source,
        };
        let open = Directory::open(directory, None).map_err(unusable)?;
        open.refuse_shared().map_err(unusable)?;
        let address = Address::Path(directory.join(format!("{}.sock", self.name)));
        let lock_name = OsString::from(format!("{}.lock", self.name));
        let lock = match Lock::acquire(&open, &lock_name, Duration::ZERO) {
            Ok(lock) => lock,
            Err(LockError::Held { .. }) => return Ok(self.second(address)),
            Err(error) => return Err(SingletonError::Lock(error)),
        };
        // Whoever still serves there has let go of the lock: it is ending.
        let options = Listener::options().existing(Existing::TakeOver);
        self.first(Some(lock), &options, address)
    }

    fn claim_abstract(&self, per_user: bool) -> Result<Claim, SingletonError> {
        let holder = if per_user {
            rustix::process::geteuid().as_raw().to_string()
        } else {
            "system".to_owned()
        };
        let address = Address::Abstract(format!("nigh/{holder}/{}", self.name).into_bytes());
        match self.first(None, &Listener::options(), address.clone()) {
            Err(SingletonError::Bind(error)) if matches!(error.fault(), BindFault::InUse) => {
                Ok(self.second(address))
            }
            claim => claim,
        }
    }

    fn first(
        &self,
        lock: Option<Lock>,
        options: &ListenerOptions,
        address: Address,
    ) -> Result<Claim, SingletonError> {
        Ok(Claim::First {
            listener: options.bind(address).map_err(SingletonError::Bind)?,
            instance: Instance { _lock: lock },
        })
    }

    fn second(&self, address: Address) -> Claim {
        let server = self.server.clone();
        Claim::Second(Running {
            address,
            server: server.unwrap_or_else(|| Policy::same_user().or(Policy::uid(0))),
        })
    }
}

impl Running {
    /// Where the first one listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// How to connect to it: it may be about to listen, and must be who it is meant to be.
    pub fn options(&self) -> ConnectOptions {
        ConnectOptions::default().server(self.server.clone())
    }

    /// Connects to it. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`ConnectError`]: it has just ended, or is another user's.
    ///
    /// # Cancel safety
    /// As for [`connect`](crate::connect).
    pub async fn connect(&self) -> Result<(Stream, Peer), ConnectError> {
        connect(&self.address, &self.options()).await
    }

    /// As [`connect`](Self::connect), blocking this thread.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect).
    pub fn connect_blocking(&self) -> Result<(blocking::Stream, Peer), ConnectError> {
        blocking::connect(&self.address, &self.options())
    }
}

/// Where this user's sockets are.
fn runtime_directory() -> Result<PathBuf, SingletonError> {
    let uid = rustix::process::geteuid().as_raw();
    let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let usual = if uid == 0 {
        PathBuf::from("/run")
    } else {
        PathBuf::from(format!("/run/user/{uid}"))
    };
    let ours =
        |directory: &PathBuf| directory.is_absolute() && is_of(directory, uid).unwrap_or(false);
    // What `su` leaves in the variable is another user's.
    given
        .into_iter()
        .chain([usual])
        .find(ours)
        .ok_or(SingletonError::NoDirectory { uid })
}

fn is_of(directory: &Path, uid: u32) -> io::Result<bool> {
    let found = directory.metadata()?;
    Ok(found.is_dir() && found.uid() == uid)
}
