//! One connection of the async client: callers send, one task receives and hands each answer to its call.
//!
//! Trap: a caller that stops waiting must not lose the place of its answer. The slot stays until the answer has come,
//! and is then dropped by its sequence; the place among the calls in flight is free again only then.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nigh_socket::{Received, RecvError, SendError, UnixSeqpacket};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, Sleep};

use super::error::{CallError, TransportError};
use super::exchange::{Again, Draft, Exchange, Reply, is_legacy_refusal};
use crate::limits::Limits;
use crate::link::{Flush, Inbound, Message, Outbox, Place, with_scratch};
use crate::wire::{Features, Framing, Violation};

type Outcome = Result<Reply, CallError>;

/// The call's outcome, or the call itself, which was not sent.
type Told = Result<Outcome, Draft>;

/// A connection that callers share.
#[derive(Debug)]
pub(crate) struct Link {
    socket: UnixSeqpacket,
    limits: Limits,
    state: Mutex<State>,
    /// Places for calls in flight: one, and the window once it is granted.
    places: Arc<Semaphore>,
    /// Wakes the receiving task when there is something to write, or nothing left to do.
    driver: Notify,
}

#[derive(Debug)]
struct State {
    exchange: Exchange,
    outbox: Outbox,
    slots: HashMap<i64, Slot>,
    /// Why the connection is of no further use.
    broken: Option<CallError>,
    /// The server takes no more calls; it answers those that it has.
    is_shut: bool,
    /// Nobody will make a call on it.
    is_retired: bool,
    /// A call whose first packets are out. It is made again when the server has nothing to say about them.
    begun: Option<Again>,
    has_answered: bool,
    places_given: u32,
    /// Calls wait for others to go with: the task sends them when all callers that can run have.
    is_gathering: bool,
}

/// A call in flight.
#[derive(Debug)]
struct Slot {
    /// Who waits; nobody, once the call was given up.
    waiter: Option<oneshot::Sender<Told>>,
    _place: OwnedSemaphorePermit,
}

impl Link {
    /// Speaks `framing` on a connected socket; a task of its own receives until the link is closed.
    pub(crate) fn start(socket: UnixSeqpacket, exchange: Exchange, limits: &Limits) -> Arc<Self> {
        let inbound = Inbound::new(Ok(exchange.framing), limits);
        let link = Arc::new(Self {
            socket,
            limits: limits.clone(),
            state: Mutex::new(State {
                exchange,
                outbox: Outbox::default(),
                slots: HashMap::new(),
                broken: None,
                is_shut: false,
                is_retired: false,
                begun: None,
                has_answered: false,
                places_given: 1,
                is_gathering: false,
            }),
            places: Arc::new(Semaphore::new(1)),
            driver: Notify::new(),
        });
        let driver = Driver {
            link: Arc::clone(&link),
            inbound,
            has_waited: false,
            message_timer: None,
            write_timer: None,
        };
        tokio::spawn(driver.run());
        link
    }

    /// Whether it can be used.
    pub(crate) fn is_usable(&self) -> bool {
        self.state().is_usable()
    }

    /// Why it broke, if it did.
    pub(crate) fn broken(&self) -> Option<CallError> {
        self.state().broken.clone()
    }

    /// Whether any answer ever came.
    pub(crate) fn has_answered(&self) -> bool {
        self.state().has_answered
    }

    /// Whether it is known what the server understands.
    pub(crate) fn is_settled(&self) -> bool {
        self.state().exchange.is_settled()
    }

