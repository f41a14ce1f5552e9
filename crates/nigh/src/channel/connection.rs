//! Makes the channel's connection, and a new one when it breaks: one attempt at a time, shared by all
//! calls that wait for it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, Parts, Scheme};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use nigh_socket::{Address, Peer, Stream};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use super::{ChannelError, ChannelOptions, Wire, nigh};
use crate::io::{Io, Transport};
use crate::tls::ClientTls;

/// Bytes that one answer may be ahead of its reader, and all of a connection's together: large enough
/// that a local transfer never waits for a window update.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const FRAME_BYTES_MAX: u32 = 256 * 1024;
/// Bytes of one answer's headers or trailers.
const HEADER_LIST_BYTES_MAX: u32 = 64 * 1024;

/// The wire of a connection.
#[derive(Debug, Clone)]
pub(super) enum Carrier {
    Http2(SendRequest<Body>),
    Nigh(Arc<nigh::Handle>),
}

impl Carrier {
    fn is_closed(&self) -> bool {
        match self {
            Self::Http2(sender) => sender.is_closed(),
            Self::Nigh(handle) => handle.is_closed(),
        }
    }
}

/// A connection that was made, and with whom.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) carrier: Carrier,
    pub(super) peer: Peer,
    pub(super) generation: u64,
}

#[derive(Debug, Default)]
struct State {
    live: Option<Live>,
    /// The last attempt that failed, for those who waited for it.
    failure: Option<(u64, Arc<ChannelError>)>,
}

/// Everything a channel needs to connect again.
#[derive(Debug)]
pub(super) struct Connector {
    address: Address,
    options: ChannelOptions,
    tls: Option<ClientTls>,
    scheme: Scheme,
    authority: Authority,
    /// Attempts begun so far: tells a caller whether an attempt began after it started waiting.
    attempts: AtomicU64,
    state: Mutex<State>,
    /// The connection that lives, for calls that need not wait for one.
    current: std::sync::Mutex<Option<Live>>,
}

impl Connector {
    pub(super) fn new(address: Address, options: ChannelOptions) -> Result<Self, ChannelError> {
        let (scheme, authority) = match &address {
            Address::Https { host, port } => (Scheme::HTTPS, authority(&address, host, *port)?),
            Address::Tcp { host, port } => (Scheme::HTTP, authority(&address, host, *port)?),
            // What grpc-go and grpc-core send for a Unix socket; h2 refuses a path here.
            _ => (Scheme::HTTP, Authority::from_static("localhost")),
        };
        let tls = match (&address, &options.tls) {
            (Address::Https { .. }, Some(tls)) => Some(tls.clone()),
            (Address::Https { .. }, None) => Some(ClientTls::system()?),
            _ => None,
        };
        let (attempts, state) = (AtomicU64::new(0), Mutex::default());
        Ok(Self {
            address,
            options,
            tls,
            scheme,
            authority,
            attempts,
            state,
            current: std::sync::Mutex::default(),
        })
    }

    /// What HTTP/2 wants beside the path.
    pub(super) fn uri(&self, uri: &Uri) -> Result<Uri, Status> {
        let mut parts = Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = uri.path_and_query().cloned();
        Uri::from_parts(parts).map_err(|error| Status::invalid_argument(error.to_string()))
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// The connection, if it lives.
    pub(super) fn current(&self) -> Option<Live> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.clone().filter(|live| !live.carrier.is_closed())
    }

    fn set_current(&self, live: Option<Live>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let former = std::mem::replace(&mut *current, live);
        drop(current);
        drop(former);
    }

    /// The connection, made anew if it is broken; within the channel's timeout and `deadline`.
    pub(super) async fn ready(&self, deadline: Option<Instant>) -> Result<Live, ChannelError> {
        let began = self.attempts.load(Ordering::Acquire);
        let mut state = match deadline {
            None => self.state.lock().await,
            Some(deadline) => tokio::time::timeout_at(deadline, self.state.lock())
                .await
                .map_err(|_| self.timed_out(self.options.timeout))?,
        };
        if let Some(live) = &state.live
            && !live.carrier.is_closed()
        {
            return Ok(live.clone());
        }
        if let Some((attempt, failure)) = &state.failure
            && *attempt > began
        {
            // An attempt that began after this call did has just failed: one wait, not one each.
            return Err(ChannelError::Shared(Arc::clone(failure)));
        }
        state.live = None;
        self.set_current(None);
        let attempt = self.attempts.fetch_add(1, Ordering::AcqRel) + 1;
        let own_limit = Instant::now() + self.options.timeout;
        match self
            .attempt(attempt, deadline.map_or(own_limit, |at| at.min(own_limit)))
            .await
        {
            Ok(live) => {
                state.failure = None;
                state.live = Some(live.clone());
                self.set_current(Some(live.clone()));
                Ok(live)
            }
            // One call's short deadline says nothing to those that have more time.
            Err(error) if deadline.is_some_and(|at| at < own_limit) => Err(error),
            Err(error) => {
                let error = Arc::new(error);
                state.failure = Some((attempt, Arc::clone(&error)));
                Err(ChannelError::Shared(error))
            }
        }
    }

