//! The rules of one connection's calls and answers, without input and output: sequences, agreement, what an answer means.

use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::Bytes;

use super::error::CallError;
use crate::limits::Limits;
use crate::link::{Message, Outgoing, Unsent};
use crate::wire::{
    Call, CallExtensions, Features, Framing, PACKET_BYTES_MAX, Reason, Response, Status, Violation,
};

/// The kernel takes no more per packet.
const DESCRIPTORS_MAX: usize = 253;

/// A call before it has a sequence.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) module: i32,
    pub(crate) method: i32,
    pub(crate) body: Bytes,
    pub(crate) fds: Vec<OwnedFd>,
}

/// A call of which the server has not got all, so that nobody handles it: it may be made again.
#[derive(Debug)]
pub(crate) struct Again {
    pub(crate) sequence: i64,
    pub(crate) draft: Draft,
    /// Some of it is out, and the server may have something to say about that.
    pub(crate) has_begun: bool,
}

impl Again {
    /// `None` for what is no call, and for one whose descriptors have left.
    pub(crate) fn of(unsent: Unsent) -> Option<Self> {
        let call = Call::read(unsent.message.to_bytes()).ok()?;
        if call.extensions.cancel || call.extensions.descriptors as usize != unsent.fds.len() {
            return None;
        }
        Some(Self {
            sequence: call.sequence,
            draft: Draft {
                module: call.module,
                method: call.method,
                body: call.body,
                fds: unsent.fds,
            },
            has_begun: unsent.has_begun,
        })
    }
}

/// What a server answered with SUCCESS.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reply {
    /// The result, mostly a protobuf message.
    pub body: Bytes,
    /// The descriptors that came with it.
    pub descriptors: Vec<OwnedFd>,
}

/// What is known of the server's abilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Agreement {
    /// No call was made yet.
    Open,
    /// The first call is on its way.
    Offered,
    Settled,
}

/// One connection's sequences and agreement.
#[derive(Debug)]
pub(crate) struct Exchange {
    next: i64,
    offered: Features,
    agreement: Agreement,
    features: Features,
    window: u32,
    pub(crate) framing: Framing,
}

impl Exchange {
    pub(crate) fn new(framing: Framing, offered: Features) -> Self {
        let offered = match framing {
            Framing::Chunked => offered,
            Framing::Legacy => offered.without(Features::ROWS),
        };
        Self {
            next: 1,
            offered,
            agreement: Agreement::Open,
            features: Features::NONE,
            window: 1,
            framing,
        }
    }

    /// What holds with this server.
    pub(crate) fn features(&self) -> Features {
        self.features
    }

    /// Whether the server has answered once, so that what holds is known.
    pub(crate) fn is_settled(&self) -> bool {
        self.agreement == Agreement::Settled
    }

    /// Whether an answer may bring descriptors, as far as is known.
    pub(crate) fn may_bring_descriptors(&self) -> bool {
        !self.is_settled() || self.features.has(Features::DESCRIPTORS)
    }

    /// Calls that may be in flight.
    pub(crate) fn window(&self) -> u32 {
        if self.features.has(Features::PIPELINING) {
            self.window.max(1)
        } else {
            1
        }
    }

