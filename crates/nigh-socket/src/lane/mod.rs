//! The shared-memory lane: a stream of bytes both ways through memory that two processes share, beside a Unix socket.
//!
//! ```text
//! server: Lane::create ─► descriptors() over the socket (SCM_RIGHTS) ─► client: Lane::accept
//!   both: Lane::open(socket, Spin) ─► LaneStream: AsyncRead + AsyncWrite
//! ```
//! One memory file holds a ring for each direction; an event descriptor for each side wakes it. The socket stays open and
//! carries nothing: its end shows at once that the peer is gone, however it went. Everything comes from the server, so that it
//! works where the server takes no descriptors. A call to the kernel is made only to wake a peer that sleeps, or to sleep.
//!
//! The peer can write the memory at any time. Nothing in it is trusted: counts are checked against what is known in private,
//! bytes are copied out before anybody looks at them, and a [`LaneFault`] ends this stream alone.

pub(crate) mod cursor;
mod error;
mod memory;
#[cfg(test)]
mod model;
pub(crate) mod protocol;
mod stream;
mod wakers;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub use crate::spin::Spin;
pub use error::{LaneError, LaneFault};
pub use stream::LaneStream;

use crate::stream::UnixStream;
use crate::sys::shared::SharedPages;
use cursor::Capacity;
use protocol::Ring;

/// The least that a ring holds, in bytes.
pub const RING_BYTES_MIN: u32 = 4 * 1024;
/// The most that a ring holds, in bytes.
pub const RING_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// What a ring holds unless told otherwise: enough that two processors keep each other busy, and few enough to stay in a cache.
pub const RING_BYTES: u32 = 256 * 1024;

/// Descriptors of a lane: the memory, the server's bell, the client's bell.
pub const LANE_DESCRIPTORS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Server,
    Client,
}

impl Side {
    /// The ring that this side writes.
    fn writes(self) -> Ring {
        match self {
            Self::Server => Ring::ToClient,
            Self::Client => Ring::ToServer,
        }
    }

    /// The ring that this side reads.
    fn reads(self) -> Ring {
        match self {
            Self::Server => Ring::ToServer,
            Self::Client => Ring::ToClient,
        }
    }
}

/// A lane that is ready to be used once both sides have it.
#[derive(Debug)]
pub struct Lane {
    side: Side,
    capacity: Capacity,
    pages: SharedPages,
    file: OwnedFd,
    server_bell: OwnedFd,
    client_bell: OwnedFd,
}

impl Lane {
    /// Makes one, on the server's side, with rings of so many bytes: a power of two. The memory is taken from the system as it
    /// is used.
    ///
    /// # Errors
    /// See [`LaneError`]: the size, or the system.
    pub fn create(ring_bytes: u32) -> Result<Self, LaneError> {
        let capacity = memory::capacity(ring_bytes)?;
        let (file, pages) = memory::create(capacity)?;
        Ok(Self {
            side: Side::Server,
            capacity,
            pages,
            file,
            server_bell: memory::create_bell()?,
            client_bell: memory::create_bell()?,
        })
    }

    /// What the client needs, in the order in which it takes them.
    #[must_use]
    pub fn descriptors(&self) -> [BorrowedFd<'_>; LANE_DESCRIPTORS] {
        [
            self.file.as_fd(),
            self.server_bell.as_fd(),
            self.client_bell.as_fd(),
        ]
    }

    /// Takes what the server sent, on the client's side, after checking each: memory that cannot change its length, which is that
    /// of two rings of at most so many bytes, and event descriptors.
    ///
    /// # Errors
    /// See [`LaneError`]; the descriptors are closed then.
    pub fn accept(descriptors: Vec<OwnedFd>, ring_bytes_max: u32) -> Result<Self, LaneError> {
        let descriptors = <[OwnedFd; LANE_DESCRIPTORS]>::try_from(descriptors);
        let [file, server_bell, client_bell] =
            descriptors.map_err(|descriptors| LaneError::Descriptors {
                wanted: LANE_DESCRIPTORS,
                found: descriptors.len(),
            })?;
        memory::verify_bell(&server_bell)?;
        memory::verify_bell(&client_bell)?;
        let (capacity, pages) = memory::verify(&file, ring_bytes_max)?;
        Ok(Self {
            side: Side::Client,
            capacity,
            pages,
            file,
            server_bell,
            client_bell,
        })
    }

    /// Begins to use it. `socket` is the connection that it was agreed on: from now on nothing is sent there, and its end is the
    /// peer's end.
    ///
    /// # Errors
    /// Fails when the reactor cannot register the bell. Must be called inside a tokio runtime.
    pub fn open(self, socket: UnixStream, spin: Spin) -> io::Result<LaneStream> {
        LaneStream::new(self, socket, spin)
    }
}
