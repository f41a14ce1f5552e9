//! Makes the channel's connection, and a new one when it breaks: one attempt at a time, shared by all
//! calls that wait for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::uri::{Authority, Scheme};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use nigh_socket::{Address, Peer, Stream};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::body::Body;

use super::greeting::{Greeted, is_silent_end};
use super::{ChannelError, ChannelOptions};
use crate::io::{Io, Transport};
use crate::tls::ClientTls;

/// Bytes that one answer may be ahead of its reader, and all of a connection's together: large enough
/// that a local transfer never waits for a window update.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const FRAME_BYTES_MAX: u32 = 256 * 1024;
/// Bytes of one answer's headers or trailers.
const HEADER_LIST_BYTES_MAX: u32 = 64 * 1024;

/// Connections tried while the server hangs up without a word: one that is killed does so to the callers in its
/// backlog, and its successor answers.
const SILENT_ENDS_MAX: u32 = 4;

/// A connection that was made, and with whom.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) sender: SendRequest<Body>,
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
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    /// Attempts begun so far: tells a caller whether an attempt began after it started waiting.
    attempts: AtomicU64,
    state: Mutex<State>,
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
        })
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
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
            && !live.sender.is_closed()
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
        let attempt = self.attempts.fetch_add(1, Ordering::AcqRel) + 1;
        let own_limit = Instant::now() + self.options.timeout;
        match self
            .attempt(attempt, deadline.map_or(own_limit, |at| at.min(own_limit)))
            .await
        {
            Ok(live) => {
                state.failure = None;
                state.live = Some(live.clone());
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
        let allowed = until.saturating_duration_since(Instant::now());
        let mut tries = 1;
        loop {
            let waited = until.saturating_duration_since(Instant::now());
            let connect = self.options.connect.clone().timeout(waited);
            let (stream, peer) = nigh_socket::connect(&self.address, &connect).await?;
            let shaken = tokio::time::timeout_at(until, self.handshake(stream, peer, generation));
            match shaken.await.map_err(|_| self.timed_out(allowed))? {
                Err(ChannelError::Handshake { source, .. })
                    if is_silent_end(&source)
                        && tries < SILENT_ENDS_MAX
                        && !matches!(self.address, Address::Fd(_)) =>
                {
                    tries += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn handshake(
        &self,
        stream: Stream,
        peer: Peer,
        generation: u64,
    ) -> Result<Live, ChannelError> {
        let transport = match (&self.tls, &self.address) {
            (Some(tls), Address::Https { host, .. }) => {
                let name = tls.name_for(host)?;
                let secured = tls.connect(name, stream).await;
                let secured = secured.map_err(|source| self.failed("the TLS handshake", source))?;
                Transport::ClientTls(Box::new(secured))
            }
            _ => Transport::Plain(stream),
        };
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            .keep_alive_interval(self.options.keepalive_for(&self.address))
            .keep_alive_timeout(self.options.keepalive_timeout)
            .keep_alive_while_idle(true);
        let (io, greeting) = Greeted::new(Io::new(transport, None));
        let failed = |source| self.failed("the HTTP/2 handshake", source);
        let (sender, driver) = builder
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| failed(io::Error::other(error)))?;
        // The connection reads and writes in a task of hyper's own; the driver only feeds it with calls.
        greeting.came().await.map_err(failed)?;
        let address = self.address.clone();
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!("connection to {address} ended: {error}");
            }
        });
        Ok(Live {
            sender,
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
