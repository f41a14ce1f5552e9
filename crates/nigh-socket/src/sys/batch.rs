//! `sendmmsg` and `recvmmsg`: several messages per call, every descriptor of every one of them owned.
//!
//! Traps: the end of a packet connection is counted as messages without length; an error behind the first message is kept
//! by the kernel for the next call; and the call's own timeout is looked at only when a message has come, so none is given.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::{iovec, mmsghdr};
use rustix::io::Errno;

use super::msg::{
    Aligned, Arrival, CONTROL_BYTES, FDS_BYTES, NAME_LENGTH, RawName, last_error, write_rights,
};

/// What one message of a batch is received with, beside its bytes.
pub(crate) struct Slot {
    control: Aligned<CONTROL_BYTES>,
    name: RawName,
}

impl Slot {
    pub(crate) fn new() -> Self {
        Self {
            control: Aligned::new(),
            name: RawName::new(),
        }
    }

    /// Who sent the message that was received last, if names were asked for.
    pub(crate) fn name(&self) -> &[u8] {
        self.name.bytes()
    }
}

/// How to receive a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Wait for the first message, as the socket's own flags and timeout say.
    pub(crate) waits: bool,
    /// Names of senders are wanted.
    pub(crate) are_named: bool,
}

/// Receives what is there: each message into `room` bytes of `bytes`, at most as many as there are slots.
///
/// One arrival per message, or what was wrong with what came beside its bytes.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    room: usize,
    slots: &mut [Slot],
    manner: Manner,
) -> Result<Vec<Result<Arrival, Errno>>, Errno> {
    let mut iovecs: Vec<iovec> = Vec::with_capacity(slots.len());
    for piece in bytes.chunks_exact_mut(room.max(1)).take(slots.len()) {
        iovecs.push(iovec {
            iov_base: piece.as_mut_ptr().cast(),
            iov_len: room,
        });
    }
    let mut headers: Vec<mmsghdr> = Vec::with_capacity(iovecs.len());
    for (slot, iovec) in slots.iter_mut().zip(&mut iovecs) {
        let mut header = empty();
        header.msg_hdr.msg_iov = iovec;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_control = slot.control.as_mut_ptr().cast();
        header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
        if manner.are_named {
            header.msg_hdr.msg_name = slot.name.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = NAME_LENGTH;
        }
        headers.push(header);
    }
    let mut flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_TRUNC | libc::MSG_WAITFORONE;
    if !manner.waits {
        flags |= libc::MSG_DONTWAIT;
    }
    let count = headers.len().try_into().map_err(|_| Errno::INVAL)?;
    // SAFETY: `socket` is open while borrowed. Each header points to one iovec, which points to `room` bytes of its own, and
    // to a slot's control buffer and name, of the lengths that are said beside them. All of them are borrowed mutably until
    // after the call and not moved, and every byte pattern is valid for them. No time is given.
    let outcome = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            count,
            flags as _,
            ptr::null_mut(),
        )
    };
    let received = usize::try_from(outcome).map_err(|_| last_error())?;
    let mut arrivals = Vec::with_capacity(received);
    for (header, slot) in headers.iter().zip(slots).take(received) {
        if manner.are_named {
            slot.name.set_length(header.msg_hdr.msg_namelen);
        }
        let length = usize::try_from(header.msg_len).unwrap_or(usize::MAX);
        // None is left out: what it brought has to be owned.
        arrivals.push(Arrival::of(&header.msg_hdr, length, slot.control.bytes()));
    }
    Ok(arrivals)
}

/// Sends each of the messages with its descriptors; returns how many were, at least one.
///
/// The caller has checked that no message has too many descriptors or slices.
pub(crate) fn send<'a>(
    socket: BorrowedFd<'_>,
    messages: impl ExactSizeIterator<Item = (&'a [IoSlice<'a>], &'a [BorrowedFd<'a>])>,
    waits: bool,
) -> Result<usize, Errno> {
    let mut headers: Vec<mmsghdr> = Vec::with_capacity(messages.len());
    // Boxed: they stay where they are when the list grows.
    let mut controls: Vec<Box<Aligned<FDS_BYTES>>> = Vec::new();
    for (slices, fds) in messages {
        let mut header = empty();
        header.msg_hdr.msg_iov = slices.as_ptr().cast_mut().cast();
        header.msg_hdr.msg_iovlen = slices.len() as _;
        if !fds.is_empty() {
            let mut control = Box::new(Aligned::new());
            header.msg_hdr.msg_controllen = write_rights(&mut control, fds)? as _;
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
            controls.push(control);
        }
        headers.push(header);
    }
    let mut flags = libc::MSG_NOSIGNAL;
    if !waits {
        flags |= libc::MSG_DONTWAIT;
    }
    let count = headers.len().try_into().map_err(|_| Errno::INVAL)?;
    // SAFETY: `socket` and the descriptors in the control buffers are open while borrowed. Each header points to
    // `msg_iovlen` slices (an `IoSlice` is laid out as an `iovec`) and to a control buffer that `controls` owns, if any. All
    // live until after the call, which writes to the headers' lengths only.
    let outcome =
        unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, flags as _) };
    usize::try_from(outcome).map_err(|_| last_error())
}

fn empty() -> mmsghdr {
    // SAFETY: it consists of pointers and integers, for which all-zero (null, none) is a value.
    unsafe { MaybeUninit::zeroed().assume_init() }
}
