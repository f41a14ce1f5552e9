//! What a listener is bound with, and the way to it for each kind of address.
//!
//! Trap: permissions that were asked for and cannot be had are an error. A server that believes that its abstract name
//! is 0600 serves everybody.

use std::net::ToSocketAddrs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::advertised::Advertised;
use super::{BindError, BindFault, Existing, Listener, Operation, SocketKind, path};
use crate::address::Address;
use crate::handover::is_name;
use crate::inherit::{self, Found};
use crate::sys::{self, opt};
use crate::systemd;

/// Owner or group, as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Principal {
    Id(u32),
    Name(String),
}

/// How to bind a [`Listener`].
///
/// The defaults: a stream socket, mode 0600, owner and group of this process, a dead server's socket is replaced, a
/// queue of 4096 connections, the parent directory must exist and must not be writable by others.
#[derive(Debug, Clone)]
#[must_use]
pub struct ListenerOptions {
    pub(super) mode: Option<u32>,
    pub(super) owner: Option<Principal>,
    pub(super) group: Option<Principal>,
    pub(super) existing: Existing,
    pub(super) kind: SocketKind,
    pub(super) backlog: u32,
    pub(super) create_parent: Option<u32>,
    pub(super) allow_shared_parent: bool,
    pub(super) lock_wait: Duration,
    pub(super) pass_credentials: bool,
    pub(super) pass_rights: Option<bool>,
    name: String,
    publish: Option<PathBuf>,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            mode: None,
            owner: None,
            group: None,
            existing: Existing::default(),
            kind: SocketKind::default(),
            backlog: 4096,
            create_parent: None,
            allow_shared_parent: false,
            lock_wait: Duration::from_secs(5),
            pass_credentials: false,
            pass_rights: None,
            name: String::new(),
            publish: None,
        }
    }
}

impl ListenerOptions {
    /// Permission bits of the socket file, exactly, whatever the umask. A caller needs write permission. Default 0600.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Owner of the socket file, by name or number. Giving a file away needs root.
    pub fn owner(mut self, user: impl Into<String>) -> Self {
        self.owner = Some(Principal::Name(user.into()));
        self
    }

    /// Owner of the socket file, by uid.
    pub fn owner_id(mut self, uid: u32) -> Self {
        self.owner = Some(Principal::Id(uid));
        self
    }

