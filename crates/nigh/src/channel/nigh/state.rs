//! What a client's connection has beside what both sides have: places, paths, and who reads.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::frame::head::SentPaths;
use crate::io::Io;
use crate::link::line::Line;
use crate::link::{Role, State};

/// Who reads the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// The connection's own task.
    Driver,
    /// The only call there is, on this stream, while it is polled.
    Solo(u32),
    /// Nobody: the last solo call is over, and the next is likely soon. The driver looks after it at its next tick.
    Nobody,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) paths: SentPaths,
    /// Slots that were used and are free, and the first that was never used.
    free: Vec<u16>,
    unused: u16,
    permits: Arc<Semaphore>,
    /// Whoever reads or writes has taken it out.
    pub(super) line: Option<Box<Line<Io>>>,
    pub(super) reading: Reading,
    /// Solo calls begun: tells the driver whether there was one since its last tick.
    pub(super) solo_calls: u64,
    /// The driver's ticks are running.
    pub(super) is_ticking: bool,
    /// The driver has to be the reader always: it watches for signs of life.
    is_watched: bool,
    /// The server has said goodbye, or nobody holds the connection any more.
    pub(super) is_leaving: bool,
    pub(super) is_unwanted: bool,
    /// Answers to pings in the queue.
    pub(super) pongs: usize,
}

impl Role for Client {
    fn freed(&mut self, index: u16) -> bool {
        self.free.push(index);
        if !self.is_leaving {
            self.permits.add_permits(1);
        }
        self.is_leaving || self.is_unwanted
    }
}

impl Client {
    pub(super) fn new(
        paths_max: u32,
        permits: Arc<Semaphore>,
        line: Line<Io>,
        is_watched: bool,
    ) -> Self {
        Self {
            paths: SentPaths::new(paths_max),
            free: Vec::new(),
            unused: 0,
            permits,
            line: Some(Box::new(line)),
            reading: Reading::Driver,
            solo_calls: 0,
            is_ticking: false,
            is_watched,
            is_leaving: false,
            is_unwanted: false,
            pongs: 0,
        }
    }

    /// The driver reads from now on; wake it.
    pub(super) fn drive(&mut self) {
        self.reading = Reading::Driver;
    }

    /// No call begins here any more; those that wait for a place look elsewhere.
    pub(super) fn leave(&mut self) {
        self.is_leaving = true;
        self.permits.close();
        self.drive();
    }

    fn slot(&mut self) -> u16 {
        self.free.pop().unwrap_or_else(|| {
            let index = self.unused;
            self.unused = self.unused.saturating_add(1);
            index
        })
    }

    /// Whether a call that is alone may read and write itself: the line is here and nobody else needs it. With a write under
    /// way the driver counts on the socket to wake it, which wakes only who tried last.
    fn may_go_solo(&self) -> bool {
        let line = self.line.as_ref();
        let is_idle = line.is_some_and(|line| line.writing.is_empty());
        is_idle && !self.is_watched && !self.is_leaving && !self.is_unwanted
    }
}

/// A stream for a new call; its caller holds a permit.
pub(super) fn next_stream(state: &mut State<Client>) -> u32 {
    let index = state.own.slot();
    state.next_stream(index)
}

/// Decides who reads for a call that was just opened; true: the call itself.
pub(super) fn begin(state: &mut State<Client>, stream: u32, is_whole: bool) -> bool {
    let is_alone = state.open == 1 && is_whole && state.own.may_go_solo();
    let own = &mut state.own;
    own.reading = if is_alone {
        Reading::Solo(stream)
    } else {
        Reading::Driver
    };
    own.solo_calls += u64::from(is_alone);
    if is_alone {
        // A driver that waited for room in the middle of a write said that it need not be woken: the call writes on in its
        // place, and is what the connection wakes from now on.
        state.driver_asleep();
    }
    is_alone
}
