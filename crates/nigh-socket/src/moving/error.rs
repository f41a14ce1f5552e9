//! Why the kernel moved nothing, and whose fault that is.

use std::fmt;
use std::io;

use rustix::io::Errno;

use crate::message::Blame;

/// Which way bytes were to be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Movement {
    /// `sendfile(2)`.
    SendFile,
    /// `splice(2)`.
    Splice,
    /// `tee(2)`.
    Tee,
    /// `vmsplice(2)`.
    Vmsplice,
}

impl fmt::Display for Movement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SendFile => "send a file",
            Self::Splice => "splice",
            Self::Tee => "tee",
            Self::Vmsplice => "vmsplice",
        })
    }
}

/// Nothing was moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// It is a socket of messages: the kernel would cut them, or lose their rest.
    #[error("{0}: a socket of messages, which would be cut")]
    NotAStream(Movement),
    /// The kernel moves nothing between descriptors of these kinds: one of two must be a pipe, or a file.
    #[error("{0}: nothing can be moved between descriptors of these kinds")]
    NotMovable(Movement),
    /// It would have to wait.
    #[error("{0}: it would have to wait")]
    WouldBlock(Movement),
    /// It took longer than the timeout of a blocking socket.
    #[error("{0}: the send buffer stayed full")]
    TimedOut(Movement),
    /// Nobody reads at the other end any more.
    #[error("{0}: the peer has closed the connection")]
    Closed(Movement),
    /// The peer closed the connection with bytes of ours unread.
    #[error("{0}: the peer closed the connection without reading all")]
    Reset(Movement),
    /// The system refused otherwise.
    #[error("{movement}")]
    System {
        /// What was tried.
        movement: Movement,
        /// What the kernel said.
        source: io::Error,
    },
}

impl MoveError {
    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::NotAStream(_) | Self::NotMovable(_) => Blame::Caller,
            Self::WouldBlock(_) | Self::TimedOut(_) | Self::Closed(_) | Self::Reset(_) => {
                Blame::Peer
            }
            Self::System { .. } => Blame::System,
        }
    }

    pub(crate) fn from_errno(movement: Movement, errno: Errno) -> Self {
        match errno {
            Errno::AGAIN => Self::WouldBlock(movement),
            Errno::INVAL | Errno::BADF | Errno::SPIPE => Self::NotMovable(movement),
            Errno::PIPE | Errno::NOTCONN => Self::Closed(movement),
            Errno::CONNRESET => Self::Reset(movement),
            other => Self::System {
                movement,
                source: other.into(),
            },
        }
    }
}

/// Keeps the kind, and the error as what is inside.
impl From<MoveError> for io::Error {
    fn from(error: MoveError) -> Self {
        let kind = match &error {
            MoveError::NotAStream(_) | MoveError::NotMovable(_) => io::ErrorKind::InvalidInput,
            MoveError::WouldBlock(_) => io::ErrorKind::WouldBlock,
            MoveError::TimedOut(_) => io::ErrorKind::TimedOut,
            MoveError::Closed(_) => io::ErrorKind::BrokenPipe,
            MoveError::Reset(_) => io::ErrorKind::ConnectionReset,
            MoveError::System { source, .. } => source.kind(),
        };
        Self::new(kind, error)
    }
}
