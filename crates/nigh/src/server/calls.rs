//! What happens to a call before and around its handler, the same on every wire.
//!
//! Order: draining? refused caller? known service? guard? gRPC, if the service is? then the handler,
//! under its deadline, with a panic caught. Nothing of the body is decoded before the guard has said yes.

use std::collections::HashMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt as _;
use http::{Extensions, Request, Response};
use http_body::Body as _;
use nigh_socket::{Counters, Drain, Guard, Journal, Peer};
use tokio::sync::Notify;
use tonic::Status;
use tonic::body::Body;

use super::answer::{Dialect, Turned};
use super::body::{WatchedBody, deadline_exceeded, handler_panicked};
use super::handler::{Answering, Handler};
use crate::deadline;
use crate::fd::{Descriptors, Incapable, Link, Receivers, ServerCall};
use crate::peer::Arrival;
use crate::wire::HTTP1;

/// The services of one server and what stands before them.
pub(crate) struct Routes {
    /// By gRPC service name, as in `/name/Method`.
    pub(crate) services: HashMap<&'static str, Handler>,
    /// What answers every other path.
    pub(crate) fallback: Option<Handler>,
    /// By path, or by `/name/*` for all methods of a service.
    pub(crate) guard: Guard<String>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) journal: Arc<Journal>,
    /// The services that take descriptors.
    pub(crate) receivers: Receivers,
}

/// Whether a connection's calls reach handlers.
#[derive(Debug, Clone)]
pub(crate) enum Standing {
    Admitted,
    /// Every call is answered with this status; after the first one `answered` is notified.
    Refused {
        status: Status,
        /// The caller may try again at once, elsewhere.
        is_unseen: bool,
        answered: Arc<Notify>,
    },
}

/// One connection's calls: a service for whichever wire carries them.
#[derive(Clone)]
pub(crate) struct Calls {
    routes: Arc<Routes>,
    peer: Peer,
    /// What each request is given: its peer, tonic's own connection information.
    extensions: Extensions,
    standing: Standing,
    /// What sorts the connection's descriptors, if it may carry some.
    link: Option<Arc<Link>>,
    /// The connection's own: one that is made after a failed replacement has another.
    drain: Option<Drain>,
}

impl Calls {
    pub(crate) fn new(
        routes: Arc<Routes>,
        peer: Peer,
        mut extensions: Extensions,
        standing: Standing,
    ) -> Self {
        extensions.insert(peer.clone());
        Self {
            routes,
            peer,
            extensions,
            standing,
            link: None,
            drain: None,
        }
    }

    /// Under the server's drain signal.
    pub(crate) fn under(mut self, drain: Option<Drain>) -> Self {
        self.drain = drain;
        self
    }

    /// Whether the connection should end with the answer that is just given.
    pub(crate) fn is_draining(&self) -> bool {
        self.drain.as_ref().is_some_and(Drain::has_begun)
    }

    /// With descriptors, as `link` sorts them.
    pub(crate) fn linked(mut self, link: Option<Arc<Link>>) -> Self {
        self.link = link;
        self
    }

    /// Whether the caller is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self.peer, Peer::Local(_))
    }

    /// Completes when a refused caller has had its answer; never for an admitted one.
    pub(crate) async fn answered(&self) {
        match &self.standing {
            Standing::Admitted => std::future::pending().await,
            Standing::Refused { answered, .. } => answered.notified().await,
        }
    }

    /// Answers one call. Dropping the future cancels its handler.
    pub(crate) fn call(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Response<Body>> + Send + use<> {
        let answer = self.answer(request, None);
        async move { answer.await.watched() }
    }

    /// As [`call`](Self::call), for the nigh wire: it knows the call's descriptors by its stream, and looks at once whether
    /// the answer is whole already.
    pub(crate) fn call_on_stream(
        &self,
        request: Request<Body>,
        stream: u32,
    ) -> impl Future<Output = Answer> + Send + use<> {
        self.answer(request, Some(stream))
    }

    /// As [`call`](Self::call), for a wire that has its own way to say that nobody looked.
    pub(crate) fn answer(
        &self,
        request: Request<Body>,
        stream: Option<u32>,
    ) -> impl Future<Output = Answer> + Send + use<> {
        let dialect = Dialect::of(&request);
        let started = self.start(dialect, request, stream);
        async move {
            match started {
                Ok(call) => call.run().await,
                Err(turned) => Answer {
                    response: turned.answer(dialect),
                    watch: None,
                    is_unseen: turned.is_unseen(),
                },
            }
        }
    }

    fn start(
        &self,
        dialect: Dialect,
        mut request: Request<Body>,
        stream: Option<u32>,
    ) -> Result<Call, Turned> {
        if let Standing::Refused {
            status,
            is_unseen,
            answered,
        } = &self.standing
        {
            answered.notify_one();
            return Err(match is_unseen {
                true => Turned::Unseen(status.clone()),
                false => status.clone().into(),
            });
        }
        let fds = match (&self.link, stream) {
            (Some(link), None) => ServerCall::begin(link, request.headers_mut())?,
            (Some(link), Some(stream)) => Some(ServerCall::on_stream(link, stream)?),
            (None, _) => None,
        };
        let counters = &self.routes.counters;
        if self.drain.as_ref().is_some_and(Drain::refuses_calls) {
            counters.calls_refused_draining();
            return Err(Turned::Unseen(draining()));
        }
        let path = request.uri().path();
        let (handler, is_named) = self.routes.find(dialect, path)?;
        if !self.routes.guard.is_empty() {
            self.routes.check(&self.peer, path)?;
        }
        if let Some(fds) = &fds {
            fds.admit(&self.routes.receivers, path)?;
        }
        if is_named {
            self.require_grpc(dialect)?;
        }
        let timeout = deadline::timeout(request.headers())
            .map_err(|bad| Status::invalid_argument(bad.to_string()))?;
        let arrival = self.extensions.get::<Arrival>();
        let no_fds = arrival.map_or(Incapable::NotNigh, |arrival| arrival.no_descriptors);
        let extensions = request.extensions_mut();
        if extensions.is_empty() {
            *extensions = self.extensions.clone();
        } else {
            extensions.extend(self.extensions.clone());
        }
        if let Some(fds) = &fds {
            extensions.insert(fds.handle());
        }
        counters.calls_handled();
        let answering = catch_unwind(AssertUnwindSafe(|| handler.answer(request)));
        let Ok(answering) = answering else {
            counters.handler_panics();
            return Err(handler_panicked().into());
        };
        Ok(Call {
            dialect,
            answering,
            timeout,
            counters: Arc::clone(counters),
            fds,
            no_fds,
        })
    }
}

