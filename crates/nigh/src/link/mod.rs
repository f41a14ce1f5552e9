//! One connection of the nigh wire as its calls see it, the same for both sides: what arrived, what may be sent,
//! and what waits to be written.
//!
//! The driver (the connection's task) reads and writes; calls only touch this state. Trap: the lock is held for
//! memory operations alone, never over a system call, a waker or anybody's body.

mod flow;
mod gather;
pub(crate) mod keepalive;
pub(crate) mod line;
mod received;
mod send;
mod slot;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use tokio::task::AbortHandle;
use tonic::Status;

pub(crate) use flow::Receipts;
pub(crate) use gather::{Ending, Gathered, gather};
pub(crate) use received::{Received, Whole};
pub(crate) use send::{Gone, Sender};
pub(crate) use slot::{End, Slot};

use crate::fd;
use crate::frame::{Greeting, Out, Violation};

/// What may wait to be written before senders of bodies have to wait.
pub(crate) const OUT_BYTES_MAX: usize = 1024 * 1024;

/// What one side has beside what both have.
pub(crate) trait Role: Send + 'static {
    /// A call is over, its slot free; whether the driver has to look when it was the last.
    fn freed(&mut self, index: u16) -> bool;
}

/// The server keeps nothing here.
impl Role for () {
    fn freed(&mut self, _: u16) -> bool {
        false
    }
}

#[derive(Debug)]
pub(crate) struct Link<R> {
    state: Mutex<State<R>>,
    pub(crate) ours: Greeting,
    pub(crate) theirs: Greeting,
    /// What sorts the connection's descriptors, if both greetings agreed on some.
    pub(crate) fds: Option<Arc<fd::Link>>,
}

#[derive(Debug)]
pub(crate) struct State<R> {
    pub(crate) own: R,
    pub(crate) out: Out,
    slots: Vec<Slot>,
    /// Calls that are not over.
    pub(crate) open: usize,
    /// What may still be sent on the connection.
    credit: i64,
    receipts: Receipts,
    stream_window: u32,
    peer_stream_window: u32,
    /// A sender waits for the connection's credit or for room in `out`.
    is_starved: bool,
    driver: Option<Waker>,
    is_driver_awake: bool,
    /// Somebody has nudged the driver since it last looked.
    is_nudged: bool,
    /// Set once the connection has ended: what its calls are told.
    over: Option<Status>,
    /// As the connection's own. Trap: its lock, and that of a call's descriptors, are taken while this one is held, so never
    /// the other way round.
    fds: Option<Arc<fd::Link>>,
}

/// Wakers to wake, and tasks to abort, once the lock is released.
#[derive(Debug, Default)]
pub(crate) struct Later {
    /// Hardly ever more than one; then there is nothing to allocate.
    first: Option<Waker>,
    wakers: Vec<Waker>,
    tasks: Vec<AbortHandle>,
}

impl Later {
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        let Some(waker) = waker else {
            return;
        };
        match self.first {
            None => self.first = Some(waker),
            Some(_) => self.wakers.push(waker),
        }
    }

    /// Wakes and aborts; the lock must not be held.
    pub(crate) fn run(&mut self) {
        if let Some(waker) = self.first.take() {
            waker.wake();
        }
        if !self.wakers.is_empty() {
            self.wakers.drain(..).for_each(Waker::wake);
        }
        if !self.tasks.is_empty() {
            self.tasks.drain(..).for_each(|task| task.abort());
        }
    }
}

impl<R: Role> Link<R> {
    pub(crate) fn new(
        (ours, theirs): (Greeting, Greeting),
        own: R,
        fds: Option<Arc<fd::Link>>,
    ) -> Self {
        let state = State {
            own,
            out: Out::default(),
            slots: Vec::new(),
            open: 0,
            credit: theirs.connection_window.into(),
            receipts: Receipts::new(ours.connection_window),
            stream_window: ours.stream_window,
            peer_stream_window: theirs.stream_window,
            is_starved: false,
            driver: None,
            is_driver_awake: false,
            is_nudged: false,
            over: None,
            fds: fds.clone(),
        };
        Self {
            state: Mutex::new(state),
            ours,
            theirs,
            fds,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then wakes whom that concerns.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State<R>, &mut Later) -> T) -> T {
        let mut later = Later::default();
        let value = change(&mut self.lock(), &mut later);
        later.run();
        value
    }

    /// Ends the connection: every call that is not over fails with `status`.
    pub(crate) fn end(&self, status: &Status) {
        self.change(|state, later| state.end(status, later));
    }

