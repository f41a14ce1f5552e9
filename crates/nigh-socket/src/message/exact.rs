//! Filling a buffer from a stream, up to descriptors: how much came, and why no more.

use std::mem;
use std::os::fd::OwnedFd;

use super::{Chunk, Sender};

/// What a buffer was filled with; the bytes are at its front.
#[derive(Debug)]
#[non_exhaustive]
pub struct Filled {
    /// Bytes.
    pub length: usize,
    /// Why there are not more.
    pub stop: Stop,
    /// Descriptors, in the order they were sent, close-on-exec; at most 253, all of one send. Those not taken are closed.
    pub fds: Vec<OwnedFd>,
    /// Further descriptors of that send are missing: this process can open no more. Those that came are the first.
    pub fds_lost: bool,
    /// Who wrote the last of the bytes, where the socket was told to ask. To tell writers apart, receive chunk by chunk.
    pub sender: Option<Sender>,
}

/// Why a buffer was filled no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It is full.
    Full,
    /// Descriptors came, with the last of the bytes: what follows belongs to another send.
    Descriptors,
    /// The stream has ended.
    End,
}

/// A buffer while it is filled.
#[derive(Debug)]
pub(crate) struct Exactly<'a> {
    buffer: &'a mut [u8],
    filled: Filled,
    is_done: bool,
}

impl<'a> Exactly<'a> {
    pub(crate) fn new(buffer: &'a mut [u8]) -> Self {
        let is_done = buffer.is_empty();
        let filled = Filled {
            length: 0,
            stop: Stop::Full,
            fds: Vec::new(),
            fds_lost: false,
            sender: None,
        };
        Self {
            buffer,
            filled,
            is_done,
        }
    }

    /// Where the next bytes go; `None` when there shall be no more.
    pub(crate) fn room(&mut self) -> Option<&mut [u8]> {
        if self.is_done {
            return None;
        }
        self.buffer.get_mut(self.filled.length..)
    }

    /// Counts what came into the room.
    pub(crate) fn take(&mut self, mut chunk: Chunk) {
        self.filled.length += chunk.length;
        self.filled.fds = mem::take(&mut chunk.fds);
        self.filled.fds_lost = chunk.fds_lost;
        let is_full = self.filled.length >= self.buffer.len();
        self.filled.stop = if is_full {
            Stop::Full
        } else if chunk.length == 0 {
            Stop::End
        } else {
            Stop::Descriptors
        };
        let brought_fds = !self.filled.fds.is_empty() || self.filled.fds_lost;
        self.is_done = is_full || chunk.length == 0 || brought_fds;
        if chunk.length > 0 {
            self.filled.sender = chunk.sender;
        }
    }

    pub(crate) fn done(self) -> Filled {
        self.filled
    }
}
