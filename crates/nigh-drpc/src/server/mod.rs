//! The server: modules behind policies, as a protocol of nigh-socket's front or with a front of its own.

mod answer;
mod calls;
mod connection;
mod handler;
mod refusal;
mod registry;
mod running;
mod share;
mod timer;

use std::future::Future;
use std::sync::Arc;

use nigh_socket::handover::Succession;
use nigh_socket::systemd::Notifier;
use nigh_socket::{
    Address, Connection, Counters, Drained, Existing, Front, FrontError, Guard, Hold, Journal,
    Listener, ListenerOptions, Peer, Policy, Protocol, Refused, Serving, SocketKind,
};

use tokio::sync::Semaphore;

use calls::Shared;
pub use handler::{Answer, Caller, Failure, Request};
pub use registry::{Module, Modules, RegisterError};
use share::Shares;

use crate::limits::Limits;
use crate::wire::{CapTooLarge, Detector, Features, Framing, Reason};

/// Which framing callers may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Accepts {
    /// Either: each connection's first packet decides. The default.
    #[default]
    Auto,
    /// One of them.
    Only(Framing),
}

/// Why a server did not start, or ended on its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The message limit is too large for detecting the framing.
    #[error("serve dRPC")]
    Cap(#[from] CapTooLarge),
    /// A guard names a method or module that is not served: a slip there would leave one open.
    #[error("serve dRPC: the guard of module {module}{} guards nothing: it is not served here",
        method.map(|method| format!(" method {method}")).unwrap_or_default())]
    GuardsNothing {
        /// The module's id.
        module: i32,
        /// The method's id; none for a whole module.
        method: Option<i32>,
    },
    /// The listeners could not be served.
    #[error(transparent)]
    Front(#[from] FrontError),
}

impl ServerError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Cap(error) => error.hint(),
            Self::GuardsNothing { .. } => Some("register the module before it is guarded"),
            Self::Front(_) => None,
        }
    }
}

/// How a dRPC socket is bound: packets, mode 0600, and an error if anything is there already, as DAOS has it. Ask for
/// [`Existing::ReplaceStale`] or [`Existing::TakeOver`] to do otherwise.
pub fn listener() -> ListenerOptions {
    Listener::options()
        .kind(SocketKind::Seqpacket)
        .mode(0o600)
        .existing(Existing::Fail)
}

/// Serves dRPC modules.
///
/// Callers are admitted per listener by a [`Policy`], and per module and method by guards. It is a [`Protocol`] of a
/// [`Front`], which it may share with others: [`into_protocol`](Self::into_protocol).
#[derive(Debug)]
pub struct Server {
    modules: Modules,
    methods: Guard<(i32, i32)>,
    whole_modules: Guard<i32>,
    limits: Limits,
    connections: nigh_socket::Limits,
    accepts: Accepts,
    features: Features,
    threads: usize,
    policy: Option<Policy>,
    doors: Vec<(Listener, Option<Policy>)>,
    counters: Arc<Counters>,
    succession: Option<Succession>,
    notifier: Option<Notifier>,
}

impl Server {
    /// A server of these modules, open to the same user only.
    #[must_use]
    pub fn new(modules: Modules) -> Self {
        Self {
            modules,
            methods: Guard::default(),
            whole_modules: Guard::default(),
            limits: Limits::default(),
            connections: nigh_socket::Limits::default(),
            accepts: Accepts::default(),
            features: Features::ALL,
            threads: 0,
            policy: None,
            doors: Vec::new(),
            counters: Arc::default(),
            succession: None,
            notifier: None,
        }
    }

    /// Lets a later process replace this one while it runs, and this one replace the one that runs now: see
    /// docs/restarts.md. Idle connections travel to the successor, so that their callers notice nothing.
    #[must_use]
    pub fn replaceable(mut self, succession: Succession) -> Self {
        self.succession = Some(succession);
        self
    }

    /// Lets only callers that `policy` admits call `method` of `module`; decided before the body is decoded.
    #[must_use]
    pub fn guard(mut self, module: i32, method: i32, policy: Policy) -> Self {
        self.methods.require((module, method), policy);
        self
    }