    /// Drops every call: nobody is left to answer.
    pub(crate) fn abort_all(&self) {
        self.change(|state, later| {
            for index in 0..state.slots.len() {
                if let Some(stream) = state.slots.get(index).and_then(|slot| slot.stream(index)) {
                    state.close(stream, later);
                }
            }
        });
    }
}

impl<R: Role> State<R> {
    /// The driver is at work: it will see what is appended meanwhile.
    pub(crate) fn driver_awake(&mut self, waker: &Waker) {
        self.is_driver_awake = true;
        match &self.driver {
            Some(known) if known.will_wake(waker) => {}
            _ => self.driver = Some(waker.clone()),
        }
    }

    pub(crate) fn driver_asleep(&mut self) {
        self.is_driver_awake = false;
    }

    /// Whom to wake for what was appended.
    pub(crate) fn nudge(&mut self) -> Option<Waker> {
        self.is_nudged = true;
        self.wake_driver()
    }

    /// Whether the driver was nudged since it last asked.
    pub(crate) fn was_nudged(&mut self) -> bool {
        std::mem::take(&mut self.is_nudged)
    }

    /// Wakes the driver to look around, not to write.
    pub(crate) fn wake_driver(&mut self) -> Option<Waker> {
        if std::mem::replace(&mut self.is_driver_awake, true) {
            return None;
        }
        self.driver.clone()
    }

    /// Queues the frames of descriptors that were attached, ahead of whatever is queued next (clause 13.4).
    pub(crate) fn carry(&mut self) {
        let Some(fds) = &self.fds else {
            return;
        };
        while fds.has_waiting()
            && let Some(outbound) = fds.next_frame()
        {
            self.out.fds(Box::new(outbound));
        }
    }

    /// Whether something was attached that has not been queued.
    pub(crate) fn has_attached(&self) -> bool {
        self.fds.as_ref().is_some_and(|fds| fds.has_waiting())
    }

    /// Whether this was a call, and is none any more.
    pub(crate) fn is_over(&self, stream: u32) -> bool {
        let (index, generation) = split(stream);
        let slot = self.slots.get(usize::from(index));
        slot.is_some_and(|slot| !slot.is_busy && slot.generation == generation)
    }

    pub(crate) fn slot(&mut self, stream: u32) -> Option<&mut Slot> {
        let (index, generation) = split(stream);
        let slot = self.slots.get_mut(usize::from(index))?;
        (slot.is_busy && slot.generation == generation).then_some(slot)
    }

