//! A server that can be replaced: gives its doors to a successor, and gets idle connections from its predecessor.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::door::Arrival;
use super::porter::{Porter, Successor};
use super::relay::{Parcel, Relay};
use crate::handover::{
    Given, HandoverError, Moving, Predecessor, RefusalReason, Request, Said, Tenure,
};
use crate::incoming::Incoming;
use crate::listener::Listener;

/// What the doors are to those who replace.
#[derive(Debug)]
pub(super) struct Doors {
    pub(super) listeners: Vec<Arc<Listener>>,
    pub(super) arrivals: Vec<mpsc::Sender<Arrival>>,
}

/// Why there is nothing more to replace.
#[derive(Debug)]
pub(super) enum Replaced {
    /// A successor serves; what was left has been cut off.
    BySuccessor,
    /// The predecessor did not hear in time that this process serves, and serves on.
    TakenBack,
}

/// How long a successor may leave its queue full before a connection stays.
const SENDING_TIME: Duration = Duration::from_secs(5);

/// How a time as predecessor ended.
enum Drained {
    Over,
    SuccessorDied,
}

/// In office until a successor serves and this server has drained.
pub(super) async fn keep(
    mut tenure: Tenure,
    doors: Doors,
    porter: Arc<Porter>,
    relay: Arc<Relay>,
) -> Replaced {
    let doors = Arc::new(doors);
    let mut before = JoinSet::new();
    // However this ends, the predecessor shall not take it for a crash.
    let mut farewell = None;
    if let Some(predecessor) = tenure.take_predecessor() {
        farewell = Some(predecessor.farewell());
        before.spawn(receive(predecessor, Arc::clone(&doors)));
    }
    loop {
        let request = tokio::select! {
            request = tenure.request() => request,
            Some(ended) = before.join_next() => match ended {
                Ok(false) => {
                    doors.listeners.iter().for_each(|listener| listener.lend_name());
                    tenure.disown();
                    return Replaced::TakenBack;
                }
                _ => {
                    // It has ended: nobody is left to be told.
                    drop(farewell.take());
                    continue;
                }
            },
        };
        let request = match request {
            Ok(request) => request,
            Err(error) => {
                tracing::error!(
                    "this server cannot be replaced any more: {error}: {}",
                    error.source
                );
                return std::future::pending().await;
            }
        };
        let successor = request.peer().to_string();
        match give(request, &doors, &porter).await {
            Ok(given) => {
                tracing::info!("replaced by {successor}");
                match drain(given, &doors, &porter, &relay).await {
                    Drained::Over => return Replaced::BySuccessor,
                    Drained::SuccessorDied => {
                        tracing::error!("the successor {successor} died: serving on");
                    }
                }
            }
            Err(error) => {
                tracing::warn!("not replaced by {successor}: {error}");
            }
        }
        porter.resume();
    }
}

async fn give(request: Request, doors: &Doors, porter: &Porter) -> Result<Given, HandoverError> {
    let listeners: Vec<&Listener> = doors.listeners.iter().map(|listener| &**listener).collect();
    porter.note(Successor::Preparing);
    let prepared = request.offer(&listeners).await?;
    porter.note(Successor::Going);
    porter.hold().await;
    let given = prepared.give(&listeners).await?;
    porter.note(Successor::Serving);
    Ok(given)
}