    /// Lets only callers that `policy` admits call anything of `module`, besides the guards of its methods.
    #[must_use]
    pub fn guard_module(mut self, module: i32, policy: Policy) -> Self {
        self.whole_modules.require(module, policy);
        self
    }

    /// Replaces the default limits of calls.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Replaces the default limits of connections, for a server with a front of its own.
    #[must_use]
    pub fn connection_limits(mut self, limits: nigh_socket::Limits) -> Self {
        self.connections = limits;
        self
    }

    /// Which framing callers may speak. Default: either.
    #[must_use]
    pub fn accepts(mut self, accepts: Accepts) -> Self {
        self.accepts = accepts;
        self
    }

    /// What callers of this project may agree on. Default: everything.
    #[must_use]
    pub fn features(mut self, features: Features) -> Self {
        self.features = features;
        self
    }

    /// Lends a thread to each of at most `max` connections whose callers call without a pause. It blocks until the next
    /// packet is there, which saves two system calls and a way through the reactor per call; after a pause of 10 ms, or
    /// when a handler has to wait, the connection is served by the runtime again. Handlers then run on threads of the
    /// runtime's blocking pool. Default 0.
    #[must_use]
    pub fn threads(mut self, max: usize) -> Self {
        self.threads = max.min(Semaphore::MAX_PERMITS);
        self
    }

    /// Who may connect to listeners that have no policy of their own. Default: the same user.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Listens on `listener`, made from [`listener()`], for callers that the server's policy admits.
    #[must_use]
    pub fn listen(mut self, listener: Listener) -> Self {
        self.doors.push((listener, None));
        self
    }

    /// Listens on `listener` for callers that `policy` admits, whatever the server's own says.
    #[must_use]
    pub fn listen_for(mut self, listener: Listener, policy: Policy) -> Self {
        self.doors.push((listener, Some(policy)));
        self
    }

    /// Tells the service manager (systemd, `nigh run`) when this server accepts, when it drains, and that it is alive:
    /// see [`Front::notify`].
    #[must_use]
    pub fn notify(mut self, notifier: Notifier) -> Self {
        self.notifier = Some(notifier);
        self
    }

    /// Live counts of connections and calls, to be kept before the server runs.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// The protocol, for a [`Front`] that serves others beside it, under one quota, policy and drain. Pass the front's
    /// own counters and journal; without a journal what callers do wrong is logged at debug level only.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub fn into_protocol(
        self,
        counters: Arc<Counters>,
        journal: Option<Arc<Journal>>,
    ) -> Result<Arc<dyn Protocol>, ServerError> {
        self.check()?;
        let framing = match self.accepts {
            Accepts::Auto => Err(Detector::new(self.limits.message_bytes_max)?),
            Accepts::Only(framing) => Ok(framing),
        };
        let exchanges = self.modules.iter().any(Module::exchanges_descriptors);
        let features = if exchanges {
            self.features
        } else {
            self.features.without(Features::DESCRIPTORS)
        };
        Ok(Arc::new(Packets(Arc::new(Shared {
            shares: Shares::new(self.limits.calls_per_uid_max),
            modules: self.modules,
            methods: self.methods,
            whole_modules: self.whole_modules,
            limits: self.limits,
            framing,
            features,
            threads: Arc::new(Semaphore::new(self.threads)),
            counters,
            journal,
        }))))
    }

    /// Serves on `listener`, besides those given before, for as long as the future is polled.
    ///
    /// # Errors
    /// See [`ServerError`]; no caller can cause one.
    pub async fn serve(self, listener: Listener) -> Result<Drained, ServerError> {
        self.listen(listener).run(std::future::pending()).await
    }

    /// Serves until `shutdown` completes, then drains: names are removed, running calls get
    /// [`drain_time`](nigh_socket::Limits::drain_time), new ones are answered FAILURE.
    ///
    /// # Errors
    /// See [`ServerError`]; no caller can cause one.
    ///
    /// # Cancel safety
    /// Dropping the future closes every listener and connection at once.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<Drained, ServerError> {
        let doors = std::mem::take(&mut self.doors);
        let usual = self.policy.take().unwrap_or_else(Policy::same_user);
        let mut front = Front::new(self.connections.clone(), Arc::clone(&self.counters));
        let succession = self.succession.take();
        if let Some(notifier) = self.notifier.take() {
            front.notify(notifier);
        }
        let protocol = self.into_protocol(front.counters(), Some(front.journal()))?;
        for (listener, policy) in doors {
            let policy = policy.unwrap_or_else(|| usual.clone());
            front.listen(listener, policy, Arc::clone(&protocol));
        }
        if let Some(succession) = succession {
            front.succeed(succession).await.map_err(FrontError::from)?;
        }
        Ok(front.run(shutdown).await?)
    }

    fn check(&self) -> Result<(), ServerError> {
        let has = |module: i32, method: i32| {
            let found = self.modules.get(module);
            found.is_some_and(|module| module.find(method).is_some())
        };
        let mut methods = self.methods.methods();
        if let Some(&(module, method)) = methods.find(|(module, method)| !has(*module, *method)) {
            let method = Some(method);
            return Err(ServerError::GuardsNothing { module, method });
        }
        let mut modules = self.whole_modules.methods();
        match modules.find(|module| self.modules.get(**module).is_none()) {
            Some(&module) => Err(ServerError::GuardsNothing {
                module,
                method: None,
            }),
            None => Ok(()),
        }
    }
}

