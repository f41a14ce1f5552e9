//! A pipe: the kernel's list of pages, through which bytes move from one descriptor to another.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};

/// Both ends of a pipe, non-blocking and close-on-exec.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Pipe {
    /// A new one, of the system's usual capacity (64 KiB).
    ///
    /// # Errors
    /// What `pipe2(2)` reports: no descriptors left.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Self { reader, writer })
    }

    /// Asks for a capacity of so many bytes; returns what it is now: at least that.
    ///
    /// # Errors
    /// `PermissionDenied` above `/proc/sys/fs/pipe-max-size` (usually 1 MiB) or the user's allowance; `ResourceBusy` when
    /// there is more in it than that. The capacity stays then.
    pub fn set_capacity(&self, bytes: usize) -> io::Result<usize> {
        Ok(fcntl_setpipe_size(&self.writer, bytes)?)
    }

    /// The capacity in bytes, if every page is full: it holds at most one piece per page, however short.
    ///
    /// # Errors
    /// What `fcntl(2)` reports.
    pub fn capacity(&self) -> io::Result<usize> {
        Ok(fcntl_getpipe_size(&self.writer)?)
    }

    /// The end that bytes come out of.
    #[must_use]
    pub fn reader(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// The end that bytes go into.
    #[must_use]
    pub fn writer(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }

    /// Both ends, the reading one first.
    #[must_use]
    pub fn into_parts(self) -> (OwnedFd, OwnedFd) {
        (self.reader, self.writer)
    }
}
