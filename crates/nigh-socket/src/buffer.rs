//! The send buffer of a socket, and with it the longest message it takes.
//!
//! Trap: only the sender's buffer counts; the system caps what is asked for without a word; and an accepted socket does
//! not inherit its listener's.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::net::sockopt;

/// What the kernel keeps of the buffer for itself per message.
const OVERHEAD_BYTES: usize = 32;

/// The longest message, however large the buffer: 4 MiB in one piece and 17 pages, less the kernel's own part.
pub(crate) const MESSAGE_BYTES_CEILING: usize = 4 * 1024 * 1024 + 17 * 4096 - 320;

/// The longest message in bytes that the socket takes as its send buffer is now.
pub(crate) fn message_bytes_max(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let buffer = send_buffer(socket)?;
    Ok(buffer
        .saturating_sub(OVERHEAD_BYTES)
        .min(MESSAGE_BYTES_CEILING))
}

/// The send buffer in bytes, with what the kernel needs to keep account.
pub(crate) fn send_buffer(socket: BorrowedFd<'_>) -> io::Result<usize> {
    Ok(sockopt::socket_send_buffer_size(socket)?)
}

/// Asks for a send buffer of so many bytes; returns what the kernel made of it.
pub(crate) fn set_send_buffer(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    // The kernel doubles what it is told.
    sockopt::set_socket_send_buffer_size(socket, bytes.div_ceil(2))?;
    send_buffer(socket)
}
