//! A connection that exists but is not trusted yet, and what it becomes: a [`Connection`] or a [`Refused`].
//!
//! The pipeline is the type system: without a policy's consent there is no `Connection`.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::address::Address;
use crate::drain::Drain;
use crate::front::Desk;
use crate::inherit;
use crate::listener::{Listener, SocketKind};
use crate::peer::{LocalPeer, Peer};
use crate::policy::{Policy, Verdict};
use crate::quota::{QuotaExceeded, Ticket};
use crate::seqpacket::UnixSeqpacket;
use crate::share::DescriptorShare;
use crate::stream::{Stream, UnixStream};

/// What a connection carries: bytes, or packets.
#[derive(Debug)]
#[non_exhaustive]
pub enum Transport {
    /// Of a stream listener.
    Stream(Stream),
    /// Of a packet listener.
    Packet(UnixSeqpacket),
}

impl Transport {
    /// Which kind of listener it came from.
    #[must_use]
    pub fn kind(&self) -> SocketKind {
        match self {
            Self::Stream(_) => SocketKind::Stream,
            Self::Packet(_) => SocketKind::Seqpacket,
        }
    }

    /// The stream. A [`Protocol`](crate::Protocol) of that kind gets nothing else from a [`Front`](crate::Front).
    ///
    /// # Errors
    /// The other kind, back.
    pub fn into_stream(self) -> Result<Stream, Self> {
        match self {
            Self::Stream(stream) => Ok(stream),
            other @ Self::Packet(_) => Err(other),
        }
    }

    /// The packets. A [`Protocol`](crate::Protocol) of that kind gets nothing else from a [`Front`](crate::Front).
    ///
    /// # Errors
    /// The other kind, back.
    pub fn into_packet(self) -> Result<UnixSeqpacket, Self> {
        match self {
            Self::Packet(packets) => Ok(packets),
            other @ Self::Stream(_) => Err(other),
        }
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stream(stream) => stream.as_fd(),
            Self::Packet(packets) => packets.as_fd(),
        }
    }
}

/// An accepted socket with the kernel's facts about its peer; nothing has been read from it.
#[derive(Debug)]
pub struct Incoming<T = Transport> {
    transport: T,
    peer: Peer,
    listener: Arc<Address>,
}

impl Incoming {
    pub(crate) fn new(
        socket: OwnedFd,
        listener: &Listener,
        address: Arc<Address>,
    ) -> io::Result<Self> {
        Self::with(socket, listener, address, |accepted| {
            Ok(match accepted {
                Accepted::Packet(socket) => Transport::Packet(UnixSeqpacket::from_checked(socket)?),
                Accepted::Unix(socket) => Transport::Stream(Stream::Unix(UnixStream::new(socket)?)),
                Accepted::Tcp(socket) => {
                    Transport::Stream(Stream::Tcp(tokio::net::TcpStream::from_std(socket)?))
                }
            })
        })
    }
}

impl Incoming {
    /// A connection that was accepted in another process: checked, and its peer asked of the kernel anew.
    pub(crate) fn moved(socket: OwnedFd, listener: &Listener) -> io::Result<Self> {
        let unusable = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        let found = inherit::check_connection(socket.as_fd(), listener.kind()).map_err(unusable)?;
        if found.is_local != listener.is_local() {
            return Err(unusable(inherit::InheritedError::Family));
        }
        inherit::prepare(socket.as_fd()).map_err(unusable)?;
        Self::new(socket, listener, Arc::new(listener.address().clone()))
    }

    /// Lets a caller that came before the listener was told send descriptors.
    pub(crate) fn pass_rights(&self) -> io::Result<bool> {
        match &self.transport {
            Transport::Stream(Stream::Unix(stream)) => stream.set_pass_rights(true),
            Transport::Stream(Stream::Tcp(_)) => Ok(false),
            Transport::Packet(packets) => packets.set_pass_rights(true),
        }
    }
}

/// An accepted socket, non-blocking, before it is one of a runtime or one that blocks.
pub(crate) enum Accepted {
    Packet(OwnedFd),
    Unix(OwnedFd),
    Tcp(TcpStream),
}

impl<T> Incoming<T> {
    /// What the kernel says of the caller, and the transport that `make` makes of the socket.
    pub(crate) fn with(
        socket: OwnedFd,
        listener: &Listener,
        address: Arc<Address>,
        make: impl FnOnce(Accepted) -> io::Result<T>,
    ) -> io::Result<Self> {
        let (accepted, peer) = if listener.is_local() {
            let peer = Peer::Local(LocalPeer::of(&socket)?);
            let accepted = match listener.kind() {
                SocketKind::Seqpacket => Accepted::Packet(socket),
                // Datagram sockets have nothing to accept.
                SocketKind::Stream | SocketKind::Datagram => Accepted::Unix(socket),
            };
            (accepted, peer)
        } else {
            let socket = TcpStream::from(socket);
            // Small messages back and forth: waiting to fill a segment only adds delay.
            socket.set_nodelay(true)?;
            // A host that vanished says nothing: the kernel has to ask.
            rustix::net::sockopt::set_socket_keepalive(&socket, true)?;
            let peer = Peer::remote(socket.peer_addr()?);
            (Accepted::Tcp(socket), peer)
        };
        Ok(Self {
            transport: make(accepted)?,
            peer,
            listener: address,
        })
    }

