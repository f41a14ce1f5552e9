//! The one front of a server: every listener and protocol shares its accepting, admission, quota and drain.
//!
//! ```text
//! Listener ─► Incoming ─policy─► ─quota─► Connection ─► Protocol::serve
//!                          └──────┴─────► Refused ────► Protocol::refuse (bounded in time, bytes, number)
//! ```

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::accept::{AcceptError, Acceptor, Ledger};
use crate::address::Address;
use crate::counters::Counters;
use crate::drain::{Drain, Drainer};
use crate::incoming::{Connection, Incoming, Refusal, Refused};
use crate::journal::Journal;
use crate::limits::{Limits, descriptors_max};
use crate::listener::{Listener, SocketKind};
use crate::policy::Policy;
use crate::quota::{Quota, QuotaExceeded};
use crate::share::Descriptors;

/// What a [`Protocol`] does with one connection, to its end.
pub type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What speaks on a listener's connections.
///
/// Neither method may fail: what goes wrong on one connection ends there and is logged there.
pub trait Protocol: Send + Sync + std::fmt::Debug + 'static {
    /// Which kind of listener it speaks on, and so what the [`Transport`](crate::Transport) of its connections is.
    fn kind(&self) -> SocketKind {
        SocketKind::Stream
    }

    /// Whether callers may send descriptors: the listener, and who waits in its queue already, is told so. Default:
    /// nobody chooses here, and the listener stays as it was bound, which is closed to them unless said otherwise.
    fn takes_descriptors(&self) -> Option<bool> {
        None
    }

    /// Serves an admitted caller until it leaves, or until its calls have ended after the drain began.
    fn serve(&self, connection: Connection) -> Serving;

    /// Tells a refused caller so in its own wire. It is cut off after [`Limits::refusal_time`];
    /// the protocol reads no more than [`Limits::refusal_bytes_max`] and runs no handler.
    fn refuse(&self, refused: Refused) -> Serving;
}

#[derive(Debug)]
struct Door {
    listener: Arc<Listener>,
    policy: Policy,
    protocol: Arc<dyn Protocol>,
    /// Callers may be in the queue from before the listener was opened to descriptors.
    opens_late: bool,
}

/// Why a server ended on its own, without having been asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrontError {
    /// No listener was given, so nobody could ever call.
    #[error("serve: no listener was given")]
    NoListener,
    /// The protocol speaks on another kind of socket.
    #[error("serve on {address}: a protocol for {protocol} sockets, on a {listener} socket")]
    Kind {
        /// The listener's address as published.
        address: Address,
        /// What the listener is.
        listener: SocketKind,
        /// What the protocol needs.
        protocol: SocketKind,
    },
    /// Datagram sockets have no connections to accept.
    #[error("serve on {address}: a datagram socket has no connections")]
    NoConnections {
        /// The socket's address as published.
        address: Address,
    },
    /// A listener could not be watched for callers.
    #[error("serve on {address}: cannot watch the listener")]
    Watch {
        /// The listener's address as published.
        address: Address,
        /// What the reactor said.
        source: io::Error,
    },
    /// A listener broke while serving; the others were drained.
    #[error(transparent)]
    Accept(#[from] AcceptError),
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still open at the deadline and were cut off.
    pub cut_off: usize,
}

/// Accepts on any number of listeners, admits callers and hands them to protocols.
#[derive(Debug)]
pub struct Front {
    doors: Vec<Door>,
    hall: Hall,
}

/// Callers accepted in a row before other tasks get their turn.
const ACCEPTED_IN_A_ROW: u32 = 16;

/// Callers answered that had queued before a drain: Linux's largest backlog. Whoever comes after them
/// came after the drain began.
const BACKLOG_MAX: u32 = 4097;

/// What all doors share.
#[derive(Debug, Clone)]
struct Hall {
    limits: Arc<Limits>,
    ledger: Ledger,
    descriptors: Arc<Descriptors>,
    refusals: Arc<Quota>,
    drainer: Arc<Drainer>,
    drain: Drain,
}

impl Front {
    /// A front without listeners, that counts into `counters`.
    #[must_use]
    pub fn new(limits: Limits, counters: Arc<Counters>) -> Self {
        let limits = limits.within(descriptors_max());
        let (drainer, drain) = Drainer::new();
        let hall = Hall {
            ledger: Ledger::new(&limits, counters),
            descriptors: Descriptors::new(limits.descriptors_per_uid_max),
            // A quarter for each: one silent caller must not keep the others from being told.
            refusals: Quota::of(limits.refusals_max, limits.refusals_max.div_ceil(4)),
            limits: Arc::new(limits),
            drainer: Arc::new(drainer),
            drain,
        };
        Self {
            doors: Vec::new(),
            hall,
        }
    }

