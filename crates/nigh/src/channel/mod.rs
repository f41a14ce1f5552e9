//! The client's side: one address, one connection that mends itself, any generated tonic client on top.

mod call;
mod connection;
mod greeting;
mod heard_out;
mod nigh;
mod replay;
mod traffic;
mod upload;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use nigh_socket::{Address, AddressError, ConnectError, ConnectOptions, Peer, Policy, Spin};
use tonic::Status;
use tonic::body::Body;

use crate::deadline::FAR;
use crate::fd::FdLimits;
use crate::limits::{KEEPALIVE_REMOTE, KEEPALIVE_TIMEOUT};
use crate::shared_memory::SharedMemory;
use crate::tls::{ClientTls, TlsError};
use connection::Connector;

/// Why a channel could not be opened. No call has been sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The address is malformed.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Nobody could be reached, or not who was demanded.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// TLS could not be set up on this side.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The other side answered, but not as a gRPC server does.
    #[error("connect to {address}: {stage} failed")]
    Handshake {
        /// The server's address.
        address: Address,
        /// Which handshake.
        stage: &'static str,
        /// What went wrong in it.
        source: std::io::Error,
    },
    /// The time for connecting ran out after the socket was reached.
    #[error("connect to {address}: no answer within {} ms", waited.as_millis())]
    TimedOut {
        /// The server's address.
        address: Address,
        /// The time allowed.
        waited: Duration,
    },
    /// The address's host cannot stand in a URI.
    #[error("connect to {address}: the host is not one a URI can carry")]
    Host {
        /// The server's address.
        address: Address,
    },
    /// The attempt that this call waited for has failed, and with it all calls that waited.
    #[error(transparent)]
    Shared(Arc<Self>),
    /// An inherited descriptor carries one connection, and that one has ended.
    #[error("connect to {address}: its one connection has ended")]
    Spent {
        /// The descriptor's address.
        address: Address,
    },
}

impl ChannelError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Connect(error) => error.hint().map(Into::into),
            Self::Handshake { .. } => {
                Some("does a gRPC server listen there, with the same TLS settings?".into())
            }
            Self::TimedOut { .. } => {
                Some("the server accepted and then said nothing: is it stuck?".into())
            }
            Self::Tls(TlsError::NoSystemRoots) => Some("give the authority's certificate".into()),
            Self::Shared(error) => error.hint(),
            Self::Spent { .. } => Some("ask whoever passed the descriptor for another".into()),
            _ => None,
        }
    }

    /// Whether waiting might have helped: the server was missing, refusing, busy or silent.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Connect(_) | Self::TimedOut { .. } | Self::Handshake { .. } => true,
            Self::Shared(error) => error.is_unreachable(),
            _ => false,
        }
    }
}

/// Which wire a [`Channel`] speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Wire {
    /// nigh to a nigh server and HTTP/2 to any other, decided once per connection: to a Unix socket's address nigh is
    /// tried first, `tcp:`, `https:` and `fd:` mean HTTP/2.
    #[default]
    Auto,
    /// nigh or nothing (docs/wire/nigh.md).
    Nigh,
    /// HTTP/2, as every gRPC server speaks.
    Http2,
}

/// How a [`Channel`] connects and lives. `ChannelOptions::default()` suits a local server.
#[derive(Debug, Clone)]
pub struct ChannelOptions {
    connect: ConnectOptions,
    timeout: Duration,
    tls: Option<ClientTls>,
    local_tls: Option<ClientTls>,
    descriptors: Option<FdLimits>,
    /// As set; usually it depends on the address.
    keepalive: Option<Option<Duration>>,
    keepalive_timeout: Duration,
    wire: Wire,
    nigh_answer_time: Duration,
    shared_memory: SharedMemory,
    spin: Spin,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            connect: ConnectOptions::default(),
            timeout: Duration::from_secs(5),
            tls: None,
            local_tls: None,
            descriptors: None,
            keepalive: None,
            keepalive_timeout: KEEPALIVE_TIMEOUT,
            wire: Wire::Auto,
            nigh_answer_time: Duration::from_millis(200),
            shared_memory: SharedMemory::off(),
            spin: Spin::adaptive_on_socket(),
        }
    }
}

impl ChannelOptions {
    /// Time for connecting, handshakes and retries included. Default 5 s. A call's own deadline
    /// counts as well.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether to wait, within the timeout, for a server that is not there yet. Default yes.
    #[must_use]
    pub fn wait(mut self, wait: bool) -> Self {
        self.connect = self.connect.wait(wait);
        self
    }

    /// Who must be listening: checked by the kernel's facts before the first byte is sent.
    #[must_use]
    pub fn server(mut self, policy: Policy) -> Self {
        self.connect = self.connect.server(policy);
        self
    }

    /// How to verify an `https:` server. Default: the system's authorities.
    #[must_use]
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Speaks TLS on a Unix socket, too, as Network Service Mesh does. The server is verified by the name `localhost`,
    /// or the one given to [`ClientTls::server_name`]. Default: no TLS there, the kernel vouches for both ends.
    #[must_use]
    pub fn tls_on_unix(mut self, tls: ClientTls) -> Self {
        self.local_tls = Some(tls);
        self
    }