impl Calls {
    /// tonic's services would run for anything: a form that a web page posts, for one.
    fn require_grpc(&self, dialect: Dialect) -> Result<(), Turned> {
        let arrival = self.extensions.get::<Arrival>();
        match dialect {
            Dialect::Http => Err(Turned::NotGrpc),
            Dialect::Grpc if arrival.is_some_and(|arrival| arrival.wire == HTTP1) => {
                Err(Turned::NotHttp2)
            }
            Dialect::Grpc => Ok(()),
        }
    }
}

impl Routes {
    /// What answers the path, and whether it is a service that was added by its gRPC name.
    fn find(&self, dialect: Dialect, path: &str) -> Result<(Handler, bool), Status> {
        let service = service_of(path);
        if let Some(handler) = service.and_then(|service| self.services.get(service)) {
            return Ok((handler.clone(), true));
        }
        match (&self.fallback, dialect) {
            (Some(fallback), _) => Ok((fallback.clone(), false)),
            (None, Dialect::Grpc) => {
                let name = service.unwrap_or(path);
                Err(Status::unimplemented(format!("no service {name:?} here")))
            }
            (None, Dialect::Http) => Err(Status::not_found("nothing here")),
        }
    }

    fn check(&self, peer: &Peer, path: &str) -> Result<(), Status> {
        // By the segment that also finds the handler, however deep the path goes below it.
        let whole_service = service_of(path).map(|service| format!("/{service}/*"));
        let verdict = self
            .guard
            .check(peer, path)
            .and_then(|()| match &whole_service {
                Some(service) => self.guard.check(peer, service.as_str()),
                None => Ok(()),
            });
        verdict.map_err(|verdict| {
            self.counters.calls_refused_by_guard();
            self.journal.warn(format_args!(
                "refused a call of {path} from {peer}: {verdict}"
            ));
            Status::permission_denied("the caller may not call this method")
        })
    }
}

/// The service that a path belongs to: all that comes before its second slash.
pub(super) fn service_of(path: &str) -> Option<&str> {
    Some(path.strip_prefix('/')?.split_once('/')?.0)
}

struct Call {
    dialect: Dialect,
    answering: Answering,
    timeout: Option<std::time::Duration>,
    counters: Arc<Counters>,
    fds: Option<ServerCall>,
    /// Why there are none.
    no_fds: Incapable,
}

impl Call {
    async fn run(self) -> Answer {
        let Self {
            dialect,
            answering,
            timeout,
            counters,
            fds,
            no_fds,
        } = self;
        let mut deadline = timeout.map(|timeout| Box::pin(tokio::time::sleep(timeout)));
        let answer = AssertUnwindSafe(answering).catch_unwind();
        let answer = match (&mut deadline, &fds) {
            (None, None) => answer.await,
            (deadline, fds) => tokio::select! {
                biased;
                answer = answer => answer,
                status = lost(fds.as_ref()) => return dialect.answer(&status).into(),
                () = passed(deadline.as_mut()) => return dialect.answer(&deadline_exceeded()).into(),
            },
        };
        match answer {
            Ok(mut response) => {
                if let Some(reply) = response.extensions_mut().remove::<Descriptors>()
                    && let Err(status) = ServerCall::send(fds.as_ref(), &reply, no_fds)
                {
                    return dialect.answer(&status).into();
                }
                if response.body().is_end_stream() {
                    return response.into();
                }
                let watch = Watch {
                    deadline,
                    dialect,
                    counters,
                    fds,
                };
                Answer {
                    response,
                    watch: Some(watch),
                    is_unseen: false,
                }
            }
            Err(_) => {
                counters.handler_panics();
                dialect.answer(&handler_panicked()).into()
            }
        }
    }
}

