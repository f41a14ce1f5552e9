//! A listener that came from a predecessor: checked against what was said of it, taken over when its time has come.
//!
//! Trap: the kernel remembers who called `listen`, not who accepts. So taking over is calling it again: clients that
//! connect after that see the new process. And the name is removed by one process only: the one it is not lent to.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::net::SocketAddrUnix;

use super::path::{Permissions, split};
use super::{BindError, Existing, Listener, ListenerOptions};
use crate::address::Address;
use crate::handover::{Claim, ClaimError, FileClaim};
use crate::inherit::{check_listener, prepare};
use crate::introspect;
use crate::publish::Published;
use crate::publish::directory::Directory;
use crate::publish::entry::FileKind;
use crate::publish::names::Names;
use crate::sys::opt;

/// What a listener from a predecessor is until it is taken over.
#[derive(Debug)]
pub(super) struct Handed {
    /// Its number in the offer.
    index: u16,
    /// What the successor wants it to be; `None`: it stays as it is.
    options: Option<ListenerOptions>,
    /// Whether callers may send descriptors, by the successor's protocol.
    pass_rights: AtomicBool,
    /// Taken over: settings go to the kernel at once.
    is_ours: AtomicBool,
}

impl Handed {
    /// Keeps for later what must not change before the predecessor has stopped; true when it is kept.
    fn keep_pass_rights(&self, pass: bool) -> bool {
        self.pass_rights.store(pass, Ordering::Release);
        !self.is_ours.load(Ordering::Acquire)
    }
}

impl ListenerOptions {
    /// As [`adopt`](Self::adopt), with the address that the kernel knows instead of the descriptor's number: what to do
    /// with a socket from a service manager. No path is removed at its end, for it belongs to whoever bound it.
    ///
    /// # Errors
    /// As for [`adopt`](Self::adopt).
    pub fn inherit(&self, socket: OwnedFd) -> Result<Listener, BindError> {
        let mut listener = self.adopt(socket)?;
        match bound_address(listener.as_fd()) {
            Ok(address) => listener.address = address,
            Err(error) => {
                let fault = super::Operation::Inspect.failed("the socket", error);
                return Err(BindError::new(listener.address.clone(), fault));
            }
        }
        Ok(listener)
    }
}

impl Listener {
    /// What is said of it to a successor.
    pub(crate) fn claim(&self, is_control: bool) -> Result<Claim, ClaimError> {
        let published = self.lock();
        let file = match published.as_ref() {
            None => None,
            Some(published) => {
                let entry = published.entry().map_err(system)?;
                let ours = published.identity();
                if entry.is_none_or(|entry| entry.identity() != ours) {
                    return Err(ClaimError::NotPublished);
                }
                Some(FileClaim {
                    device: ours.device,
                    inode: ours.inode,
                })
            }
        };
        let address = match &self.address {
            Address::Fd(_) | Address::Activated(_) => {
                bound_address(self.as_fd()).map_err(system)?
            }
            address => address.clone(),
        };
        Ok(Claim {
            name: self.name.clone(),
            address,
            kind: self.kind,
            file,
            is_control,
        })
    }

    /// A predecessor's listener: all that was said of it holds. Its name stays the predecessor's until
    /// [`take_over`](Self::take_over).
    pub(crate) fn handed(socket: OwnedFd, claim: &Claim, index: u16) -> Result<Self, ClaimError> {
        let found = check_listener(socket.as_fd(), claim.kind)?;
        prepare(socket.as_fd())?;
        let published = match &claim.address {
            Address::Path(path) => check_path(socket.as_fd(), path, claim.file)?,
            Address::Tcp { host, port } => {
                check_internet(socket.as_fd(), host, *port)?;
                None
            }
            address => match bound_address(socket.as_fd()).map_err(system)? {
                bound if bound == *address => None,
                _ => return Err(ClaimError::Elsewhere),
            },
        };
        let is_shared = published.is_none() && matches!(claim.address, Address::Path(_));
        Ok(Self {
            fd: socket,
            published: Mutex::new(published),
            advertised: Mutex::new(None),
            is_lent: AtomicBool::new(true),
            address: claim.address.clone(),
            name: claim.name.clone(),
            kind: claim.kind,
            is_local: found.is_local,
            is_shared,
            handed: Some(Handed {
                index,
                options: None,
                pass_rights: AtomicBool::new(false),
                is_ours: AtomicBool::new(false),
            }),
        })
    }

    /// Says how it shall be set up when it is taken over.
    pub(crate) fn configured(mut self, options: &ListenerOptions) -> Self {
        if let Some(handed) = &mut self.handed {
            handed.options = Some(options.clone());
            handed.pass_rights = AtomicBool::new(options.pass_rights.unwrap_or(false));
        }
        self
    }

    /// Keeps for the take-over whether callers may send descriptors; false when there is nothing to wait for.
    pub(crate) fn defer_pass_rights(&self, pass: bool) -> bool {
        let handed = self.handed.as_ref();
        handed.is_some_and(|handed| handed.keep_pass_rights(pass))
    }

    /// Its number in the predecessor's offer, if it came in one.
    pub(crate) fn handed_index(&self) -> Option<u16> {
        self.handed.as_ref().map(|handed| handed.index)
    }