    /// Numbers the call and puts it into bytes. drpc §6.1, §9.2
    pub(crate) fn call(
        &mut self,
        draft: Draft,
        deadline: Option<Duration>,
        limits: &Limits,
    ) -> Result<(i64, Outgoing), CallError> {
        let count = draft.fds.len();
        if count > 0 && !self.features.has(Features::DESCRIPTORS) {
            return Err(CallError::NoDescriptors);
        }
        if count > DESCRIPTORS_MAX {
            return Err(CallError::TooManyDescriptors { count });
        }
        let sequence = self.next;
        let offers = self.agreement == Agreement::Open;
        let call = Call {
            module: draft.module,
            method: draft.method,
            sequence,
            body: draft.body,
            extensions: CallExtensions {
                features: if offers { self.offered } else { Features::NONE },
                deadline: deadline.filter(|_| self.features.has(Features::DEADLINE)),
                cancel: false,
                descriptors: u32::try_from(count).unwrap_or(u32::MAX),
            },
            unknown: Bytes::new(),
        };
        let message = call.encode_parts();
        let max = match self.framing {
            Framing::Chunked => limits.message_bytes_max,
            Framing::Legacy => limits.legacy_bytes_max.max(PACKET_BYTES_MAX) as u64,
        };
        if message.len() as u64 > max {
            let length = message.len();
            return Err(CallError::TooLarge { length, max });
        }
        if offers {
            self.agreement = Agreement::Offered;
        }
        self.next = following(sequence);
        let outgoing = Outgoing {
            framing: self.framing,
            message,
            fds: draft.fds,
            instead: None,
            is_alone: false,
        };
        Ok((sequence, outgoing))
    }

    /// The message that cancels a call, if the server understands it. drpc §9.4
    pub(crate) fn cancel(&self, sequence: i64) -> Option<Outgoing> {
        if !self.features.has(Features::CANCEL) {
            return None;
        }
        let call = Call {
            sequence,
            extensions: CallExtensions {
                cancel: true,
                ..CallExtensions::default()
            },
            ..Call::default()
        };
        Some(Outgoing {
            framing: self.framing,
            message: call.encode_parts(),
            fds: Vec::new(),
            instead: None,
            is_alone: false,
        })
    }

    /// Reads an answer; returns its sequence and what it says. Whose it is the caller knows. drpc §6.3, §6.4, §9.2
    pub(crate) fn answer(
        &mut self,
        message: Message,
    ) -> Result<(i64, Result<Reply, CallError>), Violation> {
        let response = Response::read(message.bytes).map_err(Violation::Response)?;
        if response.is_unreadable() {
            return Err(Violation::CannotReadUs);
        }
        self.agree(&response)?;
        let received = message.fds_received;
        let announced = response.extensions.descriptors;
        let agreed = self.features.has(Features::DESCRIPTORS);
        if agreed
            && !message.fds_lost
            && (received != announced as usize || received != message.fds.len())
        {
            return Err(Violation::Descriptors {
                received,
                announced,
            });
        }
        let sequence = response.sequence;
        if response.status != Status::Success {
            return Ok((sequence, Err(refused(response))));
        }
        if agreed && message.fds_lost {
            return Ok((sequence, Err(CallError::DescriptorsLost)));
        }
        let reply = Reply {
            body: response.body,
            descriptors: if agreed { message.fds } else { Vec::new() },
        };
        Ok((sequence, Ok(reply)))
    }

    fn agree(&mut self, response: &Response) -> Result<(), Violation> {
        let granted = response.extensions.features;
        let may_grant = self.agreement == Agreement::Offered;
        if granted != Features::NONE && !(may_grant && self.offered.has(granted)) {
            return Err(Violation::Extension);
        }
        if may_grant {
            self.agreement = Agreement::Settled;
            self.features = granted;
            self.window = response.extensions.window;
        }
        Ok(())
    }
}

fn refused(response: Response) -> CallError {
    match response.extensions.reason {
        // The server's clock was a little faster than ours.
        Some(Reason::Deadline) => CallError::Deadline,
        reason => CallError::Status {
            status: response.status,
            text: response.extensions.text,
            reason,
        },
    }
}

/// The next sequence: never 0, which C's first call has, and never -1, which stands for "unreadable".
fn following(sequence: i64) -> i64 {
    match sequence.wrapping_add(1) {
        -1 | 0 => 1,
        next => next,
    }
}

