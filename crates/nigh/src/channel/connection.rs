//! Makes the channel's connection, and a new one when it breaks: one attempt at a time, shared by all
//! calls that wait for it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, Parts, Scheme};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use nigh_socket::{Address, Peer, Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use super::greeting::{Greeted, is_silent_end};
use super::heard_out::HeardOut;
use super::traffic::{Followed, Traffic};
use super::upload::Uploads;
use super::{ChannelError, ChannelOptions, Wire, nigh};
use crate::deadline;
use crate::fd::{FdSocket, Incapable, Link, Side, Tap, Terms};
use crate::io::{Io, Socket, Transport};
use crate::tls::ClientTls;

/// Bytes that one answer may be ahead of its reader, and all of a connection's together: large enough
/// that a local transfer never waits for a window update.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const FRAME_BYTES_MAX: u32 = 256 * 1024;
/// Bytes of one answer's headers or trailers.
const HEADER_LIST_BYTES_MAX: u32 = 64 * 1024;
/// Calls given up here that the server may still answer: as many as a server allows to be in flight, four times over.
const RESET_STREAMS_MAX: usize = 1024;
/// Calls whose answers may carry descriptors at once; a server allows fewer in flight.
const CALLS_WITH_DESCRIPTORS_MAX: u32 = 1024;

/// Connections tried while the server hangs up without a word: one that is killed does so to the callers in its
/// backlog, and its successor answers.
const SILENT_ENDS_MAX: u32 = 4;

/// A connection that speaks HTTP/2.
#[derive(Debug, Clone)]
pub(super) struct Http2 {
    pub(super) sender: SendRequest<Body>,
    pub(super) traffic: Arc<Traffic>,
    /// What sorts the connection's descriptors, if the channel was opened with some.
    pub(super) link: Option<Arc<Link>>,
}

/// The wire of a connection.
#[derive(Debug, Clone)]
pub(super) enum Carrier {
    Http2(Http2),
    Nigh(Arc<nigh::Handle>),
}

