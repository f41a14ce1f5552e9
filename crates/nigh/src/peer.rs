//! How a handler learns who called, and how the call arrived: `request.peer()`, `request.arrival()`.

use std::sync::Arc;

use nigh_socket::{Address, Peer};

use crate::fd::Incapable;

/// The way a call came in. For display and audit; what matters for authorisation is the peer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Arrival {
    /// The listener's address as published.
    pub listener: Arc<Address>,
    /// The wire that carried the call: `http/2` or `http/1.1`.
    pub wire: &'static str,
    /// Why the calls of this connection carry no descriptors, where they carry none.
    pub(crate) no_descriptors: Incapable,
}

/// What a call's request knows about its caller.
pub trait RequestExt {
    /// Who called: the kernel's facts for a local caller, see [`Peer`].
    ///
    /// A service that authorises should let [`Server::guard`](crate::Server::guard) do it, before
    /// the request is decoded.
    ///
    /// # Panics
    /// When the request did not come through a [`Server`](crate::Server), which always sets it. A
    /// unit test that calls a handler by hand inserts a `Peer` into the request's extensions.
    fn peer(&self) -> &Peer;

    /// Which listener and wire the call came in by.
    ///
    /// # Panics
    /// As [`peer`](Self::peer).
    fn arrival(&self) -> &Arrival;
}

#[expect(
    clippy::panic,
    reason = "an absent identity must not pass as one, and nigh always sets it"
)]
fn of<T: Clone + Send + Sync + 'static>(extensions: &http::Extensions) -> &T {
    match extensions.get() {
        Some(known) => known,
        None => panic!("this request did not come through a nigh::Server"),
    }
}

impl<T> RequestExt for tonic::Request<T> {
    fn peer(&self) -> &Peer {
        of(self.extensions())
    }

    fn arrival(&self) -> &Arrival {
        of(self.extensions())
    }
}

impl<T> RequestExt for http::Request<T> {
    fn peer(&self) -> &Peer {
        of(self.extensions())
    }

    fn arrival(&self) -> &Arrival {
        of(self.extensions())
    }
}

/// What a call's answer knows about the server that gave it.
pub trait ResponseExt {
    /// Who answered: for a Unix socket the process that called `listen`, by the kernel's word.
    ///
    /// # Panics
    /// When the response did not come through a [`Channel`](crate::Channel), which always sets it.
    fn peer(&self) -> &Peer;
}

impl<T> ResponseExt for tonic::Response<T> {
    fn peer(&self) -> &Peer {
        of(self.extensions())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "did not come through a nigh::Server")]
    fn an_absent_identity_is_not_an_identity() {
        tonic::Request::new(()).peer();
    }
}
