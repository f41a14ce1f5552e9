//! The predecessor's side, step by step as types: [`Request`] ─offer─► [`Prepared`] ─give─► [`Given`].
//!
//! Whatever fails on the way, everything is as before: `give` takes back what it had begun to give.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::error::{HandoverError, Step};
use super::leash::{Leash, unexpected};
use super::message::{LISTENERS_MAX, Message, RefusalReason};
use super::options::HandoverOptions;
use crate::listener::Listener;
use crate::peer::Peer;

/// A successor that may have the listeners, and has seen none yet.
#[derive(Debug)]
pub struct Request {
    leash: Leash,
    control: Arc<Listener>,
    options: HandoverOptions,
}

/// A successor that has all listeners and is ready to serve.
#[derive(Debug)]
pub struct Prepared {
    leash: Leash,
    control: Arc<Listener>,
    options: HandoverOptions,
    taken: u64,
}

/// A successor that serves.
#[derive(Debug)]
pub struct Given {
    leash: Leash,
    control: Arc<Listener>,
    taken: u64,
}

/// What a successor says while its predecessor drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// The connection is the successor's.
    Moved(u32),
    /// The connection stays.
    Kept(u32),
    /// The successor ends in order.
    Left,
}

/// How the time after a hand-over ended, for the one that gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// The successor ended in order, or was succeeded itself.
    LeftInOrder,
    /// It died: whoever gave can [`take_back`](Given::take_back) and serve on.
    Died,
}

impl Request {
    pub(super) fn new(leash: Leash, control: Arc<Listener>, options: HandoverOptions) -> Self {
        Self {
            leash,
            control,
            options,
        }
    }

    /// Who asks.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.leash.peer()
    }

    /// Sends the control socket and `listeners`, and waits until the successor is prepared to serve on them. Serve on
    /// meanwhile.
    ///
    /// # Errors
    /// See [`HandoverError`]. Nothing has changed then.
    ///
    /// # Cancel safety
    /// Dropping the future ends the hand-over; nothing has changed.
    pub async fn offer(mut self, listeners: &[&Listener]) -> Result<Prepared, HandoverError> {
        match self.converse(listeners).await {
            Ok(taken) => Ok(Prepared {
                leash: self.leash,
                control: self.control,
                options: self.options,
                taken,
            }),
            Err(error) => {
                self.leash.refuse(error.reason(), &error.to_string());
                Err(error)
            }
        }
    }

    /// Sends it away, for a server that is stopping.
    pub fn decline(self) {
        self.leash.refuse(RefusalReason::Stopping, "");
    }

    async fn converse(&mut self, listeners: &[&Listener]) -> Result<u64, HandoverError> {
        let too_many = HandoverError::TooMany(listeners.len());
        let count = u16::try_from(listeners.len() + 1).ok();
        let Some(count) = count.filter(|count| *count <= LISTENERS_MAX) else {
            return Err(too_many);
        };
        let offer = Message::Offer { listeners: count };
        self.leash.send(Step::Offer, &offer, None).await?;
        // The control socket first: whoever has it can be asked for the rest.
        let control = Arc::clone(&self.control);
        let all = [&*control].into_iter().chain(listeners.iter().copied());
        for (index, listener) in (0..count).zip(all) {
            self.send_listener(index, listener).await?;
        }
        let (message, _) = self
            .leash
            .receive(Step::Ready, self.options.ready_time)
            .await?;
        let Message::Ready { taken } = message else {
            return Err(unexpected(Step::Ready, &message, 0));
        };
        // Without the control socket it could not be succeeded; beyond the offer nothing can be taken.
        match taken & 1 == 1 && taken.checked_shr(count.into()).unwrap_or(0) == 0 {
            true => Ok(taken),
            false => Err(unexpected(Step::Ready, &message, 0)),
        }
    }

    async fn send_listener(
        &mut self,
        index: u16,
        listener: &Listener,
    ) -> Result<(), HandoverError> {
        let claim = listener.claim(index == 0).map_err(|source| {
            let address = listener.address().clone();
            HandoverError::Listener { address, source }
        })?;
        let claim = Box::new(claim);
        let message = Message::Listener { index, claim };
        self.leash
            .send(Step::Offer, &message, Some(listener.as_fd()))
            .await?;
        let step = Step::Offer;
        match self.leash.receive(step, self.options.step_time).await? {
            (Message::Received { index: received }, _) if received == index => Ok(()),
            (message, _) => Err(unexpected(step, &message, 0)),
        }
    }
}

