//! Receives into memory that nobody has written yet, so that reading costs no clearing.

use std::os::fd::BorrowedFd;

use rustix::net::RecvFlags;
use tokio::io::ReadBuf;

/// Receives at the end of what `buf` holds; returns how many bytes came.
pub(crate) fn receive(fd: BorrowedFd<'_>, buf: &mut ReadBuf<'_>) -> rustix::io::Result<usize> {
    // SAFETY: the slice is only handed to `recv`, which writes bytes into it and makes none of them uninitialised.
    let unfilled = unsafe { buf.unfilled_mut() };
    let ((received, _), _) = rustix::net::recv(fd, unfilled, RecvFlags::DONTWAIT)?;
    let length = received.len();
    // SAFETY: the kernel has written these bytes at the start of the unfilled part: rustix returned them as such.
    unsafe { buf.assume_init(length) };
    buf.advance(length);
    Ok(length)
}