    /// Makes it this process's own: permissions and options as asked for, and who listens as the kernel tells clients.
    /// The name is still lent; [`own_name`](Self::own_name) is the last step.
    pub(crate) fn take_over(&self) -> io::Result<()> {
        let Some(handed) = &self.handed else {
            return Ok(());
        };
        let Some(options) = &handed.options else {
            handed.is_ours.store(true, Ordering::Release);
            return self.relisten();
        };
        if let Some(published) = self.lock().as_ref()
            && let Some(entry) = published.entry()?
        {
            let permissions = Permissions::of(options).map_err(io::Error::other)?;
            permissions.set(&entry).map_err(io::Error::other)?;
        }
        if self.is_local {
            opt::pass_credentials(self.as_fd(), options.pass_credentials)?;
            let pass = handed.pass_rights.load(Ordering::Acquire);
            let _known = opt::pass_rights(self.as_fd(), pass)?;
        }
        handed.is_ours.store(true, Ordering::Release);
        self.listen_again(options)?;
        let address = self.address.clone();
        let told = options.advertise(self, address, Existing::TakeOver);
        told.map_err(io::Error::other)
    }

    /// Has the kernel tell clients that this process listens.
    pub(crate) fn relisten(&self) -> io::Result<()> {
        let default = ListenerOptions::default().kind(self.kind);
        let handed = self.handed.as_ref();
        let options = handed.and_then(|handed| handed.options.as_ref());
        self.listen_again(options.unwrap_or(&default))
    }

    fn listen_again(&self, options: &ListenerOptions) -> io::Result<()> {
        options.listen(&self.fd).map_err(io::Error::other)
    }

    /// From now on the name is removed with this listener, unless something else stands there by then.
    pub(crate) fn own_name(&self) {
        self.is_lent.store(false, Ordering::Release);
    }

    /// The name is another process's from now on.
    pub(crate) fn lend_name(&self) {
        self.is_lent.store(true, Ordering::Release);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Published>> {
        self.published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn system(error: Errno) -> ClaimError {
    ClaimError::System(error.into())
}

/// The address that the kernel knows the socket by. A path may have been renamed since.
pub(super) fn bound_address(socket: BorrowedFd<'_>) -> Result<Address, Errno> {
    let bound = rustix::net::getsockname(socket)?;
    if let Ok(unix) = SocketAddrUnix::try_from(bound.clone()) {
        if let Some(name) = unix.abstract_name() {
            return Ok(Address::Abstract(name.to_vec()));
        }
        let path = unix.path_bytes().ok_or(Errno::ADDRNOTAVAIL)?;
        use std::os::unix::ffi::OsStrExt as _;
        return Ok(Address::Path(std::ffi::OsStr::from_bytes(path).into()));
    }
    let bound = SocketAddr::try_from(bound)?;
    Ok(Address::Tcp {
        host: bound.ip().to_string(),
        port: bound.port(),
    })
}

/// A path that the giver owns must lead to this very socket; one that it does not own is only compared.
pub(super) fn check_path(
    socket: BorrowedFd<'_>,
    path: &Path,
    file: Option<FileClaim>,
) -> Result<Option<Published>, ClaimError> {
    let bound = rustix::net::getsockname(socket)
        .and_then(SocketAddrUnix::try_from)
        .map_err(|_| ClaimError::Elsewhere)?;
    if bound.path_bytes().is_none() {
        return Err(ClaimError::Elsewhere);
    }
    let Some(file) = file else {
        return match bound_address(socket).map_err(system)? {
            Address::Path(bound) if bound == path => Ok(None),
            _ => Err(ClaimError::Elsewhere),
        };
    };
    let inspect = |fault| ClaimError::Inspect(BindError::new(Address::Path(path.into()), fault));
    let (parent, name) = split(path).map_err(inspect)?;
    let directory = Directory::open(parent, None).map_err(inspect)?;
    let entry = directory.entry(name).map_err(system)?;
    let entry = entry.ok_or(ClaimError::NotPublished)?;
    let identity = entry.identity();
    if entry.kind() != FileKind::Socket
        || (identity.device, identity.inode) != (file.device, file.inode)
    {
        return Err(ClaimError::NotPublished);
    }
    let ours = rustix::fs::fstat(socket).map_err(system)?.st_ino;
    if introspect::leads_elsewhere(ours, identity.device, identity.inode) {
        return Err(ClaimError::NotPublished);
    }
    Ok(Some(Published::new(
        directory,
        name.to_owned(),
        Names::of(name),
        identity,
    )))
}

pub(super) fn check_internet(
    socket: BorrowedFd<'_>,
    host: &str,
    port: u16,
) -> Result<(), ClaimError> {
    let bound = rustix::net::getsockname(socket)
        .and_then(SocketAddr::try_from)
        .map_err(|_| ClaimError::Elsewhere)?;
    let mut addresses = (host, port).to_socket_addrs().map_err(ClaimError::System)?;
    match addresses.any(|address| address == bound) {
        true => Ok(()),
        false => Err(ClaimError::Elsewhere),
    }
}
