//! Who is at the other end: kernel facts for a local process, a certificate or a mere address for a remote one.
//!
//! Trap: `getsockopt` succeeds where there is no peer, with uid 4294967295 and pid 0, and shows ids of other user
//! namespaces as 65534. These become [`Fact::Unknown`] here, once, so that nothing later takes them for somebody.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};

use rustix::io::Errno;

use crate::fact::{Fact, Source, Why};
use crate::process::Process;
use crate::sys::opt;
use crate::users;

/// The other end of a connection. Cloning is cheap.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Peer {
    /// A process on this machine, with what the kernel says of it.
    Local(LocalPeer),
    /// A TLS connection over TCP.
    Tls(TlsPeer),
    /// A connection over TCP that proves nothing.
    Remote(RemotePeer),
}

/// A process on this machine as the kernel recorded it; see [`Source`] for when. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct LocalPeer {
    facts: Arc<Facts>,
}

#[derive(Debug)]
struct Facts {
    uid: Fact<u32>,
    gid: Fact<u32>,
    groups: Fact<Vec<u32>>,
    unmapped_groups: usize,
    pid: Fact<u32>,
    process: Fact<Process>,
    label: Fact<Vec<u8>>,
}

/// The other end of a TLS connection: an address, and a certificate if it presented one that was verified.
#[derive(Debug, Clone)]
pub struct TlsPeer {
    address: SocketAddr,
    certificate: Option<Arc<[u8]>>,
}

/// The other end of a plain TCP connection. An address identifies nobody.
#[derive(Debug, Clone)]
pub struct RemotePeer {
    address: SocketAddr,
}

impl Peer {
    /// A peer of which only the address is known.
    #[must_use]
    pub const fn remote(address: SocketAddr) -> Self {
        Self::Remote(RemotePeer { address })
    }

    /// A TLS peer, with its verified certificate (DER) if it presented one.
    #[must_use]
    pub fn tls(address: SocketAddr, certificate: Option<Vec<u8>>) -> Self {
        let certificate = certificate.map(Arc::from);
        Self::Tls(TlsPeer {
            address,
            certificate,
        })
    }

    /// The kernel's facts, if the peer is a process on this machine.
    #[must_use]
    pub const fn as_local(&self) -> Option<&LocalPeer> {
        match self {
            Self::Local(peer) => Some(peer),
            Self::Tls(_) | Self::Remote(_) => None,
        }
    }

    /// Displays the peer with the user's and the group's name, for people.
    ///
    /// Trap: the names come from the user databases, which may block; plain [`Display`](fmt::Display) never does.
    #[must_use]
    pub const fn with_names(&self) -> impl fmt::Display {
        WithNames(self)
    }
}

impl From<LocalPeer> for Peer {
    fn from(peer: LocalPeer) -> Self {
        Self::Local(peer)
    }
}

impl LocalPeer {
    /// Asks the kernel who is at the other end of a Unix socket: four system calls, one descriptor held for the process.
    ///
    /// A fact that the kernel does not tell is an unknown fact, not an error.
    ///
    /// # Errors
    /// When `socket` is not a Unix socket, or the kernel refuses even `SO_PEERCRED`.
    pub fn of(socket: impl AsFd) -> io::Result<Self> {
        let socket = socket.as_fd();
        let raw = opt::peer_credentials(socket)?;
        // TCP answers with the same "nobody" as a Unix socket without a peer.
        if raw.uid == u32::MAX && !opt::is_unix(socket)? {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a Unix socket",
            ));
        }
        let groups = opt::peer_groups(socket);
        let process = opt::peer_pidfd(socket).map(Process::new);
        let label = opt::peer_label(socket);
        Ok(Self::from_answers(
            raw,
            groups,
            process,
            label,
            Overflow::get(),
        ))
    }

    fn from_answers(
        raw: opt::Credentials,
        groups: Result<Vec<u32>, Errno>,
        process: Result<Process, Errno>,
        label: Result<Vec<u8>, Errno>,
        overflow: Overflow,
    ) -> Self {
        let id = |id, overflow| {
            if id == u32::MAX || id == overflow {
                Fact::unknown(Source::PeerCred, Why::NotGiven)
            } else {
                Fact::known(id, Source::PeerCred)
            }
        };
        let pid = match u32::try_from(raw.pid) {
            Ok(pid @ 1..) => Fact::known(pid, Source::PeerCred),
            _ => Fact::unknown(Source::PeerCred, Why::NotGiven),
        };
        let mut unmapped_groups = 0;
        let groups = groups.map(|mut groups| {
            let all = groups.len();
            groups.retain(|gid| *gid != u32::MAX && *gid != overflow.gid);
            unmapped_groups = all - groups.len();
            groups
        });
        // SELinux counts the string's NUL, AppArmor does not.
        let label = label.and_then(|mut label| {
            let length = label
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |at| at + 1);
            label.truncate(length);
            match length {
                0 => Err(Errno::NODATA),
                _ => Ok(label),
            }
        });
        Self {
            facts: Arc::new(Facts {
                uid: id(raw.uid, overflow.uid),
                gid: id(raw.gid, overflow.gid),
                groups: Fact::from_answer(Source::PeerGroups, groups),
                unmapped_groups,
                pid,
                process: Fact::from_answer(Source::PeerPidfd, process),
                label: Fact::from_answer(Source::PeerSec, label),
            }),
        }
    }

    /// The effective user id.
    #[must_use]
    pub fn uid(&self) -> &Fact<u32> {
        &self.facts.uid
    }

    /// The effective group id.
    #[must_use]
    pub fn gid(&self) -> &Fact<u32> {
        &self.facts.gid
    }

    /// The supplementary groups that have an id in this user namespace. The effective gid need not be among them.
    #[must_use]
    pub fn groups(&self) -> &Fact<Vec<u32>> {
        &self.facts.groups
    }

    /// How many supplementary groups the peer has besides, without an id in this user namespace. They match nothing, and
    /// with one of them no group term of a policy is a definite "no".
    #[must_use]
    pub fn unmapped_groups(&self) -> usize {
        self.facts.unmapped_groups
    }

    /// The process id, for display only: the number may belong to another process by now. To act on the process or to
    /// look it up, use [`process`](Self::process).
    #[must_use]
    pub fn pid(&self) -> &Fact<u32> {
        &self.facts.pid
    }

    /// The process itself, through its pidfd.
    #[must_use]
    pub fn process(&self) -> &Fact<Process> {
        &self.facts.process
    }

    /// The security label, without a terminating NUL.
    #[must_use]
    pub fn label(&self) -> &Fact<Vec<u8>> {
        &self.facts.label
    }
}

