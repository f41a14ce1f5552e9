//! Why a call gave no answer, by whose fault it is.

use std::sync::Arc;

use nigh_socket::{ConnectError, RecvError, SendError};

use crate::wire::{Reason, Status, Violation};

/// A call gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The server could not be reached; nothing was sent.
    #[error("no connection")]
    Connect(#[source] Arc<ConnectError>),
    /// The connection broke. Whether the call was handled is not known, unless it is [`TransportError::Unsent`].
    #[error("the connection broke")]
    Transport(#[source] Arc<TransportError>),
    /// The server broke a rule of the wire. The connection is closed; the next call makes another.
    #[error("the server misbehaved")]
    PeerMisbehaved(#[source] Violation),
    /// The server answered with another status than SUCCESS.
    #[error("{}", Refused(*status, text, *reason))]
    Status {
        /// The status.
        status: Status,
        /// What the server says about it; empty if it says nothing, as DAOS's do.
        text: String,
        /// What the server says about it to programs.
        reason: Option<Reason>,
    },
    /// The time was over before the answer came. Whether the call was handled is not known.
    #[error("the deadline passed")]
    Deadline,
    /// The call is larger than messages may be; nothing was sent.
    #[error("a call of {length} bytes, {max} at most")]
    TooLarge {
        /// Bytes of the message.
        length: usize,
        /// The limit.
        max: u64,
    },
    /// The server takes no descriptors; nothing was sent.
    #[error("the server takes no descriptors")]
    NoDescriptors,
    /// More descriptors than a message carries; nothing was sent.
    #[error("{count} descriptors, 253 at most")]
    TooManyDescriptors {
        /// How many.
        count: usize,
    },
    /// The answer's descriptors could not all be received: this process can open no more.
    #[error("descriptors of the answer were lost")]
    DescriptorsLost,
    /// The answer is not what the method promises.
    #[error("an answer that cannot be decoded")]
    Decode(#[source] prost::DecodeError),
}

/// How a connection broke.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The server closed it, or died. It is never a success.
    #[error("the server closed the connection before it answered")]
    Closed,
    /// Sending failed.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Receiving failed.
    #[error(transparent)]
    Recv(#[from] RecvError),
    /// The server did not read the call in time.
    #[error("the server did not read for {} ms", waited.as_millis())]
    NotRead {
        /// How long was waited.
        waited: std::time::Duration,
    },
    /// One connection after the other was closed before the call could be sent. Nobody has handled it.
    #[error("the server closed {tries} connections before the call could be sent")]
    Unsent {
        /// How many were tried.
        tries: u32,
    },
    /// The client was dropped while the call was on its way.
    #[error("the client was closed")]
    Dropped,
}

impl CallError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Connect(error) => error.hint(),
            Self::Transport(error) => error.hint(),
            Self::PeerMisbehaved(Violation::LegacyPeer) => {
                Some("it is a DAOS of 2.6 or older: use Speaks::Legacy or Speaks::Probe")
            }
            Self::PeerMisbehaved(Violation::CannotReadUs) => Some(
                "client and server speak different framings, or the socket is another protocol's",
            ),
            Self::Status { status, reason, .. } => match (status, reason) {
                (Status::UnknownModule | Status::UnknownMethod, _) => {
                    Some("is it the right socket? agent, server and engine serve different modules")
                }
                (_, Some(Reason::Denied)) => Some("the server's policy does not admit this user"),
                (_, Some(Reason::Unavailable)) => Some("try again a little later"),
                _ => None,
            },
            Self::TooLarge { .. } => Some("raise message_bytes_max on both sides"),
            Self::DescriptorsLost => Some("raise this process's limit of open files"),
            _ => None,
        }
    }

    /// Whether the server has closed the connection, and broke no rule before.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Transport(error) if matches!(**error, TransportError::Closed))
    }

    /// Whether nobody has handled the call, and another connection may do.
    pub(crate) fn is_unsent(&self) -> bool {
        matches!(self, Self::Transport(error) if matches!(**error, TransportError::Unsent { .. }))
    }

    pub(crate) fn unsent(tries: u32) -> Self {
        Self::transport(TransportError::Unsent { tries })
    }

    pub(crate) fn transport(error: impl Into<TransportError>) -> Self {
        Self::Transport(Arc::new(error.into()))
    }
}

impl TransportError {
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Closed => Some(
                "the server ended, refuses this caller, or speaks the other framing (see Speaks)",
            ),
            Self::Send(error) => error.hint(),
            Self::Recv(error) => error.hint(),
            Self::Unsent { .. } => Some("is it starting over and over? it has not seen the call"),
            Self::NotRead { .. } | Self::Dropped => None,
        }
    }
}

impl From<Violation> for CallError {
    fn from(violation: Violation) -> Self {
        Self::PeerMisbehaved(violation)
    }
}

/// A status with what is known about it.
struct Refused<'a>(Status, &'a str, Option<Reason>);

impl std::fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(status, text, reason) = self;
        write!(f, "{status}")?;
        match reason {
            Some(reason) if !text.contains(&reason.to_string()) => write!(f, " ({reason})")?,
            _ => {}
        }
        if text.is_empty() {
            Ok(())
        } else {
            write!(f, ": {text}")
        }
    }
}
