//! Why a server could not be reached: where, by whose fault, how often it was tried, and what to do about it.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::address::{Address, AddressError};
use crate::inherit::InheritedError;
use crate::listener::SocketKind;
use crate::peer::Peer;
use crate::policy::{Policy, Verdict};
use crate::publish::PublishedError;
use crate::publish::entry::FileKind;
use crate::systemd::ActivationError;

/// A server could not be reached. No byte was sent to anybody.
#[derive(Debug)]
pub struct ConnectError {
    address: Address,
    fault: ConnectFault,
}

impl ConnectError {
    pub(super) fn new(address: Address, fault: ConnectFault) -> Self {
        Self { address, fault }
    }

    /// The server's address.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What went wrong.
    #[must_use]
    pub fn fault(&self) -> &ConnectFault {
        &self.fault
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        self.fault.hint()
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connect to {}: {}", self.address, self.fault)
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.fault)
    }
}

/// What went wrong on the way to a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectFault {
    /// The address, put together by hand, is none.
    #[error("malformed address")]
    Malformed(#[source] AddressError),
    /// `autobind:` is a listener's address.
    #[error("an address to listen on, not to connect to")]
    NotForConnecting,
    /// A bare Unix socket was wanted ([`super::connect_fd`]), and this is TCP.
    #[error("not a Unix socket")]
    NotLocal,
    /// A stream was wanted ([`super::connect`]), and the options ask for packets.
    #[error("a {0} socket is no stream")]
    Kind(SocketKind),
    /// Nobody served it: until the deadline, or at once when waiting is off.
    #[error("{cause}, after {tries} {} in {waited:?}", if *tries == 1 { "try" } else { "tries" })]
    Unavailable {
        /// What the last try met.
        cause: Cause,
        /// How often it was tried.
        tries: u32,
        /// How long that took.
        waited: Duration,
    },
    /// Something that is not a socket is there.
    #[error("{0} is there, not a socket")]
    NotASocket(FileKind),
    /// A server is there, of another socket type than this one.
    #[error("the server's socket is not of type {0}")]
    WrongKind(SocketKind),
    /// The file permissions, or a security policy, keep this user out.
    #[error("this user may not connect")]
    Denied(#[source] io::Error),
    /// The file of `published:` tells no address that can be relied on.
    #[error("it tells no address")]
    Published(#[source] Box<PublishedError>),
    /// The inherited descriptor is not what is needed.
    #[error("unusable descriptor")]
    Inherited(#[from] InheritedError),
    /// What a service manager passed is not what is needed.
    #[error("no connection from the service manager")]
    Activation(#[source] Box<ActivationError>),
    /// The host name has no address.
    #[error("cannot resolve the host name")]
    Resolve(#[source] io::Error),
    /// The server is not who it must be.
    #[error("{0}")]
    Server(Box<RefusedServer>),
    /// The system refused a step.
    #[error("{operation}")]
    System {
        /// The step.
        operation: ConnectOperation,
        /// What the system said.
        source: io::Error,
    },
}

/// What a try met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Nothing is there.
    Missing,
    /// A socket that nobody serves, or not yet.
    Refused,
    /// A server whose queue is full.
    Busy,
    /// No answer, over TCP.
    Silent,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "no server is there",
            Self::Refused => "no server listens there",
            Self::Busy => "the server's queue is full",
            Self::Silent => "no answer",
        })
    }
}

/// A server that is not who the client demanded.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RefusedServer {
    /// Who it is.
    pub server: Peer,
    /// Who it had to be.
    pub demanded: Policy,
    /// Which term of that it fails.
    pub verdict: Verdict,
}

impl fmt::Display for RefusedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            server,
            demanded,
            verdict,
        } = self;
        write!(f, "the server is {server}, not {demanded}: {verdict}")
    }
}

/// A step of connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectOperation {
    /// Open what a long path leads through.
    Open,
    /// Make a socket and connect it.
    Connect,
    /// Ask the kernel who the server is.
    Identify,
    /// Register the connection with the runtime.
    Register,
}

impl ConnectOperation {
    pub(super) fn failed(self, source: io::Error) -> ConnectFault {
        ConnectFault::System {
            operation: self,
            source,
        }
    }
}

impl fmt::Display for ConnectOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "cannot open the path",
            Self::Connect => "cannot connect",
            Self::Identify => "cannot tell who the server is",
            Self::Register => "cannot register the connection with the runtime",
        })
    }
}

impl From<ActivationError> for ConnectFault {
    fn from(error: ActivationError) -> Self {
        Self::Activation(Box::new(error))
    }
}

impl ConnectFault {
    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Malformed(error) => error.hint(),
            Self::NotForConnecting => Some("the server says which unix-abstract: name it got"),
            Self::Unavailable { cause, .. } => cause.hint(),
            Self::NotASocket(_) => Some("a server at this path would be a socket: check the path"),
            Self::WrongKind(_) => {
                Some("it speaks another protocol: gRPC needs a stream socket, dRPC seqpacket")
            }
            Self::Denied(_) => Some(
                "write permission on the socket and search permission on its directories are needed",
            ),
            Self::Inherited(error) => error.hint(),
            Self::Activation(error) => error.hint(),
            Self::Published(error) => error.hint(),
            Self::Server(_) => Some(
                "another user's server has the address; one that systemd activates by socket is root's",
            ),
            _ => None,
        }
    }
}

impl Cause {
    fn hint(self) -> Option<&'static str> {
        Some(match self {
            Self::Missing => "is the server started, and is this its address?",
            Self::Refused => "the server has ended, or is just starting",
            Self::Busy => {
                "the server hangs or is overloaded: it takes no connections from its queue"
            }
            Self::Silent => "see whether the host is up and a firewall lets connections through",
        })
    }
}