/// Drains with the successor in view: idle connections go there, and if it dies everything comes back.
async fn drain(mut given: Given, doors: &Doors, porter: &Porter, relay: &Relay) -> Drained {
    let mut parcels = relay.open();
    let until = porter.give(|place| given.takes(place));
    let mut sent: HashMap<u32, oneshot::Sender<bool>> = HashMap::new();
    let mut next = 0;
    let mut left_in_order = false;
    let emptied = porter.emptied(until);
    let mut emptied = std::pin::pin!(emptied);
    let outcome = loop {
        tokio::select! {
            biased;
            said = given.said(), if !left_in_order => match said {
                Ok(Said::Moved(id)) => answer(&mut sent, id, true),
                Ok(Said::Kept(id)) => answer(&mut sent, id, false),
                Ok(Said::Left) => left_in_order = true,
                Err(HandoverError::Left(_)) => break Drained::SuccessorDied,
                Err(error) => {
                    tracing::error!("the successor speaks nonsense: {error}");
                    left_in_order = true;
                }
            },
            Some(parcel) = parcels.recv(), if !left_in_order => {
                next += 1;
                pass(&given, next, parcel, &mut sent).await;
            }
            () = &mut emptied => break Drained::Over,
        }
        if left_in_order {
            relay.close();
            sent.clear();
        }
    };
    relay.close();
    if let Drained::SuccessorDied = outcome {
        let listeners: Vec<&Listener> =
            doors.listeners.iter().map(|listener| &**listener).collect();
        if let Err(error) = given.take_back(&listeners) {
            tracing::error!("{error}");
        }
        // Before its connections hear that they did not go: they ask at once what to do.
        porter.resume();
    } else {
        porter.end();
    }
    outcome
}

fn answer(sent: &mut HashMap<u32, oneshot::Sender<bool>>, id: u32, went: bool) {
    if let Some(waiting) = sent.remove(&id) {
        // The connection may have been cut off meanwhile.
        let _ = waiting.send(went);
    }
}

async fn pass(
    given: &Given,
    id: u32,
    parcel: Parcel,
    sent: &mut HashMap<u32, oneshot::Sender<bool>>,
) {
    let Parcel {
        place,
        socket,
        state,
        went,
    } = parcel;
    // A listener that the successor did not take was never in its offer.
    let place = u16::try_from(place).unwrap_or(u16::MAX);
    let sending = given.send_connection(id, place, state, &socket);
    match tokio::time::timeout(SENDING_TIME, sending).await {
        Ok(Ok(())) => {
            sent.insert(id, went);
        }
        // Dropped: it stays.
        Ok(Err(error)) => tracing::debug!("an idle connection stays: {error}"),
        Err(_) => tracing::warn!("an idle connection stays: the successor does not read"),
    }
}

/// Gives the predecessor's idle connections to the doors, until it has ended. False: it serves on, and this server
/// shall not.
async fn receive(mut predecessor: Predecessor, doors: Arc<Doors>) -> bool {
    loop {
        let moving = match predecessor.next().await {
            Ok(Some(moving)) => moving,
            Ok(None) => return true,
            Err(
                error @ HandoverError::Refused {
                    reason: RefusalReason::TakenBack,
                    ..
                },
            ) => {
                tracing::error!("{error}");
                return false;
            }
            Err(error) => {
                tracing::error!("the predecessor speaks nonsense: {error}");
                return true;
            }
        };
        let id = moving.id;
        let (came, arrived) = oneshot::channel();
        let sent = deliver(moving, &doors, came).await;
        let ours = sent && arrived.await.unwrap_or(false);
        if let Err(error) = predecessor.answer(id, ours).await {
            tracing::debug!("{error}");
        }
    }
}

/// Brings it to its door; false when it has none here, or is none.
async fn deliver(moving: Moving, doors: &Doors, came: oneshot::Sender<bool>) -> bool {
    let found = doors.listeners.iter().zip(&doors.arrivals);
    let mut found = found.filter(|(listener, _)| listener.handed_index() == Some(moving.listener));
    let Some((listener, arrivals)) = found.next() else {
        return false;
    };
    match Incoming::moved(moving.socket, listener) {
        Ok(incoming) => {
            let arrival = Arrival {
                incoming,
                state: moving.state,
                came,
            };
            arrivals.send(arrival).await.is_ok()
        }
        Err(error) => {
            tracing::warn!("a connection of the predecessor cannot be taken over: {error}");
            false
        }
    }
}
