//! Turns of reading and writing, and the task that takes them when no call does.
//!
//! Trap: a call that is alone and not polled must not stop the connection: the driver looks every [`TICK`].

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};
use tonic::{Code, Status};

use super::Conn;
use super::frames;
use super::state::{Client, Reading};
use crate::fd::Announced;
use crate::frame::Kind;
use crate::io::Io;
use crate::link::keepalive::{Keepalive, Pulse};
use crate::link::line::Line;
use crate::link::{Later, State};

/// How long a solo call may not be polled, or the connection not be read, before the driver takes over.
const TICK: Duration = Duration::from_millis(50);

/// Reads of one turn, before other tasks have theirs.
const TURN_READS: usize = 16;

/// How a turn went.
#[derive(Debug)]
pub(super) enum Turn {
    /// Nothing more to read now; the socket will wake who took the turn.
    Waiting,
    /// The turn was long, or the call that took it has its answer.
    More,
    /// The connection has ended.
    Ended(Status),
}

impl Conn {
    /// Writes what waits and reads what is there; a solo call stops at its own answer.
    pub(super) fn turn(
        &self,
        line: &mut Line<Io>,
        solo: Option<u32>,
        cx: &mut Context<'_>,
    ) -> Turn {
        let mut is_broken = false;
        // A call that is alone waits for nothing else; several keep this thread busy.
        line.set_eager(solo.is_some());
        for _ in 0..TURN_READS {
            is_broken = is_broken || self.write(line, cx).is_err();
            let read = line.poll_read(cx);
            let read = match read {
                Poll::Pending if is_broken => {
                    return Turn::Ended(self.lost("it takes nothing more"));
                }
                Poll::Pending => return Turn::Waiting,
                Poll::Ready(Err(error)) => return Turn::Ended(self.lost(&error.to_string())),
                Poll::Ready(Ok(read)) => read,
            };
            if read == 0 {
                return Turn::Ended(self.lost("the server closed it"));
            }
            match self.handle(line, solo) {
                Ok(true) => return Turn::More,
                Ok(false) => {}
                Err(status) => {
                    // One try to say why.
                    let _ = self.write(line, cx);
                    return Turn::Ended(status);
                }
            }
        }
        cx.waker().wake_by_ref();
        Turn::More
    }

    /// Handles what was read; whether the solo call has its answer.
    fn handle(&self, line: &mut Line<Io>, solo: Option<u32>) -> Result<bool, Status> {
        loop {
            let step = self.link.change(|state, later| {
                let announced = self.some(line, state, later)?;
                let slot = solo.and_then(|stream| state.slot(stream));
                let is_answered = slot.is_some_and(|slot| slot.head.is_some() || slot.is_ended);
                Ok::<_, Status>((announced, is_answered))
            });
            let (announced, is_answered) = step?;
            let Some(fds) = &self.link.fds else {
                return Ok(is_answered);
            };
            let Some(announced) = announced else {
                fds.settle(line.decoder.offset());
                return Ok(is_answered);
            };
            // Without the lock: whoever waits for a descriptor is woken here.
            fds.announced(announced);
        }
    }

    /// Handles frames up to one that brings descriptors.
    fn some(
        &self,
        line: &mut Line<Io>,
        state: &mut State<Client>,
        later: &mut Later,
    ) -> Result<Option<Announced>, Status> {
        let max = self.link.ours.accepted().header_bytes_max;
        frames::handle(line, max, state, later).map_err(|violation| {
            let text = violation.to_string();
            state.out.reason(Kind::GoAway, 0, 1, &text);
            let address = &self.address;
            let text = format!("the server at {address} broke the nigh wire: {text}");
            Status::new(Code::Internal, text)
        })
    }

    fn write(&self, line: &mut Line<Io>, cx: &mut Context<'_>) -> std::io::Result<()> {
        let mut later = Later::default();
        loop {
            if line.poll_write(cx)?.is_pending() {
                return Ok(());
            }
            let mut state = self.link.lock();
            state.feed(&mut later);
            state.carry();
            let is_done = state.out.is_empty();
            if !is_done {
                state.out.hand_over(&mut line.writing);
                state.own.pongs = 0;
            }
            drop(state);
            later.run();
            if is_done {
                return Ok(());
            }
        }
    }

    /// What calls are told when the connection broke under them.
    fn lost(&self, why: &str) -> Status {
        let address = &self.address;
        Status::unavailable(format!("the connection to {address} was lost: {why}"))
    }

