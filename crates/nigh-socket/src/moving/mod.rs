//! Bytes moved by the kernel: from a file to a socket, from a socket to a pipe and on, without a copy in this process.
//!
//! Trap: what is moved is *referred to*, not copied. Until the receiver has read it, whoever changes the file or the
//! memory changes what it will read: "sent" is not a snapshot. Only a [`SealedFile`](crate::SealedFile) is one.
//!
//! Nothing here carries descriptors: those that travel with bytes which are spliced away are closed by the kernel.

mod bridge;
mod error;
mod pipe;

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::{SocketType, sockopt};
use rustix::pipe::SpliceFlags;

pub use bridge::{Bridged, Flow, FlowError, Way, bridge, bridge_copying};
pub use error::{MoveError, Movement};
pub use pipe::Pipe;

use crate::memory::Mapping;
use crate::sys::signal::without_broken_pipe;
use crate::sys::splice::lend;

/// Sends at most `count` bytes of the file, from `offset` on, in one call; returns how many went: 0 at the end of the file.
/// The offset that all who hold the file share is neither used nor moved. It waits if the socket does.
///
/// The receiver reads the file's pages: what is written to the file before it does, it reads. That pays with large send
/// buffers only: from 1 MiB on.
///
/// # Errors
/// [`MoveError::NotAStream`] to packets and datagrams, which would be cut where the kernel likes;
/// [`MoveError::NotMovable`] from anything but a file; [`MoveError::WouldBlock`] when a non-blocking socket is full.
pub fn send_file(
    to: impl AsFd,
    file: impl AsFd,
    offset: u64,
    count: usize,
) -> Result<usize, MoveError> {
    require_stream(to.as_fd(), Movement::SendFile)?;
    again(|| send_file_once(to.as_fd(), file.as_fd(), offset, count))
        .map_err(|errno| MoveError::from_errno(Movement::SendFile, errno))
}

/// Moves at most `count` bytes in one call; one of the two is a pipe. Returns how many: 0 at the end. It waits if the
/// descriptors do.
///
/// # Errors
/// [`MoveError::NotAStream`] from packets and datagrams, of which the kernel would lose the rest, and to them;
/// [`MoveError::NotMovable`] when neither is a pipe; [`MoveError::WouldBlock`] where it would have to wait and may not.
pub fn splice(from: impl AsFd, to: impl AsFd, count: usize) -> Result<usize, MoveError> {
    require_stream(from.as_fd(), Movement::Splice)?;
    require_stream(to.as_fd(), Movement::Splice)?;
    again(|| splice_once(from.as_fd(), to.as_fd(), count, SpliceFlags::empty()))
        .map_err(|errno| MoveError::from_errno(Movement::Splice, errno))
}

/// Moves at most `count` bytes of the file, from `offset` on, into the pipe; returns how many: 0 at the end of the file.
/// As for [`send_file`], it is the file's pages that are in the pipe.
///
/// # Errors
/// As for [`splice`].
pub fn splice_file(
    file: impl AsFd,
    offset: u64,
    pipe: impl AsFd,
    count: usize,
) -> Result<usize, MoveError> {
    let flags = SpliceFlags::empty();
    again(|| rustix::pipe::splice(&file, Some(&mut offset.clone()), &pipe, None, count, flags))
        .map_err(|errno| MoveError::from_errno(Movement::Splice, errno))
}

/// Has `to` refer to at most `count` bytes that are in the pipe `from`, which keeps them; returns how many.
///
/// # Errors
/// [`MoveError::NotMovable`] unless both are pipes, and different ones; [`MoveError::WouldBlock`] where it would have to
/// wait and may not.
pub fn tee(from: impl AsFd, to: impl AsFd, count: usize) -> Result<usize, MoveError> {
    again(|| rustix::pipe::tee(&from, &to, count, SpliceFlags::empty()))
        .map_err(|errno| MoveError::from_errno(Movement::Tee, errno))
}

/// Lends memory to a pipe, at most as much as there is room for; returns how many bytes.
///
/// The pipe refers to the pages and copies nothing, for as long as whoever reads takes: so it has to be memory that
/// never changes again, and the type sees to that.
///
/// # Errors
/// [`MoveError::NotMovable`] unless it is a pipe; [`MoveError::WouldBlock`] where it would have to wait and may not.
pub fn vmsplice(bytes: Unchanging<'_>, pipe: impl AsFd) -> Result<usize, MoveError> {
    again(|| lend(pipe.as_fd(), bytes))
        .map_err(|errno| MoveError::from_errno(Movement::Vmsplice, errno))
}

/// Memory that never changes again: what the program was built with or has leaked, or a sealed file.
#[derive(Debug, Clone, Copy)]
pub struct Unchanging<'a> {
    bytes: &'a [u8],
}

impl<'a> Unchanging<'a> {
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.bytes
    }
}

impl From<&'static [u8]> for Unchanging<'static> {
    fn from(bytes: &'static [u8]) -> Self {
        Self { bytes }
    }
}

impl<'a> From<&'a Mapping> for Unchanging<'a> {
    fn from(mapping: &'a Mapping) -> Self {
        Self { bytes: mapping }
    }
}

/// What the kernel moves per call (`MAX_RW_COUNT`, with the largest pages).
const MOVE_BYTES_MAX: usize = 0x7fff_0000;

/// Refuses sockets whose messages would be cut; what is no socket passes.
fn require_stream(fd: BorrowedFd<'_>, movement: Movement) -> Result<(), MoveError> {
    match sockopt::socket_type(fd) {
        Ok(SocketType::STREAM) | Err(Errno::NOTSOCK) => Ok(()),
        Ok(_) => Err(MoveError::NotAStream(movement)),
        Err(errno) => Err(MoveError::from_errno(movement, errno)),
    }
}

pub(crate) fn send_file_once(
    to: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    offset: u64,
    count: usize,
) -> Result<usize, Errno> {
    // The kernel refuses more than it can count.
    let count = count.min(MOVE_BYTES_MAX);
    without_broken_pipe(|| rustix::fs::sendfile(to, file, Some(&mut offset.clone()), count))
}

fn splice_once(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    count: usize,
    flags: SpliceFlags,
) -> Result<usize, Errno> {
    without_broken_pipe(|| rustix::pipe::splice(from, None, to, None, count, flags))
}

/// A signal is no reason to stop.
fn again<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}
