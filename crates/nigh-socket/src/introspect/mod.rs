//! What Unix sockets this machine listens on, who serves them, where their files are and what is odd about them.
//!
//! netlink tells of every socket in this network namespace, `/proc` of processes, the file system of files: three
//! looks at three moments, so a socket that comes or goes meanwhile may show half. For display, not for decisions.

mod files;
mod message;
mod netlink;
mod peers;
mod processes;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::net::SocketType;

pub use message::Malformed;
pub use peers::{ConnectionInfo, EndInfo, Peers, Stage, peers};
pub use processes::Owner;

use crate::listener::SocketKind;
use files::Files;
use message::Diag;
use processes::Holders;

/// Why the sockets could not be listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IntrospectError {
    /// The kernel refused.
    #[error("cannot {operation}")]
    Kernel {
        /// What was asked of it.
        operation: &'static str,
        /// Its answer.
        #[source]
        error: io::Error,
    },
    /// The kernel's answer is not in the form that `linux/unix_diag.h` describes.
    #[error("the list of Unix sockets is malformed")]
    Malformed(#[from] Malformed),
    /// One datagram of the answer is larger than any the kernel is known to send.
    #[error("the list of Unix sockets has a part of {length} bytes")]
    Truncated {
        /// Its length in bytes.
        length: usize,
    },
    /// There are more sockets than are listed.
    #[error("this machine has more than {limit} Unix sockets")]
    TooMany {
        /// The most that are listed.
        limit: usize,
    },
}

impl IntrospectError {
    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Kernel { error, .. } if error.kind() == io::ErrorKind::NotFound => {
                Some("the kernel module unix_diag is not loaded: modprobe unix_diag")
            }
            Self::Kernel { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => {
                Some("a sandbox forbids netlink sockets here: allow AF_NETLINK")
            }
            _ => None,
        }
    }
}

/// What a socket is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Accepting connections.
    Listening,
    /// Connected to a peer.
    Connected,
    /// Neither: a datagram socket that receives from anybody, or a stream socket that does not listen (yet).
    Unconnected,
    /// A state this library does not know, with the kernel's number.
    Other(u8),
}

/// The name a socket was bound to, as the kernel remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Name {
    /// None: a client, or one end of a pair.
    Unnamed,
    /// An abstract name, without the leading NUL.
    Abstract(Vec<u8>),
    /// The path at bind, from the server's point of view; a server may have renamed the file since.
    Path(PathBuf),
}

/// One Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketInfo {
    /// Its number, as in `/proc/PID/fd` (`socket:[inode]`).
    pub inode: u32,
    /// Its type; `None` for one this library does not know.
    pub kind: Option<SocketKind>,
    /// What it is doing.
    pub state: State,
    /// Its name.
    pub name: Name,
    /// User that made it; `None` before Linux 5.3.
    pub uid: Option<u32>,
    /// Inode of the socket it is connected to.
    pub peer: Option<u32>,
    /// Listening: clients that wait to be accepted. Else bytes to be read.
    pub queued: u32,
    /// Listening: most clients that may wait. Else bytes of memory that its unread messages hold at the peer.
    pub queue_max: u32,
    /// Its send buffer in bytes, of which that memory is a part; `None` where the kernel does not say.
    pub send_buffer: Option<u32>,
    /// Inodes of the clients that wait to be accepted; fewer than `queued` when the queue is longer than the kernel
    /// lists (some hundred), or when some are gone already.
    pub pending: Vec<u32>,
}

/// A socket's file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketFile {
    /// Where it is now.
    pub path: PathBuf,
    /// Permission bits; connecting needs write permission.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Where clients find a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// By its abstract name: no file, no permissions.
    Abstract,
    /// At this file.
    File(SocketFile),
    /// At this path stands something else now: clients do not reach this socket.
    Replaced(PathBuf),
    /// At this path stands nothing any more: clients do not reach this socket.
    Removed(PathBuf),
    /// Not to be found out: a relative or private path of a server that this user may not look into, a server in
    /// another mount namespace, or a directory that is closed to this user.
    Unknown,
}

