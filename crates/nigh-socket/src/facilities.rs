//! What this kernel offers of what nigh uses, found out by trying it: for people who ask why something is not known.

use std::fmt;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::introspect;
use crate::memory::MemoryFile;
use crate::open::open_beneath;
use crate::process::Process;
use crate::sys::opt::{self, Flag};
use crate::sys::{ofd, pidfd};

/// Something that a kernel may offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Facility {
    /// `SO_PEERPIDFD`, Linux 6.5.
    PeerPidfd,
    /// `SO_PEERGROUPS`, Linux 4.13.
    PeerGroups,
    /// `SO_PEERSEC`, where a security module labels sockets.
    PeerLabel,
    /// `SO_PASSPIDFD` and with it `SCM_PIDFD`, Linux 6.5.
    MessagePidfd,
    /// `SO_PASSRIGHTS`, Linux 6.16.
    PassRights,
    /// `PIDFD_GET_INFO`, Linux 6.13.
    ProcessInfo,
    /// Sealed memory files, Linux 3.17.
    MemorySeals,
    /// `MFD_NOEXEC_SEAL`, Linux 6.3.
    MemoryNoExec,
    /// `openat2`, Linux 5.6.
    OpenBeneath,
    /// Locks of open files, where `/dev/shm` or memory files have them.
    FileLocks,
    /// `sock_diag` for Unix sockets.
    SocketList,
}

/// Every facility, in the order they are told.
const ALL: [Facility; 11] = [
    Facility::PeerPidfd,
    Facility::PeerGroups,
    Facility::PeerLabel,
    Facility::MessagePidfd,
    Facility::PassRights,
    Facility::ProcessInfo,
    Facility::MemorySeals,
    Facility::MemoryNoExec,
    Facility::OpenBeneath,
    Facility::FileLocks,
    Facility::SocketList,
];

/// Whether a facility is there.
#[derive(Debug)]
#[non_exhaustive]
pub enum Offer {
    /// It works.
    Yes,
    /// This kernel does not have it.
    No,
    /// It could not be found out, or a sandbox forbids it.
    Unknown(io::Error),
}

/// Tries each facility once, on sockets and files of its own that nobody else sees.
#[must_use]
pub fn facilities() -> Vec<(Facility, Offer)> {
    ALL.into_iter()
        .map(|facility| (facility, facility.offer()))
        .collect()
}

impl Facility {
    /// What it is called where it is documented, and since when Linux has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PeerPidfd => "SO_PEERPIDFD (Linux 6.5)",
            Self::PeerGroups => "SO_PEERGROUPS (Linux 4.13)",
            Self::PeerLabel => "SO_PEERSEC (a security module)",
            Self::MessagePidfd => "SO_PASSPIDFD, SCM_PIDFD (Linux 6.5)",
            Self::PassRights => "SO_PASSRIGHTS (Linux 6.16)",
            Self::ProcessInfo => "PIDFD_GET_INFO (Linux 6.13)",
            Self::MemorySeals => "memfd seals (Linux 3.17)",
            Self::MemoryNoExec => "MFD_NOEXEC_SEAL (Linux 6.3)",
            Self::OpenBeneath => "openat2 (Linux 5.6)",
            Self::FileLocks => "F_OFD_SETLK (Linux 3.15)",
            Self::SocketList => "sock_diag for Unix sockets",
        }
    }

    /// What nigh does with it, or without it.
    #[must_use]
    pub const fn meaning(self, is_there: bool) -> &'static str {
        match (self, is_there) {
            (Self::PeerPidfd, true) => "a peer's process is known without a race",
            (Self::PeerPidfd, false) => "a peer's executable, cgroup and unit are unknown",
            (Self::PeerGroups, true) => "group policies see all of a peer's groups",
            (Self::PeerGroups, false) => "group policies see a peer's primary group only",
            (Self::PeerLabel, true) => "label policies can be used",
            (Self::PeerLabel, false) => "label policies admit nobody",
            (Self::MessagePidfd, true) => "the writer of each message is known without a race",
            (Self::MessagePidfd, false) => "the writer of a message is known by ids only",
            (Self::PassRights, true) => "descriptors nobody asked for are refused at their sender",
            (Self::PassRights, false) => "descriptors nobody asked for arrive and are closed",
            (Self::ProcessInfo, true) => "what a process is now can be told from what it was",
            (Self::ProcessInfo, false) => "only what a process was when it connected is known",
            (Self::MemorySeals, true) => "memory files can be mapped without trusting their sender",
            (Self::MemorySeals, false) => "memory files are refused",
            (Self::MemoryNoExec, true) => "memory files can never be executed",
            (Self::MemoryNoExec, false) => "memory files can be executed",
            (Self::OpenBeneath, true) => "files below a directory are opened safely for others",
            (Self::OpenBeneath, false) => "opening files for others fails",
            (Self::FileLocks, true) => "a dead server's address file is told from a living one's",
            (Self::FileLocks, false) => "--publish fails",
            (Self::SocketList, true) => "ls and peers see every socket of this network namespace",
            (Self::SocketList, false) => "ls and peers do not work",
        }
    }

    fn offer(self) -> Offer {
        match self.attempt() {
            Ok(()) => Offer::Yes,
            Err(
                Errno::NOPROTOOPT
                | Errno::NOSYS
                | Errno::OPNOTSUPP
                | Errno::NOTTY
                | Errno::INVAL
                | Errno::NOENT,
            ) => Offer::No,
            Err(error) => Offer::Unknown(error.into()),
        }
    }

    fn attempt(self) -> Result<(), Errno> {
        let flags = SocketFlags::CLOEXEC;
        let (a, _b) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        match self {
            Self::PeerPidfd => opt::peer_pidfd(a.as_fd()).map(drop),
            Self::PeerGroups => match opt::peer_groups(a.as_fd()) {
                Ok(_) | Err(Errno::NODATA) => Ok(()),
                Err(error) => Err(error),
            },
            Self::PeerLabel => opt::peer_label(a.as_fd()).map(drop),
            Self::MessagePidfd => opt::set_flag(a.as_fd(), Flag::PassProcess, true),
            Self::PassRights => opt::set_flag(a.as_fd(), Flag::PassRights, false),
            Self::ProcessInfo => {
                let process = Process::new(opt::peer_pidfd(a.as_fd())?);
                pidfd::info(process.as_fd()).map(drop)
            }
            Self::MemorySeals => {
                let file = MemoryFile::create("nigh doctor").map_err(errno)?;
                file.seal().map(drop).map_err(errno)
            }
            Self::MemoryNoExec => {
                let flags = MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL;
                rustix::fs::memfd_create("nigh doctor", flags).map(drop)
            }
            Self::OpenBeneath => {
                let root = std::fs::File::open("/proc/self").map_err(errno)?;
                open_beneath(&root, "stat", false).map(drop).map_err(errno)
            }
            Self::FileLocks => {
                let file = MemoryFile::create("nigh doctor").map_err(errno)?;
                ofd::lock(file.as_fd()).map(drop)
            }
            Self::SocketList => introspect::sockets()
                .map(drop)
                .map_err(|error| match error {
                    introspect::IntrospectError::Kernel { error, .. } => errno(error),
                    _ => Errno::PROTO,
                }),
        }
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

impl fmt::Display for Facility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
