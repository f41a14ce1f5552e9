//! Binds a socket file: lock, look, temporary name, permissions, listen, publish.
//!
//! Trap: the umask masks `fchmod` before bind and belongs to all threads. So the socket is made closed (0600) and opened
//! through a descriptor of its inode when it has its owner and group; its public name comes last.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, Uid};
use rustix::net::AddressFamily;

use super::options::Principal;
use super::{BindFault, Existing, Listener, ListenerOptions, Operation};
use crate::address::Address;
use crate::publish::directory::Directory;
use crate::publish::entry::{Entry, FileKind, Life};
use crate::publish::lock::Lock;
use crate::publish::names::Names;
use crate::publish::{Outcome, Published, Temporary, leftovers};
use crate::users;

/// Mode of a socket file when none is asked for: our own user.
const MODE_DEFAULT: u32 = 0o600;
/// How often the name is looked at again after something that takes no lock has changed it.
const LOOKS_MAX: u32 = 16;

/// Owner, group and mode that a socket file gets.
pub(super) struct Permissions {
    owner: Option<Uid>,
    group: Option<Gid>,
    mode: u32,
}

pub(super) fn bind(
    path: &Path,
    address: &Address,
    options: &ListenerOptions,
) -> Result<Listener, BindFault> {
    let (parent, name) = split(path)?;
    // Whatever can be wrong with what was asked is found out before anything is made.
    let permissions = Permissions::of(options)?;
    let directory = Directory::open(parent, options.create_parent)?;
    if !options.allow_shared_parent {
        directory.refuse_shared()?;
    }
    let names = Names::of(name);
    let lock =
        Lock::acquire(&directory, &names.lock(), options.lock_wait).map_err(BindFault::Lock)?;
    leftovers::remove(&directory, &names);
    look(&directory, name, options.existing)?;

    let socket = options.socket(AddressFamily::UNIX, options.kind.socket_type())?;
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(MODE_DEFAULT))
        .map_err(|error| Operation::Mode.refused(error))?;
    let mut temporary = Temporary::bind(&directory, &names, &socket)?;
    permissions.set(temporary.entry())?;
    options.listen(&socket)?;
    publish(&mut temporary, &directory, name, options.existing)?;

    let identity = temporary.entry().identity();
    drop(temporary);
    drop(lock);
    let published = Published::new(directory, name.to_owned(), names, identity);
    Ok(Listener::from_parts(
        socket,
        Some(published),
        address.clone(),
        options.kind,
        true,
    ))
}

/// Directory and name. A trailing slash would be ignored by [`Path`], and honoured by the kernel.
pub(super) fn split(path: &Path) -> Result<(&Path, &OsStr), BindFault> {
    let ends_in_slash = path.as_os_str().as_bytes().ends_with(b"/");
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if !ends_in_slash => Ok((parent, name)),
        _ => Err(BindFault::NoFileName),
    }
}

impl Permissions {
    pub(super) fn of(options: &ListenerOptions) -> Result<Self, BindFault> {
        let mode = options.mode.unwrap_or(MODE_DEFAULT);
        let directory_mode = options.create_parent.unwrap_or_default();
        for (mode, permitted) in [(mode, 0o777), (directory_mode, 0o7777)] {
            if mode & !permitted != 0 {
                return Err(BindFault::Mode(mode));
            }
        }
        let owner = resolve(options.owner.as_ref(), users::uid_of)?;
        let group = resolve(options.group.as_ref(), users::gid_of)?;
        Ok(Self {
            owner: owner.map(Uid::from_raw),
            group: group.map(Gid::from_raw),
            mode,
        })
    }

    /// The owner first: the group that the mode lets in must be the right one by then.
    pub(super) fn set(&self, entry: &Entry) -> Result<(), BindFault> {
        if self.owner.is_some() || self.group.is_some() {
            rustix::fs::chownat(entry.fd(), "", self.owner, self.group, AtFlags::EMPTY_PATH)
                .map_err(|error| Operation::Owner.refused(error))?;
        }
        rustix::fs::chmod(entry.proc_path(), Mode::from_raw_mode(self.mode))
            .map_err(|error| Operation::Mode.refused(error))
    }
}

fn resolve(
    principal: Option<&Principal>,
    by_name: impl FnOnce(&str) -> Result<u32, users::UserError>,
) -> Result<Option<u32>, BindFault> {
    match principal {
        None => Ok(None),
        Some(Principal::Id(id)) => Ok(Some(*id)),
        Some(Principal::Name(name)) => by_name(name).map(Some).map_err(BindFault::Principal),
    }
}

/// What may be replaced at the name: nothing, or this inode. Everything else is an error.
fn look(
    directory: &Directory,
    name: &OsStr,
    existing: Existing,
) -> Result<Option<Entry>, BindFault> {
    let object = || directory.path().join(name);
    let entry = directory
        .entry(name)
        .map_err(|error| Operation::Inspect.failed(object(), error))?;
    let Some(entry) = entry else {
        return Ok(None);
    };
    if entry.kind() != FileKind::Socket {
        return Err(BindFault::NotASocket(entry.kind()));
    }
    if existing == Existing::TakeOver {
        return Ok(Some(entry));
    }
    let life = entry
        .life()
        .map_err(|error| Operation::Probe.failed(object(), error))?;
    match (existing, life) {
        (_, Life::Alive) => Err(BindFault::InUse),
        (Existing::Fail, Life::Stale) => Err(BindFault::Stale),
        (_, Life::Stale) => Ok(Some(entry)),
    }
}

fn publish(
    temporary: &mut Temporary<'_>,
    directory: &Directory,
    name: &OsStr,
    existing: Existing,
) -> Result<(), BindFault> {
    for _ in 0..LOOKS_MAX {
        let outcome = match look(directory, name, existing)? {
            None => temporary.publish_new(name)?,
            Some(old) => temporary.publish_over(name, &old)?,
        };
        if outcome == Outcome::Published {
            return Ok(());
        }
    }
    Err(BindFault::Contended)
}
