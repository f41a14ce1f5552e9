//! Why a message was not sent or not received whole, and whose fault that is.

use std::io;

use rustix::io::Errno;

use crate::sys::msg::{FDS_MAX, SLICES_MAX};

/// Whose fault it is: who has to change something before it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The caller of this function: the message can never be sent, or received into this buffer.
    Caller,
    /// The other end: it is gone, slow, or takes no descriptors.
    Peer,
    /// This process's or user's limits, or the machine.
    System,
}

/// A message was not sent: neither a byte of it nor a descriptor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// It is longer than the send buffer takes.
    #[error("send: a message of {length} bytes does not fit a send buffer that takes {limit}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// What fits, in bytes.
        limit: usize,
    },
    /// The kernel takes at most 1024 slices per call.
    #[error("send: {count} slices are more than {SLICES_MAX}")]
    TooManySlices {
        /// How many there were.
        count: usize,
    },
    /// The kernel takes at most 253 descriptors per message.
    #[error("send: {count} descriptors are more than {FDS_MAX}")]
    TooManyDescriptors {
        /// How many there were.
        count: usize,
    },
    /// On a stream, descriptors without a byte would vanish.
    #[error("send: descriptors need at least one byte to travel with on a stream")]
    NothingToCarry,
    /// One of the descriptors is of a kind that cannot be sent, as those of `io_uring`.
    #[error("send: a descriptor of a kind that cannot be sent")]
    Unsendable,
    /// Too many descriptors that this user has sent, on whichever socket, have not been received yet.
    #[error("send: too many descriptors of this user are on their way")]
    InFlight,
    /// The receiver takes no descriptors (`SO_PASSRIGHTS` is off there); or, of datagrams, only its peer's.
    #[error("send: the receiver takes no descriptors")]
    DescriptorsRefused,
    /// No datagram socket can have this address.
    #[error("send: no address of a datagram socket")]
    NotAName,
    /// A connected receiver takes datagrams from its peer alone.
    #[error("send: the receiver is connected to another socket")]
    NotThePeer,
    /// The kernel has no memory for it: long messages need it in one piece.
    #[error("send: no memory for a message of {length} bytes")]
    Memory {
        /// Its length in bytes.
        length: usize,
    },
    /// The peer has closed the connection, or nobody is connected.
    #[error("send: the peer has closed the connection")]
    Closed,
    /// The peer closed the connection with messages of ours unread. What it had sent can still be received.
    #[error("send: the peer closed the connection without reading all")]
    Reset,
    /// No socket receives there (datagrams).
    #[error("send: nobody receives there")]
    NoReceiver,
    /// The receiver's queue, or the send buffer, is full.
    #[error("send: the queue is full")]
    WouldBlock,
    /// The queue stayed full for as long as the timeout of a blocking socket.
    #[error("send: the queue stayed full")]
    TimedOut,
    /// The system refused otherwise.
    #[error("send")]
    System(#[source] io::Error),
}

impl SendError {
    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::TooLong { .. }
            | Self::TooManySlices { .. }
            | Self::TooManyDescriptors { .. }
            | Self::NothingToCarry
            | Self::Unsendable
            | Self::NotAName
            | Self::NotThePeer => Blame::Caller,
            Self::DescriptorsRefused
            | Self::Closed
            | Self::Reset
            | Self::NoReceiver
            | Self::WouldBlock
            | Self::TimedOut => Blame::Peer,
            Self::InFlight | Self::Memory { .. } | Self::System(_) => Blame::System,
        }
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::TooLong { .. } => Some(
                "enlarge the send buffer (net.core.wmem_max caps it), or send a memory file instead",
            ),
            Self::InFlight => {
                Some("raise this process's limit of open files, or see who does not receive them")
            }
            Self::DescriptorsRefused => Some(
                "the receiving service has to opt in to descriptors, or its listener be bound with pass_rights; else ask the security module",
            ),
            Self::Memory { .. } => {
                Some("send less at once: over 64 KiB the kernel needs memory in one piece")
            }
            _ => None,
        }
    }

    pub(super) fn from_errno(errno: Errno, message: &Attempted) -> Self {
        let has_fds = message.fds > 0;
        match errno {
            Errno::MSGSIZE => Self::TooLong {
                length: message.length,
                limit: message.limit,
            },
            Errno::NOBUFS if message.length > crate::buffer::MESSAGE_BYTES_CEILING => {
                Self::TooLong {
                    length: message.length,
                    limit: crate::buffer::MESSAGE_BYTES_CEILING,
                }
            }
            Errno::NOBUFS | Errno::NOMEM => Self::Memory {
                length: message.length,
            },
            Errno::INVAL if has_fds => Self::Unsendable,
            Errno::TOOMANYREFS => Self::InFlight,
            Errno::PERM if has_fds => Self::DescriptorsRefused,
            Errno::PERM => Self::NotThePeer,
            Errno::PIPE | Errno::NOTCONN => Self::Closed,
            Errno::CONNRESET => Self::Reset,
            Errno::CONNREFUSED | Errno::NOENT => Self::NoReceiver,
            Errno::AGAIN => Self::WouldBlock,
            other => Self::System(other.into()),
        }
    }
}

