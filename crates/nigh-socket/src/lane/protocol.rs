//! How two sides share a ring and put each other to sleep: counts are published, waits announced, nobody is left asleep.
//!
//! Who waits announces it, then looks once more; who publishes looks for the announcement after. A full fence on both sides
//! between the two makes it impossible that each misses the other. `lane/model.rs` checks that with loom, which is why this
//! file is generic over the memory. Trap: whatever is read from there may be a lie; it decides when to wake, never where to
//! read or write.

use std::sync::atomic::Ordering;

use tokio::io::ReadBuf;

use super::LaneFault;
use super::cursor::{Capacity, ReaderCursor, WriterCursor};

/// A shared word.
pub(crate) trait Word {
    fn load(&self, order: Ordering) -> u32;
    fn store(&self, value: u32, order: Ordering);
}

/// The words of one ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    /// Bytes written; the writer's.
    Tail,
    /// The CPU that the writer ran on last; the writer's.
    Cpu,
    /// Not 0 once the writer will write no more; the writer's.
    Ended,
    /// Bytes read; the reader's.
    Head,
    /// Not 0 while the reader waits for bytes.
    ReaderWaits,
    /// Not 0 while the writer waits for room.
    WriterWaits,
}

/// Which of the two rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ring {
    ToServer,
    ToClient,
}

/// Memory that both sides can change at any time.
pub(crate) trait Memory {
    type Word: Word;

    fn word(&self, ring: Ring, name: Name) -> &Self::Word;

    /// A fence of the kind `SeqCst`.
    fn fence(&self);

    /// Copies `bytes` into the ring, from its offset `at` on.
    fn put(&self, ring: Ring, at: u32, bytes: &[u8]);

    /// Copies `length` bytes out of the ring, from its offset `at` on, to the end of `into`.
    fn take(&self, ring: Ring, at: u32, length: u32, into: &mut ReadBuf<'_>);
}

/// The end of a ring that is written.
#[derive(Debug)]
pub(crate) struct Writer {
    ring: Ring,
    cursor: WriterCursor,
}

impl Writer {
    pub(crate) fn new(ring: Ring, capacity: Capacity) -> Self {
        let cursor = WriterCursor::new(capacity);
        Self { ring, cursor }
    }

    /// Copies in as much of `bytes` as there is room for; the reader does not see it before [`publish`](Self::publish).
    pub(crate) fn put<M: Memory>(&mut self, memory: &M, bytes: &[u8]) -> Result<usize, LaneFault> {
        let wanted = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if self.cursor.room() < wanted {
            self.look(memory)?;
        }
        let mut rest = bytes;
        for place in self.cursor.places(wanted) {
            let length = (place.end - place.start) as usize;
            let (now, later) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            if !now.is_empty() {
                memory.put(self.ring, place.start, now);
            }
            rest = later;
        }
        let written = bytes.len() - rest.len();
        self.cursor
            .advance(u32::try_from(written).unwrap_or(u32::MAX));
        Ok(written)
    }

    /// Shows the reader what was put; whether it waits for that and has to be woken.
    #[must_use]
    pub(crate) fn publish<M: Memory>(&self, memory: &M) -> bool {
        let tail = memory.word(self.ring, Name::Tail);
        tail.store(self.cursor.tail(), Ordering::Release);
        is_waiting(memory, self.ring, Name::ReaderWaits)
    }

    /// Tells the reader that no more will come; whether it has to be woken.
    #[must_use]
    pub(crate) fn end<M: Memory>(&self, memory: &M) -> bool {
        let ended = memory.word(self.ring, Name::Ended);
        ended.store(1, Ordering::Release);
        is_waiting(memory, self.ring, Name::ReaderWaits)
    }

    /// Looks whether there is room; cheap enough to be called in a loop.
    pub(crate) fn has_room<M: Memory>(&mut self, memory: &M) -> Result<bool, LaneFault> {
        if self.cursor.room() == 0 {
            self.look(memory)?;
        }
        Ok(self.cursor.room() > 0)
    }

    /// Announces that this side is about to sleep until there is room; whether it may: there still is none.
    pub(crate) fn wait<M: Memory>(&mut self, memory: &M) -> Result<bool, LaneFault> {
        announce(memory, self.ring, Name::WriterWaits);
        let has_room = self.has_room(memory)?;
        if has_room {
            take_back(memory, self.ring, Name::WriterWaits);
        }
        Ok(!has_room)
    }

