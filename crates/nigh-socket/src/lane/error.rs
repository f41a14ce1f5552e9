//! What can be wrong with a lane, by whose fault it is.

use std::io;

/// The peer broke the rules of the shared memory. That ends the connection, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LaneFault {
    /// It says it has written what is impossible.
    #[error(
        "shared memory: the peer says that {unread} bytes wait to be read, where {min} to {max} can"
    )]
    Written {
        /// Bytes that would wait to be read.
        unread: u32,
        /// Bytes that wait for sure.
        min: u32,
        /// Bytes that the ring holds.
        max: u32,
    },
    /// It says it has read what is impossible.
    #[error("shared memory: the peer says that {unread} bytes are unread, where at most {max} are")]
    Read {
        /// Bytes that would be unread.
        unread: u32,
        /// Bytes that were unread before.
        max: u32,
    },
    /// It sent bytes on the socket, which is there only to show that it lives.
    #[error("shared memory: the peer sent bytes on the socket beside it")]
    SocketBytes,
}

impl From<LaneFault> for io::Error {
    fn from(fault: LaneFault) -> Self {
        Self::new(io::ErrorKind::InvalidData, fault)
    }
}

/// A lane could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaneError {
    /// Not a size that a ring can have.
    #[error("shared memory: a ring of {bytes} bytes; it is a power of two from {min} to {max}")]
    RingBytes {
        /// What was asked for.
        bytes: u32,
        /// The least.
        min: u32,
        /// The most.
        max: u32,
    },
    /// The peer sent another number of descriptors.
    #[error("shared memory: the peer sent {found} descriptors, not {wanted}")]
    Descriptors {
        /// What a lane has.
        wanted: usize,
        /// What came.
        found: usize,
    },
    /// The peer sent something else than a memory file.
    #[error("shared memory: the peer sent something that is no memory file")]
    NotMemory,
    /// The peer's memory file could change its length while it is in use, or cannot be written.
    #[error(
        "shared memory: the peer's memory file is not sealed against changes of its length, or against too much"
    )]
    Seals,
    /// The peer's memory file does not have the length of two rings, or they are too large.
    #[error(
        "shared memory: the peer's memory file has {found} bytes, which are no two rings of at most {ring_bytes_max}"
    )]
    Length {
        /// What it has.
        found: u64,
        /// The most that a ring may hold here.
        ring_bytes_max: u32,
    },
    /// The peer sent something else than an event descriptor to wake each other with.
    #[error("shared memory: the peer sent something that is no event descriptor")]
    NotEvent,
    /// The system refused.
    #[error("shared memory: cannot {operation}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// What it answered.
        source: io::Error,
    },
}

impl LaneError {
    pub(crate) fn system(operation: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self + Copy {
        move |error| Self::System {
            operation,
            source: error.into(),
        }
    }

    /// Whether the peer is to blame, not this side or its system.
    #[must_use]
    pub fn is_peers_fault(&self) -> bool {
        !matches!(self, Self::RingBytes { .. } | Self::System { .. })
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::System { source, .. } => match source.kind() {
                io::ErrorKind::OutOfMemory => {
                    Some("raise the memory limit, or make the rings smaller or fewer")
                }
                io::ErrorKind::PermissionDenied => Some(
                    "a sandbox may forbid memfd_create, mmap or eventfd: switch shared memory off",
                ),
                _ => match source.raw_os_error() {
                    Some(libc::EMFILE | libc::ENFILE) => {
                        Some("raise the limit of open files (RLIMIT_NOFILE): a lane takes two more")
                    }
                    _ => None,
                },
            },
            Self::RingBytes { .. } => Some("choose a power of two, as 262144"),
            _ => None,
        }
    }
}