    /// Opens `stream` for a call (clause 4.1).
    pub(crate) fn open(&mut self, stream: u32, max: u32) -> Result<&mut Slot, Violation> {
        let (index, generation) = split(stream);
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        if usize::from(index) >= max || generation == 0 {
            return Err(Violation::StreamNumber { stream, max });
        }
        let index = usize::from(index);
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, Slot::default);
        }
        let (ours, theirs) = (self.stream_window, self.peer_stream_window);
        match self.slots.get_mut(index) {
            Some(slot) if !slot.is_busy => {
                slot.begin(generation, ours, theirs);
                self.open += 1;
                Ok(slot)
            }
            _ => Err(Violation::StreamInUse { stream }),
        }
    }

    /// The next generation of a slot that is free.
    pub(crate) fn next_stream(&self, index: u16) -> u32 {
        let last = self.slots.get(usize::from(index));
        let last = last.map_or(0, |slot| slot.generation);
        let generation = last.checked_add(1).unwrap_or(1);
        u32::from(generation) << 16 | u32::from(index)
    }

    /// The call is over: whoever waits in it is woken and finds it gone; its task, if any, is aborted.
    pub(crate) fn close(&mut self, stream: u32, later: &mut Later) {
        let task = self.finish(stream, later);
        later.tasks.extend(task);
    }

    /// As [`close`](Self::close), and the task may go on to its own end.
    pub(crate) fn finish(&mut self, stream: u32, later: &mut Later) -> Option<AbortHandle> {
        let slot = self.slot(stream)?;
        slot.is_busy = false;
        later.wake(slot.reader.take());
        later.wake(slot.sender.take());
        slot.head = None;
        slot.end = None;
        let task = slot.task.take();
        let unread = slot.inbox.drain(..).map(|bytes| bytes.len()).sum();
        self.open -= 1;
        if self.own.freed(split(stream).0) && self.open == 0 {
            later.wake(self.nudge());
        }
        if let Some(credit) = self.receipts.consumed(unread) {
            self.out.window(0, credit);
            later.wake(self.nudge());
        }
        task
    }

    /// Ends the connection's calls; what has arrived of them can still be read.
    fn end(&mut self, status: &Status, later: &mut Later) {
        if self.over.is_some() {
            return;
        }
        self.over = Some(status.clone());
        for slot in self.slots.iter_mut().filter(|slot| slot.is_busy) {
            slot.end.get_or_insert_with(|| End::Failed(status.clone()));
            later.wake(slot.reader.take());
            later.wake(slot.sender.take());
        }
        later.wake(self.nudge());
    }

    /// Marks calls that began behind the bytes written so far.
    pub(crate) fn mark_unsent(&mut self, written: u64) {
        for slot in self.slots.iter_mut().filter(|slot| slot.is_busy) {
            slot.is_unseen |= slot.begins_at >= written;
        }
    }

    /// Takes the body of a call that has ended, and ends the call.
    pub(crate) fn take_whole(&mut self, stream: u32, later: &mut Later) -> Option<Whole> {
        let slot = self.slot(stream)?;
        let end = slot.end.take()?;
        let length = slot.inbox.iter().map(Bytes::len).sum();
        let first = slot.inbox.pop_front();
        let pieces = if slot.inbox.is_empty() {
            VecDeque::new()
        } else {
            std::mem::take(&mut slot.inbox)
        };
        if let Some(credit) = self.receipts.consumed(length) {
            self.out.window(0, credit);
            later.wake(self.nudge());
        }
        self.close(stream, later);
        Some(Whole::new(first, pieces, end))
    }

    /// What the calls of an ended connection are told.
    pub(crate) fn over(&self) -> Option<&Status> {
        self.over.as_ref()
    }

    /// DATA has arrived (clauses 8.2 to 8.5).
    pub(crate) fn data(
        &mut self,
        stream: u32,
        payload: Bytes,
        is_last: bool,
        later: &mut Later,
    ) -> Result<(), Violation> {
        let length = payload.len();
        if !self.receipts.arrived(length) {
            return Err(Violation::ConnectionCredit);
        }
        let is_kept = match self.slot(stream) {
            None => false,
            Some(slot) => slot.data(stream, payload, is_last, later)?,
        };
        if !is_kept && let Some(credit) = self.receipts.consumed(length) {
            self.out.window(0, credit);
            later.wake(self.nudge());
        }
        Ok(())
    }

    /// DATA has arrived with the head of its call: it is consumed at once.
    pub(crate) fn data_with_head(&mut self, length: usize) -> Result<(), Violation> {
        if !self.receipts.arrived(length) {
            return Err(Violation::ConnectionCredit);
        }
        if let Some(credit) = self.receipts.consumed(length) {
            self.out.window(0, credit);
        }
        Ok(())
    }

    /// WINDOW has arrived (clause 8.3).
    pub(crate) fn window(
        &mut self,
        stream: u32,
        credit: u32,
        later: &mut Later,
    ) -> Result<(), Violation> {
        let total = if stream == 0 {
            self.credit += i64::from(credit);
            self.credit
        } else if let Some(slot) = self.slot(stream) {
            slot.credit += i64::from(credit);
            let total = slot.credit;
            later.wake(slot.sender.take());
            total
        } else {
            0
        };
        if total > i64::from(i32::MAX) {
            return Err(Violation::CreditOverflow { stream });
        }
        if stream == 0 {
            self.feed(later);
        }
        Ok(())
    }

    /// Wakes senders that wait for the connection, if there is something for them.
    pub(crate) fn feed(&mut self, later: &mut Later) {
        if self.is_starved && self.credit > 0 && self.out.bytes() < OUT_BYTES_MAX / 2 {
            self.is_starved = false;
            for slot in &mut self.slots {
                later.wake(slot.sender.take());
            }
        }
    }

    /// A piece of `stream`'s body was consumed: tells the peer when it is worth a frame.
    fn consumed(&mut self, stream: u32, length: usize, later: &mut Later) {
        let call = self.slot(stream).and_then(|slot| slot.consumed(length));
        let connection = self.receipts.consumed(length);
        if let Some(credit) = call {
            self.out.window(stream, credit);
        }
        if let Some(credit) = connection {
            self.out.window(0, credit);
        }
        if call.is_some() || connection.is_some() {
            later.wake(self.nudge());
        }
    }
}

/// Slot and generation of a stream (clause 4.1).
pub(crate) fn split(stream: u32) -> (u16, u16) {
    let [a, b, c, d] = stream.to_le_bytes();
    (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
}
