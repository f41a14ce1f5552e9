//! Several messages per call: a tenth less time for each where many are waiting; and each as whole as if it came alone.

use std::fmt;
use std::io::IoSlice;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::transfer::{refused, whole, whole_datagram};
use super::{Attempt, Datagram, Packets, Received, RecvError, SendError};
use crate::sys::batch::{self, Manner, Slot};
use crate::sys::msg::{Arrival, FDS_MAX, SLICES_MAX};

/// One message of a batch to send.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Its bytes, one slice after the other: at most 1024 slices.
    pub slices: &'a [IoSlice<'a>],
    /// Its descriptors, at most 253.
    pub fds: &'a [BorrowedFd<'a>],
}

/// Room for several messages to be received at once, and those that were: [`Received`] on packets, [`Datagram`] on datagrams.
///
/// It takes its messages times their length of memory, and another kilobyte for each.
pub struct Batch<M> {
    room: usize,
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    messages: Vec<Result<M, RecvError>>,
}

/// What the kernel takes per call (`UIO_MAXIOV`).
const MESSAGES_MAX: usize = 1024;

impl<M> Batch<M> {
    /// Room for so many messages (1 to 1024) of at most `room` bytes each (1 at least).
    #[must_use]
    pub fn new(messages: usize, room: usize) -> Self {
        let (messages, room) = (messages.clamp(1, MESSAGES_MAX), room.max(1));
        Self {
            room,
            bytes: vec![0; messages.saturating_mul(room)],
            slots: (0..messages).map(|_| Slot::new()).collect(),
            messages: Vec::with_capacity(messages),
        }
    }

    /// How many messages were received last, the end of a connection included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether nothing was received, or all of it was taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Takes what was received, in order: the message, or what is wrong with it, and the room with its bytes at the front.
    pub fn drain(&mut self) -> impl Iterator<Item = (Result<M, RecvError>, &[u8])> {
        self.messages
            .drain(..)
            .zip(self.bytes.chunks_exact(self.room))
    }
}

impl<M: fmt::Debug> fmt::Debug for Batch<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("room", &self.room)
            .field("messages", &self.messages)
            .finish_non_exhaustive()
    }
}

impl Packets {
    /// Receives what is there; answers how many, the end included.
    pub(crate) fn receive_batch(
        &self,
        socket: BorrowedFd<'_>,
        batch: &mut Batch<Received>,
        waits: bool,
    ) -> Attempt<Result<usize, RecvError>> {
        let manner = Manner {
            waits,
            are_named: false,
        };
        let Batch {
            room,
            bytes,
            slots,
            messages,
        } = batch;
        messages.clear();
        let arrivals = self.behind_reset(|| batch::receive(socket, bytes, *room, slots, manner));
        Attempt::of(arrivals).map(|arrivals| {
            let arrivals = arrivals.map_err(RecvError::from_errno)?;
            // What has something behind it is no end, even where packets are not stamped.
            let last = arrivals.iter().rposition(|arrival| !is_nothing(arrival));
            for (place, arrival) in arrivals.into_iter().enumerate() {
                let is_behind = last.is_none_or(|last| place > last);
                if is_behind && is_nothing(&arrival) && self.ends(socket) {
                    // The kernel fills the rest of the batch with ends.
                    messages.push(self.end().map(|()| Received::End));
                    break;
                }
                messages.push(message(arrival, *room).map(Received::Packet));
            }
            Ok(messages.len())
        })
    }

    /// Sends as many of the messages as there is room for; answers how many.
    pub(crate) fn send_batch(
        &self,
        socket: BorrowedFd<'_>,
        messages: &[Outgoing<'_>],
        waits: bool,
    ) -> Attempt<Result<usize, SendError>> {
        send_batch(socket, messages, waits).map(|done| done.inspect_err(|error| self.note(error)))
    }
}

/// Receives what is there; answers how many.
pub(crate) fn receive_datagrams(
    socket: BorrowedFd<'_>,
    batch: &mut Batch<Datagram>,
    waits: bool,
) -> Attempt<Result<usize, RecvError>> {
    let manner = Manner {
        waits,
        are_named: true,
    };
    let Batch {
        room,
        bytes,
        slots,
        messages,
    } = batch;
    messages.clear();
    Attempt::of(batch::receive(socket, bytes, *room, slots, manner)).map(|arrivals| {
        let arrivals = arrivals.map_err(RecvError::from_errno)?;
        for (arrival, slot) in arrivals.into_iter().zip(slots) {
            let datagram =
                message(arrival, *room).map(|packet| whole_datagram(packet, slot.name()));
            messages.push(datagram);
        }
        Ok(messages.len())
    })
}

/// Sends as many of the messages as there is room for, at least one; answers how many. What is wrong with the one behind
/// them, the next try says.
pub(crate) fn send_batch(
    socket: BorrowedFd<'_>,
    messages: &[Outgoing<'_>],
    waits: bool,
) -> Attempt<Result<usize, SendError>> {
    let Some(first) = messages.first() else {
        return Attempt::Done(Ok(0));
    };
    if let Err(error) = sendable(first) {
        return Attempt::Done(Err(error));
    }
    let good = messages.iter().take(MESSAGES_MAX);
    let good = good.take_while(|message| sendable(message).is_ok()).count();
    let messages = messages.get(..good).unwrap_or_default();
    let pairs = messages.iter().map(|message| (message.slices, message.fds));
    Attempt::of(batch::send(socket, pairs, waits))
        .map(|done| done.map_err(|errno| refused(socket, first.slices, first.fds.len(), errno)))
}

fn sendable(message: &Outgoing<'_>) -> Result<(), SendError> {
    let (slices, fds) = (message.slices.len(), message.fds.len());
    if slices > SLICES_MAX {
        return Err(SendError::TooManySlices { count: slices });
    }
    if fds > FDS_MAX {
        return Err(SendError::TooManyDescriptors { count: fds });
    }
    Ok(())
}

fn is_nothing(arrival: &Result<Arrival, Errno>) -> bool {
    matches!(arrival, Ok(arrival) if arrival.length == 0 && !arrival.has_control)
}

fn message(arrival: Result<Arrival, Errno>, room: usize) -> Result<super::Packet, RecvError> {
    whole(arrival.map_err(RecvError::from_errno)?, room)
}