    /// Admits callers of `listener` by `policy` and lets `protocol` serve them. Their kinds must agree: [`run`](Self::run)
    /// says so otherwise.
    pub fn listen(&mut self, listener: Listener, policy: Policy, protocol: Arc<dyn Protocol>) {
        let opens_late = protocol
            .takes_descriptors()
            .is_some_and(|takes| tell_rights(&listener, takes));
        self.doors.push(Door {
            listener: Arc::new(listener),
            policy,
            protocol,
            opens_late,
        });
    }

    /// The live counts, readable while the server runs.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.hall.ledger.counters)
    }

    /// Where protocols log what their callers did wrong, at the rate of [`Limits::log_lines_per_second`].
    #[must_use]
    pub fn journal(&self) -> Arc<Journal> {
        Arc::clone(&self.hall.ledger.journal)
    }

    /// The drain signal, for protocols that look at it per call.
    #[must_use]
    pub fn drain(&self) -> Drain {
        self.hall.drain.clone()
    }

    /// The addresses of all listeners, as published.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.doors.iter().map(|door| door.listener.address())
    }

    /// Serves until `shutdown` completes, then drains: names are removed, callers in the backlog are
    /// refused as retryable, running calls get [`Limits::drain_time`].
    ///
    /// # Errors
    /// See [`FrontError`]; no caller can cause one. When one listener breaks the others are drained.
    ///
    /// # Cancel safety
    /// Dropping the future closes every listener and connection at once.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<Drained, FrontError> {
        let Self { doors, hall } = self;
        if doors.is_empty() {
            return Err(FrontError::NoListener);
        }
        for door in &doors {
            door.check()?;
        }
        let mut open = JoinSet::new();
        for door in doors {
            let acceptor = Acceptor::with(Arc::clone(&door.listener), hall.ledger.clone());
            let acceptor = acceptor.map_err(|source| FrontError::Watch {
                address: door.listener.address().clone(),
                source,
            })?;
            open.spawn(door.keep(acceptor, hall.clone()));
        }
        let mut total = Drained { cut_off: 0 };
        let mut failure = None;
        tokio::select! {
            () = shutdown => {}
            Some(ended) = open.join_next() => note(ended, &mut total, &mut failure),
        }
        hall.drainer.begin(hall.limits.drain_time);
        while let Some(ended) = open.join_next().await {
            note(ended, &mut total, &mut failure);
        }
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(total),
        }
    }
}

/// Tells the listener whether descriptors may come; answers whether there may be callers who were told otherwise.
fn tell_rights(listener: &Listener, takes: bool) -> bool {
    if !listener.is_local() {
        return false;
    }
    // Nothing is lost but a defence, or a caller's own call: what comes unasked is closed all the same.
    let address = listener.address();
    let told = listener
        .passes_rights()
        .and_then(|open| Ok((open, listener.set_pass_rights(takes)?)));
    match told {
        Ok((_, false)) if !takes => {
            tracing::info!(
                "{address}: this kernel cannot refuse descriptors (SO_PASSRIGHTS, Linux 6.16): those that come are closed"
            );
            false
        }
        Ok((open, known)) => takes && known && !open,
        Err(error) => {
            tracing::warn!("{address}: SO_PASSRIGHTS: {error}");
            false
        }
    }
}

type DoorEnd = Result<Drained, AcceptError>;

fn note(
    ended: Result<DoorEnd, tokio::task::JoinError>,
    total: &mut Drained,
    failure: &mut Option<AcceptError>,
) {
    match ended {
        Ok(Ok(drained)) => total.cut_off += drained.cut_off,
        Ok(Err(error)) => *failure = Some(error),
        // A door has no code that panics, and nobody aborts it: hand a bug on instead of hiding it.
        Err(join) if join.is_panic() => std::panic::resume_unwind(join.into_panic()),
        Err(_) => {}
    }
}

impl Door {
    /// A caller never reaches a protocol that could not speak with it.
    fn check(&self) -> Result<(), FrontError> {
        let address = || self.listener.address().clone();
        let (listener, protocol) = (self.listener.kind(), self.protocol.kind());
        if listener == SocketKind::Datagram {
            return Err(FrontError::NoConnections { address: address() });
        }
        if listener != protocol {
            return Err(FrontError::Kind {
                address: address(),
                listener,
                protocol,
            });
        }
        Ok(())
    }

