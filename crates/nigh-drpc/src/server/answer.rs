//! Turns what became of a call into the response that its caller understands.

use super::handler::{Answer, Failure};
use crate::limits::Limits;
use crate::link::Outgoing;
use crate::wire::{Encoded, Features, Framing, Reason, Response, Status};

/// Bytes of text that a failure carries. drpc §9.5
const TEXT_BYTES_MAX: usize = 4096;

/// What answers to one caller look like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    pub(crate) framing: Framing,
    /// What was agreed on.
    pub(crate) features: Features,
    /// Bytes of the largest message.
    pub(crate) message_bytes_max: u64,
}

impl Style {
    pub(crate) fn new(framing: Framing, features: Features, limits: &Limits) -> Self {
        let message_bytes_max = match framing {
            Framing::Chunked => limits.message_bytes_max,
            Framing::Legacy => limits.legacy_bytes_max as u64,
        };
        Self {
            framing,
            features,
            message_bytes_max,
        }
    }

    /// The response to call `sequence`. `grant` is put into the first one of a caller that offered extensions.
    pub(crate) fn respond(
        &self,
        sequence: i64,
        outcome: Result<Answer, Failure>,
        grant: Option<(Features, u32)>,
    ) -> Outgoing {
        let outcome = outcome.and_then(|answer| self.check(answer));
        let (mut response, fds) = match outcome {
            Ok(Answer { body, descriptors }) => {
                let mut response = Response::new(sequence, Status::Success);
                response.body = body;
                response.extensions.descriptors = u32::try_from(descriptors.len()).unwrap_or(0);
                (response, descriptors)
            }
            Err(failure) => (self.failed(sequence, &failure), Vec::new()),
        };
        if let Some((features, window)) = grant {
            response.extensions.features = features;
            response.extensions.window = window;
        }
        let mut message = response.encode_parts();
        if message.len() as u64 > self.message_bytes_max {
            message = self.too_large(sequence, message.len());
        }
        let instead = (!fds.is_empty()).then(|| self.descriptors_lost(sequence));
        Outgoing {
            framing: self.framing,
            message,
            fds,
            instead,
            is_alone: grant.is_some(),
        }
    }

    /// What is said to bytes that are no call. drpc §7.5
    pub(crate) fn unreadable(&self) -> Outgoing {
        self.plain(Response::unreadable().encode_parts())
    }

    fn plain(&self, message: Encoded) -> Outgoing {
        Outgoing {
            framing: self.framing,
            message,
            fds: Vec::new(),
            instead: None,
            is_alone: false,
        }
    }

    /// Descriptors go only where they were agreed on, and in the number that a packet takes.
    fn check(&self, answer: Answer) -> Result<Answer, Failure> {
        let count = answer.descriptors.len();
        if count > 0 && !self.features.has(Features::DESCRIPTORS) {
            return Err(Failure::new("the caller takes no descriptors"));
        }
        if count > DESCRIPTORS_MAX {
            return Err(Failure::new("more descriptors than a message carries"));
        }
        Ok(answer)
    }

    fn failed(&self, sequence: i64, failure: &Failure) -> Response {
        let mut response = Response::new(sequence, failure.status());
        if self.features.has(Features::TEXT) {
            let text = failure.text();
            response.extensions.text = text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned();
            response.extensions.reason = failure.reason();
        }
        response
    }

    fn too_large(&self, sequence: i64, length: usize) -> Encoded {
        let max = self.message_bytes_max;
        let text = format!("an answer of {length} bytes, {max} at most");
        let failure = Failure::with_status(Status::FailedMarshal, text);
        self.failed(sequence, &failure).encode_parts()
    }

    fn descriptors_lost(&self, sequence: i64) -> Encoded {
        let failure = Failure::because(Reason::DescriptorsLost);
        self.failed(sequence, &failure).encode_parts()
    }
}

/// The kernel takes no more per packet.
pub(crate) const DESCRIPTORS_MAX: usize = 253;
