//! What a descriptor is, in facts and in words: for the diagnostic service, and for what `nigh call` receives.
//!
//! Trap: even `fstat` may wait, on a network or user file system: handlers ask off the reactor.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nigh::fdcheck::{self, Access};
use nigh::{FileKind, SocketKind};

use crate::diag::pb;

/// What the kernel says of an open file.
#[derive(Debug, Clone)]
pub(crate) struct FdFacts {
    pub(crate) kind: FileKind,
    access: Access,
    /// Bytes of a regular file.
    pub(crate) size: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    device: u64,
    inode: u64,
    sealed: bool,
    socket: Option<String>,
}

/// Describes an open file.
///
/// # Errors
/// What `fstat(2)` or `fcntl(2)` reports.
pub(crate) fn facts(fd: impl AsFd) -> io::Result<FdFacts> {
    let fd = fd.as_fd();
    let stat = rustix::fs::fstat(fd)?;
    let kind = fdcheck::kind(fd)?;
    Ok(FdFacts {
        kind,
        access: fdcheck::access(fd)?,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        device: stat.st_dev,
        inode: stat.st_ino,
        sealed: fdcheck::require_sealed(fd).is_ok(),
        socket: (kind == FileKind::Socket).then(|| socket(fd)),
    })
}

fn socket(fd: BorrowedFd<'_>) -> String {
    let kinds = [
        SocketKind::Stream,
        SocketKind::Seqpacket,
        SocketKind::Datagram,
    ];
    let found = kinds.into_iter().find_map(|kind| {
        if fdcheck::require_listening(fd, kind).is_ok() && kind != SocketKind::Datagram {
            Some(format!("listening, {kind}"))
        } else if fdcheck::require_connected(fd, kind).is_ok() {
            Some(format!("connected, {kind}"))
        } else {
            None
        }
    });
    found.unwrap_or_else(|| "neither listening nor connected".to_owned())
}

impl FdFacts {
    /// For a message, with the index under which it came.
    pub(crate) fn to_proto(&self, index: u32) -> pb::FdInfo {
        pb::FdInfo {
            fd: index,
            kind: self.kind.to_string(),
            access: self.access.to_string(),
            size: self.size,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            device: self.device,
            inode: self.inode,
            sealed: self.sealed,
            socket: self.socket.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for FdFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, access, .. } = self;
        match (&self.socket, kind) {
            (Some(socket), _) => write!(f, "{kind}, {socket}"),
            (None, FileKind::Regular) => {
                let sealed = if self.sealed { ", sealed" } else { "" };
                write!(f, "{kind}{sealed}, {access}, {} bytes", self.size)
            }
            _ => write!(f, "{kind}, {access}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn files_pipes_and_sockets_in_words() {
        let mut memory = nigh_socket::MemoryFile::create("facts").unwrap();
        memory.write_all(b"twelve bytes").unwrap();
        let text = facts(memory.seal().unwrap()).unwrap().to_string();
        assert!(text.starts_with("a regular file, sealed, "), "{text}");
        assert!(text.ends_with(", 12 bytes"), "{text}");
        let (reader, _writer) = io::pipe().unwrap();
        let text = facts(&reader).unwrap().to_string();
        assert_eq!(text, "a named pipe, for reading");
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let found = facts(&socket).unwrap();
        assert_eq!(found.to_string(), "a socket, connected, stream");
        assert_eq!(found.to_proto(3).socket, "connected, stream");
    }
}
