//! A file's bytes on a stream, without a copy in this process.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::{UnixStream, attempt};
use crate::moving::{MoveError, Movement, send_file_once};

impl UnixStream {
    /// Sends at most `count` bytes of the file, from `offset` on; waits while the buffer is full. Returns how many went: 0
    /// at the end of the file. What is written to the file before the receiver has read, that it reads: see
    /// [`moving`](crate::moving).
    ///
    /// # Errors
    /// [`MoveError::NotMovable`] from anything but a file; otherwise what became of the connection.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is ready, nothing was sent.
    pub async fn send_file(
        &self,
        file: impl AsFd,
        offset: u64,
        count: usize,
    ) -> Result<usize, MoveError> {
        let sending = self
            .socket
            .write(|socket| attempt(|| send_file_once(socket, file.as_fd(), offset, count)));
        let system = |source| MoveError::System {
            movement: Movement::SendFile,
            source,
        };
        sending
            .await
            .map_err(system)?
            .map_err(|source| match Errno::from_io_error(&source) {
                Some(errno) => MoveError::from_errno(Movement::SendFile, errno),
                None => system(source),
            })
    }

    /// As [`send_file`](Self::send_file), all of the range; returns how many bytes went, fewer than `count` only where the
    /// file has no more.
    ///
    /// # Errors
    /// As for [`send_file`](Self::send_file); some of it may have been sent.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, some of it may have been sent.
    pub async fn send_file_all(
        &self,
        file: impl AsFd,
        offset: u64,
        count: usize,
    ) -> Result<usize, MoveError> {
        let mut sent = 0;
        while sent < count {
            let from = offset.saturating_add(sent.try_into().unwrap_or(u64::MAX));
            match self.send_file(file.as_fd(), from, count - sent).await? {
                0 => break,
                more => sent += more,
            }
        }
        Ok(sent)
    }
}
