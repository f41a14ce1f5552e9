//! The line between a parent and its child: one end each of a pair of sockets.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use rustix::net::{AddressFamily, SocketFlags, sockopt};

use super::{ParentError, VARIABLE};
use crate::inherit::{self, InheritedError};
use crate::listener::SocketKind;
use crate::seqpacket::UnixSeqpacket;
use crate::stream::UnixStream;
use crate::sys;

/// One end of the line between a parent and its child.
///
/// For code without a runtime take the descriptor: `blocking::UnixSeqpacket::new(line.into())`.
///
/// Trap: what the kernel says of the peer of a pair is who *made* the pair: the parent, at both ends. Who writes a message,
/// [`Sender`](crate::Sender) says.
#[derive(Debug)]
pub struct Line {
    socket: OwnedFd,
    kind: SocketKind,
}

/// The line to the parent that started this process with [`Spawn`](super::Spawn), to be taken once.
///
/// Which descriptor it is comes in the environment, and with it what the kernel calls the socket: neither a grandchild that
/// inherits the variable nor one that is started by hand takes something else for it.
///
/// # Errors
/// [`ParentError`]: also when it was taken before.
pub fn from_parent() -> Result<Line, ParentError> {
    let value = std::env::var_os(VARIABLE).ok_or(ParentError::NotAnnounced)?;
    let Some((number, cookie)) = parse(&value) else {
        return Err(ParentError::Malformed(value));
    };
    let taken = sys::inherit::take(number, |socket| checked(socket, cookie));
    match taken {
        Ok((socket, kind)) => Ok(Line { socket, kind }),
        Err(source) => Err(ParentError::Descriptor { number, source }),
    }
}

/// Whether it is the very socket that was announced, and of which kind.
fn checked(socket: BorrowedFd<'_>, cookie: u64) -> Result<SocketKind, InheritedError> {
    let kind = [SocketKind::Seqpacket, SocketKind::Stream]
        .into_iter()
        .find(|kind| sockopt::socket_type(socket) == Ok(kind.socket_type()));
    let kind = kind.unwrap_or(SocketKind::Seqpacket);
    inherit::check_connection(socket, kind)?;
    match sockopt::socket_cookie(socket) {
        Ok(found) if found == cookie => Ok(kind),
        Ok(_) => Err(InheritedError::Another),
        Err(error) => Err(inherit::system(error)),
    }
}

/// What the variable says of a socket: `number:cookie`.
pub(super) fn announcement(number: RawFd, socket: &OwnedFd) -> io::Result<String> {
    Ok(format!("{number}:{:x}", sockopt::socket_cookie(socket)?))
}

fn parse(value: &OsStr) -> Option<(RawFd, u64)> {
    let (number, cookie) = value.to_str()?.split_once(':')?;
    let number = number.parse().ok().filter(|number: &RawFd| *number > 2)?;
    Some((number, u64::from_str_radix(cookie, 16).ok()?))
}

impl Line {
    /// Both ends.
    pub(super) fn pair(kind: SocketKind) -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC;
        let (socket, other) =
            rustix::net::socketpair(AddressFamily::UNIX, kind.socket_type(), flags, None)?;
        Ok((Self { socket, kind }, other))
    }

    /// Packets, or a stream.
    #[must_use]
    pub fn kind(&self) -> SocketKind {
        self.kind
    }

    /// The line as packets.
    ///
    /// # Errors
    /// `InvalidInput` when it is a stream; otherwise what the reactor reports. Must be called inside a tokio runtime.
    pub fn into_seqpacket(self) -> io::Result<UnixSeqpacket> {
        UnixSeqpacket::new(self.socket)
    }

    /// The line as a stream.
    ///
    /// # Errors
    /// `InvalidInput` when it is packets; otherwise what the reactor reports. Must be called inside a tokio runtime.
    pub fn into_stream(self) -> io::Result<UnixStream> {
        if self.kind != SocketKind::Stream {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        rustix::io::ioctl_fionbio(&self.socket, true)?;
        UnixStream::new(self.socket)
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<Line> for OwnedFd {
    fn from(line: Line) -> Self {
        line.socket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_are_read_or_refused() {
        assert_eq!(parse(OsStr::new("3:ff")), Some((3, 255)));
        for malformed in [
            "", "3", "3:", ":ff", "-1:ff", "2:ff", "3:ff:1", "3:xyz", "3 :f",
        ] {
            assert_eq!(parse(OsStr::new(malformed)), None, "{malformed}");
        }
    }
}
