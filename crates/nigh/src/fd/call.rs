//! The descriptors of one call: what was attached on this side, and what came from the other.
//!
//! Trap: two numberings may go the same way: what a handler attaches to its answer counts from 0, what it attaches
//! through the call's own handle from [`HANDLE_BASE`], so that neither has to know of the other.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

use super::attachment::Attachment;
use super::error::{AttachError, Incapable, Loss, TakeError, UnsentError};
use super::link::Link;
use super::quota::Charge;
use super::{FdIndex, closer};

/// First index of a server's call handle.
pub(super) const HANDLE_BASE: u32 = 1 << 31;

/// Descriptors of one call that may wait to leave.
const ATTACHED_MAX: u32 = 256;

/// Where the call's attachments go.
#[derive(Debug, Clone)]
enum Way {
    /// The call has no connection yet.
    Open,
    Over {
        link: Arc<Link>,
        id: u64,
    },
    Closed(Incapable),
    Ended,
}

/// A descriptor that came and waits to be taken.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) fd: OwnedFd,
    pub(super) _charge: Charge,
}

#[derive(Debug)]
struct State {
    way: Way,
    /// The connection that carries descriptors in grpcfd's way, where that is switched on.
    loose_way: Option<Arc<Link>>,
    /// The same, for what comes: also after the last of our own has left.
    table: Option<Arc<Link>>,
    loose: Vec<Arc<Attachment>>,
    next: u32,
    /// What was attached and has not left, or failed to.
    attached: BTreeMap<u32, Arc<Attachment>>,
    /// How many left over the present connection.
    left: u32,
    came: BTreeMap<u32, Came>,
    /// The next index to come, of each numbering.
    expected: [u32; 2],
    per_call: u32,
    accepts: bool,
    loss: Option<Loss>,
    ended: bool,
}

/// One call's descriptors, shared by its handles and its connection.
#[derive(Debug)]
pub(crate) struct Call {
    state: Mutex<State>,
    changed: Notify,
    /// Who reads the answer: woken by a loss, which is told at once, and when what it waits for has left.
    answer: AtomicWaker,
}

impl Call {
    /// A call without a connection; its attachments wait for one.
    pub(super) fn new() -> Arc<Self> {
        Self::with(Way::Open, 0, 0)
    }

    /// A call that came over `link`.
    pub(super) fn over(link: Arc<Link>, id: u64, per_call: u32) -> Arc<Self> {
        Self::with(Way::Over { link, id }, HANDLE_BASE, per_call)
    }

    /// A call that can carry nothing.
    pub(super) fn incapable(why: Incapable) -> Arc<Self> {
        Self::with(Way::Closed(why), 0, 0)
    }

