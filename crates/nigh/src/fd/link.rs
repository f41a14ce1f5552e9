//! One connection's descriptors: which call they belong to, what waits to leave, and what the other end said it takes.
//!
//! Lock order: a call's lock, then the link's. The link never calls into a call while it holds its own lock.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::task::AtomicWaker;
use tokio::sync::{Semaphore, watch};

use super::arrivals::{Arrival, Arrivals};
use super::attachment::Attachment;
use super::call::{Call, Came};
use super::closer;
use super::error::{Incapable, Loss};
use super::frame::{Fds, Frame, Hello, Malformed, PING};
use super::inode::InodeTable;
use super::limits::FdLimits;
use super::outbound::{Carried, LooseQueue, Out, Outbound};
use super::quota::Account;

/// What a connection takes, and how it accounts for it.
#[derive(Debug)]
pub(crate) struct Terms {
    /// Whether descriptors of calls may come at all.
    pub(crate) accepts: bool,
    pub(crate) limits: FdLimits,
    /// Calls in flight that may carry descriptors here.
    pub(crate) calls_max: u32,
    pub(crate) user: Option<nigh_socket::DescriptorShare>,
}

/// Which end of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// What is known of the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peering {
    Unknown,
    Nigh(Hello),
    Not(Incapable),
}

#[derive(Debug)]
struct Entry {
    call: Arc<Call>,
    /// Its HEADERS have come, or it is our own.
    claimed: bool,
    /// Something of it was sent.
    sent: bool,
}

#[derive(Debug, Default)]
struct State {
    out: VecDeque<Out>,
    calls: HashMap<u64, Entry>,
    unclaimed: usize,
    next_call: u64,
    closed: bool,
}

/// See above.
#[derive(Debug)]
pub(crate) struct Link {
    side: Side,
    terms: Terms,
    account: Account,
    state: Mutex<State>,
    pub(super) loose: LooseQueue,
    arrivals: Mutex<Arrivals>,
    pub(super) writer: AtomicWaker,
    /// Whether something waits in `state.out`: what the writer looks at before it takes the lock.
    waiting: AtomicBool,
    peering: watch::Sender<Peering>,
    /// Calls of a client that may still send descriptors over this connection.
    pub(crate) permits: Arc<Semaphore>,
    inodes: Option<Arc<InodeTable>>,
    /// Whether the socket is to be read with `recvmsg`.
    receives: AtomicBool,
}

impl Link {
    pub(crate) fn new(side: Side, terms: Terms) -> Arc<Self> {
        let table = terms.limits.inode_table;
        let link = Self {
            side,
            account: Account::new(terms.limits.per_connection_max, terms.user.clone()),
            state: Mutex::default(),
            loose: LooseQueue::default(),
            arrivals: Mutex::default(),
            writer: AtomicWaker::new(),
            waiting: AtomicBool::new(false),
            peering: watch::Sender::new(Peering::Unknown),
            permits: Arc::new(Semaphore::new(0)),
            inodes: table.then(|| Arc::new(InodeTable::new(terms.limits.per_connection_max))),
            receives: AtomicBool::new(table),
            terms,
        };
        if side == Side::Client {
            let mut greeting = link.hello().encode();
            greeting.extend_from_slice(&PING);
            link.state().out.push_back(Out::Bytes(greeting));
            link.waiting.store(true, Ordering::Release);
            link.receives.store(true, Ordering::Release);
        }
        Arc::new(link)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hello(&self) -> Frame {
        Frame::Hello(Hello {
            accepts: self.terms.accepts,
            per_message: self.terms.limits.per_message(),
            calls: self.terms.calls_max,
        })
    }

    pub(super) fn side(&self) -> Side {
        self.side
    }

    pub(crate) fn inodes(&self) -> Option<&Arc<InodeTable>> {
        self.inodes.as_ref()
    }

    /// Whether descriptors may come now.
    pub(super) fn receives(&self) -> bool {
        self.receives.load(Ordering::Acquire)
    }

    pub(crate) fn peering(&self) -> Peering {
        *self.peering.borrow()
    }

    /// Waits until the other end has answered our HELLO, or is known not to.
    pub(crate) async fn met(&self) -> Peering {
        let mut peering = self.peering.subscribe();
        let known = peering.wait_for(|known| *known != Peering::Unknown).await;
        known.map_or(Peering::Not(Incapable::NotNigh), |known| *known)
    }

    /// The other end does not speak the extension.
    pub(crate) fn is_foreign(&self, why: Incapable) {
        self.peering.send_if_modified(|known| {
            let news = *known == Peering::Unknown;
            if news {
                *known = Peering::Not(why);
            }
            news
        });
    }

    fn greeted(&self, hello: Hello) {
        if self.side == Side::Server {
            self.receives.fetch_or(self.terms.accepts, Ordering::AcqRel);
            self.push(Out::Bytes(self.hello().encode()));
        }
        let calls = usize::try_from(hello.calls).unwrap_or(usize::MAX);
        self.permits
            .add_permits(calls.min(Semaphore::MAX_PERMITS / 2));
        self.peering.send_replace(Peering::Nigh(hello));
    }

    fn push(&self, out: Out) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        state.out.push_back(out);
        self.waiting.store(true, Ordering::Release);
        drop(state);
        self.writer.wake();
    }

