//! What the async and the blocking datagram socket have in common: how they are made, and to whom they send.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::name;
use crate::address::Address;
use crate::connect::short_path;
use crate::listener::{Listener, SocketKind};
use crate::message::{Asked, Attempt, Datagram, RecvError, SendError, receive_datagram, send};
use crate::publish::address_file;

/// Where a datagram goes: the kernel's bytes, and what has to stay open while they are used.
#[derive(Debug)]
pub(crate) struct Target {
    bytes: Vec<u8>,
    _through: Option<OwnedFd>,
}

impl Target {
    pub(crate) fn new(address: &Address) -> Result<Self, SendError> {
        if let Address::Published(file) = address {
            return match address_file::read(file) {
                // It is none of that kind itself.
                Ok(Some(address)) => Self::new(&address),
                Ok(None) => Err(SendError::NoReceiver),
                Err(error) => Err(SendError::System(io::Error::other(error))),
            };
        }
        let (bytes, through) = match address {
            Address::Path(path) => {
                let (path, through) = short_path(path).map_err(SendError::System)?;
                (name::path(&path), through)
            }
            Address::Abstract(name) => (name::abstract_name(name), None),
            _ => (None, None),
        };
        Ok(Self {
            bytes: bytes.ok_or(SendError::NotAName)?,
            _through: through,
        })
    }

    pub(crate) fn attempt(
        &self,
        socket: BorrowedFd<'_>,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
        waits: bool,
    ) -> Attempt<Result<(), SendError>> {
        send(socket, slices, fds, Some(&self.bytes), waits).map(|done| done.map(drop))
    }

    /// Connects a socket to it.
    pub(crate) fn connect(&self, socket: BorrowedFd<'_>) -> Result<(), SendError> {
        let address = match self.bytes.get(2..) {
            Some([0, name @ ..]) => SocketAddrUnix::new_abstract_name(name),
            Some([path @ .., 0]) => SocketAddrUnix::new(path),
            _ => return Err(SendError::NotAName),
        };
        match address.and_then(|address| rustix::net::connect(socket, &address)) {
            Ok(()) => Ok(()),
            Err(Errno::CONNREFUSED | Errno::NOENT) => Err(SendError::NoReceiver),
            Err(Errno::PERM) => Err(SendError::NotThePeer),
            Err(error) => Err(SendError::System(error.into())),
        }
    }
}

#[inline]
pub(crate) fn attempt_send(
    socket: BorrowedFd<'_>,
    slices: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
    waits: bool,
) -> Attempt<Result<(), SendError>> {
    send(socket, slices, fds, None, waits).map(|done| done.map(drop))
}

#[inline]
pub(crate) fn attempt_recv(
    socket: BorrowedFd<'_>,
    buffers: &mut [IoSliceMut<'_>],
    asked: &Asked,
    waits: bool,
) -> Attempt<Result<Datagram, RecvError>> {
    receive_datagram(socket, buffers, asked, waits)
}

/// A new socket, close-on-exec.
pub(crate) fn new(nonblocking: bool) -> io::Result<OwnedFd> {
    let flags = flags(nonblocking);
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None);
    Ok(socket?)
}

/// A new socket with a name that the kernel chose.
pub(crate) fn named(nonblocking: bool) -> io::Result<OwnedFd> {
    let socket = new(nonblocking)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new_unnamed())?;
    Ok(socket)
}

pub(crate) fn pair(nonblocking: bool) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = flags(nonblocking);
    let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::DGRAM, flags, None);
    Ok(pair?)
}

fn flags(nonblocking: bool) -> SocketFlags {
    let mut flags = SocketFlags::CLOEXEC;
    flags.set(SocketFlags::NONBLOCK, nonblocking);
    flags
}

/// A second descriptor of the listener's socket.
pub(crate) fn of(listener: &Listener) -> io::Result<OwnedFd> {
    if listener.kind() != SocketKind::Datagram {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a datagram socket",
        ));
    }
    listener.as_fd().try_clone_to_owned()
}

/// The name that others reply to.
pub(crate) fn local_address(socket: BorrowedFd<'_>) -> io::Result<Option<Address>> {
    let name = rustix::net::getsockname(socket)?;
    // A name of no bytes is one; rustix makes it of none at all, too.
    if usize::try_from(name.addr_len()) == Ok(size_of::<u16>()) {
        return Ok(None);
    }
    let name = SocketAddrUnix::try_from(name)?;
    if let Some(name) = name.abstract_name() {
        return Ok(Some(Address::Abstract(name.to_vec())));
    }
    Ok(name.path_bytes().map(|path| {
        use std::os::unix::ffi::OsStrExt;
        Address::Path(std::ffi::OsStr::from_bytes(path).into())
    }))
}