    /// Who is calling, as far as the kernel says.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// For a protocol with a policy of its own.
    pub(crate) fn into_parts(self) -> (T, Peer) {
        (self.transport, self.peer)
    }

    /// Admits the caller if `policy` definitely says yes.
    ///
    /// # Errors
    /// The refused caller, still connected, so that it can be told in its own wire.
    pub fn admit(self, policy: &Policy) -> Result<Connection<T>, Box<Refused<T>>> {
        let verdict = policy.evaluate(&self.peer);
        if verdict.admits() {
            let Self {
                transport,
                peer,
                listener,
            } = self;
            Ok(Connection {
                transport,
                peer,
                listener,
                drain: None,
                ticket: None,
                descriptors: None,
                desk: None,
            })
        } else {
            Err(Box::new(self.refuse(Refusal::Policy(verdict))))
        }
    }

    pub(crate) fn refuse(self, refusal: Refusal) -> Refused<T> {
        let Self {
            transport,
            peer,
            listener,
        } = self;
        Refused {
            transport,
            peer,
            listener,
            refusal,
        }
    }
}

/// An admitted caller: what it is connected by, and who it is.
#[derive(Debug)]
pub struct Connection<T = Transport> {
    transport: T,
    peer: Peer,
    listener: Arc<Address>,
    drain: Option<Drain>,
    ticket: Option<Ticket>,
    descriptors: Option<DescriptorShare>,
    desk: Option<Desk>,
}

impl<T> Connection<T> {
    /// Takes the admission back, before anything was read or sent.
    pub(crate) fn refuse(self, refusal: Refusal) -> Refused<T> {
        Refused {
            transport: self.transport,
            peer: self.peer,
            listener: self.listener,
            refusal,
        }
    }

    pub(crate) fn under(
        mut self,
        drain: Drain,
        ticket: Ticket,
        descriptors: DescriptorShare,
        desk: Option<Desk>,
    ) -> Self {
        self.drain = Some(drain);
        self.ticket = Some(ticket);
        self.descriptors = Some(descriptors);
        self.desk = desk;
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

    /// The bytes or packets, and what goes with them. Keep the [`Hold`] for as long as the transport lives:
    /// it is the connection's share of the server's quota.
    #[must_use]
    pub fn into_parts(self) -> (T, Peer, Arc<Address>, Hold) {
        let hold = Hold {
            drain: self.drain,
            _ticket: self.ticket,
            descriptors: self.descriptors,
            desk: self.desk,
        };
        (self.transport, self.peer, self.listener, hold)
    }
}

/// What ties a connection to its server: the share of the quota it uses, and the drain signal.
#[derive(Debug)]
pub struct Hold {
    drain: Option<Drain>,
    _ticket: Option<Ticket>,
    descriptors: Option<DescriptorShare>,
    desk: Option<Desk>,
}

impl Hold {
    /// Whether the server is draining. A connection accepted without a server never drains.
    #[must_use]
    pub fn drain_has_begun(&self) -> bool {
        self.drain.as_ref().is_some_and(Drain::has_begun)
    }

    /// What descriptors are charged to that the caller sent and nobody took yet; `None` where there is no server.
    #[must_use]
    pub fn descriptors(&self) -> Option<DescriptorShare> {
        self.descriptors.clone()
    }

    /// The server's drain signal; `None` where there is no server.
    #[must_use]
    pub fn drain(&self) -> Option<Drain> {
        self.drain.clone()
    }

    /// Sends an idle connection's socket to the process that has replaced this one, with what its protocol has to know
    /// (at most 1 KiB), to [`Protocol::resume`](crate::Protocol::resume) there. True: it is that process's from now on,
    /// and `socket` is to be dropped. False: there is none, it would not have it, or it died.
    ///
    /// Bytes that are queued in the socket travel with it; nothing must be half read or unsent.
    ///
    /// # Cancel safety
    /// Not cancel safe: dropped in between, both processes may believe that it is theirs.
    pub async fn pass_on(&self, socket: impl AsFd, state: &[u8]) -> bool {
        match &self.desk {
            Some(desk) => desk.pass_on(socket, state).await,
            None => false,
        }
    }

    /// Looks at the server's drain anew, after a connection was not [passed on](Self::pass_on): the server may serve on.
    pub fn renew_drain(&mut self) -> Option<Drain> {
        self.drain = self.current_drain();
        self.drain.clone()
    }

    /// As [`renew_drain`](Self::renew_drain), without keeping it.
    #[must_use]
    pub fn current_drain(&self) -> Option<Drain> {
        let renewed = self.desk.as_ref().map(Desk::drain);
        renewed.or_else(|| self.drain.clone())
    }
}

/// A caller that was not admitted: it may be told so, and no more.
#[derive(Debug)]
pub struct Refused<T = Transport> {
    /// What the caller is connected by; nothing has been read from it.
    pub transport: T,
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
