//! Tells a caller that was not admitted so, in its own framing, from the first bytes of its first packet.

use std::net::Shutdown;

use nigh_socket::{Received, RecvError, UnixSeqpacket};

use super::answer::Style;
use super::handler::Failure;
use crate::limits::Limits;
use crate::link::Outbox;
use crate::wire::{Features, FirstCall, Reason};

/// Bytes of the first packet that are looked at: a header and the fields before the body.
const BEGINNING_BYTES: usize = 4096;

/// Answers the first call with FAILURE, then waits for the caller to leave, so that a reset does not overtake the
/// answer. The caller of this function limits the time. drpc §7.8
pub(crate) async fn refuse(
    socket: UnixSeqpacket,
    reason: Reason,
    limits: &Limits,
) -> Result<(), RecvError> {
    let mut buffer = vec![0; BEGINNING_BYTES];
    let Some(length) = receive(&socket, &mut buffer).await? else {
        return Ok(());
    };
    let beginning = buffer.get(..length).unwrap_or(&buffer);
    let call = FirstCall::of(beginning, length);
    let features = call.features.and(Features::TEXT);
    let style = Style::new(call.framing, features, limits);
    let failure = Failure::because(reason);
    let grant = (features != Features::NONE).then_some((features, 0));
    let mut outbox = Outbox::default();
    outbox.push(style.respond(call.sequence, Err(failure), grant));
    // One small packet into an empty buffer: it fits, or the caller has gone.
    if outbox
        .flush(|slices, fds| socket.try_send(slices, fds))
        .is_err()
        || socket.shutdown(Shutdown::Write).is_err()
    {
        return Ok(());
    }
    let mut read = length;
    while read < limits.refusal_bytes_max {
        match receive(&socket, &mut buffer).await? {
            Some(length) => read = read.saturating_add(length),
            None => break,
        }
    }
    Ok(())
}

/// The length of the next packet, which may be longer than the buffer; `None` at the end.
async fn receive(socket: &UnixSeqpacket, buffer: &mut [u8]) -> Result<Option<usize>, RecvError> {
    match socket.recv(buffer).await {
        Ok(Received::Packet(packet)) => Ok(Some(packet.length)),
        Ok(Received::End) | Err(RecvError::Reset) => Ok(None),
        Err(RecvError::TooLong { length, .. } | RecvError::DescriptorsLost { length, .. }) => {
            Ok(Some(length))
        }
        Err(error) => Err(error),
    }
}