/// Whether a packet says, unframed, that a framed call could not be read: the server is an old one. drpc §4.5
pub(crate) fn is_legacy_refusal(packet: &[u8]) -> bool {
    *packet == *Response::unreadable().encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(response: &Response) -> Message {
        Message {
            bytes: response.encode(),
            fds: Vec::new(),
            fds_received: 0,
            fds_lost: false,
        }
    }

    fn exchange() -> Exchange {
        Exchange::new(Framing::Chunked, Features::ALL)
    }

    fn sent(exchange: &mut Exchange) -> Call {
        let draft = Draft::default();
        let call = exchange.call(draft, Some(Duration::from_secs(1)), &Limits::default());
        Call::decode(&call.unwrap().1.message.to_bytes()).unwrap()
    }

    #[test]
    fn sequences_begin_at_one_and_skip_what_has_a_meaning() {
        let mut exchange = exchange();
        assert_eq!(sent(&mut exchange).sequence, 1);
        assert_eq!(sent(&mut exchange).sequence, 2);
        assert_eq!(following(i64::MAX), i64::MIN);
        assert_eq!(following(-2), 1);
        assert_eq!(following(-1), 1);
    }

    #[test]
    fn extensions_are_offered_once_and_used_when_granted() {
        let mut exchange = exchange();
        let first = sent(&mut exchange).extensions;
        assert_eq!((first.features, first.deadline), (Features::ALL, None));
        let second = sent(&mut exchange).extensions;
        assert_eq!((second.features, second.deadline), (Features::NONE, None));
        assert!(exchange.cancel(1).is_none());
        let mut response = Response::new(1, Status::Success);
        response.extensions.features = Features::DEADLINE;
        response.extensions.window = 9;
        exchange.answer(message(&response)).unwrap().1.unwrap();
        assert!(sent(&mut exchange).extensions.deadline.is_some());
        assert_eq!(exchange.window(), 1);
        assert!(exchange.cancel(1).is_none());
    }

    #[test]
    fn a_grant_out_of_place_is_a_violation() {
        let mut granting = Response::new(1, Status::Success);
        granting.extensions.features = Features::CANCEL;
        let mut unasked = Exchange::new(Framing::Chunked, Features::DEADLINE);
        sent(&mut unasked);
        let error = unasked.answer(message(&granting)).unwrap_err();
        assert_eq!(error, Violation::Extension);
        let mut twice = exchange();
        sent(&mut twice);
        twice.answer(message(&granting)).unwrap().1.unwrap();
        let error = twice.answer(message(&granting)).unwrap_err();
        assert_eq!(error, Violation::Extension);
    }

    #[test]
    fn lost_descriptors_fail_the_call_that_they_came_with() {
        let mut exchange = exchange();
        sent(&mut exchange);
        let mut granting = Response::new(1, Status::Success);
        granting.extensions.features = Features::DESCRIPTORS;
        exchange.answer(message(&granting)).unwrap().1.unwrap();
        let mut response = Response::new(2, Status::Success);
        response.extensions.descriptors = 3;
        let lossy = Message {
            fds_lost: true,
            ..message(&response)
        };
        let (sequence, outcome) = exchange.answer(lossy).unwrap();
        assert_eq!(sequence, 2);
        assert!(matches!(outcome, Err(CallError::DescriptorsLost)));
        let error = exchange.answer(message(&response)).unwrap_err();
        let (received, announced) = (0, 3);
        let expected = Violation::Descriptors {
            received,
            announced,
        };
        assert_eq!(error, expected);
    }

    #[test]
    fn unreadable_and_garbage_are_violations() {
        let mut exchange = exchange();
        let error = exchange
            .answer(message(&Response::unreadable()))
            .unwrap_err();
        assert_eq!(error, Violation::CannotReadUs);
        let garbage = Message {
            bytes: Bytes::from_static(&[0xff]),
            ..message(&Response::unreadable())
        };
        let error = exchange.answer(garbage).unwrap_err();
        assert!(matches!(error, Violation::Response(_)), "{error}");
    }
}