/// A handler's answer, whose body may still be in the making.
pub(crate) struct Answer {
    response: Response<Body>,
    watch: Option<Watch>,
    is_unseen: bool,
}

/// What a body needs that is still being produced.
pub(crate) struct Watch {
    deadline: Option<Pin<Box<tokio::time::Sleep>>>,
    dialect: Dialect,
    counters: Arc<Counters>,
    fds: Option<ServerCall>,
}

impl From<Response<Body>> for Answer {
    fn from(response: Response<Body>) -> Self {
        Self {
            response,
            watch: None,
            is_unseen: false,
        }
    }
}

impl Answer {
    /// Whether no handler has seen the call, nor will: the caller may make it again, elsewhere.
    pub(crate) fn is_unseen(&self) -> bool {
        self.is_unseen
    }

    /// The response with its body under watch.
    pub(crate) fn watched(self) -> Response<Body> {
        match self.watch {
            None => self.response,
            Some(watch) => self.response.map(|body| watch.over(body)),
        }
    }

    /// The response, and what is to be done for its body unless it ends at once: [`Watch::over`]. Until then each look
    /// at it goes through [`Watch::look`].
    pub(crate) fn into_parts(self) -> (Response<Body>, Option<Watch>) {
        match self.watch {
            // Their watch is about the whole body, from its first frame.
            Some(watch) if watch.fds.is_some() => {
                (self.response.map(|body| watch.over(body)), None)
            }
            watch => (self.response, watch),
        }
    }
}

impl Watch {
    /// The body, or the rest of one, under watch to its end.
    pub(crate) fn over(self, body: Body) -> Body {
        let counters = self.counters;
        let on_panic = Box::new(move || counters.handler_panics());
        let body = Body::new(WatchedBody::new(
            body,
            self.deadline,
            self.dialect,
            on_panic,
        ));
        match self.fds {
            Some(fds) => fds.watch(body),
            None => body,
        }
    }

    /// Looks at the body; its panic becomes the answer to give.
    pub(crate) fn look<T>(&self, look: impl FnOnce() -> T) -> Result<T, Box<Response<Body>>> {
        catch_unwind(AssertUnwindSafe(look)).map_err(|_| {
            self.counters.handler_panics();
            Box::new(self.dialect.answer(&handler_panicked()))
        })
    }
}

/// Completes when descriptors of the call were lost.
async fn lost(fds: Option<&ServerCall>) -> Status {
    match fds {
        Some(fds) => fds.lost().await,
        None => std::future::pending().await,
    }
}

/// Completes when the deadline has passed.
async fn passed(deadline: Option<&mut Pin<Box<tokio::time::Sleep>>>) {
    match deadline {
        Some(deadline) => deadline.await,
        None => std::future::pending().await,
    }
}

/// What a caller is told that comes while the server is stopping: try again, elsewhere or later.
pub(crate) fn draining() -> Status {
    Status::unavailable("the server is stopping; try again")
}

/// Calls of a server whose fallback says what was called by whom, for tests of a wire.
#[cfg(test)]
pub(crate) fn calls_for_tests(standing: Standing) -> Calls {
    use crate::peer::RequestExt as _;
    let say = |request: Request<Body>| async move {
        let text = format!("called {} by {}\n", request.uri().path(), request.peer());
        Ok::<_, std::convert::Infallible>(Response::new(Body::new(http_body_util::Full::from(
            text,
        ))))
    };
    calls_to_for_tests(tower::service_fn(say), standing)
}

/// Calls that one service answers, whatever their path.
#[cfg(test)]
pub(crate) fn calls_to_for_tests<S>(service: S, standing: Standing) -> Calls
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = std::convert::Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let front = nigh_socket::Front::new(nigh_socket::Limits::default(), Arc::default());
    let mut receivers = Receivers::default();
    // The paths of the wire's model.
    receivers.add("model".to_owned(), crate::FdLimits::default());
    let routes = Routes {
        services: HashMap::new(),
        fallback: Some(Handler::new(service)),
        guard: Guard::default(),
        counters: front.counters(),
        journal: front.journal(),
        receivers,
    };
    let peer = Peer::remote(([127, 0, 0, 1], 9).into());
    Calls::new(Arc::new(routes), peer, Extensions::new(), standing)
}