    async fn keep(self, mut acceptor: Acceptor, mut hall: Hall) -> DoorEnd {
        let mut guests = JoinSet::new();
        let mut drain = hall.drain.clone();
        let mut in_a_row = 0;
        let broken = loop {
            tokio::select! {
                biased;
                _ = drain.begun() => break None,
                Some(ended) = guests.join_next(), if !guests.is_empty() => hall.farewell(ended),
                incoming = acceptor.accept() => match incoming {
                    Ok(incoming) => self.receive(incoming, &hall, &mut guests),
                    Err(error) => break Some(error),
                },
            }
            in_a_row += 1;
            if in_a_row == ACCEPTED_IN_A_ROW {
                in_a_row = 0;
                tokio::task::yield_now().await;
            }
        };
        if let Some(error) = &broken {
            tracing::error!("{error}: {}", error.source);
            // Those who were admitted keep their calls; everybody else is drained with them.
            hall.drainer.begin(hall.limits.drain_time);
        }
        let deadline = drain.begun().await;
        if broken.is_none() {
            self.close(&mut acceptor, &hall, &mut guests, deadline)
                .await;
        }
        drop(acceptor);
        drop(self);
        let cut_off = hall.see_off(guests, deadline).await;
        broken.map_or(Ok(Drained { cut_off }), Err)
    }

    /// Removes the name first, so that new callers look elsewhere, then answers those who came before.
    ///
    /// The queue of an inherited listener is left alone: it belongs to whoever holds the listener too.
    async fn close(
        &self,
        acceptor: &mut Acceptor,
        hall: &Hall,
        guests: &mut JoinSet<()>,
        deadline: Instant,
    ) {
        let listener = Arc::clone(&self.listener);
        // It may wait for the lock beside the name.
        match tokio::task::spawn_blocking(move || listener.unpublish()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("{error}"),
            Err(error) => tracing::error!("the name was not given back: {error}"),
        }
        if self.listener.is_inherited() {
            return;
        }
        for accepted in 1..=BACKLOG_MAX {
            let Some(incoming) = acceptor.accept_waiting() else {
                break;
            };
            self.turn_away(incoming.refuse(Refusal::Draining), hall, guests);
            if accepted % ACCEPTED_IN_A_ROW == 0 {
                tokio::task::yield_now().await;
            }
            if Instant::now() >= deadline {
                break;
            }
        }
    }

    fn receive(&self, incoming: Incoming, hall: &Hall, guests: &mut JoinSet<()>) {
        if self.opens_late
            && let Err(error) = incoming.pass_rights()
        {
            tracing::debug!("{}: SO_PASSRIGHTS: {error}", self.listener.address());
        }
        let connection = match incoming.admit(&self.policy) {
            Ok(connection) => connection,
            Err(refused) => return self.turn_away(*refused, hall, guests),
        };
        match hall.ledger.quota.take(connection.peer()) {
            Ok(ticket) => {
                hall.ledger.counters.connections_admitted();
                let share = hall.descriptors.share(connection.peer());
                let connection = connection.under(hall.drain.clone(), ticket, share);
                guests.spawn(self.protocol.serve(connection));
            }
            Err(exceeded) => {
                self.turn_away(connection.refuse(Refusal::Quota(exceeded)), hall, guests);
            }
        }
    }

    fn turn_away(&self, refused: Refused, hall: &Hall, guests: &mut JoinSet<()>) {
        let counters = &hall.ledger.counters;
        match &refused.refusal {
            Refusal::Policy(_) => counters.connections_refused_by_policy(),
            Refusal::Quota(QuotaExceeded::Total { .. } | QuotaExceeded::Caller { .. }) => {
                counters.connections_refused_by_quota();
            }
            Refusal::Draining => counters.connections_refused_draining(),
        }
        hall.ledger.journal.warn(format_args!(
            "refused a connection on {} from {}: {}",
            refused.listener, refused.peer, refused.refusal
        ));
        let Ok(place) = hall.refusals.take(&refused.peer) else {
            counters.refusals_untold();
            return;
        };
        let telling = self.protocol.refuse(refused);
        let time = hall.limits.refusal_time;
        guests.spawn(async move {
            // Out of time is the expected end for a caller that never speaks.
            let _ = tokio::time::timeout(time, telling).await;
            drop(place);
        });
    }
}

impl Hall {
    fn farewell(&mut self, ended: Result<(), tokio::task::JoinError>) {
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!("a connection's task panicked: {error}");
        }
    }

    /// Waits for the connections that are left; returns how many were cut off at the deadline.
    async fn see_off(&mut self, mut guests: JoinSet<()>, deadline: Instant) -> usize {
        let all_left = async {
            while let Some(ended) = guests.join_next().await {
                self.farewell(ended);
            }
        };
        if tokio::time::timeout_at(deadline, all_left).await.is_ok() {
            return 0;
        }
        let left = guests.len();
        guests.shutdown().await;
        left
    }
}