    /// Group of the socket file, by name or number: one of our own, unless we are root.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(Principal::Name(group.into()));
        self
    }

    /// Group of the socket file, by gid.
    pub fn group_id(mut self, gid: u32) -> Self {
        self.group = Some(Principal::Id(gid));
        self
    }

    /// What to do when something is at the path. Default [`Existing::ReplaceStale`].
    pub fn existing(mut self, existing: Existing) -> Self {
        self.existing = existing;
        self
    }

    /// Type of the socket. Default [`SocketKind::Stream`].
    pub fn kind(mut self, kind: SocketKind) -> Self {
        self.kind = kind;
        self
    }

    /// How many connections may wait to be accepted; the system caps it (`net.core.somaxconn`). Default 4096.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }

    /// Makes the parent directory with exactly this mode when it is missing: it alone, not what is above it. One that
    /// exists is left as it is. It belongs to this process's user and group.
    pub fn create_parent(mut self, mode: u32) -> Self {
        self.create_parent = Some(mode);
        self
    }

    /// Accepts a parent directory in which others can replace the socket by theirs: one that is not sticky and is
    /// writable by all, or by a group that this process is not in (group 0 is trusted). Default false.
    ///
    /// Not looked at: the owner of the directory, who can always replace it, and the directories above.
    pub fn allow_shared_parent(mut self, allow: bool) -> Self {
        self.allow_shared_parent = allow;
        self
    }

    /// How long to wait for another process that is just publishing or removing a socket of this name. Default 5 s.
    pub fn lock_wait(mut self, wait: Duration) -> Self {
        self.lock_wait = wait;
        self
    }

    /// Has each message say who wrote it: see [`Sender`](crate::Sender). Default false. Set before the first caller can
    /// come, so that no message is without; connections inherit it. It costs two lookups and a descriptor per message.
    pub fn pass_credentials(mut self, pass: bool) -> Self {
        self.pass_credentials = pass;
        self
    }

    /// Whether callers may send descriptors (`SO_PASSRIGHTS`), set before it listens; connections inherit it. Where
    /// they may not, a caller's send with descriptors fails with
    /// [`SendError::DescriptorsRefused`](crate::SendError::DescriptorsRefused). A kernel before Linux 6.16 cannot be
    /// told: see [`Listener::set_pass_rights`].
    ///
    /// Default: they may not, until a [`Protocol`](crate::Protocol) that takes descriptors serves the listener. Datagram
    /// sockets take them, and an inherited socket stays as it is. Say true where you accept yourself and want some, or
    /// where clients that send at once may come before the server runs.
    pub fn pass_rights(mut self, pass: bool) -> Self {
        self.pass_rights = Some(pass);
        self
    }

    /// What it is called in a hand-over and in `LISTEN_FDNAMES`: at most 255 visible ASCII characters without a colon.
    /// Default none: then it is found by its address.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Writes the address into this file once it is listened on, for clients that are given `published:FILE`: the
    /// abstract name that the kernel chose for `autobind:`, the port it chose for port 0, or any other.
    ///
    /// The file appears whole or not at all, mode 0644. It is removed with the listener, if it is still its own. What is
    /// there already is treated as [`existing`](Self::existing) says, where alive means that its server still runs; only
    /// a file that holds an address is ever replaced. The directory must not be writable by others.
    pub fn publish(mut self, file: impl Into<PathBuf>) -> Self {
        self.publish = Some(file.into());
        self
    }

    /// Binds and listens. Blocks: briefly for a path, for as long as the resolver takes for a TCP host name.
    ///
    /// # Errors
    /// [`BindError`]; what was at the path before is there still.
    pub fn bind<A>(&self, address: A) -> Result<Listener, BindError>
    where
        A: TryInto<Address>,
        BindError: From<A::Error>,
    {
        let address = address.try_into()?;
        self.bind_to(&address)
            .and_then(|listener| self.advertised(listener))
            .map_err(|fault| BindError::new(address, fault))
    }

    /// Listens on a descriptor that is owned already: from an activation library, or from another process.
    ///
    /// Checked like `fd:N`: a socket of this kind, listening if it is not a datagram socket. It becomes non-blocking and
    /// close-on-exec. No path is removed at its end.
    ///
    /// # Errors
    /// [`BindError`]; the descriptor is closed then.
    pub fn adopt(&self, socket: OwnedFd) -> Result<Listener, BindError> {
        use std::os::fd::AsRawFd;
        let address = Address::Fd(socket.as_raw_fd());
        self.adopt_checked(&address, socket)
            .and_then(|listener| self.advertised(listener))
            .map_err(|fault| BindError::new(address, fault))
    }

    fn adopt_checked(&self, address: &Address, socket: OwnedFd) -> Result<Listener, BindFault> {
        self.refuse_file_options()?;
        self.check_name()?;
        let found = inherit::check_listener(socket.as_fd(), self.kind)?;
        inherit::prepare(socket.as_fd())?;
        self.tell(&socket, found.is_local, self.pass_rights)?;
        Ok(self.named(self.listener(socket, address.clone(), found.is_local)))
    }

    fn bind_to(&self, address: &Address) -> Result<Listener, BindFault> {
        self.check_name()?;
        self.bind_nameless(address)
            .map(|listener| self.named(listener))
    }

    fn check_name(&self) -> Result<(), BindFault> {
        match is_name(&self.name) {
            true => Ok(()),
            false => Err(BindFault::Name(self.name.clone())),
        }
    }

    /// What it shall be called, if anything.
    pub(crate) fn name_text(&self) -> &str {
        &self.name
    }

    pub(crate) fn has_name(&self) -> bool {
        !self.name.is_empty()
    }

    pub(super) fn named(&self, mut listener: Listener) -> Listener {
        listener.name.clone_from(&self.name);
        listener
    }

    /// What it asks to be found by in a hand-over: its name, or kind and address.
    pub(crate) fn finds(&self, listener: &Listener, address: &Address) -> bool {
        if listener.kind() != self.kind {
            return false;
        }
        match self.name.as_str() {
            "" => listener.address() == address,
            name => listener.name() == name,
        }
    }

    fn bind_nameless(&self, address: &Address) -> Result<Listener, BindFault> {
        // An address that was put together by hand may be none.
        address.check().map_err(BindFault::Malformed)?;
        match address {
            Address::Path(path) => path::bind(path, address, self),
            Address::Abstract(name) => {
                self.refuse_file_options()?;
                let name = SocketAddrUnix::new_abstract_name(name)
                    .map_err(|error| Operation::Bind.refused(error))?;
                let socket = self.bound(&name)?;
                Ok(self.listener(socket, address.clone(), true))
            }
            Address::Autobind => {
                self.refuse_file_options()?;
                let socket = self.bound(&SocketAddrUnix::new_unnamed())?;
                let name = abstract_name(&socket)?;
                Ok(self.listener(socket, Address::Abstract(name), true))
            }
            Address::Fd(number) => {
                self.refuse_file_options()?;
                let check = |fd: BorrowedFd<'_>| inherit::check_listener(fd, self.kind);
                if let Some((socket, found)) = systemd::take_number(*number, check)? {
                    return self.activated(socket, found, address);
                }
                let (socket, found) = sys::inherit::take(*number, check)?;
                self.tell(&socket, found.is_local, self.pass_rights)?;
                Ok(self.listener(socket, address.clone(), found.is_local))
            }
            Address::Activated(name) => {
                self.refuse_file_options()?;
                let check = |fd: BorrowedFd<'_>| inherit::check_listener(fd, self.kind);
                let (socket, found) = systemd::take_for(name, check)?;
                self.activated(socket, found, address)
            }
            Address::Tcp { host, port } => {
                self.refuse_file_options()?;
                self.bind_tcp(host, *port)
            }
            _ => Err(BindFault::NotForListening),
        }
    }

    /// A service manager's socket. It listens anew, so that clients are told this process and not the manager.
    fn activated(
        &self,
        socket: OwnedFd,
        found: Found,
        address: &Address,
    ) -> Result<Listener, BindFault> {
        inherit::prepare(socket.as_fd())?;
        self.tell(&socket, found.is_local, self.pass_rights)?;
        self.listen(&socket)?;
        Ok(self.listener(socket, address.clone(), found.is_local))
    }

    /// Publishes its address, if so asked.
    fn advertised(&self, listener: Listener) -> Result<Listener, BindFault> {
        let address = match listener.address() {
            // What others know the socket by, unless that is a path, which may have been renamed since.
            Address::Fd(_) | Address::Activated(_) => {
                bound_address(listener.as_fd())?.unwrap_or(listener.address().clone())
            }
            known => known.clone(),
        };
        self.advertise(&listener, address, self.existing)?;
        Ok(listener)
    }

    /// Writes the file that tells `address`, if there shall be one.
    pub(super) fn advertise(
        &self,
        listener: &Listener,
        address: Address,
        existing: Existing,
    ) -> Result<(), BindFault> {
        if let Some(file) = &self.publish {
            let file = Advertised::write(file.clone(), existing, self.lock_wait, address)?;
            *listener.advertised() = Some(file);
        }
        Ok(())
    }

    fn refuse_file_options(&self) -> Result<(), BindFault> {
        let asked = self.mode.is_some()
            || self.owner.is_some()
            || self.group.is_some()
            || self.create_parent.is_some();
        if asked {
            Err(BindFault::NoFile)
        } else {
            Ok(())
        }
    }

    fn listener(&self, socket: OwnedFd, address: Address, is_local: bool) -> Listener {
        Listener::from_parts(socket, None, address, self.kind, is_local)
    }

    /// A Unix socket bound to a name that is not a file, and listening.
    fn bound(&self, name: &SocketAddrUnix) -> Result<OwnedFd, BindFault> {
        let socket = self.socket(AddressFamily::UNIX, self.kind.socket_type())?;
        match rustix::net::bind(&socket, name) {
            Ok(()) => {}
            Err(Errno::ADDRINUSE) => return Err(BindFault::InUse),
            Err(error) => return Err(Operation::Bind.refused(error)),
        }
        self.listen(&socket)?;
        Ok(socket)
    }

    pub(super) fn socket(
        &self,
        family: AddressFamily,
        kind: SocketType,
    ) -> Result<OwnedFd, BindFault> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, kind, flags, None)
            .map_err(|error| Operation::Socket.refused(error))?;
        // What nobody asked for does not come in: only a new socket can be told before its first caller.
        let closed = (self.kind != SocketKind::Datagram).then_some(false);
        self.tell(
            &socket,
            family == AddressFamily::UNIX,
            self.pass_rights.or(closed),
        )?;
        Ok(socket)
    }

    /// Tells the kernel what may come with messages; nothing about descriptors where `rights` is none.
    pub(super) fn tell(
        &self,
        socket: &OwnedFd,
        is_local: bool,
        rights: Option<bool>,
    ) -> Result<(), BindFault> {
        let refused = |error| Operation::Socket.refused(error);
        if is_local && self.pass_credentials {
            opt::pass_credentials(socket.as_fd(), true).map_err(refused)?;
        }
        if let (true, Some(pass)) = (is_local, rights) {
            // Where the kernel has no such option, whoever serves the listener says so.
            opt::pass_rights(socket.as_fd(), pass).map_err(refused)?;
        }
        Ok(())
    }

    /// Datagram sockets receive from the moment they are bound.
    pub(super) fn listen(&self, socket: &OwnedFd) -> Result<(), BindFault> {
        if self.kind == SocketKind::Datagram {
            return Ok(());
        }
        let backlog = i32::try_from(self.backlog).unwrap_or(i32::MAX);
        match rustix::net::listen(socket, backlog) {
            Ok(()) => Ok(()),
            // TCP finds out here when the port is shared with one that does not listen yet.
            Err(Errno::ADDRINUSE) => Err(BindFault::InUse),
            Err(error) => Err(Operation::Listen.refused(error)),
        }
    }

    /// Listens on the first of the host's addresses that can be bound.
    fn bind_tcp(&self, host: &str, port: u16) -> Result<Listener, BindFault> {
        if self.kind != SocketKind::Stream {
            return Err(BindFault::Kind(self.kind));
        }
        let addresses = (host, port).to_socket_addrs().map_err(BindFault::Resolve)?;
        let mut fault = BindFault::Resolve(std::io::ErrorKind::NotFound.into());
        for address in addresses {
            match self.bind_internet(address) {
                Ok((socket, port)) => {
                    let host = host.to_owned();
                    return Ok(self.listener(socket, Address::Tcp { host, port }, false));
                }
                Err(error) => fault = error,
            }
        }
        Err(fault)
    }

    fn bind_internet(&self, address: std::net::SocketAddr) -> Result<(OwnedFd, u16), BindFault> {
        let family = if address.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let socket = self.socket(family, SocketType::STREAM)?;
        // Connections of a server that has just ended must not keep the next from starting.
        sockopt::set_socket_reuseaddr(&socket, true)
            .map_err(|error| Operation::Socket.refused(error))?;
        match rustix::net::bind(&socket, &address) {
            Ok(()) => {}
            Err(Errno::ADDRINUSE) => return Err(BindFault::InUse),
            Err(error) => return Err(Operation::Bind.refused(error)),
        }
        self.listen(&socket)?;
        let bound = rustix::net::getsockname(&socket)
            .and_then(std::net::SocketAddr::try_from)
            .map_err(|error| Operation::Bind.refused(error))?;
        Ok((socket, bound.port()))
    }
}

/// The abstract name or the internet address of an inherited socket; `None` when that says nothing to others.
fn bound_address(socket: BorrowedFd<'_>) -> Result<Option<Address>, BindFault> {
    let refused = |error| Operation::Inspect.refused(error);
    let name = rustix::net::getsockname(socket).map_err(refused)?;
    if name.address_family() == AddressFamily::UNIX {
        let name = SocketAddrUnix::try_from(name).map_err(refused)?;
        return Ok(name
            .abstract_name()
            .map(|name| Address::Abstract(name.to_vec())));
    }
    let name = std::net::SocketAddr::try_from(name).map_err(refused)?;
    Ok(Some(Address::Tcp {
        host: name.ip().to_string(),
        port: name.port(),
    }))
}

/// The name that the kernel chose.
fn abstract_name(socket: &OwnedFd) -> Result<Vec<u8>, BindFault> {
    let name = rustix::net::getsockname(socket)
        .and_then(SocketAddrUnix::try_from)
        .map_err(|error| Operation::Bind.refused(error))?;
    let name = name.abstract_name().map(<[u8]>::to_vec);
    name.ok_or_else(|| Operation::Bind.refused(Errno::ADDRNOTAVAIL))
}