/// Something a person should look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mark {
    /// A socket file that nobody serves: a server died without removing it.
    Stale,
    /// Another file stands at its path.
    Replaced,
    /// Its file was removed.
    Removed,
    /// Every user may connect, as far as the file's mode decides.
    WorldWritable,
    /// No permissions at all: every user of this network namespace may connect.
    Abstract,
    /// Bound but not listening: clients are refused.
    NotListening,
    /// As many clients wait as may: the next one has to wait outside.
    BacklogFull,
    /// Served from another network namespace: a container.
    OtherNamespace,
}

/// A socket that serves, or could.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerInfo {
    /// The socket itself.
    pub socket: SocketInfo,
    /// Where clients find it.
    pub location: Location,
    /// Processes that hold it; without privilege only those of this user.
    pub owners: Vec<Owner>,
}

/// A socket file that belongs to no socket of this network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stray {
    /// The file.
    pub file: SocketFile,
    /// Whether a server of another network namespace answers there; otherwise it is stale.
    pub is_served: bool,
}

/// All that was found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Survey {
    /// Sockets with a name that listen, or could.
    pub listeners: Vec<ListenerInfo>,
    /// Socket files without a socket here.
    pub strays: Vec<Stray>,
    /// Processes that could not be looked into: their sockets have no owner in this list.
    pub hidden_processes: usize,
}

/// Every Unix socket of this network namespace, connected ones too.
///
/// # Errors
/// When the kernel does not answer, or not in a known form.
pub fn sockets() -> Result<Vec<SocketInfo>, IntrospectError> {
    Ok(netlink::sockets()?.iter().map(SocketInfo::of).collect())
}

/// The listeners of [`survey`], with files looked for where programs usually put them.
///
/// # Errors
/// As [`sockets`].
pub fn listeners() -> Result<Vec<ListenerInfo>, IntrospectError> {
    Ok(survey(&usual_directories())?.listeners)
}

/// Listening Unix sockets with their servers and files, and socket files under `roots` that nobody serves.
///
/// At most 100 000 entries, four directories deep, are looked at.
///
/// # Errors
/// As [`sockets`].
pub fn survey(roots: &[PathBuf]) -> Result<Survey, IntrospectError> {
    // Files first: one that appears later cannot be taken for stale.
    let files = Files::under(roots);
    let found = netlink::sockets()?;
    let holders = Holders::scan();
    let mut listeners = Vec::new();
    for diag in &found {
        let socket = SocketInfo::of(diag);
        if !socket.may_serve() {
            continue;
        }
        let owners = holders.of(socket.inode);
        let location = match &socket.name {
            Name::Path(path) => files.locate(path, diag.file, &owners),
            Name::Abstract(_) | Name::Unnamed => Location::Abstract,
        };
        listeners.push(ListenerInfo {
            socket,
            location,
            owners,
        });
    }
    listeners.sort_by_cached_key(ListenerInfo::sort_key);
    let known = found.iter().filter_map(|diag| diag.file).collect();
    Ok(Survey {
        listeners,
        strays: files.strays(&known),
        hidden_processes: holders.unreadable,
    })
}

/// Whether the kernel knows the socket of this number to be bound to another file of that device.
///
/// False where it is not to be found out: no netlink here, or a file system whose numbers are others than `stat`'s
/// (overlayfs, btrfs).
pub(crate) fn leads_elsewhere(socket: u64, device: u64, inode: u64) -> bool {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "sock_diag has 32 bits of either number"
    )]
    let (socket, inode) = (socket as u32, inode as u32);
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    match netlink::file(socket) {
        Ok(Some(file)) => (file.major, file.minor) == (major, minor) && file.inode != inode,
        Ok(None) => false,
        Err(error) => {
            tracing::debug!(%error, "a socket's file is not to be found out");
            false
        }
    }
}

