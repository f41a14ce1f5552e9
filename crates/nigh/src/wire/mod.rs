//! The wires a stream listener speaks, told apart by their first bytes; all drive the same calls.
//!
//! A wire is one module behind [`Wire`]; to add one, implement it and put it into [`all`].

mod http1;
mod http2;
mod nigh;
#[cfg(test)]
mod toy;

use std::future::Future;
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use nigh_socket::lane::LaneFault;
use nigh_socket::{Drain, DrainReason, Hold};
use tokio::io::AsyncReadExt as _;

use crate::frame::Violation;
use crate::io::Io;
use crate::limits::Limits;
use crate::server::Calls;

/// Bytes that suffice to tell all wires apart: the HTTP/2 preface is the longest.
pub(crate) const GREETING_BYTES_MAX: usize = 24;

/// The name of the wire that carries plain HTTP and no gRPC.
pub(crate) const HTTP1: &str = "http/1.1";

/// What a wire makes of the first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    Mine,
    NotMine,
    /// Too few bytes to tell.
    Undecided,
}

/// What a connection is served with.
pub(crate) struct Session {
    pub(crate) calls: Calls,
    pub(crate) limits: Arc<Limits>,
    pub(crate) drain: Option<Drain>,
    /// What ties the connection to its server; `None` for a caller that was refused.
    pub(crate) hold: Option<Arc<Hold>>,
}

/// What a successor is told of a connection over HTTP/1.1 that is between two requests: there is nothing to know of it.
pub(crate) const BETWEEN_REQUESTS: &[u8] = &[1];

impl Session {
    /// Whether a successor has the connection now, which is between two requests over HTTP/1.1.
    pub(crate) async fn pass_on(&self, socket: Option<BorrowedFd<'_>>) -> bool {
        match (&self.hold, socket) {
            (Some(hold), Some(socket)) => hold.pass_on(socket, BETWEEN_REQUESTS).await,
            _ => false,
        }
    }

    /// Looks at the server's drain anew, after the connection was not passed on.
    pub(crate) fn renew_drain(&mut self) {
        if let Some(hold) = &self.hold {
            self.drain = hold.current_drain();
            self.calls = self.calls.clone().under(self.drain.clone());
        }
    }

    /// Whether a successor serves: nobody is to notice, so no call is lost that may be on its way.
    pub(crate) fn is_replaced(&self) -> bool {
        let reason = self.drain.as_ref().and_then(Drain::reason);
        reason == Some(DrainReason::Replaced)
    }

    /// Completes when the server stops; never for a connection without a server.
    pub(crate) async fn stopped(&self) {
        match self.drain.clone() {
            Some(mut drain) => drain.stopped().await,
            None => std::future::pending().await,
        }
    }

    /// Completes when the connection should take no further calls: the server drains, or a refused
    /// caller has been told.
    pub(crate) async fn ending(&self) {
        let drain = self.drain.clone();
        let drained = async move {
            match drain {
                Some(mut drain) => drop(drain.begun().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = drained => {}
            () = self.calls.answered() => {}
        }
    }
}

/// Why a connection ended early. It concerns nobody but its peer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("http: {0}")]
    Http(#[from] hyper::Error),
    #[error("nigh: {0}")]
    Nigh(#[from] Violation),
    #[error("{0}")]
    SharedMemory(LaneFault),
    #[error("no sign of life")]
    Dead,
    #[error("no wire known here begins like that")]
    Unrecognised,
    #[error("said nothing recognisable for {} ms", .0.as_millis())]
    Silent(Duration),
}

impl WireError {
    /// A peer that corrupts shared memory has done more than to vanish.
    fn named(self) -> Self {
        let fault = match &self {
            Self::Io(error) => error.get_ref().and_then(|error| error.downcast_ref()),
            _ => None,
        };
        fault.copied().map_or(self, Self::SharedMemory)
    }
}

pub(crate) type Served = Pin<Box<dyn Future<Output = Result<(), WireError>> + Send>>;

/// A way to carry calls over a byte stream.
pub(crate) trait Wire: Send + Sync {
    fn name(&self) -> &'static str;
    fn claim(&self, first: &[u8]) -> Claim;
    /// Serves one connection to its end, gracefully once [`Session::ending`] completes.
    fn serve(&self, io: Io, session: Session) -> Served;
}

/// The wires of every server, in the order in which they are asked.
pub(crate) fn all() -> Vec<Arc<dyn Wire>> {
    vec![
        Arc::new(nigh::Nigh),
        Arc::new(http2::Http2),
        Arc::new(http1::Http1),
    ]
}

/// Reads until one wire claims the stream; what was read is put back. `None`: the peer left first.
pub(crate) async fn recognise(
    io: &mut Io,
    wires: &[Arc<dyn Wire>],
    time: Duration,
) -> Result<Option<Arc<dyn Wire>>, WireError> {
    let mut first = BytesMut::with_capacity(GREETING_BYTES_MAX);
    let reading = async {
        loop {
            let read = io.read_buf(&mut first).await?;
            if read == 0 {
                return if first.is_empty() {
                    Ok(None)
                } else {
                    Err(WireError::Unrecognised)
                };
            }
            let mut undecided = false;
            for wire in wires {
                match wire.claim(&first) {
                    Claim::Mine => return Ok(Some(Arc::clone(wire))),
                    Claim::Undecided => undecided = true,
                    Claim::NotMine => {}
                }
            }
            if !undecided || first.len() >= GREETING_BYTES_MAX {
                return Err(WireError::Unrecognised);
            }
        }
    };
    let found = match tokio::time::timeout(time, reading).await {
        Ok(found) => found,
        Err(_) => Err(WireError::Silent(time)),
    };
    io.unread(first.freeze());
    found
}
