//! What one receive was: a packet for the assembler, or why there are no more.

use std::task::{Context, Poll, ready};

use nigh_socket::{Received, RecvError};

use super::Connection;
use crate::link::{Inbound, InboundError, Message, Place, with_scratch};
use crate::wire::Violation;

impl Connection {
    /// Receives one packet: behind the message that it belongs to, or into this thread's buffer.
    pub(super) fn arrive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, Break>> {
        let may_wait = self.running.count() == 0;
        let line = &self.line;
        if !self.is_draining {
            let receive = |memory: &mut Vec<u8>| line.poll_recv_behind(cx, memory, may_wait);
            if let Some((received, packet)) = self.inbound.receive(receive) {
                let received = ready!(received);
                let packet = Place::Behind(packet);
                return Poll::Ready(take(&mut self.inbound, received, packet));
            }
        }
        let room = self.inbound.room();
        with_scratch(room, |buffer| {
            let buffer = &mut buffer[..room];
            let received = match self.last_try(buffer) {
                Some(received) => received,
                None => ready!(self.line.poll_recv(cx, buffer, may_wait)),
            };
            let packet = Place::Buffer(buffer);
            Poll::Ready(take(&mut self.inbound, received, packet))
        })
    }
}

/// What ends reading.
pub(super) enum Break {
    End,
    Recv(RecvError),
    Inbound(InboundError),
}

/// Gives what was received to the assembler.
pub(super) fn take(
    inbound: &mut Inbound,
    received: Result<Received, RecvError>,
    place: Place<'_>,
) -> Result<Option<Message>, Break> {
    let (length, fds, is_lost) = match received {
        Ok(Received::Packet(packet)) => (packet.length, packet.fds, false),
        Err(RecvError::DescriptorsLost { length, .. }) => (length, Vec::new(), true),
        Ok(Received::End) => return Err(Break::End),
        // The caller closed with answers unread; its calls have all been received.
        Err(RecvError::Reset) => return Err(Break::End),
        Err(RecvError::TooLong { length, room }) => {
            return Err(Break::Inbound(InboundError {
                violation: Violation::PacketTooLarge { length, max: room },
                tell_legacy: match place {
                    Place::Buffer(buffer) => inbound.may_be_legacy(buffer),
                    Place::Behind(_) => false,
                },
            }));
        }
        Err(error) => return Err(Break::Recv(error)),
    };
    match place {
        Place::Buffer(buffer) => {
            let packet = buffer.get(..length).unwrap_or_default();
            inbound.accept(packet, fds, is_lost).map_err(Break::Inbound)
        }
        Place::Behind(packet) => {
            let accepted = inbound.accept_behind(packet, &fds, is_lost);
            accepted.map_err(|violation| Break::Inbound(violation.into()))
        }
    }
}