    /// Makes a call. `Err(draft)` when the server has not got it, and will not.
    pub(crate) async fn call(
        self: &Arc<Self>,
        draft: Draft,
        deadline: Option<Instant>,
    ) -> Result<Outcome, Draft> {
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
            return Err(draft);
        };
        let (waiter, answer) = oneshot::channel();
        let sequence = match self.begin(draft, deadline, waiter, place) {
            Ok(Ok(sequence)) => sequence,
            Ok(Err(error)) => return Ok(Err(error)),
            Err(draft) => return Err(draft),
        };
        let mut pending = Pending {
            link: self,
            sequence,
            is_answered: false,
        };
        let told = answer.await;
        pending.is_answered = true;
        told.unwrap_or_else(|_| Ok(Err(CallError::transport(TransportError::Dropped))))
    }

    fn begin(
        &self,
        draft: Draft,
        deadline: Option<Instant>,
        waiter: oneshot::Sender<Told>,
        place: OwnedSemaphorePermit,
    ) -> Result<Result<i64, CallError>, Draft> {
        let mut state = self.state();
        if !state.is_usable() {
            return Err(draft);
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let (sequence, outgoing) = match state.exchange.call(draft, left, &self.limits) {
            Ok(call) => call,
            Err(error) => return Ok(Err(error)),
        };
        state.slots.insert(
            sequence,
            Slot {
                waiter: Some(waiter),
                _place: place,
            },
        );
        state.outbox.push(outgoing);
        let has_company = state.slots.len() > 1 || state.is_gathering;
        if has_company && state.exchange.features().has(Features::ROWS) {
            if !state.is_gathering {
                state.is_gathering = true;
                self.driver.notify_one();
            }
        } else {
            self.send(&mut state);
        }
        Ok(Ok(sequence))
    }

    /// Sends what it can now; the task does the rest.
    fn send(&self, state: &mut State) {
        let flushed = state
            .outbox
            .flush(|slices, fds| self.socket.try_send(slices, fds));
        match flushed {
            Ok(Flush::Done) => {}
            Ok(Flush::Blocked) => self.driver.notify_one(),
            // What the server had sent before is still to be read: the task finds out.
            Err(error) => self.send_failed(state, error),
        }
    }

    fn send_failed(&self, state: &mut State, error: SendError) {
        if matches!(error, SendError::Closed | SendError::Reset) {
            state.is_shut = true;
            // Whoever waits for a place looks for another connection.
            self.places.close();
            for again in state.outbox.abandon().into_iter().filter_map(Again::of) {
                match again.has_begun {
                    true => state.begun = Some(again),
                    false => state.give_back(again),
                }
            }
        } else {
            self.break_with(state, CallError::transport(error));
        }
        self.driver.notify_one();
    }

    /// Nobody waits for the answer any more. drpc §8.3
    fn give_up(&self, sequence: i64) {
        let mut state = self.state();
        let Some(slot) = state.slots.get_mut(&sequence) else {
            return;
        };
        slot.waiter = None;
        if state.is_shut {
            self.driver.notify_one();
        } else if let Some(cancel) = state.exchange.cancel(sequence) {
            state.outbox.push(cancel);
            self.send(&mut state);
        }
    }

    /// No more calls come. Ends the link, when those that the server has are answered.
    pub(crate) fn retire(&self) {
        self.state().is_retired = true;
        self.driver.notify_one();
    }

    /// Why there is nothing left to do, if so.
    fn end(&self) -> Option<CallError> {
        let state = self.state();
        let is_awaited = || state.slots.values().any(|slot| slot.waiter.is_some());
        let is_over = state.is_retired && !(state.is_shut && is_awaited());
        let over = is_over.then(|| CallError::transport(TransportError::Dropped));
        state.broken.clone().or(over)
    }

    /// Ends the link: all calls in flight and all to come fail.
    pub(crate) fn close(&self, error: CallError) {
        self.break_with(&mut self.state(), error);
        self.driver.notify_one();
    }

    fn break_with(&self, state: &mut State, error: CallError) {
        if state.broken.is_some() {
            return;
        }
        if error.is_end() {
            let waiting = state.outbox.abandon().into_iter().filter_map(Again::of);
            let unsent: Vec<Again> = state.begun.take().into_iter().chain(waiting).collect();
            unsent.into_iter().for_each(|again| state.give_back(again));
        }
        for (_, slot) in state.slots.drain() {
            if let Some(waiter) = slot.waiter {
                // Who has just stopped waiting needs no answer.
                let _ = waiter.send(Ok(Err(error.clone())));
            }
        }
        state.broken = Some(error);
        self.places.close();
    }

    /// Hands an answer to its call; says whether packets may be rows from now on.
    fn receive(&self, message: Message) -> Result<bool, Violation> {
        let mut state = self.state();
        let (sequence, outcome) = state.exchange.answer(message)?;
        let slot = state.slots.remove(&sequence);
        let Slot { waiter, _place } = slot.ok_or(Violation::Sequence { sequence })?;
        if !state.has_answered && !state.exchange.may_bring_descriptors() {
            // An older kernel lets them in, and they are closed unseen.
            let _ = self.socket.set_pass_rights(false);
        }
        state.has_answered = true;
        let window = state.exchange.window();
        if let Some(more @ 1..) = window.checked_sub(state.places_given) {
            state.places_given = window;
            self.places.add_permits(more as usize);
        }
        let has_rows = state.exchange.features().has(Features::ROWS);
        if has_rows {
            state.outbox.use_rows();
        }
        if state.is_retired {
            self.driver.notify_one();
        }
        drop(state);
        if let Some(waiter) = waiter {
            let _ = waiter.send(Ok(outcome));
        }
        Ok(has_rows)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_usable(&self) -> bool {
        self.broken.is_none() && !self.is_shut
    }

    /// Gives a call back to its caller, who has another connection make it.
    fn give_back(&mut self, again: Again) {
        if let Some(slot) = self.slots.remove(&again.sequence)
            && let Some(waiter) = slot.waiter
        {
            // Who has just stopped waiting needs it no more.
            let _ = waiter.send(Err(again.draft));
        }
    }
}

/// A call whose answer is waited for; gives it up when dropped.
struct Pending<'a> {
    link: &'a Link,
    sequence: i64,
    is_answered: bool,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.link.give_up(self.sequence);
        }
    }
}

