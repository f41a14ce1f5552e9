//! The one front of a server: every listener and protocol shares its accepting, admission, quota and drain.
//!
//! ```text
//! Listener ─► Incoming ─policy─► ─quota─► Connection ─► Protocol::serve
//!                          └──────┴─────► Refused ────► Protocol::refuse (bounded in time, bytes, number)
//! ```

mod announce;
mod door;
mod porter;
mod relay;
mod replace;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::accept::{AcceptError, Acceptor, Ledger};
use crate::address::Address;
use crate::counters::Counters;
use crate::drain::{Drain, Drainer};
use crate::handover::{HandoverError, Succession, Tenure};
use crate::incoming::{Connection, Refused};
use crate::journal::Journal;
use crate::limits::{Limits, descriptors_max};
use crate::listener::{Listener, SocketKind};
use crate::policy::Policy;
use crate::quota::Quota;
use crate::share::Descriptors;
use crate::systemd::Notifier;
use announce::Manager;
use door::{Door, DoorEnd, Keeping};
use porter::Porter;
pub(crate) use relay::Desk;
use relay::Relay;
use replace::{Doors, Replaced};

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

    /// Goes on with an idle connection of a predecessor, from the `state` that the same protocol gave to
    /// [`Hold::pass_on`](crate::Hold::pass_on) there. `None`, the default: it stays where it was.
    ///
    /// The state is the other process's word: check it as anything that a peer sends.
    fn resume(&self, connection: Connection, state: &[u8]) -> Option<Serving> {
        let _ = (connection, state);
        None
    }
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
    /// The running server could not be replaced; it serves on.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// The predecessor did not hear in time that this server had taken over; it serves on, and this one has drained.
    #[error("serve: the predecessor took the listeners back")]
    TakenBack,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still open at the deadline and were cut off.
    pub cut_off: usize,
    /// A successor serves now.
    pub is_replaced: bool,
}

/// Accepts on any number of listeners, admits callers and hands them to protocols.
#[derive(Debug)]
pub struct Front {
    doors: Vec<Door>,
    hall: Hall,
    drain: (Drainer, Drain),
    drains: watch::Sender<Drain>,
    tenure: Option<Tenure>,
    notifier: Option<Notifier>,
}

/// Idle connections of a predecessor that wait for a door's attention.
const ARRIVALS_MAX: usize = 16;

/// What all doors share.
#[derive(Debug, Clone)]
struct Hall {
    limits: Arc<Limits>,
    ledger: Ledger,
    descriptors: Arc<Descriptors>,
    refusals: Arc<Quota>,
}

impl Front {
    /// A front without listeners, that counts into `counters`.
    #[must_use]
    pub fn new(limits: Limits, counters: Arc<Counters>) -> Self {
        let limits = limits.within(descriptors_max());
        let drain = Drainer::new();
        let hall = Hall {
            ledger: Ledger::new(&limits, counters),
            descriptors: Descriptors::new(limits.descriptors_per_uid_max),
            // A quarter for each: one silent caller must not keep the others from being told.
            refusals: Quota::of(limits.refusals_max, limits.refusals_max.div_ceil(4)),
            limits: Arc::new(limits),
        };
        Self {
            doors: Vec::new(),
            hall,
            drains: watch::Sender::new(drain.1.clone()),
            drain,
            tenure: None,
            notifier: None,
        }
    }

    /// Admits callers of `listener` by `policy` and lets `protocol` serve them. Their kinds must agree: [`run`](Self::run)
    /// says so otherwise.
    pub fn listen(&mut self, listener: Listener, policy: Policy, protocol: Arc<dyn Protocol>) {
        let opens_late = protocol
            .takes_descriptors()
            .is_some_and(|takes| door::tell_rights(&listener, takes));
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

    /// The drain signal of the connections that are made now. There is another one after a successor died and this
    /// server serves on.
    #[must_use]
    pub fn drains(&self) -> watch::Receiver<Drain> {
        self.drains.subscribe()
    }

    /// Takes over from the predecessor of `succession`, if it has one, with all listeners given so far. From then on
    /// this server can be replaced itself while it runs.
    ///
    /// # Errors
    /// See [`HandoverError`]; the predecessor serves on then.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the predecessor serving.
    pub async fn succeed(&mut self, succession: Succession) -> Result<(), HandoverError> {
        let listeners: Vec<&Listener> = self.doors.iter().map(|door| &*door.listener).collect();
        self.tenure = Some(succession.take_over(&listeners).await?);
        Ok(())
    }

    /// Tells the service manager when this server accepts (READY), when it drains (STOPPING), and, where the manager
    /// watches, twice in its time that every accept loop still runs on a runtime that still turns (WATCHDOG). One that
    /// took over from a predecessor says that it is the main process now. That the manager cannot be told is logged.
    ///
    /// Of several fronts in a process let one tell, and tell it last.
    pub fn notify(&mut self, notifier: Notifier) {
        self.notifier = Some(notifier);
    }

    /// The addresses of all listeners, as published.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.doors.iter().map(|door| door.listener.address())
    }