/// A message that the kernel refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempted {
    pub(super) length: usize,
    pub(super) limit: usize,
    pub(super) fds: usize,
}

/// A message was not received whole. Its descriptors, if any came, are closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// It is longer than the buffer. The message is gone; the next one is whole again.
    #[error("receive: a message of {length} bytes does not fit a buffer of {room}")]
    TooLong {
        /// The true length of the message in bytes.
        length: usize,
        /// The room in the buffer in bytes.
        room: usize,
    },
    /// Descriptors that were sent with it are missing: this process can open no more. The message itself is whole, at
    /// the front of the buffer.
    #[error("receive: descriptors were lost, {arrived} could be opened")]
    DescriptorsLost {
        /// The length of the message in bytes.
        length: usize,
        /// How many had come, before they were closed.
        arrived: usize,
    },
    /// The peer closed the connection with messages of ours unread; what it had sent has all been received.
    #[error("receive: the peer closed the connection without reading all")]
    Reset,
    /// A connected datagram receiver is gone.
    #[error("receive: nobody receives at the other end")]
    NoReceiver,
    /// Nothing is there.
    #[error("receive: nothing is there")]
    WouldBlock,
    /// Nothing came for as long as the timeout of a blocking socket.
    #[error("receive: nothing came")]
    TimedOut,
    /// The system refused otherwise.
    #[error("receive")]
    System(#[source] io::Error),
}

impl RecvError {
    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::TooLong { .. } => Blame::Caller,
            Self::Reset | Self::NoReceiver | Self::WouldBlock | Self::TimedOut => Blame::Peer,
            Self::DescriptorsLost { .. } | Self::System(_) => Blame::System,
        }
    }

    /// Whether the connection is still good: the next message can be received.
    #[must_use]
    pub fn is_survivable(&self) -> bool {
        !matches!(self, Self::Reset | Self::System(_))
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::DescriptorsLost { .. } => Some("raise this process's limit of open files"),
            _ => None,
        }
    }

    pub(super) fn from_errno(errno: Errno) -> Self {
        match errno {
            Errno::AGAIN => Self::WouldBlock,
            Errno::CONNREFUSED => Self::NoReceiver,
            Errno::CONNRESET => Self::Reset,
            other => Self::System(other.into()),
        }
    }
}

/// Keeps the kind, and the error as what is inside.
impl From<SendError> for io::Error {
    fn from(error: SendError) -> Self {
        let kind = match &error {
            SendError::System(source) => source.kind(),
            SendError::TooLong { .. }
            | SendError::TooManySlices { .. }
            | SendError::TooManyDescriptors { .. }
            | SendError::NothingToCarry
            | SendError::NotAName
            | SendError::Unsendable => io::ErrorKind::InvalidInput,
            SendError::DescriptorsRefused | SendError::NotThePeer => {
                io::ErrorKind::PermissionDenied
            }
            SendError::InFlight => io::ErrorKind::QuotaExceeded,
            SendError::Memory { .. } => io::ErrorKind::OutOfMemory,
            SendError::Closed => io::ErrorKind::BrokenPipe,
            SendError::Reset => io::ErrorKind::ConnectionReset,
            SendError::NoReceiver => io::ErrorKind::ConnectionRefused,
            SendError::WouldBlock => io::ErrorKind::WouldBlock,
            SendError::TimedOut => io::ErrorKind::TimedOut,
        };
        Self::new(kind, error)
    }
}

/// Keeps the kind, and the error as what is inside.
impl From<RecvError> for io::Error {
    fn from(error: RecvError) -> Self {
        let kind = match &error {
            RecvError::System(source) => source.kind(),
            RecvError::TooLong { .. } => io::ErrorKind::InvalidInput,
            RecvError::DescriptorsLost { .. } => io::ErrorKind::QuotaExceeded,
            RecvError::Reset => io::ErrorKind::ConnectionReset,
            RecvError::NoReceiver => io::ErrorKind::ConnectionRefused,
            RecvError::WouldBlock => io::ErrorKind::WouldBlock,
            RecvError::TimedOut => io::ErrorKind::TimedOut,
        };
        Self::new(kind, error)
    }
}
