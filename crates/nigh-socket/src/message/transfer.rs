//! One try to send or receive a message: what the kernel's answer means on each kind of socket, written once.
//!
//! Trap: a packet socket whose peer closed with unread messages reports `ECONNRESET` *before* the packets that the peer
//! had sent. So the reset is kept for the end, and the receive is tried again.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use super::error::Attempted;
use super::{Packet, Received, RecvError, SendError, Sender};
use crate::buffer;
use crate::sys::msg::{self, Arrival, FDS_MAX, Manner, SLICES_MAX};

/// What became of a try.
#[derive(Debug)]
pub(crate) enum Attempt<T> {
    /// It is over, one way or the other.
    Done(T),
    /// It would have to wait.
    WouldBlock,
    /// A signal came in between.
    Interrupted,
}

/// Tries without waiting; `None` when it would have to wait. A signal is no reason to stop.
pub(crate) fn nonblocking<T>(mut attempt: impl FnMut() -> Attempt<T>) -> Option<T> {
    loop {
        match attempt() {
            Attempt::Done(done) => return Some(done),
            Attempt::WouldBlock => return None,
            Attempt::Interrupted => {}
        }
    }
}

/// Sends a message. `name` is for a datagram socket that is not connected.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    slices: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
    name: Option<&[u8]>,
    waits: bool,
) -> Attempt<Result<usize, SendError>> {
    if slices.len() > SLICES_MAX {
        let count = slices.len();
        return Attempt::Done(Err(SendError::TooManySlices { count }));
    }
    if fds.len() > FDS_MAX {
        let count = fds.len();
        return Attempt::Done(Err(SendError::TooManyDescriptors { count }));
    }
    match msg::send(socket, slices, fds, name, waits) {
        Ok(length) => Attempt::Done(Ok(length)),
        Err(Errno::AGAIN) => Attempt::WouldBlock,
        Err(Errno::INTR) => Attempt::Interrupted,
        Err(errno) => Attempt::Done(Err(refused(socket, slices, fds.len(), errno))),
    }
}

#[cold]
fn refused(socket: BorrowedFd<'_>, slices: &[IoSlice<'_>], fds: usize, errno: Errno) -> SendError {
    let message = Attempted {
        length: slices.iter().map(|slice| slice.len()).sum(),
        limit: buffer::message_bytes_max(socket).unwrap_or(0),
        fds,
    };
    SendError::from_errno(errno, &message)
}

/// What a packet socket has to remember from one receive to the next.
#[derive(Debug, Default)]
pub(crate) struct Packets {
    /// The peer closed with messages of ours unread.
    was_reset: AtomicBool,
}

impl Packets {
    /// Sends a packet. The kernel sends all of it or none.
    pub(crate) fn send(
        &self,
        socket: BorrowedFd<'_>,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
        waits: bool,
    ) -> Attempt<Result<(), SendError>> {
        match send(socket, slices, fds, None, waits) {
            Attempt::Done(done) => {
                Attempt::Done(done.map(drop).inspect_err(|error| self.note(error)))
            }
            Attempt::WouldBlock => Attempt::WouldBlock,
            Attempt::Interrupted => Attempt::Interrupted,
        }
    }

    /// Receives a packet, or the end.
    pub(crate) fn receive(
        &self,
        socket: BorrowedFd<'_>,
        slices: &mut [IoSliceMut<'_>],
        waits: bool,
    ) -> Attempt<Result<Received, RecvError>> {
        let manner = Manner {
            waits,
            is_stream: false,
        };
        // The reset is reported once: the second time around there are packets, or the end.
        let arrival = loop {
            match msg::receive(socket, slices, manner, None) {
                Err(Errno::CONNRESET) if !self.was_reset.swap(true, Ordering::Relaxed) => {}
                done => break done,
            }
        };
        match arrival {
            Ok(arrival) if arrival.length == 0 && !arrival.has_control => {
                Attempt::Done(if self.was_reset.load(Ordering::Relaxed) {
                    Err(RecvError::Reset)
                } else {
                    Ok(Received::End)
                })
            }
            Ok(arrival) => Attempt::Done(whole(arrival, slices).map(Received::Packet)),
            Err(Errno::AGAIN) => Attempt::WouldBlock,
            Err(Errno::INTR) => Attempt::Interrupted,
            Err(errno) => Attempt::Done(Err(RecvError::from_errno(errno))),
        }
    }

    /// A send can be what the kernel reports the reset to.
    fn note(&self, error: &SendError) {
        if matches!(error, SendError::Reset) {
            self.was_reset.store(true, Ordering::Relaxed);
        }
    }
}

/// A message that came whole, or what it lacks; in that case its descriptors are closed.
fn whole(arrival: Arrival, slices: &[IoSliceMut<'_>]) -> Result<Packet, RecvError> {
    if arrival.is_truncated {
        return Err(RecvError::TooLong {
            length: arrival.length,
            room: slices.iter().map(|slice| slice.len()).sum(),
        });
    }
    if arrival.is_control_truncated {
        return Err(RecvError::DescriptorsLost {
            length: arrival.length,
            arrived: arrival.fds.len(),
        });
    }
    Ok(Packet {
        length: arrival.length,
        fds: arrival.fds,
        sender: Sender::new(arrival.credentials, arrival.process),
    })
}
