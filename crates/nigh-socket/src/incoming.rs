//! A connection that exists but is not trusted yet, and what it becomes: a [`Connection`] or a [`Refused`].
//!
//! The pipeline is the type system: without a policy's consent there is no `Connection`.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::address::Address;
use crate::drain::Drain;
use crate::peer::{LocalPeer, Peer};
use crate::policy::{Policy, Verdict};
use crate::quota::{QuotaExceeded, Ticket};
use crate::stream::{Stream, UnixStream};

/// An accepted socket with the kernel's facts about its peer; nothing has been read from it.
#[derive(Debug)]
pub struct Incoming {
    stream: Stream,
    peer: Peer,
    listener: Arc<Address>,
}

impl Incoming {
    pub(crate) fn new(socket: OwnedFd, local: bool, listener: Arc<Address>) -> io::Result<Self> {
        let (stream, peer) = if local {
            let peer = Peer::Local(LocalPeer::of(&socket)?);
            (Stream::Unix(UnixStream::new(socket)?), peer)
        } else {
            let socket = TcpStream::from(socket);
            // Small messages back and forth: waiting to fill a segment only adds delay.
            socket.set_nodelay(true)?;
            let address: SocketAddr = socket.peer_addr()?;
            (
                Stream::Tcp(tokio::net::TcpStream::from_std(socket)?),
                Peer::remote(address),
            )
        };
        Ok(Self {
            stream,
            peer,
            listener,
        })
    }

    /// Who is calling, as far as the kernel says.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Admits the caller if `policy` definitely says yes.
    ///
    /// # Errors
    /// The refused caller, still connected, so that it can be told in its own wire.
    pub fn admit(self, policy: &Policy) -> Result<Connection, Box<Refused>> {
        let verdict = policy.evaluate(&self.peer);
        if verdict.admits() {
            let Self {
                stream,
                peer,
                listener,
            } = self;
            Ok(Connection {
                stream,
                peer,
                listener,
                drain: None,
                ticket: None,
            })
        } else {
            Err(Box::new(self.refuse(Refusal::Policy(verdict))))
        }
    }

    pub(crate) fn refuse(self, refusal: Refusal) -> Refused {
        let Self {
            stream,
            peer,
            listener,
        } = self;
        Refused {
            stream,
            peer,
            listener,
            refusal,
        }
    }
}

/// An admitted caller: its stream and who it is.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    peer: Peer,
    listener: Arc<Address>,
    drain: Option<Drain>,
    ticket: Option<Ticket>,
}

impl Connection {
    pub(crate) fn under(mut self, drain: Drain, ticket: Ticket) -> Self {
        self.drain = Some(drain);
        self.ticket = Some(ticket);
        self
    }

    /// Who is calling, as far as the kernel says.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The listener's address as published.
    #[must_use]
    pub fn listener(&self) -> &Arc<Address> {
        &self.listener
    }

    /// The bytes, and what goes with them. Keep the [`Hold`] for as long as the stream lives: it is
    /// the connection's share of the server's quota.
    #[must_use]
    pub fn into_parts(self) -> (Stream, Peer, Arc<Address>, Hold) {
        let hold = Hold {
            drain: self.drain,
            _ticket: self.ticket,
        };
        (self.stream, self.peer, self.listener, hold)
    }
}

/// What ties a connection to its server: the share of the quota it uses, and the drain signal.
#[derive(Debug)]
pub struct Hold {
    drain: Option<Drain>,
    _ticket: Option<Ticket>,
}

impl Hold {
    /// Whether the server is draining. A connection accepted without a server never drains.
    #[must_use]
    pub fn drain_has_begun(&self) -> bool {
        self.drain.as_ref().is_some_and(Drain::has_begun)
    }

    /// The server's drain signal; one that never comes where there is no server.
    #[must_use]
    pub fn drain(&self) -> Option<Drain> {
        self.drain.clone()
    }
}

/// A caller that was not admitted: it may be told so, and no more.
#[derive(Debug)]
pub struct Refused {
    /// The caller's stream, from which nothing has been read.
    pub stream: Stream,
    /// Who was refused.
    pub peer: Peer,
    /// The listener's address as published.
    pub listener: Arc<Address>,
    /// Why; its text is for the log. Tell the caller no more than [`Refusal::is_retryable`].
    pub refusal: Refusal,
}

/// Why a connection was not admitted. Its text is for the log: it says what the policy looked at.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Refusal {
    /// The listener's policy did not say yes.
    Policy(Verdict),
    /// An allowance is used up.
    Quota(QuotaExceeded),
    /// The server is stopping.
    Draining,
}

impl Refusal {
    /// Whether the same caller may well be admitted a little later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Policy(_) => false,
            Self::Quota(_) | Self::Draining => true,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Policy(verdict) => verdict.fmt(f),
            Self::Quota(exceeded) => exceeded.fmt(f),
            Self::Draining => f.write_str("the server is draining"),
        }
    }
}