    fn with(way: Way, next: u32, per_call: u32) -> Arc<Self> {
        let state = State {
            way,
            loose_way: None,
            table: None,
            loose: Vec::new(),
            next,
            attached: BTreeMap::new(),
            left: 0,
            came: BTreeMap::new(),
            expected: [0, HANDLE_BASE],
            per_call,
            accepts: true,
            loss: None,
            ended: false,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            answer: AtomicWaker::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // What goes out.

    pub(super) fn attach(self: &Arc<Self>, fd: OwnedFd) -> Result<FdIndex, AttachError> {
        let mut state = self.state();
        match state.way {
            Way::Closed(why) => return Err(why.into()),
            Way::Ended => return Err(AttachError::Ended),
            Way::Open | Way::Over { .. } => {}
        }
        if state.attached.len() >= ATTACHED_MAX as usize {
            return Err(AttachError::TooMany {
                limit: ATTACHED_MAX,
            });
        }
        let index = state.next;
        state.next = index
            .checked_add(1)
            .ok_or(AttachError::TooMany { limit: HANDLE_BASE })?;
        let attachment = Arc::new(Attachment::new(fd));
        state.attached.insert(index, Arc::clone(&attachment));
        if let Way::Over { link, id } = &state.way {
            // Under the call's lock, so that indices leave in order.
            link.queue(*id, index, attachment, self);
            link.wake_writer();
        }
        Ok(FdIndex(index))
    }

    /// Attaches in grpcfd's way.
    pub(super) fn attach_loose(self: &Arc<Self>, fd: OwnedFd) -> Result<(), AttachError> {
        let mut state = self.state();
        if matches!(state.way, Way::Ended) {
            return Err(AttachError::Ended);
        }
        if let (Way::Over { .. } | Way::Closed(_), None) = (&state.way, &state.loose_way) {
            return Err(Incapable::NoTable.into());
        }
        state.loose.retain(|attachment| attachment.is_waiting());
        if state.loose.len() >= ATTACHED_MAX as usize {
            return Err(AttachError::TooMany {
                limit: ATTACHED_MAX,
            });
        }
        let attachment = Arc::new(Attachment::new(fd));
        if let Some(link) = &state.loose_way {
            link.loose.push(Arc::clone(&attachment), self);
        }
        state.loose.push(attachment);
        Ok(())
    }

    /// Whether something attached in grpcfd's way still waits for a byte to leave with; wakes the task when not.
    pub(super) fn poll_loose(&self, cx: &Context<'_>) -> bool {
        self.answer.register(cx.waker());
        let mut state = self.state();
        state.loose.retain(|attachment| !attachment.is_settled());
        !state.loose.is_empty()
    }

    /// Something attached in grpcfd's way has left.
    pub(super) fn loose_has_left(&self) {
        self.answer.wake();
    }

    pub(super) fn has_loose(&self) -> bool {
        !self.state().loose.is_empty()
    }

    /// Sends what is attached in grpcfd's way, now and later, over this connection.
    pub(super) fn go_loose(self: &Arc<Self>, link: &Arc<Link>) {
        let mut state = self.state();
        for attachment in &state.loose {
            link.loose.push(Arc::clone(attachment), self);
        }
        state.loose_way = Some(Arc::clone(link));
        state.table = Some(Arc::clone(link));
    }

    pub(super) fn has_attached(&self) -> bool {
        !self.state().attached.is_empty()
    }

    /// Sends what is attached, now and later, over this connection; whoever calls wakes its writer.
    pub(super) fn go_over(self: &Arc<Self>, link: &Arc<Link>, id: u64, per_call: u32) {
        let mut state = self.state();
        state.per_call = per_call;
        state.left = 0;
        state.way = Way::Over {
            link: Arc::clone(link),
            id,
        };
        for (index, attachment) in &state.attached {
            if attachment.is_waiting() {
                link.queue(id, *index, Arc::clone(attachment), self);
            }
        }
    }

    /// The connection was lost before the call was sent. Whether another connection may carry it.
    pub(super) fn retreat(&self) -> bool {
        let mut state = self.state();
        state.way = Way::Open;
        state.loose_way = None;
        state.expected = [0, HANDLE_BASE];
        let mut all = state.attached.values().chain(&state.loose);
        state.left == 0 && all.all(|attached| attached.is_waiting())
    }

    /// Whether nothing of it goes out any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state().way, Way::Ended)
    }

    pub(super) fn close(&self, why: Incapable) {
        self.state().way = Way::Closed(why);
    }

    /// Lets what `reply` attached leave as this call's.
    pub(super) fn adopt(self: &Arc<Self>, reply: &Arc<Self>) -> Result<(), Incapable> {
        if Arc::ptr_eq(self, reply) {
            return Ok(());
        }
        let (attached, loose) = {
            let mut reply = reply.state();
            (
                std::mem::take(&mut reply.attached),
                std::mem::take(&mut reply.loose),
            )
        };
        for attachment in loose {
            let mut state = self.state();
            let way = state.loose_way.clone().ok_or(Incapable::NoTable)?;
            state.loose.push(Arc::clone(&attachment));
            way.loose.push(attachment, self);
        }
        if attached.is_empty() {
            return Ok(());
        }
        let mut state = self.state();
        let (link, id) = match &state.way {
            Way::Over { link, id } => (Arc::clone(link), *id),
            Way::Closed(why) => return Err(*why),
            Way::Open | Way::Ended => return Err(Incapable::NotNigh),
        };
        for (index, attachment) in attached {
            state.attached.insert(index, Arc::clone(&attachment));
            link.queue(id, index, attachment, self);
        }
        link.wake_writer();
        Ok(())
    }

    /// The descriptor under `index` has been written.
    pub(super) fn has_left(&self, index: u32) {
        let mut state = self.state();
        state.left += 1;
        state.attached.remove(&index);
    }

    pub(super) async fn sent(&self, index: FdIndex) -> Result<(), UnsentError> {
        let attachment = {
            let state = self.state();
            let known = index.0 < state.next || state.attached.contains_key(&index.0);
            if !known {
                return Err(UnsentError::Unknown(index));
            }
            state.attached.get(&index.0).cloned()
        };
        match attachment {
            Some(attachment) => attachment.sent().await,
            None => Ok(()),
        }
    }

    /// The connection whose inode table this call may use.
    pub(super) fn table(&self) -> Option<Arc<Link>> {
        self.state().table.clone()
    }

    // What comes in.

    /// Room for `count` more of one numbering, from `first`.
    pub(super) fn room(&self, first: u32, count: usize) -> Result<(), Loss> {
        let state = self.state();
        let limit = state.per_call;
        if !state.accepts {
            return Err(Loss::NotAccepted);
        }
        let expected = state.expected[usize::from(first >= HANDLE_BASE)];
        if first != expected {
            return Err(Loss::Count {
                announced: first as usize,
                came: expected as usize,
            });
        }
        if state.came.len() + count > limit as usize {
            return Err(Loss::PerCall { limit });
        }
        Ok(())
    }

    /// Takes in what came; what came too late is given back.
    pub(super) fn arrived(&self, first: u32, came: Vec<Came>) -> Vec<Came> {
        let mut state = self.state();
        if state.ended || state.loss.is_some() {
            return came;
        }
        let mut index = first;
        for one in came {
            state.came.insert(index, one);
            index = index.saturating_add(1);
        }
        state.expected[usize::from(first >= HANDLE_BASE)] = index;
        drop(state);
        self.changed.notify_waiters();
        Vec::new()
    }

    /// Descriptors of this call are missing: it fails, and what came of it is closed.
    pub(super) fn lose(&self, loss: Loss) {
        let mut state = self.state();
        state.loss.get_or_insert(loss);
        let came = std::mem::take(&mut state.came);
        drop(state);
        self.changed.notify_waiters();
        self.answer.wake();
        closer::drop_off(came);
    }

    /// As [`loss`](Self::loss), and wakes the task when there is one later.
    pub(super) fn poll_loss(&self, cx: &Context<'_>) -> Option<Loss> {
        self.answer.register(cx.waker());
        self.loss()
    }

    pub(super) fn loss(&self) -> Option<Loss> {
        self.state().loss
    }

    /// Completes when descriptors of this call are lost.
    pub(super) async fn lost(&self) -> Loss {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if let Some(loss) = self.loss() {
                return loss;
            }
            changed.await;
        }
    }

