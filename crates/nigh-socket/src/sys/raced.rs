//! A byte whose every access loom watches, for the model of the lane: one that races with another is reported.

/// As the bytes of shared memory, it can be reached from both sides at any time.
pub(crate) struct RacedByte(loom::cell::Cell<u8>);

// SAFETY: loom runs one thread at a time, and panics at an access that is not ordered after the last one of another thread.
unsafe impl Sync for RacedByte {}

impl RacedByte {
    pub(crate) fn new(value: u8) -> Self {
        Self(loom::cell::Cell::new(value))
    }

    pub(crate) fn get(&self) -> u8 {
        self.0.get()
    }

    pub(crate) fn set(&self, value: u8) {
        self.0.set(value);
    }
}