    /// Ends the connection: calls of which nothing was written may be made again elsewhere.
    pub(super) fn end(&self, status: &Status, mut line: Option<&mut Line<Io>>) {
        let written = line.as_ref().map_or(u64::MAX, |line| line.written);
        if let Some(line) = &mut line {
            line.writing.give_back();
        }
        let mut state = self.link.lock();
        state.mark_unsent(written);
        state.out.give_back();
        state.own.leave();
        drop(state);
        self.link.end(status);
    }
}

/// Drives the connection to its end.
pub(super) fn drive(
    conn: Arc<Conn>,
    keepalive: Option<Keepalive>,
) -> impl Future<Output = ()> + Send {
    let mut driver = Driver {
        conn,
        keepalive,
        tick: Box::pin(tokio::time::sleep(TICK)),
        solo_calls: 0,
        is_deferred: false,
    };
    std::future::poll_fn(move |cx| driver.poll(cx))
}

struct Driver {
    conn: Arc<Conn>,
    keepalive: Option<Keepalive>,
    tick: Pin<Box<Sleep>>,
    /// Solo calls when the tick began.
    solo_calls: u64,
    /// Waited once for others to append, before writing.
    is_deferred: bool,
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The runtime is going: whoever waits is told.
        let status = self.conn.lost("its runtime ended");
        self.conn.end(&status, None);
    }
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let conn = Arc::clone(&self.conn);
        if let Some(fds) = &conn.link.fds {
            fds.register_writer(cx);
        }
        let mut state = conn.link.lock();
        if state.over().is_some() {
            state.own.line = None;
            return Poll::Ready(());
        }
        state.driver_awake(cx.waker());
        let is_early = !state.out.is_empty() && state.open > 1 && !self.is_deferred;
        self.is_deferred = is_early;
        if is_early {
            drop(state);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !self.may_read(&mut state, cx) {
            state.driver_asleep();
            return Poll::Pending;
        }
        let Some(mut line) = state.own.line.take() else {
            // Whoever has it will wake us when it is back.
            state.driver_asleep();
            return Poll::Pending;
        };
        drop(state);
        let polled = self.take_turn(&conn, &mut line, cx);
        if polled.is_pending() {
            conn.link.lock().own.line = Some(line);
        }
        polled
    }

    /// Whether the driver is the reader: it becomes it when something waits to be written, or at a tick without calls.
    fn may_read(&mut self, state: &mut State<Client>, cx: &mut Context<'_>) -> bool {
        // What a solo call has queued it writes itself; somebody else's frames are the driver's.
        if state.was_nudged() || state.has_attached() || state.own.reading == Reading::Driver {
            state.own.drive();
            state.own.is_ticking = false;
            return true;
        }
        if !std::mem::replace(&mut state.own.is_ticking, true) {
            self.solo_calls = state.own.solo_calls;
            self.tick.as_mut().reset(Instant::now() + TICK);
        }
        while self.tick.as_mut().poll(cx).is_ready() {
            if self.solo_calls == state.own.solo_calls {
                state.own.drive();
                state.own.is_ticking = false;
                return true;
            }
            self.solo_calls = state.own.solo_calls;
            self.tick.as_mut().reset(Instant::now() + TICK);
        }
        false
    }

    fn take_turn(&mut self, conn: &Conn, line: &mut Line<Io>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.is_dead(conn, line, cx) {
                let status = conn.lost("no sign of life");
                conn.end(&status, Some(&mut *line));
                return Poll::Ready(());
            }
            match conn.turn(line, None, cx) {
                Turn::More => return Poll::Pending,
                Turn::Ended(status) => {
                    tracing::debug!("{}", status.message());
                    conn.end(&status, Some(&mut *line));
                    return Poll::Ready(());
                }
                Turn::Waiting => {}
            }
            let mut state = conn.link.lock();
            let own = &state.own;
            let is_over = (own.is_leaving || own.is_unwanted) && state.open == 0;
            if is_over && line.writing.is_empty() && state.out.is_empty() {
                drop(state);
                conn.end(&conn.lost("it was closed"), Some(&mut *line));
                return Poll::Ready(());
            }
            if !state.out.is_empty() && line.writing.is_empty() {
                continue;
            }
            // With a write under way the socket wakes this task; then appending need not.
            if line.writing.is_empty() {
                state.driver_asleep();
            }
            return Poll::Pending;
        }
    }

    fn is_dead(&mut self, conn: &Conn, line: &Line<Io>, cx: &mut Context<'_>) -> bool {
        let Some(keepalive) = &mut self.keepalive else {
            return false;
        };
        while let Poll::Ready(pulse) = keepalive.poll(line.reads, cx) {
            match pulse {
                Pulse::Dead => return true,
                Pulse::Ask => conn.link.lock().out.ping(Kind::Ping, b"alive?\0\0"),
            }
        }
        false
    }
}