impl TlsPeer {
    /// Where the connection comes from.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The verified certificate (DER); `None` when the peer presented none.
    #[must_use]
    pub fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }
}

impl RemotePeer {
    /// Where the connection comes from.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// One line: `uid 1000 gid 1000 pid 4242`, `TLS 192.0.2.1:4242 with certificate`, `192.0.2.1:4242`.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(peer) => peer.fmt(f),
            Self::Tls(peer) => peer.fmt(f),
            Self::Remote(peer) => peer.fmt(f),
        }
    }
}

impl fmt::Display for LocalPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = &self.facts;
        number(f, "uid", &facts.uid)?;
        number(f, " gid", &facts.gid)?;
        number(f, " pid", &facts.pid)
    }
}

impl fmt::Display for TlsPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = match self.certificate {
            Some(_) => "with",
            None => "without",
        };
        write!(f, "TLS {} {with} certificate", self.address)
    }
}

impl fmt::Display for RemotePeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

struct WithNames<'a>(&'a Peer);

impl fmt::Display for WithNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Peer::Local(peer) = self.0 else {
            return self.0.fmt(f);
        };
        let facts = &peer.facts;
        number(f, "uid", &facts.uid)?;
        name(f, &facts.uid, users::user_name)?;
        number(f, " gid", &facts.gid)?;
        name(f, &facts.gid, users::group_name)?;
        number(f, " pid", &facts.pid)
    }
}

fn number(f: &mut fmt::Formatter<'_>, what: &str, fact: &Fact<u32>) -> fmt::Result {
    match fact.value() {
        Some(id) => write!(f, "{what} {id}"),
        None => write!(f, "{what} unknown"),
    }
}

/// A decoration: a database that has no name or does not answer leaves the bare number.
fn name(
    f: &mut fmt::Formatter<'_>,
    fact: &Fact<u32>,
    lookup: impl FnOnce(u32) -> Result<Option<String>, users::UserError>,
) -> fmt::Result {
    match fact.value().map(|id| lookup(*id)) {
        Some(Ok(Some(name))) => write!(f, " ({})", name.escape_debug()),
        _ => Ok(()),
    }
}

/// The ids that stand for "not mapped in this user namespace".
#[derive(Debug, Clone, Copy)]
pub(crate) struct Overflow {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Overflow {
    /// What the kernel has unless told otherwise.
    const DEFAULT: Self = Self {
        uid: 65534,
        gid: 65534,
    };

    /// Reads them once per process. A system without `/proc` has the defaults; a failure for another reason, as when
    /// descriptors ran out, must not settle them, so the next peer asks again.
    pub(crate) fn get() -> Self {
        static IDS: OnceLock<Overflow> = OnceLock::new();
        if let Some(ids) = IDS.get() {
            return *ids;
        }
        match Self::read() {
            Ok(ids) => *IDS.get_or_init(|| ids),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                *IDS.get_or_init(|| Self::DEFAULT)
            }
            Err(_) => Self::DEFAULT,
        }
    }

    fn read() -> io::Result<Self> {
        let read = |path| {
            let text = fs::read_to_string(path)?;
            text.trim().parse().map_err(io::Error::other)
        };
        Ok(Self {
            uid: read("/proc/sys/kernel/overflowuid")?,
            gid: read("/proc/sys/kernel/overflowgid")?,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