impl Prepared {
    /// Whether the successor serves on the listener that had this place in the offer.
    #[must_use]
    pub fn takes(&self, place: usize) -> bool {
        takes(self.taken, place)
    }

    /// Lets the successor take over. Accept nothing from now on, until this fails.
    ///
    /// # Errors
    /// See [`HandoverError`]: `listeners`, the same as were offered, are this process's as before then, and clients see
    /// it again.
    ///
    /// # Cancel safety
    /// Not cancel safe: dropped in between, the successor may serve with the names still this process's.
    pub async fn give(mut self, listeners: &[&Listener]) -> Result<Given, HandoverError> {
        let (step, time) = (Step::Go, self.options.step_time);
        let mut given = async || {
            self.leash.send(step, &Message::Go, None).await?;
            match self.leash.receive(step, time).await? {
                (Message::Serving, _) => Ok(()),
                (message, _) => Err(unexpected(step, &message, 0)),
            }
        };
        let outcome = given().await;
        let given = Given {
            leash: self.leash,
            control: self.control,
            taken: self.taken,
        };
        match outcome {
            Ok(()) => {
                for listener in given.taken(listeners) {
                    listener.lend_name();
                }
                Ok(given)
            }
            Err(error) => {
                given
                    .leash
                    .refuse(RefusalReason::TakenBack, &error.to_string());
                given.take_back(listeners)?;
                Err(error)
            }
        }
    }
}

impl Given {
    /// Who serves now.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.leash.peer()
    }

    /// Whether the successor serves on the listener that had this place in the offer.
    #[must_use]
    pub fn takes(&self, place: usize) -> bool {
        takes(self.taken, place)
    }

    /// Waits until the successor has gone, one way or the other.
    ///
    /// # Errors
    /// When it says what has no place here.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn watch(&mut self) -> Result<Watched, HandoverError> {
        loop {
            match self.said().await {
                Ok(Said::Left) => return Ok(Watched::LeftInOrder),
                Ok(Said::Moved(_) | Said::Kept(_)) => {}
                Err(HandoverError::Left(_)) => return Ok(Watched::Died),
                Err(error) => return Err(error),
            }
        }
    }

    /// Serves again after the successor died: clients see this process, and the names are its own.
    ///
    /// # Errors
    /// When a listener cannot be listened on again.
    pub fn take_back(&self, listeners: &[&Listener]) -> Result<(), HandoverError> {
        for listener in self.taken(listeners) {
            listener.relisten().map_err(|source| HandoverError::SetUp {
                address: listener.address().clone(),
                source,
            })?;
            listener.own_name();
            if let Err(error) = listener.advertise_again() {
                tracing::error!("the address of {} is not told: {error}", listener.address());
            }
        }
        Ok(())
    }

    /// What the successor says next.
    ///
    /// Cancel safe.
    pub(crate) async fn said(&mut self) -> Result<Said, HandoverError> {
        match self.leash.next(Step::Drain).await? {
            (Message::Moved { id }, _) => Ok(Said::Moved(id)),
            (Message::Kept { id }, _) => Ok(Said::Kept(id)),
            (Message::Left, _) => Ok(Said::Left),
            (message, _) => Err(unexpected(Step::Drain, &message, 0)),
        }
    }

    /// Sends an idle connection; the answer comes with [`said`](Self::said).
    pub(crate) async fn send_connection(
        &self,
        id: u32,
        place: u16,
        state: Vec<u8>,
        socket: &OwnedFd,
    ) -> Result<(), HandoverError> {
        let message = Message::Connection {
            id,
            // The control socket has place 0.
            listener: place.saturating_add(1),
            state,
        };
        self.leash
            .send(Step::Drain, &message, Some(socket.as_fd()))
            .await
    }

    fn taken<'a>(&'a self, listeners: &'a [&'a Listener]) -> impl Iterator<Item = &'a Listener> {
        let taken = listeners.iter().enumerate();
        let taken = taken.filter(|(place, _)| takes(self.taken, *place));
        taken.map(|(_, listener)| *listener).chain([&*self.control])
    }
}

/// The control socket has the first bit.
fn takes(taken: u64, place: usize) -> bool {
    let bit = u32::try_from(place + 1).ok();
    bit.and_then(|bit| taken.checked_shr(bit))
        .is_some_and(|taken| taken & 1 == 1)
}
