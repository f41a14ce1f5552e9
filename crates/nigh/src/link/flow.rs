//! What the peer may still send, and what it is owed for what was consumed (clause 8).

/// The receiving end of one credit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Receipts {
    /// What the peer may still send; below zero for as long as its last frame was larger.
    credit: i64,
    /// Consumed and not yet given back.
    owed: u32,
    window: u32,
}

impl Receipts {
    pub(crate) fn new(window: u32) -> Self {
        Self {
            credit: window.into(),
            owed: 0,
            window,
        }
    }

    /// Counts what has arrived; false: the peer had no credit for it.
    pub(crate) fn arrived(&mut self, length: usize) -> bool {
        if length == 0 {
            return true;
        }
        let had_credit = self.credit > 0;
        self.credit -= i64::try_from(length).unwrap_or(i64::MAX);
        had_credit
    }

    /// Counts what was consumed; the credit to give back, once half a window has gathered.
    pub(crate) fn consumed(&mut self, length: usize) -> Option<u32> {
        self.owed += u32::try_from(length).unwrap_or(u32::MAX);
        if self.owed == 0 || self.owed < self.window / 2 {
            return None;
        }
        self.credit += i64::from(self.owed);
        Some(std::mem::take(&mut self.owed))
    }
}
