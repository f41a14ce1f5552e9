//! What can go wrong with a call's descriptors, by whose fault it is, and the gRPC status each becomes.

use std::io;

use tonic::Status;

use super::{FdIndex, InodeUrl};

/// Why descriptors of a call did not arrive. The call they belong to fails; the connection lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Loss {
    /// `sendmsg` said ETOOMANYREFS.
    #[error(
        "the sender's user has too many descriptors in flight (ETOOMANYREFS: the limit is its RLIMIT_NOFILE)"
    )]
    TooManyInFlight,
    /// `sendmsg` said EPERM.
    #[error(
        "the sender's kernel may not pass descriptors to this receiver (EPERM): let the receiving service take \
         descriptors, and bind its listener with pass_rights; if it does, ask the security module (SELinux, AppArmor)"
    )]
    NotPermitted,
    /// `sendmsg` refused the descriptors for another reason.
    #[error("the sender's kernel refused to pass the descriptors")]
    SendFailed,
    /// The kernel could not install them (`MSG_CTRUNC`).
    #[error("the receiver has no descriptors left (MSG_CTRUNC: its RLIMIT_NOFILE is reached)")]
    Truncated,
    /// Fewer or more came than were announced.
    #[error("{announced} descriptors were announced and {came} came")]
    Count {
        /// As the frame said.
        announced: usize,
        /// As the kernel gave.
        came: usize,
    },
    /// One message carried too many.
    #[error("the limit of {limit} descriptors in one message is exceeded")]
    PerMessage {
        /// The receiver's limit.
        limit: u32,
    },
    /// One call carried too many.
    #[error("the limit of {limit} descriptors in one call is exceeded")]
    PerCall {
        /// The receiver's limit.
        limit: u32,
    },
    /// The connection holds too many that nobody took yet.
    #[error("the limit of {limit} descriptors waiting on one connection is exceeded")]
    PerConnection {
        /// The receiver's limit.
        limit: u32,
    },
    /// The caller's user has too many waiting, over all its connections.
    #[error("the limit of {limit} descriptors waiting for one user is exceeded")]
    PerUser {
        /// The receiver's limit.
        limit: u32,
    },
    /// The service did not opt in.
    #[error("this service takes no descriptors")]
    NotAccepted,
}

impl Loss {
    /// The byte that says it on the wire; only a sender's losses travel [6.1].
    pub(super) fn code(self) -> u8 {
        match self {
            Self::TooManyInFlight => 1,
            Self::NotPermitted => 2,
            _ => 3,
        }
    }

    pub(super) fn of_code(code: u8) -> Self {
        match code {
            1 => Self::TooManyInFlight,
            2 => Self::NotPermitted,
            _ => Self::SendFailed,
        }
    }

    /// What the call's caller is told [7.1].
    pub(crate) fn status(self) -> Status {
        let text = format!("the call's descriptors were lost: {self}");
        match self {
            // Not PERMISSION_DENIED: who the caller is has no part in it, and a retry is in vain until the receiver
            // is set up otherwise.
            Self::NotPermitted => Status::failed_precondition(text),
            Self::NotAccepted => Status::failed_precondition(self.to_string()),
            Self::Count { .. } => Status::internal(text),
            _ => Status::resource_exhausted(text),
        }
    }
}

/// Why a connection can carry no descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Incapable {
    /// The bytes go over TCP: descriptors never leave the machine.
    #[error("descriptors travel over Unix sockets only, and this connection is not one")]
    NotLocal,
    /// TLS hides where frames begin.
    #[error("inside TLS descriptors travel in grpcfd's way only, by inode URL")]
    Tls,
    /// The server speaks the nigh wire and takes or gives none on this connection.
    #[error("the server carries no descriptors over the nigh wire: let the channel speak HTTP/2")]
    NighWire,
    /// The client's channel was opened without descriptors.
    #[error("this channel was opened without descriptors")]
    NotAsked,
    /// The other end does not speak nigh's extension: a stock gRPC client or server.
    #[error("the other end is not nigh, or was opened without descriptors")]
    NotNigh,
    /// grpcfd's way is opt-in, on both sides.
    #[error("grpcfd's inode table is not switched on here")]
    NoTable,
    /// The other end takes none.
    #[error("none of the other end's services takes descriptors")]
    NotAccepted,
}