/// The protocol of every dRPC listener of one server.
struct Packets(Arc<Shared>);

impl std::fmt::Debug for Packets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packets")
            .field("modules", &self.0.modules)
            .finish_non_exhaustive()
    }
}

impl Packets {
    fn served(
        &self,
        connection: connection::Connection,
        peer: Peer,
        listener: Arc<Address>,
        mut hold: Hold,
    ) -> Serving {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            match connection.serve_or_go(&mut hold).await {
                Ok(()) => {}
                Err(connection::Ending::Recv(error)) => {
                    tracing::debug!("connection of {peer} on {listener}: {error}");
                }
                Err(ending) => {
                    shared.warn(format_args!("connection of {peer} on {listener}: {ending}"));
                }
            }
            // The quota was charged until the last byte was out.
            drop(hold);
        })
    }
}

impl Protocol for Packets {
    fn kind(&self) -> SocketKind {
        SocketKind::Seqpacket
    }

    /// Without a module for them, the kernel refuses them at the caller.
    fn takes_descriptors(&self) -> Option<bool> {
        Some(self.0.features.has(Features::DESCRIPTORS))
    }

    fn serve(&self, connection: Connection) -> Serving {
        let (transport, peer, listener, hold) = connection.into_parts();
        // The front hands over no other kind.
        let Ok(socket) = transport.into_packet() else {
            return Box::pin(std::future::ready(()));
        };
        let shared = Arc::clone(&self.0);
        let drain = hold.drain();
        let connection = connection::Connection::new(shared, socket, peer.clone(), drain);
        self.served(connection, peer, listener, hold)
    }

    fn resume(&self, connection: Connection, state: &[u8]) -> Option<Serving> {
        let agreed = connection::Agreed::decode(state).filter(|agreed| agreed.suits(&self.0))?;
        let (transport, peer, listener, hold) = connection.into_parts();
        let socket = transport.into_packet().ok()?;
        let (shared, drain) = (Arc::clone(&self.0), hold.drain());
        let connection =
            connection::Connection::resumed(shared, socket, peer.clone(), drain, agreed);
        Some(self.served(connection, peer, listener, hold))
    }

    fn refuse(&self, refused: Refused) -> Serving {
        let Refused {
            transport,
            peer,
            listener,
            refusal,
        } = refused;
        let Ok(socket) = transport.into_packet() else {
            return Box::pin(std::future::ready(()));
        };
        let reason = if refusal.is_retryable() {
            Reason::Unavailable
        } else {
            Reason::Denied
        };
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            if let Err(error) = refusal::refuse(socket, reason, &shared.limits).await {
                tracing::debug!("refused caller {peer} on {listener}: {error}");
            }
        })
    }
}
