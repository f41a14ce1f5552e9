//! The server: tonic and tower services on any number of listeners, behind policies and guards.

mod answer;
mod body;
mod calls;
mod connect_info;
mod error;
mod guards;
mod handler;
mod health;
mod hooks;
mod protocol;

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use http::{Request, Response};
use nigh_socket::handover::Succession;
use nigh_socket::systemd::Notifier;
use nigh_socket::{Counters, Drained, Front, FrontError, Guard, Listener, Policy, Protocol};
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use calls::Routes;
pub(crate) use calls::{Answer, Calls};
#[cfg(test)]
pub(crate) use calls::{Standing, calls_for_tests, calls_to_for_tests};
pub use error::ServerError;
use handler::Handler;
use health::Health;
use hooks::{Hook, released};
use protocol::Streams;

use crate::fd::{FdLimits, Receivers};
use crate::limits::Limits;
use crate::shared_memory::SharedMemory;
use crate::tls::ServerTls;

/// Of the services that nigh itself adds.
const OWN_DESCRIPTORS: [&[u8]; 3] = [
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];

struct Door {
    listener: Listener,
    policy: Option<Policy>,
    via: Via,
}

enum Via {
    Streams(Option<ServerTls>),
    Other(Arc<dyn Protocol>),
}

/// Serves tonic services, and any other tower service, on Unix sockets and TCP.
///
/// Callers are admitted per listener by a [`Policy`] (the same user, unless said otherwise), and per
/// method by [`guard`](Self::guard). Handlers learn who called from
/// [`request.peer()`](crate::RequestExt::peer).
#[derive(Default)]
pub struct Server {
    policy: Option<Policy>,
    limits: Limits,
    services: HashMap<&'static str, Handler>,
    local_only: Vec<&'static str>,
    duplicate: Option<&'static str>,
    fallback: Option<Handler>,
    guard: Guard<String>,
    health: Option<Health>,
    health_names: Vec<&'static str>,
    released: Vec<Hook>,
    descriptors: Vec<&'static [u8]>,
    doors: Vec<Door>,
    counters: Option<Arc<Counters>>,
    receivers: Receivers,
    succession: Option<Succession>,
    notifier: Option<Notifier>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("services", &self.services.keys())
            .field("listeners", &self.doors.len())
            .finish_non_exhaustive()
    }
}

impl Server {
    /// A server without services and listeners, open to the same user only.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Who may connect to listeners that have no policy of their own. Default: the same user.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Replaces the default limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Whether callers over the nigh wire may move to shared memory. Default off. A later [`limits`](Self::limits) replaces it.
    #[must_use]
    pub fn shared_memory(mut self, shared_memory: SharedMemory) -> Self {
        self.limits.nigh.shared_memory = shared_memory;
        self
    }