    /// Sets what the called service takes: nothing, or so many. Tells whether something must not have come.
    pub(super) fn admit(&self, per_call: Option<u32>) -> Result<(), Loss> {
        let mut state = self.state();
        match per_call {
            None => {
                state.accepts = false;
                let unwanted = !state.came.is_empty() || state.loss.is_some();
                let came = std::mem::take(&mut state.came);
                drop(state);
                closer::drop_off(came);
                if unwanted {
                    return Err(Loss::NotAccepted);
                }
            }
            Some(limit) => {
                state.per_call = limit;
                if let Some(loss) = state.loss {
                    return Err(loss);
                }
                if state.came.len() > limit as usize {
                    drop(state);
                    self.lose(Loss::PerCall { limit });
                    return Err(Loss::PerCall { limit });
                }
            }
        }
        Ok(())
    }

    pub(super) fn take(&self, index: FdIndex) -> Result<OwnedFd, TakeError> {
        let mut state = self.state();
        if let Some(came) = state.came.remove(&index.0) {
            return Ok(came.fd);
        }
        if let Some(loss) = state.loss {
            return Err(TakeError::Lost(loss));
        }
        if state.ended {
            return Err(TakeError::Ended);
        }
        let numbering = usize::from(index.0 >= HANDLE_BASE);
        Err(if index.0 < state.expected[numbering] {
            TakeError::Taken(index)
        } else {
            TakeError::Unknown(index)
        })
    }

    pub(super) async fn wait(&self, index: FdIndex) -> Result<OwnedFd, TakeError> {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            match self.take(index) {
                Err(TakeError::Unknown(_)) => {}
                done => return done,
            }
            changed.await;
        }
    }

    pub(super) fn indices(&self) -> Vec<FdIndex> {
        self.state()
            .came
            .keys()
            .map(|index| FdIndex(*index))
            .collect()
    }

    pub(super) fn with_fd<T>(&self, index: FdIndex, see: impl FnOnce(&OwnedFd) -> T) -> Option<T> {
        self.state().came.get(&index.0).map(|came| see(&came.fd))
    }

    // How it ends.

    /// Nothing more goes out; what still waits here is given up.
    pub(super) fn end_sending(&self) {
        let mut state = self.state();
        state.way = Way::Ended;
        state.loose_way = None;
        let attached = std::mem::take(&mut state.attached);
        let loose = std::mem::take(&mut state.loose);
        drop(state);
        let all = attached.values().chain(&loose);
        let unsent: Vec<OwnedFd> = all.filter_map(|one| one.give_up()).collect();
        if !unsent.is_empty() {
            closer::drop_off(unsent);
        }
    }

    /// The server's call is over: what nobody took is closed; what was attached still leaves.
    pub(super) fn end_receiving(&self) {
        let mut state = self.state();
        state.ended = true;
        state.loose_way = None;
        state.table = None;
        if matches!(state.way, Way::Over { .. }) {
            state.way = Way::Ended;
        }
        let came = std::mem::take(&mut state.came);
        drop(state);
        self.changed.notify_waiters();
        if !came.is_empty() {
            closer::drop_off(came);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let came = std::mem::take(&mut state.came);
        if !came.is_empty() {
            closer::drop_off(came);
        }
    }
}
