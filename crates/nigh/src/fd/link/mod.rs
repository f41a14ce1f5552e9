//! One connection's descriptors: which call they belong to, what waits to leave, and what the other end said it takes.
//!
//! Lock order: a call's lock, then the link's. The link never calls into a call while it holds its own lock.

mod incoming;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;

use futures_util::task::AtomicWaker;
use tokio::sync::{Semaphore, watch};

use crate::fd::arrivals::Arrivals;
use crate::fd::attachment::Attachment;
use crate::fd::call::Call;
use crate::fd::closer;
use crate::fd::error::Incapable;
use crate::fd::frame::{Fds, Frame, Hello, PING};
use crate::fd::inode::InodeTable;
use crate::fd::limits::FdLimits;
use crate::fd::outbound::{Carried, LooseQueue, Out, Outbound};
use crate::fd::quota::Account;
pub(crate) use incoming::Announced;

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
    pub(in crate::fd) loose: LooseQueue,
    arrivals: Mutex<Arrivals>,
    pub(in crate::fd) writer: AtomicWaker,
    /// Whether something waits in `state.out`: what the writer looks at before it takes the lock.
    waiting: AtomicBool,
    peering: watch::Sender<Peering>,
    /// Calls of a client that may still send descriptors over this connection.
    pub(crate) permits: Arc<Semaphore>,
    inodes: Option<Arc<InodeTable>>,
    /// Whether the socket is to be read with `recvmsg`.
    receives: AtomicBool,
    /// Whether the connection speaks the nigh wire: descriptors ride on its frames (docs/wire/nigh.md, 13), and a call's
    /// number is its stream.
    is_nigh: AtomicBool,
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
            receives: AtomicBool::new(table || side == Side::Client),
            is_nigh: AtomicBool::new(false),
            terms,
        };
        Arc::new(link)
    }

    /// A client's HELLO, over HTTP/2.
    pub(in crate::fd) fn offer(&self) {
        if self.side == Side::Client {
            let mut greeting = self.hello().encode();
            greeting.extend_from_slice(&PING);
            self.push(Out::Bytes(greeting));
        }
    }

    /// How many descriptors this side takes in one frame; 0: none.
    pub(crate) fn per_message(&self) -> u16 {
        match self.terms.accepts {
            true => self.terms.limits.per_message(),
            false => 0,
        }
    }

    /// Both greetings of the nigh wire agreed on descriptors: the other end takes so many in one frame.
    pub(crate) fn ride_on_frames(&self, per_message: u16) {
        self.is_nigh.store(true, Ordering::Release);
        self.receives.fetch_or(self.terms.accepts, Ordering::AcqRel);
        self.peering.send_replace(Peering::Nigh(Hello {
            accepts: per_message > 0,
            per_message,
            calls: u32::MAX,
        }));
    }

    pub(in crate::fd) fn is_nigh(&self) -> bool {
        self.is_nigh.load(Ordering::Acquire)
    }

    /// Registers who writes the connection: woken when something was attached.
    pub(crate) fn register_writer(&self, cx: &Context<'_>) {
        self.writer.register(cx.waker());
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

    pub(in crate::fd) fn side(&self) -> Side {
        self.side
    }

    /// grpcfd's table, on the wires that have its way.
    pub(crate) fn inodes(&self) -> Option<&Arc<InodeTable>> {
        self.inodes.as_ref().filter(|_| !self.is_nigh())
    }

    /// Whether descriptors may come now.
    pub(in crate::fd) fn receives(&self) -> bool {
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
        self.enqueue(out);
        self.wake_writer();
    }

    fn enqueue(&self, out: Out) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        state.out.push_back(out);
        self.waiting.store(true, Ordering::Release);
    }

    /// Something was queued.
    pub(in crate::fd) fn wake_writer(&self) {
        self.writer.wake();
    }

    /// Queues one descriptor. The caller holds its call's lock, so that indices stay in order, and wakes the writer after.
    pub(in crate::fd) fn queue(
        &self,
        id: u64,
        index: u32,
        attachment: Arc<Attachment>,
        call: &Arc<Call>,
    ) {
        self.enqueue(Out::Fd {
            id,
            index,
            attachment,
            call: Arc::clone(call),
        });
    }

    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// The next frame to write, with the descriptors that go with it.
    pub(crate) fn next_frame(&self) -> Option<Outbound> {
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
            outbound.is_nigh = self.is_nigh();
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
            outbound.announce(frame);
            return Some(outbound);
        }
    }

    // Calls.

    /// A client's call begins: what it attached may leave.
    pub(crate) fn begin(self: &Arc<Self>, call: &Arc<Call>) -> u64 {
        let mut state = self.state();
        let id = state.next_call;
        state.next_call += 1;
        drop(state);
        self.begin_as(id, call);
        self.wake_writer();
        id
    }

    /// As [`begin`](Self::begin), under a number that is known; the caller looks after the writer.
    pub(in crate::fd) fn begin_as(self: &Arc<Self>, id: u64, call: &Arc<Call>) {
        let mut state = self.state();
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
        let is_told = entry.is_some_and(|entry| entry.sent) && !self.is_nigh();
        if self.side == Side::Client && is_told {
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
    pub(in crate::fd) fn held(&self) -> (u32, usize) {
        (self.account.held(), self.state().calls.len())
    }
}