    /// Serves a tonic service, or any tower service with a gRPC name.
    ///
    /// It is called by gRPC over HTTP/2 only: another content type than `application/grpc` is
    /// answered with 415, gRPC over HTTP/1.1 with 505, and no handler runs. A service that speaks
    /// something else, such as gRPC-Web, belongs into the [`fallback`](Self::fallback).
    #[must_use]
    pub fn service<S, B>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if self
            .services
            .insert(S::NAME, Handler::new(service))
            .is_some()
        {
            self.duplicate = Some(S::NAME);
        }
        self
    }

    /// As [`service`](Self::service), for one that must never be reached from another machine:
    /// starting it beside a listener that is not a Unix socket is an error.
    #[must_use]
    pub fn local_service<S, B>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.local_only.push(S::NAME);
        self.service(service)
    }

    /// Answers every path that belongs to no service: an axum `Router`, for example.
    #[must_use]
    pub fn fallback<S, B>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.fallback = Some(Handler::new(service));
        self
    }

    /// Lets only callers that `policy` admits reach `path`: `/package.Service/Method`, or
    /// `/package.Service/*` for all methods. Several guards of one path must all admit.
    ///
    /// It is decided before anything of the request's body is decoded. Over plain HTTP the path is
    /// compared as it was sent, and `/admin/*` covers whatever lies below `/admin/`, however deep.
    ///
    /// A path that guards nothing is an error at start: of another form, of a service that is not
    /// served (unless there is a [`fallback`](Self::fallback), whose routes are not known), or of a
    /// method that is not in the descriptors given to [`reflection`](Self::reflection).
    #[must_use]
    pub fn guard(mut self, path: impl Into<String>, policy: Policy) -> Self {
        self.guard.require(path.into(), policy);
        self
    }

    /// Lets callers send descriptors to a service, within `limits`: `S::NAME` or its gRPC name. Handlers take them by
    /// [`DescriptorsExt`](crate::DescriptorsExt).
    ///
    /// Descriptors sent to any other service are closed, and that call fails. With no such service the kernel lets
    /// nobody send any: a listener refuses them from before it listens (`SO_PASSRIGHTS`, Linux 6.16; an older kernel
    /// cannot, which is logged) until a server with such a service runs. grpcfd's clients, who may send before that,
    /// need a listener bound with `pass_rights(true)`. Sending descriptors to callers needs no leave.
    #[must_use]
    pub fn receive_descriptors(mut self, service: impl Into<String>, limits: FdLimits) -> Self {
        self.receivers.add(service.into(), limits);
        self
    }

    /// Serves `grpc.health.v1.Health`: every service is SERVING, and NOT_SERVING once a drain begins,
    /// when watchers are told so and then let go with UNAVAILABLE.
    #[must_use]
    pub fn health(self) -> Self {
        let (health, service) = Health::new();
        let mut server = self.service(service);
        server.health = Some(health);
        server
    }

    /// Tells the health of `name` as it does of the services given to [`service`](Self::service): of what the
    /// [`fallback`](Self::fallback) serves, whose names are not known. Does nothing without [`health`](Self::health).
    #[must_use]
    pub fn health_of(mut self, name: &'static str) -> Self {
        self.health_names.push(name);
        self
    }

    /// Serves reflection (v1 and v1alpha) of an encoded `FileDescriptorSet`. May be called repeatedly.
    #[must_use]
    pub fn reflection(mut self, descriptors: &'static [u8]) -> Self {
        self.descriptors.push(descriptors);
        self
    }

    /// Listens on `listener`, for callers that the server's policy admits.
    #[must_use]
    pub fn listen(mut self, listener: Listener) -> Self {
        self.doors.push(Door {
            listener,
            policy: None,
            via: Via::Streams(None),
        });
        self
    }

    /// Listens on `listener`, for callers that `policy` admits, whatever the server's own says.
    #[must_use]
    pub fn listen_for(mut self, listener: Listener, policy: Policy) -> Self {
        self.doors.push(Door {
            listener,
            policy: Some(policy),
            via: Via::Streams(None),
        });
        self
    }

    /// Listens on `listener` with TLS: the day the service moves to another machine.
    ///
    /// Callers from elsewhere have no uid: only a policy with `any` admits them.
    #[must_use]
    pub fn listen_tls(mut self, listener: Listener, policy: Policy, tls: ServerTls) -> Self {
        self.doors.push(Door {
            listener,
            policy: Some(policy),
            via: Via::Streams(Some(tls)),
        });
        self
    }

    /// Lets another protocol serve `listener`, under this server's policy, quota and drain.
    #[must_use]
    pub fn listen_other(mut self, listener: Listener, protocol: Arc<dyn Protocol>) -> Self {
        self.doors.push(Door {
            listener,
            policy: None,
            via: Via::Other(protocol),
        });
        self
    }

    /// Lets a later process replace this one while it runs, and this one replace the one that runs now.
    ///
    /// Begin the [`Succession`] at the control socket first, get the listeners from it
    /// ([`Succession::listen`]), and give both here: [`run`](Self::run) takes over when everything is prepared, and
    /// returns when a successor has done the same and the calls that ran have ended. See docs/restarts.md.
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
    /// use nigh::{HandoverOptions, Listener, Server, Succession};
    ///
    /// let control = "unix:/run/app/handover";
    /// let mut succession = Succession::begin(control, HandoverOptions::default()).await?;
    /// let listener = succession.listen(&Listener::options(), "unix:/run/app/app.sock")?;
    /// let server = Server::new().listen(listener).replaceable(succession);
    /// server.run(std::future::pending()).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn replaceable(mut self, succession: Succession) -> Self {
        self.succession = Some(succession);
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
    pub fn counters(&mut self) -> Arc<Counters> {
        Arc::clone(self.counters.get_or_insert_with(Arc::default))
    }

    /// Serves on `listener`, besides those given before, for as long as the future is polled.
    ///
    /// # Errors
    /// See [`ServerError`]; no caller can cause one.
    pub async fn serve(self, listener: Listener) -> Result<Drained, ServerError> {
        self.listen(listener).run(std::future::pending()).await
    }

    /// Does this each time a successor has taken over, for streams that would last longer than the drain: end them, and
    /// their callers come back, to the successor. (All callers are told by their wire to begin nothing new here.) If the
    /// successor dies, this server serves on, and may be replaced again.
    #[must_use]
    pub fn on_replaced(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.released.push(Hook(Box::new(hook)));
        self
    }

    /// Serves until `shutdown` completes, then drains: names are removed, running calls get
    /// [`drain_time`](nigh_socket::Limits::drain_time), new ones are refused as retryable.
    ///
    /// # Errors
    /// See [`ServerError`]; no caller can cause one.
    ///
    /// # Cancel safety
    /// Dropping the future closes every listener and connection at once.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<Drained, ServerError> {
        self.add_reflection()?;
        self.check()?;
        let mut health = self.health.take();
        if let Some(health) = &mut health {
            let named = self.health_names.iter().copied();
            health
                .open(self.services.keys().copied().chain(named))
                .await;
        }
        let succession = self.succession.take();
        let hooks = std::mem::take(&mut self.released);
        let notifier = self.notifier.take();
        let mut front = self.into_front();
        if let Some(notifier) = notifier {
            front.notify(notifier);
        }
        if let Some(succession) = succession {
            front.succeed(succession).await.map_err(FrontError::from)?;
        }
        let health = health.as_ref();
        let drains = front.drains();
        let released = async {
            released(health, &hooks, drains).await;
            std::future::pending().await
        };
        let shutdown = async {
            tokio::select! {
                () = shutdown => {}
                () = released => {}
            }
            if let Some(health) = health {
                health.close().await;
            }
        };
        Ok(front.run(shutdown).await?)
    }

    fn into_front(self) -> Front {
        let mut front = Front::new(
            self.limits.connections.clone(),
            self.counters.unwrap_or_default(),
        );
        let routes = Arc::new(Routes {
            services: self.services,
            fallback: self.fallback,
            guard: self.guard,
            counters: front.counters(),
            journal: front.journal(),
            receivers: self.receivers,
        });
        let limits = Arc::new(self.limits);
        let wires: Arc<[_]> = crate::wire::all().into();
        let usual = self.policy.unwrap_or_else(Policy::same_user);
        for Door {
            listener,
            policy,
            via,
        } in self.doors
        {
            let protocol = match via {
                Via::Other(protocol) => protocol,
                Via::Streams(tls) => Arc::new(Streams {
                    routes: Arc::clone(&routes),
                    limits: Arc::clone(&limits),
                    wires: Arc::clone(&wires),
                    tls,
                }),
            };
            front.listen(listener, policy.unwrap_or_else(|| usual.clone()), protocol);
        }
        front
    }

    fn check(&self) -> Result<(), ServerError> {
        if let Some(name) = self.duplicate {
            return Err(ServerError::DuplicateService { name });
        }
        let mut descriptors = self.descriptors.clone();
        descriptors.extend(OWN_DESCRIPTORS);
        for path in self.guard.methods() {
            let has_fallback = self.fallback.is_some();
            guards::check(path, &self.services, has_fallback, &descriptors)?;
        }
        for service in self.receivers.names() {
            if !self.services.contains_key(service.as_str()) {
                let service = service.clone();
                return Err(ServerError::ReceivesNothing { service });
            }
        }
        let remote = self.doors.iter().find(|door| !door.listener.is_local());
        match (self.local_only.first(), remote) {
            (Some(service), Some(door)) => Err(ServerError::NotLocal {
                service,
                listener: door.listener.address().clone(),
            }),
            _ => Ok(()),
        }
    }

    fn add_reflection(&mut self) -> Result<(), ServerError> {
        if self.descriptors.is_empty() {
            return Ok(());
        }
        let builder = || {
            let mut builder = tonic_reflection::server::Builder::configure();
            for descriptors in &self.descriptors {
                builder = builder.register_encoded_file_descriptor_set(descriptors);
            }
            if self.health.is_some() {
                let health = tonic_health::pb::FILE_DESCRIPTOR_SET;
                builder = builder.register_encoded_file_descriptor_set(health);
            }
            builder
        };
        let v1 = builder().build_v1().map_err(ServerError::Reflection)?;
        let v1alpha = builder().build_v1alpha().map_err(ServerError::Reflection)?;
        *self = std::mem::take(self).service(v1).service(v1alpha);
        Ok(())
    }
}
