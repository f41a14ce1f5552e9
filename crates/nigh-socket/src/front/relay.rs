//! Takes idle connections to the successor, one answer each, while there is one.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::porter::Porter;
use crate::drain::Drain;
use crate::handover::STATE_BYTES_MAX;

/// Connections on their way at once: their descriptors count as in flight for the whole user.
const PARCELS_MAX: usize = 16;

/// A connection that wants to go.
#[derive(Debug)]
pub(super) struct Parcel {
    /// Its listener's place in the offer.
    pub(super) place: usize,
    pub(super) socket: OwnedFd,
    pub(super) state: Vec<u8>,
    /// True when it is the successor's.
    pub(super) went: oneshot::Sender<bool>,
}

/// The way out, open while a successor serves and this process drains.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    way: Mutex<Option<mpsc::Sender<Parcel>>>,
}

impl Relay {
    pub(super) fn open(&self) -> mpsc::Receiver<Parcel> {
        let (sender, receiver) = mpsc::channel(PARCELS_MAX);
        *self.way.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    pub(super) fn close(&self) {
        *self.way.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn way(&self) -> Option<mpsc::Sender<Parcel>> {
        self.way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A connection's access to both: what its server wants, and the way to a successor.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    pub(super) place: usize,
    pub(super) porter: Arc<Porter>,
    pub(super) relay: Arc<Relay>,
}

impl Desk {
    pub(crate) fn drain(&self) -> Drain {
        self.porter.drain()
    }

    /// Sends a copy of `socket` to the successor; true when it is the successor's from now on.
    pub(crate) async fn pass_on(&self, socket: impl AsFd, state: &[u8]) -> bool {
        let Some(way) = self.relay.way().filter(|_| state.len() <= STATE_BYTES_MAX) else {
            return false;
        };
        let socket = match socket.as_fd().try_clone_to_owned() {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!("an idle connection stays until it ends: {error}");
                return false;
            }
        };
        let (went, gone) = oneshot::channel();
        let parcel = Parcel {
            place: self.place,
            socket,
            state: state.to_vec(),
            went,
        };
        // No answer: the successor died, or the drain is over.
        way.send(parcel).await.is_ok() && gone.await.unwrap_or(false)
    }
}
