//! A fact about a peer: what the kernel said and to which question, or why it did not say.
//!
//! Trap: an unknown fact is not a "no". Whoever decides on one has to say what unknown means; a policy never admits it.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// Something about a peer that the kernel either vouches for or does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact<T> {
    /// The kernel said so.
    Known {
        /// What it said.
        value: T,
        /// The question it answered.
        source: Source,
    },
    /// The kernel did not say.
    Unknown {
        /// The question it did not answer.
        source: Source,
        /// Why not.
        why: Why,
    },
}

/// The question a fact answers, and with it the moment the kernel recorded the answer.
///
/// A server learns of the client at the moment of its `connect(2)`; a client learns of the process that called
/// `listen(2)` last, which with socket activation is the service manager. Nothing changes later: not with setuid, fork or
/// exec, and not when the descriptor moves to another process. Both ends of a `socketpair(2)` show its creator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// `SO_PEERCRED`: effective uid and gid, and the pid as seen from this pid namespace.
    PeerCred,
    /// `SO_PEERPIDFD` (Linux 6.5): a descriptor of that process.
    PeerPidfd,
    /// `SO_PEERGROUPS` (Linux 4.13): supplementary groups, the effective gid not among them.
    PeerGroups,
    /// `SO_PEERSEC`: the label that the security module gave the process.
    PeerSec,
    /// `SCM_CREDENTIALS`: real uid and gid, and the pid, of the process that sent one message, at that moment.
    MessageCredentials,
    /// `SCM_PIDFD` (Linux 6.5): a descriptor of the process that sent one message.
    MessagePidfd,
}

/// Why a fact is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Why {
    /// This kernel lacks the question; for a label: no security module labels sockets here.
    Unsupported,
    /// The kernel answered with nothing, or with what stands for nobody: uid or gid -1 (not connected, a datagram
    /// socket), the overflow id (not mapped in this user namespace), pid 0 (another pid namespace).
    NotGiven,
    /// The process was gone before a pidfd could be had; from Linux 6.16 on it can be had nevertheless.
    Gone,
    /// The question itself failed, for example for want of descriptors.
    Failed {
        /// The error number.
        errno: i32,
    },
}

impl<T> Fact<T> {
    pub(crate) const fn known(value: T, source: Source) -> Self {
        Self::Known { value, source }
    }

    pub(crate) const fn unknown(source: Source, why: Why) -> Self {
        Self::Unknown { source, why }
    }

    pub(crate) fn from_answer(source: Source, answer: Result<T, Errno>) -> Self {
        match answer {
            Ok(value) => Self::known(value, source),
            Err(errno) => Self::unknown(source, Why::from_errno(source, errno)),
        }
    }

    /// The value, if the kernel gave one. To find out why not, match on the fact.
    pub const fn value(&self) -> Option<&T> {
        match self {
            Self::Known { value, .. } => Some(value),
            Self::Unknown { .. } => None,
        }
    }

    /// The question that was asked.
    pub const fn source(&self) -> Source {
        match self {
            Self::Known { source, .. } | Self::Unknown { source, .. } => *source,
        }
    }

    /// Whether the kernel gave a value.
    pub const fn is_known(&self) -> bool {
        matches!(self, Self::Known { .. })
    }
}

impl Why {
    fn from_errno(source: Source, errno: Errno) -> Self {
        match errno {
            Errno::NOPROTOOPT | Errno::OPNOTSUPP => Self::Unsupported,
            Errno::NODATA => Self::NotGiven,
            // Before Linux 6.16, for a peer that was reaped already.
            Errno::INVAL | Errno::SRCH
                if matches!(source, Source::PeerPidfd | Source::MessagePidfd) =>
            {
                Self::Gone
            }
            errno => Self::Failed {
                errno: errno.raw_os_error(),
            },
        }
    }
}

/// The value, or `unknown` and why.
impl<T: fmt::Display> fmt::Display for Fact<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known { value, .. } => value.fmt(f),
            Self::Unknown { source, why } => write!(f, "unknown ({source}: {why})"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PeerCred => "SO_PEERCRED",
            Self::PeerPidfd => "SO_PEERPIDFD",
            Self::PeerGroups => "SO_PEERGROUPS",
            Self::PeerSec => "SO_PEERSEC",
            Self::MessageCredentials => "SCM_CREDENTIALS",
            Self::MessagePidfd => "SCM_PIDFD",
        })
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported => f.write_str("not offered by this kernel"),
            Self::NotGiven => f.write_str("none given"),
            Self::Gone => f.write_str("the process was gone"),
            Self::Failed { errno } => io::Error::from_raw_os_error(*errno).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::{Fact, Source, Why};

    #[test]
    fn errors_are_told_apart() {
        let why = |source, errno| match Fact::<()>::from_answer(source, Err(errno)) {
            Fact::Unknown { why, .. } => why,
            Fact::Known { .. } => unreachable!(),
        };
        let failed = |errno: Errno| Why::Failed {
            errno: errno.raw_os_error(),
        };
        let table = [
            (Source::PeerPidfd, Errno::NOPROTOOPT, Why::Unsupported),
            (Source::PeerPidfd, Errno::NODATA, Why::NotGiven),
            (Source::PeerPidfd, Errno::SRCH, Why::Gone),
            (Source::PeerPidfd, Errno::INVAL, Why::Gone),
            (Source::PeerPidfd, Errno::MFILE, failed(Errno::MFILE)),
            (Source::PeerGroups, Errno::NODATA, Why::NotGiven),
            (Source::PeerGroups, Errno::INVAL, failed(Errno::INVAL)),
            (Source::PeerSec, Errno::NOPROTOOPT, Why::Unsupported),
        ];
        for (source, errno, expected) in table {
            assert_eq!(why(source, errno), expected, "{source} {errno}");
        }
    }

    #[test]
    fn facts_show_value_or_reason() {
        assert_eq!(Fact::known(7, Source::PeerCred).to_string(), "7");
        let unknown = Fact::<u32>::unknown(Source::PeerSec, Why::Unsupported);
        assert_eq!(
            unknown.to_string(),
            "unknown (SO_PEERSEC: not offered by this kernel)"
        );
        assert_eq!((unknown.value(), unknown.is_known()), (None, false));
        assert_eq!(unknown.source(), Source::PeerSec);
    }
}
