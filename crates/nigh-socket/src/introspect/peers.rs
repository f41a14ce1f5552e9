//! Who is connected to a socket: both ends of each connection, and what waits between them.
//!
//! Trap: an accepted socket carries its listener's name and file, and the kernel tells of a client that still waits only
//! as a number at the listener; both are put together here. For display, not for decisions.

use std::collections::HashMap;
use std::fs;

use super::message::{Diag, FileId};
use super::processes::{Holders, Owner};
use super::{IntrospectError, ListenerInfo, SocketInfo, State, files, netlink};
use crate::address::Address;
use crate::listener::SocketKind;

/// Connections that are told of one by one.
const CONNECTIONS_MAX: usize = 65_536;
/// Descriptors of a process that are looked at to find a socket among them.
const LINKS_MAX: usize = 65_536;

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndInfo {
    /// The socket. Its `queued` is what it has not read; its `queue_max` the memory of what its peer has not read.
    pub socket: SocketInfo,
    /// Processes that hold it; without privilege only those of this user.
    pub owners: Vec<Owner>,
    /// Descriptors that wait in what it has not read; `None` where this user may not look.
    pub fds_queued: Option<u64>,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// The client waits to be accepted.
    Waiting,
    /// Accepted.
    Accepted,
    /// A datagram socket that sends to the server; the server's end is the one it receives with.
    Sending,
}

/// A connection to the server. One end may be gone, or be in another network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// How far it is.
    pub stage: Stage,
    /// The server's end; none while the client waits.
    pub server: Option<EndInfo>,
    /// The client's end.
    pub client: Option<EndInfo>,
}

/// What was found at an address.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Peers {
    /// The sockets that serve there: more than one when types share an abstract name.
    pub listeners: Vec<ListenerInfo>,
    /// Their connections, in the order of the servers' inodes.
    pub connections: Vec<ConnectionInfo>,
    /// Processes that could not be looked into.
    pub hidden_processes: usize,
}

impl EndInfo {
    /// How full its send buffer is with what the peer has not read, in percent; `None` where the kernel does not say.
    #[must_use]
    pub fn fill(&self) -> Option<u32> {
        let max = self.socket.send_buffer.filter(|max| *max > 0)?;
        let percent = u64::from(self.socket.queue_max) * 100 / u64::from(max);
        u32::try_from(percent).ok()
    }
}

/// Who is connected to the Unix socket at that address. A path is followed through links, as `connect` does.
///
/// # Errors
/// As [`sockets`](super::sockets).
pub fn peers(address: &Address) -> Result<Peers, IntrospectError> {
    let found = netlink::sockets()?;
    let holders = Holders::scan();
    let place = Place::of(address);
    let by_inode: HashMap<u32, &Diag> = found.iter().map(|diag| (diag.inode, diag)).collect();
    let end = |diag: &Diag| end(diag, &holders);
    let mut listeners = Vec::new();
    let mut connections = Vec::new();
    for diag in found.iter().filter(|diag| place.has(diag)) {
        let socket = SocketInfo::of(diag);
        let client = |inode: u32| by_inode.get(&inode).map(|client| end(client));
        if socket.state == State::Connected && socket.kind != Some(SocketKind::Datagram) {
            connections.push(ConnectionInfo {
                stage: Stage::Accepted,
                server: Some(end(diag)),
                client: socket.peer.and_then(client),
            });
            continue;
        }
        connections.extend(socket.pending.iter().map(|inode| ConnectionInfo {
            stage: Stage::Waiting,
            server: None,
            client: client(*inode),
        }));
        if socket.kind == Some(SocketKind::Datagram) {
            let senders = found
                .iter()
                .filter(|sender| sender.peer == Some(diag.inode));
            connections.extend(senders.map(|sender| ConnectionInfo {
                stage: Stage::Sending,
                server: Some(end(diag)),
                client: Some(end(sender)),
            }));
        }
        let owners = holders.of(socket.inode);
        listeners.push(ListenerInfo {
            location: place.location(),
            socket,
            owners,
        });
    }
    connections.truncate(CONNECTIONS_MAX);
    connections.sort_by_key(|connection| {
        let inode = |end: &Option<EndInfo>| end.as_ref().map(|end| end.socket.inode);
        (inode(&connection.server), inode(&connection.client))
    });
    Ok(Peers {
        listeners,
        connections,
        hidden_processes: holders.unreadable,
    })
}

/// What an address is for the kernel.
enum Place {
    Name(Vec<u8>),
    File(FileId, super::SocketFile),
    Nothing,
}

impl Place {
    fn of(address: &Address) -> Self {
        match address {
            Address::Abstract(name) => Self::Name([&[0], name.as_slice()].concat()),
            Address::Path(path) => match files::socket_behind(path) {
                Some((id, file)) => Self::File(id, file),
                None => Self::Nothing,
            },
            _ => Self::Nothing,
        }
    }

    fn has(&self, diag: &Diag) -> bool {
        match self {
            Self::Name(name) => diag.name == *name,
            Self::File(id, _) => diag.file == Some(*id),
            Self::Nothing => false,
        }
    }

    fn location(&self) -> super::Location {
        match self {
            Self::File(_, file) => super::Location::File(file.clone()),
            _ => super::Location::Abstract,
        }
    }
}

fn end(diag: &Diag, holders: &Holders) -> EndInfo {
    let owners = holders.of(diag.inode);
    EndInfo {
        socket: SocketInfo::of(diag),
        fds_queued: owners
            .first()
            .and_then(|owner| queued(owner.pid, diag.inode)),
        owners,
    }
}

/// `scm_fds` of the socket's descriptor in that process.
fn queued(pid: u32, inode: u32) -> Option<u64> {
    let wanted = format!("socket:[{inode}]");
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let fd = entries.take(LINKS_MAX).flatten().find(|entry| {
        fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
    })?;
    let name = fd.file_name();
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", name.to_str()?)).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("scm_fds:"))?;
    line.trim().parse().ok()
}
