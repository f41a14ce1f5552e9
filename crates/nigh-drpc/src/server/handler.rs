//! What a handler gets and what it gives back.

use std::os::fd::OwnedFd;

use bytes::Bytes;
use nigh_socket::Peer;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::wire::{Reason, Status};

/// One call, as its handler sees it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Request {
    /// The module's id.
    pub module: i32,
    /// The method's id.
    pub method: i32,
    /// The argument, not decoded.
    pub body: Bytes,
    /// Who called, as the kernel vouches for the process that connected.
    pub peer: Peer,
    /// The descriptors that came with the call. Those not taken are closed.
    pub descriptors: Vec<OwnedFd>,
    /// When the caller stops waiting; the handler is dropped then. Only callers of this project say so.
    pub deadline: Option<Instant>,
    /// Whether the caller is still there.
    pub caller: Caller,
}

/// Whether a caller is still there. A handler whose call is cancelled or past its deadline is dropped; one whose
/// caller has only gone runs to its end, because a caller may well leave without waiting, unless it looks here.
#[derive(Debug, Clone)]
pub struct Caller {
    gone: watch::Receiver<bool>,
}

impl Caller {
    pub(crate) fn new(gone: watch::Receiver<bool>) -> Self {
        Self { gone }
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }

    /// Completes when the connection has ended.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is consumed.
    pub async fn gone(&mut self) {
        // An error means that the connection's task has ended, and so the connection.
        let _ = self.gone.wait_for(|gone| *gone).await;
    }
}

/// What a handler answers.
#[derive(Debug, Default)]
pub struct Answer {
    /// The result, mostly a protobuf message.
    pub body: Bytes,
    /// Descriptors for the caller, at most 253. A caller that did not agree on them gets FAILURE.
    pub descriptors: Vec<OwnedFd>,
}

impl From<Bytes> for Answer {
    fn from(body: Bytes) -> Self {
        Self {
            body,
            descriptors: Vec::new(),
        }
    }
}

impl From<Vec<u8>> for Answer {
    fn from(body: Vec<u8>) -> Self {
        Bytes::from(body).into()
    }
}

/// Why a handler gives no answer.
///
/// Callers of this project see the text; DAOS peers see the status alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {text}")]
pub struct Failure {
    status: Status,
    text: String,
    reason: Option<Reason>,
}

impl Failure {
    /// Status FAILURE.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self::with_status(Status::Failure, text)
    }

    /// Status FAILED_UNMARSHAL_PAYLOAD: the body is not what the method takes.
    #[must_use]
    pub fn payload(text: impl Into<String>) -> Self {
        Self::with_status(Status::FailedUnmarshalPayload, text)
    }

    /// Any status; SUCCESS is no failure and becomes FAILURE.
    #[must_use]
    pub fn with_status(status: Status, text: impl Into<String>) -> Self {
        let status = match status {
            Status::Success => Status::Failure,
            other => other,
        };
        Self {
            status,
            text: text.into(),
            reason: None,
        }
    }

    /// Status FAILURE with the reason for programs.
    #[must_use]
    pub fn because(reason: Reason) -> Self {
        Self {
            reason: Some(reason),
            ..Self::new(reason.to_string())
        }
    }

    /// The status that the caller gets.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// The text that callers of this project get.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The reason that callers of this project get.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.reason
    }
}

impl From<prost::DecodeError> for Failure {
    fn from(error: prost::DecodeError) -> Self {
        Self::payload(error.to_string())
    }
}
