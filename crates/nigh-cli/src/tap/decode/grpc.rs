//! gRPC's messages inside a stream's data: sizes always, JSON where the type is known. Pure.

use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::Value;

use crate::call::reply::{Form, to_json};

/// Bytes of the longest message that is kept to be shown as JSON.
const KEPT_BYTES_MAX: usize = 16 << 10;

/// One direction of one call.
#[derive(Debug)]
pub(super) struct Messages {
    head: Vec<u8>,
    left: u64,
    kept: Vec<u8>,
    kind: Option<MessageDescriptor>,
}

/// A message that went by.
#[derive(Debug, PartialEq)]
pub(super) struct Message {
    pub(super) bytes: u32,
    pub(super) compressed: bool,
    pub(super) json: Option<Value>,
}

impl Messages {
    pub(super) fn new(kind: Option<MessageDescriptor>) -> Self {
        Self {
            head: Vec::new(),
            left: 0,
            kept: Vec::new(),
            kind,
        }
    }

    /// Takes bytes of the stream; adds the messages that they complete.
    pub(super) fn feed(&mut self, mut bytes: &[u8], messages: &mut Vec<Message>) {
        loop {
            if self.head.len() < 5 {
                let wanted = (5 - self.head.len()).min(bytes.len());
                self.head.extend_from_slice(&bytes[..wanted]);
                bytes = &bytes[wanted..];
                if self.head.len() < 5 {
                    return;
                }
                self.left = self.length().into();
            }
            let taken =
                usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            if self.kind.is_some() && self.kept.len() + taken <= KEPT_BYTES_MAX {
                self.kept.extend_from_slice(&bytes[..taken]);
            }
            bytes = &bytes[taken..];
            self.left -= taken as u64;
            if self.left > 0 {
                return;
            }
            messages.push(self.complete());
        }
    }

    fn length(&self) -> u32 {
        match self.head.as_slice() {
            [_, a, b, c, d] => u32::from_be_bytes([*a, *b, *c, *d]),
            _ => 0,
        }
    }

    fn complete(&mut self) -> Message {
        let bytes = self.length();
        let compressed = self.head.first().is_some_and(|flag| *flag != 0);
        self.head.clear();
        let kept = std::mem::take(&mut self.kept);
        let whole = kept.len() == usize::try_from(bytes).unwrap_or(usize::MAX);
        let kind = self.kind.clone().filter(|_| whole && !compressed);
        let json = kind.and_then(|kind| {
            let message = DynamicMessage::decode(kind, kept.as_slice()).ok()?;
            let json = to_json(&message, Form::default()).ok()?;
            serde_json::from_str(&json).ok()
        });
        Message {
            bytes,
            compressed,
            json,
        }
    }
}
