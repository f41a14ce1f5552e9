//! One connection's two directions, the same for server and client: packets in, messages out.

mod inbound;
mod outbox;
mod scratch;
#[cfg(test)]
mod tests;

pub(crate) use inbound::{Inbound, InboundError, Message, Place};
pub(crate) use outbox::{Flush, Outbox, Outgoing, Unsent};
pub(crate) use scratch::with_scratch;