impl Incapable {
    pub(crate) fn status(self) -> Status {
        Status::failed_precondition(format!("the call's descriptors cannot be sent: {self}"))
    }
}

/// Why a descriptor was not attached. Nothing has been sent of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// This process has no descriptor to spare for the duplicate.
    #[error("attach: cannot duplicate the descriptor")]
    Duplicate(#[source] io::Error),
    /// The file to send by name could not be opened.
    #[error("attach: cannot open {}", path.display())]
    Open {
        /// The file as named.
        path: std::path::PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The memory for a payload could not be made.
    #[error("attach: cannot make sealed memory")]
    Memory(#[source] io::Error),
    /// One call cannot carry that many, or that many are waiting to leave.
    #[error("attach: the limit of {limit} descriptors in one call is reached")]
    TooMany {
        /// The sender's limit.
        limit: u32,
    },
    /// The connection carries none.
    #[error("attach: {0}")]
    Incapable(#[from] Incapable),
    /// The call is over.
    #[error("attach: the call has ended")]
    Ended,
}

impl From<AttachError> for Status {
    fn from(error: AttachError) -> Self {
        let text = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        match error {
            AttachError::Duplicate(_) | AttachError::Memory(_) | AttachError::TooMany { .. } => {
                Self::resource_exhausted(text)
            }
            AttachError::Incapable(_) => Self::failed_precondition(text),
            AttachError::Ended => Self::cancelled(text),
            AttachError::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Self::not_found(text)
            }
            AttachError::Open { .. } => Self::failed_precondition(text),
        }
    }
}

/// Why an attached descriptor never left this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnsentError {
    /// The kernel refused it; the call fails.
    #[error("the descriptor was not sent: {0}")]
    Lost(Loss),
    /// The call or its connection ended first.
    #[error("the descriptor was not sent: the call ended first")]
    Ended,
    /// No descriptor of this call has that index.
    #[error("nothing was attached under index {0}")]
    Unknown(FdIndex),
}

/// Why there is no descriptor under an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TakeError {
    /// None came under this index: the message refers to something that was not sent.
    #[error("no descriptor came under index {0}")]
    Unknown(FdIndex),
    /// It was taken before; each is given once.
    #[error("the descriptor under index {0} was taken already")]
    Taken(FdIndex),
    /// Descriptors of this call were lost on the way.
    #[error("the call's descriptors were lost: {0}")]
    Lost(Loss),
    /// The call is over, and what nobody took is closed.
    #[error("the call has ended, its descriptors are closed")]
    Ended,
    /// Waiting ran out of time.
    #[error("no descriptor for {url} came in time")]
    TimedOut {
        /// What was waited for.
        url: InodeUrl,
    },
    /// The duplicate for the claimant could not be made.
    #[error("the descriptor of {url} cannot be duplicated")]
    Duplicate {
        /// What was claimed.
        url: InodeUrl,
        /// What the kernel said.
        kind: io::ErrorKind,
    },
    /// This connection has no inode table: the service did not opt in.
    #[error("grpcfd's inode table is not switched on here")]
    NoTable,
}

impl From<TakeError> for Status {
    fn from(error: TakeError) -> Self {
        let text = error.to_string();
        match error {
            TakeError::Unknown(_) | TakeError::Taken(_) => Self::invalid_argument(text),
            TakeError::Lost(loss) => loss.status(),
            TakeError::Ended => Self::cancelled(text),
            TakeError::TimedOut { .. } => Self::deadline_exceeded(text),
            TakeError::Duplicate { .. } => Self::resource_exhausted(text),
            TakeError::NoTable => Self::failed_precondition(text),
        }
    }
}