impl Carrier {
    fn is_closed(&self) -> bool {
        match self {
            Self::Http2(http2) => http2.sender.is_closed() || http2.traffic.is_leaving(),
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
            _ if options.local_tls.is_some() => {
                (Scheme::HTTPS, Authority::from_static("localhost"))
            }
            _ => (Scheme::HTTP, Authority::from_static("localhost")),
        };
        let tls = match (&address, &options.tls) {
            (Address::Https { .. }, Some(tls)) => Some(tls.clone()),
            (Address::Https { .. }, None) => Some(ClientTls::system()?),
            (Address::Tcp { .. }, _) => None,
            _ => options.local_tls.clone(),
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

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// What HTTP/2 wants beside the path.
    pub(super) fn uri(&self, uri: &Uri) -> Result<Uri, Status> {
        let mut parts = Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = uri.path_and_query().cloned();
        Uri::from_parts(parts).map_err(|error| Status::invalid_argument(error.to_string()))
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

    /// The connection, made anew if it is broken; within the channel's timeout and `until`.
    pub(super) async fn ready(&self, until: Option<Instant>) -> Result<Live, ChannelError> {
        let began = self.attempts.load(Ordering::Acquire);
        let mut state = match until {
            None => self.state.lock().await,
            Some(until) => tokio::time::timeout_at(until, self.state.lock())
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
        let own_limit = deadline::after(self.options.timeout);
        match self
            .attempt(attempt, until.map_or(own_limit, |at| at.min(own_limit)))
            .await
        {
            Ok(live) => {
                state.failure = None;
                state.live = Some(live.clone());
                self.set_current(Some(live.clone()));
                Ok(live)
            }
            // One call's short deadline says nothing to those that have more time.
            Err(error) if until.is_some_and(|at| at < own_limit) => Err(error),
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
        if generation > 1 && matches!(self.address, Address::Fd(_) | Address::Activated(_)) {
            return Err(ChannelError::Spent {
                address: self.address.clone(),
            });
        }
        let allowed = until.saturating_duration_since(Instant::now());
        let mut tries = 1;
        let mut tries_nigh = self.tries_nigh();
        loop {
            let waited = until.saturating_duration_since(Instant::now());
            let connect = self.options.connect.clone().timeout(waited);
            let (stream, peer) = nigh_socket::connect(&self.address, &connect).await?;
            let shaken = if tries_nigh {
                self.greet(stream, until).await
            } else {
                tokio::time::timeout_at(until, self.handshake(stream))
                    .await
                    .map_err(|_| self.timed_out(allowed))?
                    .map(Some)
            };
            match shaken {
                Ok(Some(carrier)) => {
                    return Ok(Live {
                        carrier,
                        peer,
                        generation,
                    });
                }
                Ok(None) => tries_nigh = false,
                Err(ChannelError::Handshake { source, .. })
                    if is_silent_end(&source)
                        && tries < SILENT_ENDS_MAX
                        && !matches!(self.address, Address::Fd(_) | Address::Activated(_)) =>
                {
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn tries_nigh(&self) -> bool {
        let is_plain_unix = !matches!(
            self.address,
            // An inherited descriptor is one connection: there would be none left to speak HTTP/2 on.
            Address::Tcp { .. } | Address::Https { .. } | Address::Fd(_) | Address::Activated(_)
        ) && self.tls.is_none();
        match self.options.wire {
            Wire::Nigh => true,
            Wire::Http2 => false,
            // grpcfd's way is HTTP/2's.
            Wire::Auto => {
                is_plain_unix && !self.options.descriptors.is_some_and(|fds| fds.inode_table)
            }
        }
    }

    /// Speaks the nigh wire; `None`: the server does not, and may know HTTP/2.
    async fn greet(&self, stream: Stream, until: Instant) -> Result<Option<Carrier>, ChannelError> {
        let keepalive = self.options.keepalive_for(&self.address);
        let keepalive = keepalive.map(|interval| (interval, self.options.keepalive_timeout));
        let opening = async {
            let socket = match self.tls {
                None => self.with_fds(stream).0,
                // Inside TLS nobody sees where frames begin.
                Some(_) => Socket::Bare(stream),
            };
            let io = Io::new(self.transport(socket).await?, None);
            let waits = (&self.options.shared_memory, self.options.spin);
            Ok(nigh::open(io, self.address.clone(), keepalive, waits).await)
        };
        let must = self.options.wire == Wire::Nigh;
        let began = Instant::now();
        let patience = began + self.options.nigh_answer_time;
        let limit = if must { until } else { until.min(patience) };
        let why = match tokio::time::timeout_at(limit, opening).await {
            Ok(Ok(Ok((handle, driver)))) => {
                tokio::spawn(driver);
                return Ok(Some(Carrier::Nigh(Arc::new(handle))));
            }
            Ok(Err(error)) => return Err(error),
            // It does speak nigh; what it sent, or this system, is broken.
            Ok(Ok(Err(error @ nigh::GreetingError::SharedMemory(_)))) => {
                return Err(self.failed("the nigh greeting", io::Error::other(error)));
            }
            Ok(Ok(Err(error))) => io::Error::from(error),
            Err(_) if must => return Err(self.timed_out(until.duration_since(began))),
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        if must {
            return Err(self.failed("the nigh greeting", why));
        }
        let address = &self.address;
        tracing::debug!("{address} does not speak nigh, so HTTP/2: {why}");
        Ok(None)
    }

    async fn transport(&self, socket: Socket) -> Result<Transport, ChannelError> {
        let Some(tls) = &self.tls else {
            return Ok(Transport::Plain(socket));
        };
        let host = match &self.address {
            Address::Https { host, .. } => host,
            _ => "localhost",
        };
        let name = tls.name_for(host)?;
        let secured = tls.connect(name, socket).await;
        let secured = secured.map_err(|source| self.failed("the TLS handshake", source))?;
        Ok(Transport::ClientTls(Box::new(secured)))
    }

    async fn handshake(&self, stream: Stream) -> Result<Carrier, ChannelError> {
        let (socket, link) = self.with_fds(stream);
        let io = Io::new(self.transport(socket).await?, None);
        let (sender, traffic) = match io.link() {
            Some(link) => self.speak(Tap::new(io, link)).await?,
            None => self.speak(io).await?,
        };
        if let Some(link) = &link {
            // One round trip, once: from here on it is known what each call may carry.
            let _known = link.met().await;
        }
        Ok(Carrier::Http2(Http2 {
            sender,
            traffic,
            link,
        }))
    }

    /// Makes the connection ready for descriptors, if the channel asks for it and it can carry any.
    fn with_fds(&self, stream: Stream) -> (Socket, Option<Arc<Link>>) {
        let (stream, limits) = match (stream, self.options.descriptors) {
            (Stream::Unix(stream), Some(limits)) => (stream, limits),
            (other, _) => return (Socket::Bare(other), None),
        };
        let tls = self.tls.is_some();
        let terms = Terms {
            accepts: true,
            limits,
            calls_max: CALLS_WITH_DESCRIPTORS_MAX,
            user: None,
        };
        let link = Link::new(Side::Client, terms);
        if tls {
            link.is_foreign(Incapable::Tls);
        }
        let socket = FdSocket::new(stream, Arc::clone(&link), tls);
        (Socket::WithFds(Box::new(socket)), Some(link))
    }

    /// Why no call of this channel can carry descriptors, if so it is.
    pub(super) fn incapability(&self) -> Option<Incapable> {
        match (&self.address, &self.options.descriptors) {
            (Address::Tcp { .. } | Address::Https { .. }, _) => Some(Incapable::NotLocal),
            (_, None) => Some(Incapable::NotAsked),
            _ => None,
        }
    }

    /// Begins HTTP/2 over `stream`, and lets a task drive it.
    async fn speak<S>(&self, stream: S) -> Result<(SendRequest<Body>, Arc<Traffic>), ChannelError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let tasks = Uploads::default();
        let mut builder = http2::Builder::new(tasks.clone());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            .keep_alive_interval(self.options.keepalive_for(&self.address))
            .keep_alive_timeout(self.options.keepalive_timeout)
            .max_concurrent_reset_streams(RESET_STREAMS_MAX)
            .keep_alive_while_idle(true);
        let (io, greeting) = Greeted::new(stream);
        let (io, traffic) = Followed::new(io);
        let io = HeardOut::new(io, Arc::clone(&traffic));
        let failed = |source| self.failed("the HTTP/2 handshake", source);
        let (sender, mut driver) = builder
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| failed(io::Error::other(error)))?;
        let (address, gate) = (self.address.clone(), Arc::clone(&traffic));
        let driving = async move {
            if let Err(error) = (&mut driver).await {
                tracing::debug!("connection to {address} ended: {error}");
            }
            let _gate = gate.handing_over();
            drop(driver);
        };
        // Never at the same time: a GOAWAY that was read between a call's head and its body would fail the call, though
        // the server has taken it.
        match tasks.io_task() {
            Some(io_task) => drop(tokio::spawn(async { tokio::join!(driving, io_task) })),
            None => drop(tokio::spawn(driving)),
        }
        greeting.came().await.map_err(failed)?;
        Ok((sender, traffic))
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
