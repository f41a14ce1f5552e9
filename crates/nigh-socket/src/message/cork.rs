//! Pieces that are written one by one and leave together: what `TCP_CORK` and `MSG_MORE` do elsewhere, and not here.
//!
//! Trap: on Unix sockets the kernel takes `MSG_MORE` and ignores it: on packets two sends are two messages.

use std::io::{self, Write};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::SendError;
use crate::sys::msg::FDS_MAX;

/// Bytes and descriptors that leave together: one message, or one write on a stream.
#[derive(Debug)]
pub struct Cork {
    bytes: Vec<u8>,
    /// How many of the bytes have been sent (streams).
    sent: usize,
    fds: Vec<OwnedFd>,
    limit: usize,
}

impl Cork {
    /// An empty one, for at most `limit` bytes. For messages ask the socket: `socket.cork()`.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            sent: 0,
            fds: Vec::new(),
            limit,
        }
    }

    /// Adds a descriptor.
    ///
    /// # Errors
    /// [`SendError::TooManyDescriptors`] above 253; it is closed then.
    pub fn attach(&mut self, fd: OwnedFd) -> Result<(), SendError> {
        if self.fds.len() >= FDS_MAX {
            let count = self.fds.len() + 1;
            return Err(SendError::TooManyDescriptors { count });
        }
        self.fds.push(fd);
        Ok(())
    }

    /// Bytes that have not been sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// Descriptors that have not been sent.
    #[must_use]
    pub fn fds(&self) -> &[OwnedFd] {
        &self.fds
    }

    /// Forgets what has not been sent, and closes its descriptors. The memory is kept.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
        drop(mem::take(&mut self.fds));
    }

    pub(crate) fn borrowed_fds(&self) -> Vec<BorrowedFd<'_>> {
        self.fds.iter().map(AsFd::as_fd).collect()
    }

    /// So many bytes of a stream went, and with the first of them every descriptor.
    pub(crate) fn advance(&mut self, sent: usize) {
        self.sent += sent;
        drop(mem::take(&mut self.fds));
        if self.bytes().is_empty() {
            self.clear();
        }
    }
}

impl Write for Cork {
    /// Takes all of it or nothing.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.bytes().len().saturating_add(bytes.len());
        if length > self.limit {
            let limit = self.limit;
            return Err(SendError::TooLong { length, limit }.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// Sends nothing: the socket does.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