    /// Serves until `shutdown` completes, then drains: names are removed, callers in the backlog are
    /// refused as retryable, running calls get [`Limits::drain_time`].
    ///
    /// Where a service manager holds every listener (`fd:NAME`, `fd:N`), callers go to whoever serves them next without
    /// losing a call: those on their way are answered, as after a take-over.
    ///
    /// Serves also until a successor has taken over, where there can be one ([`succeed`](Self::succeed)): then names and
    /// backlog are the successor's, and connections leave within the same time.
    ///
    /// # Errors
    /// See [`FrontError`]; no caller can cause one. When one listener breaks the others are drained.
    ///
    /// # Cancel safety
    /// Dropping the future removes every name at once, and lets the runtime close every listener and connection.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<Drained, FrontError> {
        let Self {
            doors,
            hall,
            drain,
            drains,
            tenure,
            notifier,
        } = self;
        if doors.is_empty() {
            return Err(FrontError::NoListener);
        }
        for door in &doors {
            door.check()?;
        }
        let others_serve = doors.iter().all(|door| door.listener.is_shared());
        let (porter, orders) = Porter::new(
            hall.limits.drain_time,
            drain,
            drains,
            doors.len(),
            others_serve,
        );
        let (porter, relay) = (Arc::new(porter), Arc::new(Relay::default()));
        let _names = Names(
            doors
                .iter()
                .map(|door| Arc::clone(&door.listener))
                .collect(),
        );
        let mut open = JoinSet::new();
        let (mut listeners, mut arrivals) = (Vec::new(), Vec::new());
        for (place, (door, orders)) in doors.into_iter().zip(orders).enumerate() {
            let acceptor = Acceptor::with(Arc::clone(&door.listener), hall.ledger.clone());
            let acceptor = acceptor.map_err(|source| FrontError::Watch {
                address: door.listener.address().clone(),
                source,
            })?;
            let (sender, receiver) = mpsc::channel(ARRIVALS_MAX);
            listeners.push(Arc::clone(&door.listener));
            arrivals.push(sender);
            open.spawn(door.keep(Keeping {
                acceptor,
                hall: hall.clone(),
                place,
                orders,
                arrivals: receiver,
                porter: Arc::clone(&porter),
                relay: Arc::clone(&relay),
            }));
        }
        let manager = Manager::new(notifier, tenure.is_some(), &listeners);
        let replaceable = async {
            match tenure {
                Some(tenure) => {
                    let doors = Doors {
                        listeners,
                        arrivals,
                    };
                    replace::keep(tenure, doors, Arc::clone(&porter), relay).await
                }
                None => std::future::pending().await,
            }
        };
        manager.ready().await;
        tokio::select! {
            concluded = conclude(open, &porter, &manager, shutdown, replaceable) => concluded,
            never = manager.keep_alive(&porter) => match never {},
        }
    }
}

/// The names of a server that is dropped while it runs. Its doors are tasks, which end when the runtime comes to it: a
/// process that exits first would leave the names behind.
struct Names(Vec<Arc<Listener>>);

impl Drop for Names {
    fn drop(&mut self) {
        for listener in &self.0 {
            // The listener tries again, and says so, when it is dropped itself.
            let _ = listener.unpublish();
        }
    }
}

/// Waits for the end, whoever causes it, and for the doors after it.
async fn conclude(
    mut open: JoinSet<DoorEnd>,
    porter: &Porter,
    manager: &Manager,
    shutdown: impl Future<Output = ()>,
    replaceable: impl Future<Output = Replaced>,
) -> Result<Drained, FrontError> {
    let mut total = Drained {
        cut_off: 0,
        is_replaced: false,
    };
    let (mut failure, mut was_taken_back) = (None, false);
    {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut replaceable = std::pin::pin!(replaceable);
        let (mut ended, mut outcome) = (None, None);
        tokio::select! {
            () = &mut shutdown => tokio::select! {
                biased;
                // Whoever has been asked for its listeners gives them rather than taking them down with it.
                replaced = &mut replaceable => outcome = Some(replaced),
                () = porter.is_alone() => {}
            },
            replaced = &mut replaceable => outcome = Some(replaced),
            Some(end) = open.join_next() => ended = Some(end),
        }
        match outcome {
            Some(Replaced::BySuccessor) => total.is_replaced = true,
            Some(Replaced::TakenBack) => was_taken_back = true,
            None => {}
        }
        if let Some(end) = ended {
            note(end, &mut total, &mut failure);
        }
    }
    if !total.is_replaced {
        porter.stop();
        manager.stopping().await;
    }
    while let Some(ended) = open.join_next().await {
        note(ended, &mut total, &mut failure);
    }
    match (failure, was_taken_back) {
        (Some(error), _) => Err(error.into()),
        (None, true) => Err(FrontError::TakenBack),
        (None, false) => Ok(total),
    }
}

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