    /// Queues one descriptor. The caller holds its call's lock, so that indices stay in order.
    pub(super) fn queue(&self, id: u64, index: u32, attachment: Arc<Attachment>, call: &Arc<Call>) {
        self.push(Out::Fd {
            id,
            index,
            attachment,
            call: Arc::clone(call),
        });
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// The next frame to write, with the descriptors that go with it.
    pub(super) fn next_frame(&self) -> Option<Outbound> {
        let per_message = match self.peering() {
            Peering::Nigh(hello) => hello.per_message.min(self.terms.limits.per_message()),
            _ => 1,
        };
        let mut state = self.state();
        loop {
            let Some(first) = state.out.pop_front() else {
                self.waiting.store(false, Ordering::Release);
                return None;
            };
            let (id, index, attachment, call) = match first {
                Out::Bytes(bytes) => {
                    let mut outbound = Outbound::default();
                    outbound.bytes = bytes;
                    return Some(outbound);
                }
                Out::Fd {
                    id,
                    index,
                    attachment,
                    call,
                } => (id, index, attachment, call),
            };
            let Some(fd) = attachment.begin() else {
                continue;
            };
            let mut outbound = Outbound::default();
            outbound.carried.push(Carried {
                fd,
                index,
                attachment,
                call,
            });
            outbound.gather(&mut state.out, id, index, usize::from(per_message.max(1)));
            if let Some(entry) = state.calls.get_mut(&id) {
                entry.sent = true;
            }
            let frame = Fds {
                call: id,
                first: index,
                count: u16::try_from(outbound.carried.len()).unwrap_or(u16::MAX),
                loss: 0,
            };
            outbound.bytes = Frame::Fds(frame).encode();
            outbound.frame = Some(frame);
            return Some(outbound);
        }
    }

    // What comes in.

    /// The socket received descriptors.
    pub(super) fn arrived(&self, arrival: Arrival) {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.push(arrival);
        let extra = arrivals.surplus();
        drop(arrivals);
        if let Some(extra) = extra {
            self.stray(extra);
        }
    }

    /// The reader found one of our frames.
    pub(super) fn found(
        self: &Arc<Self>,
        at: u64,
        frame: Result<Frame, Malformed>,
    ) -> Result<(), Malformed> {
        let peering = self.peering();
        let known = matches!(peering, Peering::Nigh(_));
        match frame {
            // The first, in its place; any other is ignored [3.2, 3.5].
            Ok(Frame::Hello(hello)) if peering == Peering::Unknown => self.greeted(hello),
            Ok(Frame::Fds(fds)) if known => {
                let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
                let arrival = arrivals.at(at);
                drop(arrivals);
                self.deliver(fds, arrival)?;
            }
            Ok(Frame::Done(id)) if known && self.side == Side::Server => self.done(id),
            Err(malformed) if known => return Err(malformed),
            // Before a HELLO such a frame means nothing here.
            _ => {}
        }
        Ok(())
    }

    fn deliver(self: &Arc<Self>, fds: Fds, arrival: Option<Arrival>) -> Result<(), Malformed> {
        let Some(call) = self.call_of(fds.call)? else {
            closer::drop_off(arrival);
            return Ok(());
        };
        match self.check(&call, fds, arrival) {
            Ok(came) => {
                let late = call.arrived(fds.first, came);
                if !late.is_empty() {
                    closer::drop_off(late);
                }
            }
            Err(loss) => call.lose(loss),
        }
        Ok(())
    }

    fn check(&self, call: &Call, fds: Fds, arrival: Option<Arrival>) -> Result<Vec<Came>, Loss> {
        if fds.loss != 0 {
            return Err(Loss::of_code(fds.loss));
        }
        let (came, truncated) = arrival.map_or((Vec::new(), false), |arrival| {
            (arrival.fds, arrival.truncated)
        });
        let announced = usize::from(fds.count);
        let limit = self.terms.limits.per_message();
        let fits = if truncated {
            Err(Loss::Truncated)
        } else if announced != came.len() {
            Err(Loss::Count {
                announced,
                came: came.len(),
            })
        } else if announced > usize::from(limit) {
            Err(Loss::PerMessage {
                limit: limit.into(),
            })
        } else if !self.terms.accepts {
            Err(Loss::NotAccepted)
        } else {
            call.room(fds.first, announced)
        };
        if let Err(loss) = fits {
            closer::drop_off(came);
            return Err(loss);
        }
        let mut charged = Vec::with_capacity(came.len());
        let mut came = came.into_iter();
        for fd in came.by_ref() {
            match self.account.charge() {
                Ok(charge) => charged.push(Came {
                    fd,
                    _charge: charge,
                }),
                Err(loss) => {
                    let rest: Vec<OwnedFd> = std::iter::once(fd).chain(came).collect();
                    closer::drop_off((charged, rest));
                    return Err(loss);
                }
            }
        }
        Ok(charged)
    }

    /// The call that descriptors came for; a server keeps them until its HEADERS come.
    fn call_of(self: &Arc<Self>, id: u64) -> Result<Option<Arc<Call>>, Malformed> {
        let mut state = self.state();
        if let Some(entry) = state.calls.get(&id) {
            return Ok(Some(Arc::clone(&entry.call)));
        }
        if self.side == Side::Client || state.closed {
            return Ok(None);
        }
        // An honest client has no more calls with descriptors on their way than it was told [5.4].
        let ahead_max = (self.terms.calls_max as usize).saturating_mul(2);
        if state.unclaimed > ahead_max {
            return Err(Malformed::TooManyCalls);
        }
        state.unclaimed += 1;
        let call = Call::over(Arc::clone(self), id, self.terms.limits.per_call_max);
        state.calls.insert(
            id,
            Entry {
                call: Arc::clone(&call),
                claimed: false,
                sent: false,
            },
        );
        Ok(Some(call))
    }

    fn done(&self, id: u64) {
        let mut state = self.state();
        if state.calls.get(&id).is_some_and(|entry| !entry.claimed) {
            state.unclaimed -= 1;
            let entry = state.calls.remove(&id);
            drop(state);
            if let Some(entry) = entry {
                entry.call.end_receiving();
            }
        }
    }

    /// What came before this offset and belongs to no frame of ours.
    pub(super) fn settle(&self, settled: u64) {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let strays = arrivals.strays(settled);
        drop(arrivals);
        for stray in strays {
            self.stray(stray);
        }
    }

    /// Descriptors outside any frame of ours: grpcfd's, or nobody's.
    pub(super) fn stray(&self, stray: Arrival) {
        match &self.inodes {
            Some(table) => table.arrived(stray, &self.account),
            None => {
                tracing::debug!(
                    "closed {} descriptors that nobody takes here",
                    stray.fds.len()
                );
                closer::drop_off(stray);
            }
        }
    }

    // Calls.

    /// A client's call begins: what it attached may leave.
    pub(crate) fn begin(self: &Arc<Self>, call: &Arc<Call>) -> u64 {
        let mut state = self.state();
        let id = state.next_call;
        state.next_call += 1;
        let entry = Entry {
            call: Arc::clone(call),
            claimed: true,
            sent: false,
        };
        if !state.closed {
            state.calls.insert(id, entry);
        }
        drop(state);
        call.go_over(self, id, self.terms.limits.per_call_max);
        id
    }

    /// A call's HEADERS have come to the server. `None`: that number is in use.
    pub(crate) fn claim(self: &Arc<Self>, id: u64) -> Option<Arc<Call>> {
        let mut state = self.state();
        if let Some(entry) = state.calls.get_mut(&id) {
            if std::mem::replace(&mut entry.claimed, true) {
                return None;
            }
            let call = Arc::clone(&entry.call);
            state.unclaimed -= 1;
            return Some(call);
        }
        let call = Call::over(Arc::clone(self), id, self.terms.limits.per_call_max);
        let entry = Entry {
            call: Arc::clone(&call),
            claimed: true,
            sent: false,
        };
        if !state.closed {
            state.calls.insert(id, entry);
        }
        Some(call)
    }

    /// The call is over on this side. A client takes back what has not left, and says so if something has.
    pub(crate) fn end(&self, id: u64) {
        let mut state = self.state();
        let entry = state.calls.remove(&id);
        if self.side == Side::Client && entry.is_some_and(|entry| entry.sent) {
            state.out.retain(|out| !out.is_of(id));
            drop(state);
            self.push(Out::Bytes(Frame::Done(id).encode()));
        } else if self.side == Side::Client && !state.out.is_empty() {
            state.out.retain(|out| !out.is_of(id));
        }
    }

    /// The connection is gone.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let calls = std::mem::take(&mut state.calls);
        let out = std::mem::take(&mut state.out);
        self.waiting.store(false, Ordering::Release);
        drop(state);
        if self.side == Side::Server {
            for entry in calls.values() {
                entry.call.end_receiving();
                entry.call.end_sending();
            }
        }
        drop(out);
        self.permits.close();
        self.loose.clear();
        self.is_foreign(Incapable::NotNigh);
        if let Some(table) = &self.inodes {
            table.close();
        }
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        closer::drop_off(arrivals.strays(u64::MAX));
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> (u32, usize) {
        (self.account.held(), self.state().calls.len())
    }
}