    fn look<M: Memory>(&mut self, memory: &M) -> Result<(), LaneFault> {
        // Acquire: the reader has taken what lay there before it is overwritten.
        let head = memory.word(self.ring, Name::Head).load(Ordering::Acquire);
        self.cursor.learn(head)
    }
}

/// The end of a ring that is read.
#[derive(Debug)]
pub(crate) struct Reader {
    ring: Ring,
    cursor: ReaderCursor,
}

/// What a reader finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Bytes,
    Nothing,
    /// Nothing, and nothing will come.
    End,
}

impl Reader {
    pub(crate) fn new(ring: Ring, capacity: Capacity) -> Self {
        let cursor = ReaderCursor::new(capacity);
        Self { ring, cursor }
    }

    /// Copies what is there, as much as fits, to the end of `into`; returns how much. The writer gets the room with
    /// [`release`](Self::release).
    pub(crate) fn take<M: Memory>(
        &mut self,
        memory: &M,
        into: &mut ReadBuf<'_>,
    ) -> Result<usize, LaneFault> {
        let wanted = u32::try_from(into.remaining()).unwrap_or(u32::MAX);
        if self.cursor.unread() < wanted {
            self.look(memory)?;
        }
        let mut taken = 0;
        for place in self.cursor.places(wanted) {
            let length = place.end - place.start;
            if length > 0 {
                memory.take(self.ring, place.start, length, into);
            }
            taken += length;
        }
        self.cursor.advance(taken);
        Ok(taken as usize)
    }

    /// Gives the writer the room of what was taken; whether it waits for that and is to be woken.
    ///
    /// It is let sleep until half of the ring is free: a wake-up for each few bytes costs more than it brings. It cannot be
    /// forgotten, for a reader that waits has an empty ring.
    #[must_use]
    pub(crate) fn release<M: Memory>(&self, memory: &M) -> bool {
        let head = memory.word(self.ring, Name::Head);
        head.store(self.cursor.head(), Ordering::Release);
        if self.cursor.room() < self.cursor.capacity().bytes().div_ceil(2) {
            return false;
        }
        is_waiting(memory, self.ring, Name::WriterWaits)
    }

    /// Looks what is there; cheap enough to be called in a loop.
    pub(crate) fn look_for<M: Memory>(&mut self, memory: &M) -> Result<Found, LaneFault> {
        if self.cursor.unread() > 0 {
            return Ok(Found::Bytes);
        }
        let ended = memory.word(self.ring, Name::Ended).load(Ordering::Acquire);
        // After it: what was written before the end is seen.
        self.look(memory)?;
        Ok(match (self.cursor.unread(), ended) {
            (0, 0) => Found::Nothing,
            (0, _) => Found::End,
            _ => Found::Bytes,
        })
    }

    /// Announces that this side is about to sleep until there is something; what it finds after that: it may if nothing.
    pub(crate) fn wait<M: Memory>(&mut self, memory: &M) -> Result<Found, LaneFault> {
        announce(memory, self.ring, Name::ReaderWaits);
        let found = self.look_for(memory)?;
        if found != Found::Nothing {
            take_back(memory, self.ring, Name::ReaderWaits);
        }
        Ok(found)
    }

    fn look<M: Memory>(&mut self, memory: &M) -> Result<(), LaneFault> {
        // Acquire: the bytes that it counts are there.
        let tail = memory.word(self.ring, Name::Tail).load(Ordering::Acquire);
        self.cursor.learn(tail)
    }
}

fn announce<M: Memory>(memory: &M, ring: Ring, waits: Name) {
    memory.word(ring, waits).store(1, Ordering::Relaxed);
    memory.fence();
}

/// Nobody need be rung; if the other side has seen it already it rings for nothing.
fn take_back<M: Memory>(memory: &M, ring: Ring, waits: Name) {
    memory.word(ring, waits).store(0, Ordering::Relaxed);
}

/// Whether the other side has announced that it waits; asking takes the announcement back, so that it is rung once.
///
/// It may be a later announcement that is taken back. So who gets a yes has to ring, and who is rung announces again.
fn is_waiting<M: Memory>(memory: &M, ring: Ring, waits: Name) -> bool {
    memory.fence();
    let word = memory.word(ring, waits);
    let is_waiting = word.load(Ordering::Relaxed) != 0;
    if is_waiting {
        word.store(0, Ordering::Relaxed);
    }
    is_waiting
}