/// The task that receives.
struct Driver {
    link: Arc<Link>,
    inbound: Inbound,
    /// It has let others run before it sends.
    has_waited: bool,
    message_timer: Option<Pin<Box<Sleep>>>,
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl Driver {
    async fn run(mut self) {
        let link = Arc::clone(&self.link);
        loop {
            // Kept over the poll, so that no notice is lost between looking and waiting.
            let mut noticed = std::pin::pin!(link.driver.notified());
            let ended = poll_fn(|cx| {
                if let Poll::Ready(error) = self.poll(cx) {
                    return Poll::Ready(Some(error));
                }
                noticed.as_mut().poll(cx).map(|()| None)
            });
            if let Some(error) = ended.await {
                self.link.close(error);
                return;
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CallError> {
        if let Some(error) = self.link.end() {
            return Poll::Ready(error);
        }
        self.write(cx);
        loop {
            match self.read(cx) {
                Poll::Ready(Ok(message)) => {
                    if let Err(violation) = self.receive(message) {
                        return Poll::Ready(violation.into());
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Pending => return self.check_time(cx),
            }
        }
    }

    /// Takes the message that a packet completed, and those behind it.
    fn receive(&mut self, mut message: Option<Message>) -> Result<(), Violation> {
        loop {
            if let Some(message) = message {
                self.message_timer = None;
                if self.link.receive(message)? {
                    self.inbound.use_rows();
                }
            }
            if !self.inbound.has_more() {
                break;
            }
            message = self.inbound.next()?;
        }
        if self.inbound.is_partial() {
            start(&mut self.message_timer, self.link.limits.message_time);
        }
        Ok(())
    }

    fn write(&mut self, cx: &mut Context<'_>) {
        let link = &self.link;
        let mut state = link.state();
        if state.is_gathering && !std::mem::replace(&mut self.has_waited, true) {
            // Behind every caller that can run now.
            cx.waker().wake_by_ref();
            return;
        }
        state.is_gathering = false;
        self.has_waited = false;
        let sent = state.outbox.sent();
        let flushed =
            state
                .outbox
                .flush(|slices, fds| match link.socket.poll_send(cx, slices, fds) {
                    Poll::Ready(sent) => sent,
                    Poll::Pending => Err(SendError::WouldBlock),
                });
        match flushed {
            Ok(flushed) => {
                if flushed == Flush::Done || sent != state.outbox.sent() {
                    self.write_timer = None;
                }
                if flushed == Flush::Blocked {
                    start(&mut self.write_timer, link.limits.write_time);
                }
            }
            Err(error) => link.send_failed(&mut state, error),
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, CallError>> {
        let (link, inbound) = (&self.link, &mut self.inbound);
        let behind = inbound.receive(|memory| link.socket.poll_recv_behind(cx, memory));
        if let Some((received, packet)) = behind {
            return Poll::Ready(take(inbound, ready!(received), Place::Behind(packet)));
        }
        let room = inbound.room();
        with_scratch(room, |buffer| {
            let buffer = buffer.get_mut(..room).unwrap_or_default();
            let received = ready!(link.socket.poll_recv(cx, buffer));
            Poll::Ready(take(inbound, received, Place::Buffer(buffer)))
        })
    }

    fn check_time(&mut self, cx: &mut Context<'_>) -> Poll<CallError> {
        let limits = &self.link.limits;
        if let Some(timer) = &mut self.message_timer
            && timer.as_mut().poll(cx).is_ready()
        {
            let received = self.inbound.received();
            let waited = limits.message_time;
            return Poll::Ready(Violation::Stalled { received, waited }.into());
        }
        if let Some(timer) = &mut self.write_timer
            && timer.as_mut().poll(cx).is_ready()
        {
            let waited = limits.write_time;
            return Poll::Ready(CallError::transport(TransportError::NotRead { waited }));
        }
        Poll::Pending
    }
}

fn start(timer: &mut Option<Pin<Box<Sleep>>>, time: Duration) {
    timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
}

/// What was received, as a message or as what ends the connection. Shared with the blocking client.
pub(crate) fn take(
    inbound: &mut Inbound,
    received: Result<Received, RecvError>,
    place: Place<'_>,
) -> Result<Option<Message>, CallError> {
    let (length, fds, is_lost) = match received {
        Ok(Received::Packet(packet)) => (packet.length, packet.fds, false),
        Err(RecvError::DescriptorsLost { length, .. }) => (length, Vec::new(), true),
        Ok(Received::End) | Err(RecvError::Reset) if inbound.is_partial() => {
            let received = inbound.received();
            return Err(Violation::EndInMessage { received }.into());
        }
        Ok(Received::End) | Err(RecvError::Reset) => {
            return Err(CallError::transport(TransportError::Closed));
        }
        Err(RecvError::TooLong { length, room }) => {
            return Err(Violation::PacketTooLarge { length, max: room }.into());
        }
        Err(error) => return Err(CallError::transport(error)),
    };
    let buffer = match place {
        Place::Buffer(buffer) => buffer,
        Place::Behind(packet) => return Ok(inbound.accept_behind(packet, &fds, is_lost)?),
    };
    let packet = buffer.get(..length).unwrap_or_default();
    if inbound.framing() == Some(Framing::Chunked) && is_legacy_refusal(packet) {
        return Err(Violation::LegacyPeer.into());
    }
    inbound
        .accept(packet, fds, is_lost)
        .map_err(|error| error.violation.into())
}
