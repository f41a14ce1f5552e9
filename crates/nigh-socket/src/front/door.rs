//! One listener with its policy and protocol: accepts callers, turns them away, sees them off.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::porter::{DoorState, Orders, Phase, Porter};
use super::relay::{Desk, Relay};
use super::{Drained, FrontError, Hall, Protocol};
use crate::accept::{AcceptError, Acceptor};
use crate::drain::Drain;
use crate::incoming::{Incoming, Refusal, Refused};
use crate::listener::{Listener, SocketKind};
use crate::policy::Policy;
use crate::quota::QuotaExceeded;

/// Callers accepted in a row before other tasks get their turn.
const ACCEPTED_IN_A_ROW: u32 = 16;

/// Callers answered that had queued before a drain: Linux's largest backlog. Whoever comes after them
/// came after the drain began.
const BACKLOG_MAX: u32 = 4097;

#[derive(Debug)]
pub(super) struct Door {
    pub(super) listener: Arc<Listener>,
    pub(super) policy: Policy,
    pub(super) protocol: Arc<dyn Protocol>,
    /// Callers may be in the queue from before the listener was opened to descriptors.
    pub(super) opens_late: bool,
}

/// A connection from a predecessor.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) incoming: Incoming,
    pub(super) state: Vec<u8>,
    /// True when it is served here from now on.
    pub(super) came: oneshot::Sender<bool>,
}

/// What a door needs while it is kept.
pub(super) struct Keeping {
    pub(super) acceptor: Acceptor,
    pub(super) hall: Hall,
    pub(super) place: usize,
    pub(super) orders: Orders,
    pub(super) arrivals: mpsc::Receiver<Arrival>,
    pub(super) porter: Arc<Porter>,
    pub(super) relay: Arc<Relay>,
}

pub(super) type DoorEnd = Result<Drained, AcceptError>;

/// Why a door stopped what it was doing.
enum Break {
    Orders,
    Broken(AcceptError),
}

