//! What one receive was: a packet for the assembler, or why there are no more.

use nigh_socket::{Received, RecvError};

use crate::link::{Inbound, InboundError, Message, Place};
use crate::wire::Violation;

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
