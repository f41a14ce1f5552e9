//! Tells every door what to do: accept, pause, drain, end; and knows what each is doing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::drain::{Drain, DrainReason, Drainer};

/// What a door is to do.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// Accept; connections get this drain signal.
    Open(Drain),
    /// Accept nothing for the moment: a successor is taking over.
    Held,
    /// A successor accepts. Connections leave, and the door stays ready to open again.
    Given,
    /// The server stops: the name goes, who waits is refused, connections have until then.
    Closing(Instant),
    /// The successor has served for long enough: what is left is cut off.
    Over,
}

/// What a door does.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DoorState {
    pub(super) accepts: bool,
    pub(super) guests: usize,
}

/// The porter's end of a door.
#[derive(Debug)]
pub(super) struct Bell {
    phase: watch::Sender<Phase>,
    state: watch::Receiver<DoorState>,
    knock: mpsc::Sender<oneshot::Sender<()>>,
}

/// The door's end.
#[derive(Debug)]
pub(super) struct Orders {
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) state: watch::Sender<DoorState>,
    /// Asks whether anybody is there; what comes is answered.
    pub(super) knocks: mpsc::Receiver<oneshot::Sender<()>>,
}

impl Bell {
    /// False for a door that has ended.
    fn has_guests(&self) -> bool {
        self.state.has_changed().is_ok() && self.state.borrow().guests > 0
    }
}

/// One for all doors of a front.
#[derive(Debug)]
pub(crate) struct Porter {
    drain_time: Duration,
    /// A service manager holds every listener, and somebody serves them after us.
    others_serve: bool,
    bells: Vec<Bell>,
    state: Mutex<State>,
    /// The signal for connections that are made now.
    current: watch::Sender<Drain>,
    successor: watch::Sender<Successor>,
}

/// How far a successor has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Successor {
    None,
    /// It has asked, and prepares itself.
    Preparing,
    /// It takes over: stopped here, nobody would know whose the names are.
    Going,
    /// It serves.
    Serving,
}

/// What a successor that prepares itself gets when the server is told to stop: then it need not start from nothing.
const PREPARING_TIME: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct State {
    drainer: Drainer,
    is_stopping: bool,
}

impl Porter {
    /// Open doors, as many as asked for.
    pub(super) fn new(
        drain_time: Duration,
        drain: (Drainer, Drain),
        current: watch::Sender<Drain>,
        doors: usize,
        others_serve: bool,
    ) -> (Self, Vec<Orders>) {
        let (drainer, drain) = drain;
        let ends = (0..doors).map(|_| {
            let (phase, phases) = watch::channel(Phase::Open(drain.clone()));
            let (state, states) = watch::channel(DoorState::default());
            let (knock, knocks) = mpsc::channel(1);
            let bell = Bell {
                phase,
                state: states,
                knock,
            };
            let orders = Orders {
                phase: phases,
                state,
                knocks,
            };
            (bell, orders)
        });
        let (bells, orders) = ends.unzip();
        let porter = Self {
            drain_time,
            others_serve,
            bells,
            state: Mutex::new(State {
                drainer,
                is_stopping: false,
            }),
            current,
            successor: watch::Sender::new(Successor::None),
        };
        (porter, orders)
    }

    /// The drain signal of connections that are made now; another one after a successor failed.
    pub(crate) fn drain(&self) -> Drain {
        self.current.borrow().clone()
    }

    /// The server stops: for good. Where others hold all its listeners, callers lose nobody by going there at their own
    /// pace, and calls that are on their way are answered.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.is_stopping = true;
        let why = match self.others_serve {
            true => DrainReason::Replaced,
            false => DrainReason::Stop,
        };
        let deadline = state.drainer.begin(self.drain_time, why);
        for bell in &self.bells {
            bell.phase.send_replace(Phase::Closing(deadline));
        }
    }

    /// Completes when every door has shown that it still turns to whoever comes; one that has ended need not.
    pub(super) async fn answered(&self) {
        for bell in &self.bells {
            let (answer, answered) = oneshot::channel();
            if bell.knock.send(answer).await.is_ok() {
                let _ = answered.await;
            }
        }
    }

    /// Says how far a successor has come.
    pub(super) fn note(&self, successor: Successor) {
        self.successor.send_replace(successor);
    }

    /// Completes when no successor is to be expected: there is none, or it takes too long.
    pub(super) async fn is_alone(&self) {
        let mut successor = self.successor.subscribe();
        loop {
            let now = *successor.borrow_and_update();
            let changed = match now {
                Successor::None => return,
                Successor::Preparing => {
                    let changed = tokio::time::timeout(PREPARING_TIME, successor.changed());
                    changed.await.is_ok_and(|changed| changed.is_ok())
                }
                Successor::Going | Successor::Serving => successor.changed().await.is_ok(),
            };
            if !changed {
                return;
            }
        }
    }

    /// Nobody accepts from now on, when this completes.
    pub(super) async fn hold(&self) {
        self.unless_stopping(|_| {
            for bell in &self.bells {
                bell.phase.send_replace(Phase::Held);
            }
        });
        for bell in &self.bells {
            // A door that is gone accepts nobody.
            let _ = bell.state.clone().wait_for(|state| !state.accepts).await;
        }
    }

    /// All doors are open again, also after a successor had been given them.
    pub(super) fn resume(&self) {
        self.note(Successor::None);
        self.unless_stopping(|state| {
            let mut drain = self.drain();
            if drain.has_begun() {
                (state.drainer, drain) = Drainer::new();
                self.current.send_replace(drain.clone());
            }
            for bell in &self.bells {
                bell.phase.send_replace(Phase::Open(drain.clone()));
            }
        });
    }

    /// A successor serves the doors of which `takes` is true; the others close. Says until when connections may stay.
    pub(super) fn give(&self, takes: impl Fn(usize) -> bool) -> Instant {
        let mut until = Instant::now();
        self.unless_stopping(|state| {
            until = state.drainer.begin(self.drain_time, DrainReason::Replaced);
            for (place, bell) in self.bells.iter().enumerate() {
                bell.phase.send_replace(match takes(place) {
                    true => Phase::Given,
                    false => Phase::Closing(until),
                });
            }
        });
        until
    }

    /// Completes when no door has guests any more, or at `until`; then the doors end.
    pub(super) async fn emptied(&self, until: Instant) {
        let empty = async {
            // A connection of an earlier predecessor may pass through meanwhile.
            while self.bells.iter().any(Bell::has_guests) {
                for bell in &self.bells {
                    let _ = bell.state.clone().wait_for(|state| state.guests == 0).await;
                }
            }
        };
        let _ = tokio::time::timeout_at(until, empty).await;
    }

    /// Ends the doors that a successor has.
    pub(super) fn end(&self) {
        self.unless_stopping(|_| {
            for bell in &self.bells {
                bell.phase.send_if_modified(|phase| {
                    let given = matches!(phase, Phase::Given);
                    if given {
                        *phase = Phase::Over;
                    }
                    given
                });
            }
        });
    }

    fn unless_stopping(&self, act: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        if !state.is_stopping {
            act(&mut state);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
