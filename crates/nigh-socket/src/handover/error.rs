//! Why a hand-over did not happen: at which step, by whose fault. The old process serves on in every case.

use std::io;
use std::time::Duration;

use super::message::{MalformedMessage, RefusalReason};
use crate::address::Address;
use crate::connect::ConnectError;
use crate::inherit::InheritedError;
use crate::listener::BindError;
use crate::message::{RecvError, SendError};
use crate::process::ProcessError;

/// A step of a hand-over, as docs/restarts.md numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// The successor connects and says who it is.
    Hello,
    /// The listeners travel.
    Offer,
    /// The successor prepares itself.
    Ready,
    /// The predecessor has stopped accepting; the successor takes over.
    Go,
    /// Idle connections travel, the predecessor drains.
    Drain,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hello => "greeting",
            Self::Offer => "offering the listeners",
            Self::Ready => "getting ready",
            Self::Go => "taking over",
            Self::Drain => "draining",
        })
    }
}

/// Why a hand-over did not happen, or did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandoverError {
    /// The control socket has to be a file, because only a file has a mode.
    #[error(
        "hand-over at {0}: a control socket is a path, for nothing else is closed to other users"
    )]
    NotAPath(Address),
    /// The control socket cannot be bound.
    #[error("hand-over: the control socket cannot be had")]
    Control(#[source] BindError),
    /// A socket is at the control address, and it cannot be asked.
    #[error("hand-over: the running server cannot be asked")]
    Connect(#[source] ConnectError),
    /// The other side is not whom the policy demands.
    #[error("hand-over: {peer} is not accepted: {verdict}")]
    NotAdmitted {
        /// Who it is.
        peer: String,
        /// What the policy looked at.
        verdict: String,
    },
    /// The kernel does not say which process is on the other side (`SO_PEERPIDFD`, Linux 6.5), or it has ended.
    #[error("hand-over: the process of {peer} cannot be held on to: {why}")]
    NoProcess {
        /// Who it is.
        peer: String,
        /// Why not.
        why: String,
    },
    /// Its state cannot be asked.
    #[error("hand-over: cannot ask about the other process")]
    Process(#[from] ProcessError),
    /// A step took longer than it may.
    #[error("hand-over: nothing came while {step}, for {} ms", waited.as_millis())]
    Silent {
        /// The step.
        step: Step,
        /// The time that was allowed.
        waited: Duration,
    },
    /// The other process has ended, or closed the connection.
    #[error("hand-over: the other process left while {0}")]
    Left(Step),
    /// The other side said no.
    #[error("hand-over: refused by the other process while {step}: {reason}{}{detail}", if detail.is_empty() { "" } else { ": " })]
    Refused {
        /// The step.
        step: Step,
        /// Why, by its word.
        reason: RefusalReason,
        /// More, by its word.
        detail: String,
    },
    /// The other side speaks another version.
    #[error("hand-over: the other process speaks version {0} of the protocol")]
    Version(u16),
    /// Bytes that are no message.
    #[error("hand-over: unreadable while {step}")]
    Malformed {
        /// The step.
        step: Step,
        /// What is wrong with them.
        source: MalformedMessage,
    },
    /// A message that has no place here, or with another number of descriptors than it has.
    #[error("hand-over: {message} with {descriptors} descriptors came while {step}")]
    Unexpected {
        /// The step.
        step: Step,
        /// The message.
        message: &'static str,
        /// Descriptors that came with it; they are closed.
        descriptors: usize,
    },
    /// A listener is not what was said of it.
    #[error("hand-over: the listener at {address} is not what was said of it")]
    Listener {
        /// Its address by the giver's word.
        address: Address,
        /// What is wrong with it.
        source: ClaimError,
    },
    /// More listeners than one hand-over can have.
    #[error("hand-over: {0} listeners are more than one hand-over can have")]
    TooMany(usize),
    /// A listener's new settings could not be applied.
    #[error("hand-over: the listener at {address} cannot be set up")]
    SetUp {
        /// Its address.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// Sending failed.
    #[error("hand-over: cannot send while {step}")]
    Send {
        /// The step.
        step: Step,
        /// Why.
        source: SendError,
    },
    /// Receiving failed.
    #[error("hand-over: cannot receive while {step}")]
    Receive {
        /// The step.
        step: Step,
        /// Why.
        source: RecvError,
    },
    /// The reactor or the kernel refused something else.
    #[error("hand-over: the system refused")]
    System(#[source] io::Error),
}

/// What is wrong with a listener that was handed over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// Its family or type, or that it does not listen.
    #[error("unusable descriptor")]
    Inherited(#[from] InheritedError),
    /// It is bound to another address.
    #[error("it is bound elsewhere")]
    Elsewhere,
    /// Its path does not lead to it: not any more, or not in this mount namespace.
    #[error("its path does not lead to it")]
    NotPublished,
    /// Its directory cannot be looked into.
    #[error("its path cannot be looked at")]
    Inspect(#[source] BindError),
    /// The system refused to tell.
    #[error("the system refused")]
    System(#[source] io::Error),
}

impl HandoverError {
    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotAPath(_) => {
                Some("give a path in a directory of the server's own: unix:/run/NAME/handover")
            }
            Self::Control(error) => error.hint(),
            Self::Connect(error) => error.hint(),
            Self::NotAdmitted { .. } => {
                Some("run both as one user, or let the policy of the hand-over admit the other")
            }
            Self::NoProcess { .. } => {
                Some("Linux 6.5 tells; before it, allow a hand-over without (unknown_process)")
            }
            Self::Silent { .. } => {
                Some("the old process serves on; is one of them stopped or overloaded?")
            }
            Self::Listener {
                source: ClaimError::NotPublished,
                ..
            } => Some(
                "something else stands at the path by now, or the two processes see different file systems",
            ),
            _ => None,
        }
    }

    /// What the other side is told.
    pub(crate) fn reason(&self) -> RefusalReason {
        match self {
            Self::NotAdmitted { .. } | Self::NoProcess { .. } => RefusalReason::NotAdmitted,
            Self::Version(_) => RefusalReason::Version,
            Self::Listener { .. } | Self::SetUp { .. } => RefusalReason::Listener,
            Self::Silent { .. } => RefusalReason::TooLate,
            _ => RefusalReason::Other,
        }
    }
}
