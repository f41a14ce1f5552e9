//! One try to send or receive a message: what the kernel's answer means on each kind of socket, written once.
//!
//! Trap: a packet socket whose peer closed with unread messages reports `ECONNRESET` *before* the packets that the peer
//! had sent. So the reset is kept for the end, and the receive is tried again.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::error::Attempted;
use super::{Asked, Chunk, Datagram, Packet, Received, RecvError, SendError, Sender};
use crate::buffer;
use crate::datagram;
use crate::sys::msg::{self, Arrival, FDS_MAX, Manner, RawName, SLICES_MAX};
use crate::sys::opt::{self, Flag};

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

impl<T> Attempt<Result<T, Errno>> {
    /// What a call says.
    pub(crate) fn of(done: Result<T, Errno>) -> Self {
        match done {
            Err(Errno::AGAIN) => Self::WouldBlock,
            Err(Errno::INTR) => Self::Interrupted,
            done => Self::Done(done),
        }
    }
}

impl<T> Attempt<T> {
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Attempt<U> {
        match self {
            Self::Done(done) => Attempt::Done(change(done)),
            Self::WouldBlock => Attempt::WouldBlock,
            Self::Interrupted => Attempt::Interrupted,
        }
    }
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
#[inline]
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
pub(super) fn refused(
    socket: BorrowedFd<'_>,
    slices: &[IoSlice<'_>],
    fds: usize,
    errno: Errno,
) -> SendError {
    let message = Attempted {
        length: slices.iter().map(|slice| slice.len()).sum(),
        limit: buffer::message_bytes_max(socket).unwrap_or(0),
        fds,
    };
    SendError::from_errno(errno, &message)
}

/// What a packet socket has to remember from one receive to the next.
#[derive(Debug)]
pub(crate) struct Packets {
    /// The peer closed with messages of ours unread.
    was_reset: AtomicBool,
    /// A time stamp comes with each packet, and none with the end.
    are_stamped: AtomicBool,
    asked: Asked,
}

impl Packets {
    /// For a socket that is made ready for them: from now on each packet is stamped.
    pub(crate) fn on(socket: BorrowedFd<'_>) -> io::Result<Self> {
        opt::set_flag(socket, Flag::Timestamp, true)?;
        Ok(Self {
            was_reset: AtomicBool::new(false),
            are_stamped: AtomicBool::new(true),
            asked: Asked::on(socket),
        })
    }

    pub(crate) fn asked(&self) -> &Asked {
        &self.asked
    }

    /// Stamps packets or not. Those that are queued are stamped when they are received.
    pub(crate) fn stamp(&self, socket: BorrowedFd<'_>, stamp: bool) -> io::Result<()> {
        opt::set_flag(socket, Flag::Timestamp, stamp)?;
        self.are_stamped.store(stamp, Ordering::Relaxed);
        Ok(())
    }

    /// Sends a packet. The kernel sends all of it or none.
    pub(crate) fn send(
        &self,
        socket: BorrowedFd<'_>,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
        waits: bool,
    ) -> Attempt<Result<(), SendError>> {
        send(socket, slices, fds, None, waits)
            .map(|done| done.map(drop).inspect_err(|error| self.note(error)))
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
        let is_plain = self.asked.is_bytes_only() && !self.are_stamped();
        let arrival = match &mut *slices {
            [slice] if is_plain => self.behind_reset(|| msg::receive_plain(socket, slice, waits)),
            slices => self.behind_reset(|| msg::receive(socket, slices, manner, None)),
        };
        self.received(socket, arrival, room(slices))
    }

    /// As [`receive`](Self::receive), to behind what `memory` holds, as far as its capacity goes.
    pub(crate) fn receive_behind(
        &self,
        socket: BorrowedFd<'_>,
        memory: &mut Vec<u8>,
        waits: bool,
    ) -> Attempt<Result<Received, RecvError>> {
        let manner = Manner {
            waits,
            is_stream: false,
        };
        let (before, room) = (memory.len(), memory.capacity() - memory.len());
        let is_plain = self.asked.is_bytes_only() && !self.are_stamped();
        let arrival = self.behind_reset(|| {
            if is_plain {
                return msg::receive_plain_behind(socket, memory, waits);
            }
            memory.resize(before + room, 0);
            let mut slices = [IoSliceMut::new(&mut memory[before..])];
            let arrival = msg::receive(socket, &mut slices, manner, None);
            let length = arrival.as_ref().map_or(0, |arrival| arrival.length);
            memory.truncate(before + length.min(room));
            arrival
        });
        if arrival.as_ref().is_ok_and(|arrival| arrival.is_truncated) {
            memory.truncate(before);
        }
        self.received(socket, arrival, room)
    }

    /// What a receive brought: a packet, or the end.
    fn received(
        &self,
        socket: BorrowedFd<'_>,
        arrival: Result<Arrival, Errno>,
        room: usize,
    ) -> Attempt<Result<Received, RecvError>> {
        Attempt::of(arrival).map(|arrival| {
            let arrival = arrival.map_err(RecvError::from_errno)?;
            if arrival.length == 0 && !arrival.has_control && self.ends(socket) {
                return self.end().map(|()| Received::End);
            }
            whole(arrival, room).map(Received::Packet)
        })
    }

    /// The reset is reported once: the second time around there are packets, or the end.
    pub(super) fn behind_reset<T>(
        &self,
        mut receive: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        loop {
            match receive() {
                Err(Errno::CONNRESET) if !self.was_reset.swap(true, Ordering::Relaxed) => {}
                done => return done,
            }
        }
    }

    /// What the end is: a reset, if one was reported before.
    pub(super) fn end(&self) -> Result<(), RecvError> {
        if self.was_reset.load(Ordering::Relaxed) {
            return Err(RecvError::Reset);
        }
        Ok(())
    }

    pub(super) fn are_stamped(&self) -> bool {
        self.are_stamped.load(Ordering::Relaxed)
    }

    /// Whether nothing, without a stamp, is the end: for sure if packets are stamped; otherwise if the peer is gone.
    #[cold]
    pub(super) fn ends(&self, socket: BorrowedFd<'_>) -> bool {
        if self.are_stamped() {
            return true;
        }
        let mut asked = [PollFd::from_borrowed_fd(socket, PollFlags::RDHUP)];
        match rustix::event::poll(&mut asked, Some(&Timespec::default())) {
            Ok(ready) => ready > 0,
            // Without memory for the answer: the end is what does no harm twice.
            Err(_) => true,
        }
    }

    /// A send can be what the kernel reports the reset to.
    pub(super) fn note(&self, error: &SendError) {
        if matches!(error, SendError::Reset) {
            self.was_reset.store(true, Ordering::Relaxed);
        }
    }
}

/// Sends at least one byte of a stream, and with it every descriptor.
pub(crate) fn send_bytes(
    socket: BorrowedFd<'_>,
    slices: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
    waits: bool,
) -> Attempt<Result<usize, SendError>> {
    // The kernel would report success, and close the descriptors.
    if !fds.is_empty() && slices.iter().all(|slice| slice.is_empty()) {
        return Attempt::Done(Err(SendError::NothingToCarry));
    }
    send(socket, slices, fds, None, waits)
}

/// Receives what is there of a stream, up to the descriptors of one send.
pub(crate) fn receive_bytes(
    socket: BorrowedFd<'_>,
    slices: &mut [IoSliceMut<'_>],
    waits: bool,
) -> Attempt<Result<Chunk, RecvError>> {
    let manner = Manner {
        waits,
        is_stream: true,
    };
    match msg::receive(socket, slices, manner, None) {
        Ok(arrival) => Attempt::Done(Ok(Chunk {
            length: arrival.length,
            fds: arrival.fds,
            fds_lost: arrival.is_control_truncated,
            // The end has nobody to be its sender.
            sender: (arrival.length > 0)
                .then(|| Sender::new(arrival.credentials, arrival.process))
                .flatten(),
        })),
        Err(Errno::AGAIN) => Attempt::WouldBlock,
        Err(Errno::INTR) => Attempt::Interrupted,
        Err(errno) => Attempt::Done(Err(RecvError::from_errno(errno))),
    }
}

/// Receives a datagram, and the name of the socket it came from.
#[inline]
pub(crate) fn receive_datagram(
    socket: BorrowedFd<'_>,
    slices: &mut [IoSliceMut<'_>],
    asked: &Asked,
    waits: bool,
) -> Attempt<Result<Datagram, RecvError>> {
    let manner = Manner {
        waits,
        is_stream: false,
    };
    let mut name = RawName::new();
    let arrival = match &mut *slices {
        [slice] if asked.is_bytes_only() => {
            msg::receive_plain_from(socket, slice, &mut name, waits)
        }
        slices => msg::receive(socket, slices, manner, Some(&mut name)),
    };
    match arrival {
        Ok(arrival) => Attempt::Done(
            whole(arrival, room(slices)).map(|packet| whole_datagram(packet, name.bytes())),
        ),
        Err(Errno::AGAIN) => Attempt::WouldBlock,
        Err(Errno::INTR) => Attempt::Interrupted,
        Err(errno) => Attempt::Done(Err(RecvError::from_errno(errno))),
    }
}

/// A datagram and the socket it came from, by the kernel's bytes.
#[inline]
pub(super) fn whole_datagram(packet: Packet, name: &[u8]) -> Datagram {
    Datagram {
        length: packet.length,
        fds: packet.fds,
        sender: packet.sender,
        from: datagram::name::decode(name),
    }
}

fn room(slices: &[IoSliceMut<'_>]) -> usize {
    slices.iter().map(|slice| slice.len()).sum()
}

/// A message that came whole, or what it lacks; in that case its descriptors are closed.
#[inline]
pub(super) fn whole(arrival: Arrival, room: usize) -> Result<Packet, RecvError> {
    if arrival.is_truncated {
        return Err(RecvError::TooLong {
            length: arrival.length,
            room,
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