/// Where sockets usually are: `/run`, `/tmp` and `$XDG_RUNTIME_DIR`.
#[must_use]
pub fn usual_directories() -> Vec<PathBuf> {
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let own = own.filter(|path| path.is_absolute() && !path.starts_with("/run"));
    ["/run".into(), "/tmp".into()]
        .into_iter()
        .chain(own)
        .collect()
}

impl SocketInfo {
    fn of(diag: &Diag) -> Self {
        let kind = SocketKind::of(SocketType::from_raw(diag.kind.into()));
        let state = match diag.state {
            1 => State::Connected,
            7 => State::Unconnected,
            10 => State::Listening,
            other => State::Other(other),
        };
        let name = match diag.name.split_first() {
            None => Name::Unnamed,
            Some((0, rest)) => Name::Abstract(rest.to_vec()),
            Some(_) => Name::Path(OsString::from_vec(diag.name.clone()).into()),
        };
        Self {
            inode: diag.inode,
            kind,
            state,
            name,
            uid: diag.uid,
            peer: diag.peer.filter(|peer| *peer != 0),
            queued: diag.receive_queue,
            queue_max: diag.send_queue,
            send_buffer: diag.send_buffer,
            // Clients that were gone before they were accepted have no number any more.
            pending: diag
                .pending
                .iter()
                .copied()
                .filter(|inode| *inode != 0)
                .collect(),
        }
    }

    /// Named and not connected: an accepted socket carries its listener's name too.
    fn may_serve(&self) -> bool {
        self.name != Name::Unnamed && matches!(self.state, State::Listening | State::Unconnected)
    }
}

impl ListenerInfo {
    /// What a person should look at, most important first.
    #[must_use]
    pub fn marks(&self) -> Vec<Mark> {
        let socket = &self.socket;
        let is_datagram = socket.kind == Some(SocketKind::Datagram);
        let is_listening = socket.state == State::Listening;
        [
            (
                matches!(self.location, Location::Replaced(_)),
                Mark::Replaced,
            ),
            (matches!(self.location, Location::Removed(_)), Mark::Removed),
            (!is_datagram && !is_listening, Mark::NotListening),
            (
                is_listening && socket.queued > socket.queue_max,
                Mark::BacklogFull,
            ),
            (
                self.file().is_some_and(SocketFile::is_world_writable),
                Mark::WorldWritable,
            ),
            (self.location == Location::Abstract, Mark::Abstract),
        ]
        .into_iter()
        .filter_map(|(applies, mark)| applies.then_some(mark))
        .collect()
    }

    /// Its file, if it has one that was found.
    #[must_use]
    pub fn file(&self) -> Option<&SocketFile> {
        match &self.location {
            Location::File(file) => Some(file),
            _ => None,
        }
    }

    fn sort_key(&self) -> (Option<PathBuf>, Option<Vec<u8>>, u32) {
        let path = match (&self.location, &self.socket.name) {
            (Location::File(file), _) => Some(file.path.clone()),
            (Location::Replaced(path) | Location::Removed(path), _) | (_, Name::Path(path)) => {
                Some(path.clone())
            }
            _ => None,
        };
        let name = match &self.socket.name {
            Name::Abstract(name) => Some(name.clone()),
            _ => None,
        };
        (path, name, self.socket.inode)
    }
}

impl SocketFile {
    fn is_world_writable(&self) -> bool {
        self.mode & 0o002 != 0
    }
}

impl Stray {
    /// What a person should look at.
    #[must_use]
    pub fn mark(&self) -> Mark {
        if self.is_served {
            Mark::OtherNamespace
        } else {
            Mark::Stale
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stale => "stale",
            Self::Replaced => "replaced",
            Self::Removed => "removed",
            Self::WorldWritable => "world-writable",
            Self::Abstract => "abstract",
            Self::NotListening => "not-listening",
            Self::BacklogFull => "backlog-full",
            Self::OtherNamespace => "other-namespace",
        })
    }
}