    /// As [`ready`](Self::ready), with an error that nobody else is told.
    pub(super) async fn ready_alone(&self) -> Result<Live, ChannelError> {
        match self.ready(None).await {
            Err(ChannelError::Shared(error)) => {
                self.state.lock().await.failure = None;
                Err(Arc::try_unwrap(error).unwrap_or_else(ChannelError::Shared))
            }
            other => other,
        }
    }

    /// Forgets the connection of `generation`, unless it has been replaced already.
    pub(super) async fn discard(&self, generation: u64) {
        let mut state = self.state.lock().await;
        if state
            .live
            .as_ref()
            .is_some_and(|live| live.generation == generation)
        {
            state.live = None;
            self.set_current(None);
        }
    }

    fn timed_out(&self, waited: Duration) -> ChannelError {
        ChannelError::TimedOut {
            address: self.address.clone(),
            waited,
        }
    }

    async fn attempt(&self, generation: u64, until: Instant) -> Result<Live, ChannelError> {
        if generation > 1 && matches!(self.address, Address::Fd(_)) {
            return Err(ChannelError::Spent {
                address: self.address.clone(),
            });
        }
        if self.tries_nigh()
            && let Some(live) = self.attempt_nigh(generation, until).await?
        {
            return Ok(live);
        }
        let (stream, peer, waited) = self.reach(until).await?;
        let shaken = tokio::time::timeout_at(until, self.handshake(stream, peer, generation));
        shaken.await.map_err(|_| self.timed_out(waited))?
    }

    async fn reach(&self, until: Instant) -> Result<(Stream, Peer, Duration), ChannelError> {
        let waited = until.saturating_duration_since(Instant::now());
        let connect = self.options.connect.clone().timeout(waited);
        let (stream, peer) = nigh_socket::connect(&self.address, &connect).await?;
        Ok((stream, peer, waited))
    }

    /// An inherited descriptor is one connection: there would be none left to speak HTTP/2 on.
    fn tries_nigh(&self) -> bool {
        match (self.options.wire, &self.address) {
            (Wire::Nigh, _) => true,
            (Wire::Http2, _) => false,
            (Wire::Auto, Address::Tcp { .. } | Address::Https { .. } | Address::Fd(_)) => false,
            (Wire::Auto, _) => true,
        }
    }

    /// Speaks the nigh wire; `None`: the server does not, and may know HTTP/2.
    async fn attempt_nigh(
        &self,
        generation: u64,
        until: Instant,
    ) -> Result<Option<Live>, ChannelError> {
        let (stream, peer, waited) = self.reach(until).await?;
        let keepalive = self.options.keepalive;
        let keepalive = keepalive.map(|interval| (interval, self.options.keepalive_timeout));
        let opening = async {
            let io = Io::new(self.transport(stream).await?, None);
            Ok(nigh::open(io, self.address.clone(), keepalive).await)
        };
        let must = self.options.wire == Wire::Nigh;
        let patience = Instant::now() + self.options.nigh_answer_time;
        let limit = if must { until } else { until.min(patience) };
        let why = match tokio::time::timeout_at(limit, opening).await {
            Ok(Ok(Ok((handle, driver)))) => {
                tokio::spawn(driver);
                let carrier = Carrier::Nigh(Arc::new(handle));
                return Ok(Some(Live {
                    carrier,
                    peer,
                    generation,
                }));
            }
            Ok(Err(error)) => return Err(error),
            Ok(Ok(Err(error))) => io::Error::other(error),
            Err(_) if must => return Err(self.timed_out(waited)),
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        if must {
            return Err(self.failed("the nigh greeting", why));
        }
        let address = &self.address;
        tracing::debug!("{address} does not speak nigh, so HTTP/2: {why}");
        Ok(None)
    }

    async fn transport(&self, stream: Stream) -> Result<Transport, ChannelError> {
        let (Some(tls), Address::Https { host, .. }) = (&self.tls, &self.address) else {
            return Ok(Transport::Plain(stream));
        };
        let name = tls.name_for(host)?;
        let secured = tls.connect(name, stream).await;
        let secured = secured.map_err(|source| self.failed("the TLS handshake", source))?;
        Ok(Transport::ClientTls(Box::new(secured)))
    }

    async fn handshake(
        &self,
        stream: Stream,
        peer: Peer,
        generation: u64,
    ) -> Result<Live, ChannelError> {
        let transport = self.transport(stream).await?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            .keep_alive_interval(self.options.keepalive)
            .keep_alive_timeout(self.options.keepalive_timeout)
            .keep_alive_while_idle(true);
        let io = TokioIo::new(Io::new(transport, None));
        let (sender, driver) = builder
            .handshake(io)
            .await
            .map_err(|error| self.failed("the HTTP/2 handshake", io::Error::other(error)))?;
        let address = self.address.clone();
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!("connection to {address} ended: {error}");
            }
        });
        Ok(Live {
            carrier: Carrier::Http2(sender),
            peer,
            generation,
        })
    }

    fn failed(&self, stage: &'static str, source: io::Error) -> ChannelError {
        ChannelError::Handshake {
            address: self.address.clone(),
            stage,
            source,
        }
    }
}

fn authority(address: &Address, host: &str, port: u16) -> Result<Authority, ChannelError> {
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    Authority::try_from(format!("{host}:{port}")).map_err(|_| ChannelError::Host {
        address: address.clone(),
    })
}