    /// Lets calls carry descriptors both ways, on a Unix socket: see [`DescriptorsExt`](crate::DescriptorsExt). What
    /// servers send is held within `limits` until it is taken. Shared memory is not offered beside it.
    #[must_use]
    pub fn descriptors(mut self, limits: FdLimits) -> Self {
        self.descriptors = Some(limits);
        self
    }

    /// Asks a silent server for a sign of life this often, or with `None` never. Default never for a
    /// local server, whose death the kernel reports at once, and 30 s over TCP.
    #[must_use]
    pub fn keepalive(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.keepalive = Some(interval.into());
        self
    }

    /// How long to wait for that sign. Default 20 s.
    #[must_use]
    pub fn keepalive_timeout(mut self, timeout: Duration) -> Self {
        self.keepalive_timeout = timeout;
        self
    }

    /// Which wire to speak. Default [`Wire::Auto`].
    #[must_use]
    pub fn wire(mut self, wire: Wire) -> Self {
        self.wire = wire;
        self
    }

    /// How long a server may take to answer nigh's greeting before [`Wire::Auto`] means HTTP/2. Default 200 ms.
    #[must_use]
    pub fn nigh_answer_time(mut self, time: Duration) -> Self {
        self.nigh_answer_time = time;
        self
    }

    /// Whether calls over the nigh wire travel through shared memory, if the server allows it. Default off; a channel with
    /// [`descriptors`](Self::descriptors) stays on its socket.
    #[must_use]
    pub fn shared_memory(mut self, shared_memory: SharedMemory) -> Self {
        self.shared_memory = shared_memory;
        self
    }

    /// Whether a call that is alone on a connection over the nigh wire looks for its answer for a moment before it sleeps. Default
    /// [`Spin::adaptive_on_socket`]; a channel with [`descriptors`](Self::descriptors) never does.
    #[must_use]
    pub fn spin(mut self, spin: Spin) -> Self {
        self.spin = spin;
        self
    }

    fn keepalive_for(&self, address: &Address) -> Option<Duration> {
        let is_remote = matches!(address, Address::Tcp { .. } | Address::Https { .. });
        self.keepalive
            .unwrap_or_else(|| is_remote.then_some(KEEPALIVE_REMOTE))
            .map(|interval| interval.min(FAR))
    }

    /// Connects now.
    ///
    /// # Errors
    /// See [`ChannelError`].
    ///
    /// # Cancel safety
    /// Dropping the future abandons the connection.
    pub async fn connect<A>(self, address: A) -> Result<Channel, ChannelError>
    where
        A: TryInto<Address>,
        ChannelError: From<A::Error>,
    {
        let channel = self.lazy(address)?;
        channel.connector.ready_alone().await?;
        Ok(channel)
    }

    /// Connects with the first call.
    ///
    /// # Errors
    /// Only what can be known without connecting: the address, and the system's authorities.
    pub fn lazy<A>(self, address: A) -> Result<Channel, ChannelError>
    where
        A: TryInto<Address>,
        ChannelError: From<A::Error>,
    {
        let address = address.try_into()?;
        Ok(Channel {
            connector: Arc::new(Connector::new(address, self)?),
        })
    }
}

impl From<std::convert::Infallible> for ChannelError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// A connection to one server, to put under any generated tonic client: `FilesClient::new(channel)`.
///
/// Clones share the connection. When it breaks, the next call makes a new one; a call that had not
/// been sent yet goes over the new one without its caller noticing. Deadlines count the connecting.
/// Needs a tokio runtime.
#[derive(Debug, Clone)]
pub struct Channel {
    connector: Arc<Connector>,
}

impl Channel {
    /// Connects with the default options to `unix:`, `unix-abstract:`, `fd:`, `tcp:` or `https:`.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub async fn connect<A>(address: A) -> Result<Self, ChannelError>
    where
        A: TryInto<Address>,
        ChannelError: From<A::Error>,
    {
        Self::options().connect(address).await
    }

    /// The default options, to be changed before connecting.
    #[must_use]
    pub fn options() -> ChannelOptions {
        ChannelOptions::default()
    }

    /// Where the server is.
    #[must_use]
    pub fn address(&self) -> &Address {
        self.connector.address()
    }

    /// Who the server is: for a Unix socket the process that called `listen`, by the kernel's word.
    /// Connects if there is no connection.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub async fn server(&self) -> Result<Peer, ChannelError> {
        Ok(self.connector.ready_alone().await?.peer)
    }
}

/// One call on its way.
type Calling = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

impl tower_service::Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Calling;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        // A call waits for its own connection, under its own deadline.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Calling {
        Box::pin(call::run(Arc::clone(&self.connector), request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_asked_for_a_sign_of_life_where_the_kernel_gives_none() {
        let default = ChannelOptions::default();
        let of = |options: &ChannelOptions, address: &str| {
            options.keepalive_for(&address.parse().unwrap())
        };
        assert_eq!(of(&default, "unix:/s"), None);
        assert_eq!(of(&default, "unix-abstract:s"), None);
        for address in ["tcp:h:1", "https://h:1"] {
            assert_eq!(of(&default, address), Some(KEEPALIVE_REMOTE));
            assert_eq!(of(&default.clone().keepalive(None), address), None);
        }
        let often = default.keepalive(Duration::from_secs(1));
        assert_eq!(of(&often, "unix:/s"), Some(Duration::from_secs(1)));
    }
}
