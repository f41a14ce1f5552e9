//! Whether, with whom and how connections move to shared memory (docs/wire/nigh.md, clause 14).

use std::sync::Arc;

use nigh_socket::lane::{LANE_DESCRIPTORS, Lane, LaneError, RING_BYTES, RING_BYTES_MAX};
use nigh_socket::{ByteStream as _, Policy, Spin, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::io::Io;

/// Lanes of one server at once, unless told otherwise.
const LANES_MAX: usize = 64;

/// Whether calls may travel through shared memory instead of the socket, for a [`Server`](crate::Server) or a
/// [`Channel`](crate::Channel). Both have to want it, on a Unix socket without TLS, over the nigh wire.
///
/// Off by default. It takes two descriptors more on each side and, once used, 512 KiB of memory per connection.
#[derive(Debug, Clone)]
pub struct SharedMemory {
    is_on: bool,
    spin: Spin,
    ring_bytes: u32,
    peers: Policy,
    places: Arc<Semaphore>,
}

impl Default for SharedMemory {
    fn default() -> Self {
        Self::off()
    }
}

impl SharedMemory {
    /// Never: calls stay on the socket.
    #[must_use]
    pub fn off() -> Self {
        Self {
            is_on: false,
            spin: Spin::adaptive(),
            ring_bytes: RING_BYTES,
            peers: Policy::same_user(),
            places: Arc::new(Semaphore::new(LANES_MAX)),
        }
    }

    /// With peers of the same user, spinning where it pays.
    #[must_use]
    pub fn on() -> Self {
        Self {
            is_on: true,
            ..Self::off()
        }
    }

    /// Whether this side looks for a moment before it sleeps. Default [`Spin::adaptive`]: never while the peer last ran on this
    /// very processor, and not when it does not succeed.
    #[must_use]
    pub fn spin(mut self, spin: Spin) -> Self {
        self.spin = spin;
        self
    }

    /// For a server: bytes that each direction holds, a power of two from 4 KiB to 16 MiB. Default 256 KiB.
    #[must_use]
    pub fn ring_bytes(mut self, bytes: u32) -> Self {
        self.ring_bytes = bytes;
        self
    }

    /// With whom memory may be shared. Default the same user: a peer that shares memory cannot read or write anything else, but it
    /// can keep this side busy.
    #[must_use]
    pub fn peers(mut self, policy: Policy) -> Self {
        self.peers = policy;
        self
    }

    /// For a server: connections on shared memory at once; more stay on the socket. Default 64, which is 32 MiB of memory at most.
    #[must_use]
    pub fn lanes_max(mut self, lanes: usize) -> Self {
        self.places = Arc::new(Semaphore::new(lanes.min(Semaphore::MAX_PERMITS)));
        self
    }

    /// Whether this side wants it with the peer of this connection.
    pub(crate) fn suits(&self, io: &Io) -> bool {
        self.is_on && io.unix().is_some_and(|socket| self.admits(socket))
    }

    fn admits(&self, socket: &UnixStream) -> bool {
        match socket.peer() {
            Ok(peer) => self.peers.evaluate(&peer).admits(),
            Err(error) => {
                tracing::debug!("no shared memory with an unknown peer: {error}");
                false
            }
        }
    }

    /// For the server: a lane, and the place that it takes; `None`, told in the log, when there is none to be had.
    pub(crate) fn lane(&self) -> Option<(Lane, OwnedSemaphorePermit)> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            tracing::debug!(
                "all lanes of shared memory are taken: a connection stays on its socket"
            );
            return None;
        };
        match Lane::create(self.ring_bytes) {
            Ok(lane) => Some((lane, place)),
            Err(error) => {
                let hint = error.hint().unwrap_or_default();
                tracing::warn!("a connection stays on its socket: {error}: {hint}");
                None
            }
        }
    }

    /// For the client: what the server sent.
    pub(crate) fn accept(descriptors: Vec<std::os::fd::OwnedFd>) -> Result<Lane, LaneError> {
        Lane::accept(descriptors, RING_BYTES_MAX)
    }

    pub(crate) fn policy(&self) -> Spin {
        self.spin
    }
}

/// What a greeting may carry.
pub(crate) const DESCRIPTORS: usize = LANE_DESCRIPTORS;
