//! What is known of one call: received and not yet read, and how much of the other direction may be sent.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::task::AbortHandle;
use tonic::Status;

use super::{Later, Receipts};
use crate::frame::{Kind, Violation};

/// How the peer's direction ended.
#[derive(Debug)]
pub(crate) enum End {
    Done,
    Trailers(HeaderMap),
    Failed(Status),
}

#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(super) is_busy: bool,
    pub(super) generation: u16,
    /// The answer's head, until it is taken.
    pub(crate) head: Option<(StatusCode, HeaderMap)>,
    /// The peer has sent HEADERS: DATA may follow.
    pub(crate) has_head: bool,
    pub(crate) inbox: VecDeque<Bytes>,
    /// The peer's last frame has come, whether or not `end` was taken since.
    pub(crate) is_ended: bool,
    pub(crate) end: Option<End>,
    /// CANCEL was sent: what still comes is ignored.
    pub(crate) is_cancelled: bool,
    /// Nobody will read the body: it is thrown away as it comes.
    pub(crate) is_unread: bool,
    pub(crate) reader: Option<Waker>,
    receipts: Receipts,
    /// What may still be sent to the peer.
    pub(super) credit: i64,
    pub(super) sender: Option<Waker>,
    /// The handler, where it did not answer at once.
    pub(crate) task: Option<AbortHandle>,
    /// How many bytes had been queued for writing before the call's first: tells whether any was sent.
    pub(crate) begins_at: u64,
    /// The server has not seen the call: it says so, or the connection ended before any byte of it was written.
    pub(crate) is_unseen: bool,
}

impl Slot {
    pub(super) fn begin(&mut self, generation: u16, ours: u32, theirs: u32) {
        // Keeps the inbox's memory.
        let inbox = std::mem::take(&mut self.inbox);
        *self = Self {
            is_busy: true,
            generation,
            inbox,
            receipts: Receipts::new(ours),
            credit: theirs.into(),
            ..Self::default()
        };
    }

    pub(super) fn stream(&self, index: usize) -> Option<u32> {
        let index = u32::try_from(index).ok()?;
        self.is_busy
            .then_some(u32::from(self.generation) << 16 | index)
    }

    /// Takes DATA; false: it was thrown away.
    pub(super) fn data(
        &mut self,
        stream: u32,
        payload: Bytes,
        is_last: bool,
        later: &mut Later,
    ) -> Result<bool, Violation> {
        if self.is_cancelled {
            return Ok(false);
        }
        let kind = Kind::Data;
        self.check_order(kind, stream)?;
        if !self.receipts.arrived(payload.len()) {
            return Err(Violation::StreamCredit { stream });
        }
        if is_last {
            self.finish(End::Done);
        }
        later.wake(self.reader.take());
        if self.is_unread {
            return Ok(false);
        }
        if !payload.is_empty() {
            self.inbox.push_back(payload);
        }
        Ok(true)
    }

    /// DATA and TRAILERS come after HEADERS and before the end (clause 4.3).
    pub(crate) fn check_order(&self, kind: Kind, stream: u32) -> Result<(), Violation> {
        if self.is_ended {
            Err(Violation::AfterEnd { kind, stream })
        } else if !self.has_head {
            Err(Violation::BeforeHeaders { kind, stream })
        } else {
            Ok(())
        }
    }

    /// The peer's direction has ended.
    pub(crate) fn finish(&mut self, end: End) {
        self.is_ended = true;
        self.end = Some(end);
    }

    pub(crate) fn take_sender(&mut self) -> Option<Waker> {
        self.sender.take()
    }

    /// Counts a request whose whole body came with its head.
    pub(crate) fn arrived(&mut self, length: usize) -> bool {
        self.is_ended = true;
        self.receipts.arrived(length)
    }

    /// The credit to give back for what was read; none once the last of it has come.
    pub(super) fn consumed(&mut self, length: usize) -> Option<u32> {
        let credit = self.receipts.consumed(length)?;
        (!self.is_ended).then_some(credit)
    }
}
