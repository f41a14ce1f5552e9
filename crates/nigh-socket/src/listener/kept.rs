//! A listener that a service manager keeps: taken back after a restart or a crash, if it is still what the address leads to.
//!
//! Trap: a path that leads to another socket by now would leave us listening where nobody comes. So it is looked at, and
//! what is not the same any more is bound anew.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use super::handed::{bound_address, check_internet, check_path, system};
use super::path::split;
use super::{BindError, Listener, ListenerOptions};
use crate::address::Address;
use crate::handover::{ClaimError, FileClaim};
use crate::inherit::{check_listener, prepare};
use crate::publish::directory::Directory;

impl ListenerOptions {
    /// Listens on a socket that was kept, anew, so that clients see this process.
    pub(crate) fn take_back(
        &self,
        socket: OwnedFd,
        address: &Address,
    ) -> Result<Listener, ClaimError> {
        let found = check_listener(socket.as_fd(), self.kind)?;
        prepare(socket.as_fd())?;
        let address = match address {
            Address::Path(path) => {
                leads_here(socket.as_fd(), path)?;
                address.clone()
            }
            Address::Tcp { host, port: 0 } => {
                match bound_address(socket.as_fd()).map_err(system)? {
                    Address::Tcp { port, .. } => {
                        check_internet(socket.as_fd(), host, port)?;
                        let host = host.clone();
                        Address::Tcp { host, port }
                    }
                    _ => return Err(ClaimError::Elsewhere),
                }
            }
            Address::Tcp { host, port } => {
                check_internet(socket.as_fd(), host, *port)?;
                address.clone()
            }
            wanted => match (wanted, bound_address(socket.as_fd()).map_err(system)?) {
                (Address::Autobind, bound @ Address::Abstract(_)) => bound,
                (wanted, bound) if *wanted == bound => bound,
                _ => return Err(ClaimError::Elsewhere),
            },
        };
        let inspect = |fault| ClaimError::Inspect(BindError::new(address.clone(), fault));
        self.tell(&socket, found.is_local, self.pass_rights)
            .map_err(inspect)?;
        self.listen(&socket).map_err(inspect)?;
        let listener = Listener::from_parts(socket, None, address, self.kind, found.is_local);
        Ok(self.named(listener).kept())
    }
}

impl Listener {
    /// A manager keeps it from now on: neither its name nor its queue ends with this process.
    pub(crate) fn kept(mut self) -> Self {
        self.is_shared = true;
        self.lend_name();
        self
    }
}

/// Whether clients of the path come to this socket.
fn leads_here(socket: BorrowedFd<'_>, path: &Path) -> Result<(), ClaimError> {
    let inspect = |fault| ClaimError::Inspect(BindError::new(Address::Path(path.into()), fault));
    let (parent, name) = split(path).map_err(inspect)?;
    let directory = Directory::open(parent, None).map_err(inspect)?;
    let entry = directory.entry(name).map_err(system)?;
    let found = entry.ok_or(ClaimError::NotPublished)?.identity();
    let file = FileClaim {
        device: found.device,
        inode: found.inode,
    };
    check_path(socket, path, Some(file)).map(drop)
}