/// Tells the listener whether descriptors may come; answers whether there may be callers who were told otherwise.
pub(super) fn tell_rights(listener: &Listener, takes: bool) -> bool {
    if !listener.is_local() {
        return false;
    }
    if listener.defer_pass_rights(takes) {
        // The predecessor's callers were told what suited it.
        return takes;
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

impl Door {
    /// A caller never reaches a protocol that could not speak with it.
    pub(super) fn check(&self) -> Result<(), FrontError> {
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

    pub(super) async fn keep(self, mut keeping: Keeping) -> DoorEnd {
        let mut guests = JoinSet::new();
        let mut broken = None;
        let deadline = loop {
            let phase = keeping.orders.phase.borrow_and_update().clone();
            keeping.report(&phase, &guests);
            match phase {
                Phase::Open(_) if broken.is_some() => {
                    self.wait(&mut keeping, &mut guests, false).await
                }
                Phase::Open(drain) => match self.welcome(&mut keeping, &drain, &mut guests).await {
                    Break::Orders => {}
                    Break::Broken(error) => {
                        tracing::error!("{error}: {}", error.source);
                        broken = Some(error);
                        // Those who were admitted keep their calls; everybody else is drained with them.
                        keeping.porter.stop();
                    }
                },
                Phase::Held => self.wait(&mut keeping, &mut guests, false).await,
                Phase::Given => self.wait(&mut keeping, &mut guests, true).await,
                Phase::Closing(deadline) => {
                    if broken.is_none() {
                        self.close(&mut keeping, &mut guests, deadline).await;
                    }
                    break deadline;
                }
                Phase::Over => break Instant::now(),
            }
        };
        let Keeping {
            acceptor,
            mut hall,
            mut orders,
            ..
        } = keeping;
        drop(acceptor);
        // Nobody comes any more.
        orders.knocks.close();
        while orders.knocks.try_recv().is_ok() {}
        drop(self);
        let cut_off = hall.see_off(guests, deadline).await;
        drop(orders);
        broken.map_or(
            Ok(Drained {
                cut_off,
                is_replaced: false,
            }),
            Err,
        )
    }

    /// Accepts until there are other orders.
    async fn welcome(
        &self,
        keeping: &mut Keeping,
        drain: &Drain,
        guests: &mut JoinSet<()>,
    ) -> Break {
        let mut in_a_row = 0;
        loop {
            tokio::select! {
                biased;
                // The porter outlives the doors.
                _ = keeping.orders.phase.changed() => return Break::Orders,
                Some(answer) = keeping.orders.knocks.recv() => drop(answer.send(())),
                Some(ended) = guests.join_next(), if !guests.is_empty() => keeping.hall.farewell(ended),
                Some(arrival) = keeping.arrivals.recv() => self.resume(arrival, keeping, drain, guests),
                incoming = keeping.acceptor.accept() => match incoming {
                    Ok(incoming) => self.receive(incoming, keeping, drain, guests),
                    Err(error) => return Break::Broken(error),
                },
            }
            in_a_row += 1;
            if in_a_row == ACCEPTED_IN_A_ROW {
                in_a_row = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Accepts nobody until there are other orders, and says how many guests are left. With `passes`, connections of an
    /// earlier predecessor come in, to leave for the successor at once.
    async fn wait(&self, keeping: &mut Keeping, guests: &mut JoinSet<()>, passes: bool) {
        loop {
            tokio::select! {
                biased;
                _ = keeping.orders.phase.changed() => return,
                Some(answer) = keeping.orders.knocks.recv() => drop(answer.send(())),
                Some(ended) = guests.join_next(), if !guests.is_empty() => {
                    keeping.hall.farewell(ended);
                }
                Some(arrival) = keeping.arrivals.recv(), if passes => {
                    let drain = keeping.porter.drain();
                    self.resume(arrival, keeping, &drain, guests);
                }
            }
            let left = guests.len();
            keeping
                .orders
                .state
                .send_modify(|state| state.guests = left);
        }
    }

    /// Removes the name first, so that new callers look elsewhere, then answers those who came before.
    ///
    /// The queue of an inherited listener is left alone: it belongs to whoever holds the listener too.
    async fn close(&self, keeping: &mut Keeping, guests: &mut JoinSet<()>, deadline: Instant) {
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
            let Some(incoming) = keeping.acceptor.accept_waiting() else {
                break;
            };
            let refused = incoming.refuse(Refusal::Draining);
            self.turn_away(refused, &keeping.hall, guests);
            if accepted % ACCEPTED_IN_A_ROW == 0 {
                tokio::task::yield_now().await;
            }
            if Instant::now() >= deadline {
                break;
            }
        }
    }

    fn receive(
        &self,
        incoming: Incoming,
        keeping: &Keeping,
        drain: &Drain,
        guests: &mut JoinSet<()>,
    ) {
        if self.opens_late
            && let Err(error) = incoming.pass_rights()
        {
            tracing::debug!("{}: SO_PASSRIGHTS: {error}", self.listener.address());
        }
        let hall = &keeping.hall;
        let connection = match incoming.admit(&self.policy) {
            Ok(connection) => connection,
            Err(refused) => return self.turn_away(*refused, hall, guests),
        };
        match hall.ledger.quota.take(connection.peer()) {
            Ok(ticket) => {
                hall.ledger.counters.connections_admitted();
                let share = hall.descriptors.share(connection.peer());
                let connection =
                    connection.under(drain.clone(), ticket, share, Some(keeping.desk()));
                guests.spawn(self.protocol.serve(connection));
            }
            Err(exceeded) => {
                self.turn_away(connection.refuse(Refusal::Quota(exceeded)), hall, guests);
            }
        }
    }

    /// Goes on with a predecessor's connection, if this server's own policy and quota let it.
    fn resume(&self, arrival: Arrival, keeping: &Keeping, drain: &Drain, guests: &mut JoinSet<()>) {
        let Arrival {
            incoming,
            state,
            came,
        } = arrival;
        let hall = &keeping.hall;
        // Whoever is not taken stays with the predecessor, which tells it what it tells everybody then.
        let serving = incoming.admit(&self.policy).ok().and_then(|connection| {
            let ticket = hall.ledger.quota.take(connection.peer()).ok()?;
            let share = hall.descriptors.share(connection.peer());
            let desk = Some(keeping.desk());
            let connection = connection.under(drain.clone(), ticket, share, desk);
            self.protocol.resume(connection, &state)
        });
        let is_ours = serving.is_some();
        // Answered first: a connection is never with both.
        if came.send(is_ours).is_ok()
            && let Some(serving) = serving
        {
            hall.ledger.counters.connections_admitted();
            guests.spawn(serving);
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

impl Keeping {
    fn desk(&self) -> Desk {
        Desk {
            place: self.place,
            porter: Arc::clone(&self.porter),
            relay: Arc::clone(&self.relay),
        }
    }

    fn report(&self, phase: &Phase, guests: &JoinSet<()>) {
        self.orders.state.send_replace(DoorState {
            accepts: matches!(phase, Phase::Open(_)),
            guests: guests.len(),
        });
    }
}

impl Hall {
    fn farewell(&self, ended: Result<(), JoinError>) {
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
