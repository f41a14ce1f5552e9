//! Where the two ends of a ring are: arithmetic on counts of bytes, and what of the other side's count is believed.
//!
//! A count only grows, modulo 2^32. Each side keeps its own here, in private; from the shared memory comes only the other's,
//! read once and checked against what is known.

use std::ops::Range;

use super::LaneFault;

/// Bytes that a ring holds: a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity(u32);

impl Capacity {
    /// `None` when it is no power of two, or too large for the counts to tell full from empty.
    pub(crate) fn new(bytes: u32) -> Option<Self> {
        (bytes.is_power_of_two() && bytes <= 1 << 30).then_some(Self(bytes))
    }

    pub(crate) fn bytes(self) -> u32 {
        self.0
    }

    /// Where `length` bytes from the count `at` on lie: up to the end of the ring, and from its beginning on.
    fn places(self, at: u32, length: u32) -> [Range<u32>; 2] {
        let start = at & (self.0 - 1);
        let first = length.min(self.0 - start);
        [start..start + first, 0..length - first]
    }
}

/// The writer's end of a ring.
#[derive(Debug)]
pub(crate) struct WriterCursor {
    capacity: Capacity,
    /// Bytes written.
    tail: u32,
    /// Bytes that the reader has not taken, as far as is known: at most the capacity.
    used: u32,
}

impl WriterCursor {
    pub(crate) fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            tail: 0,
            used: 0,
        }
    }

    pub(crate) fn tail(&self) -> u32 {
        self.tail
    }

    /// Bytes that there is room for, as far as is known.
    pub(crate) fn room(&self) -> u32 {
        self.capacity.0 - self.used
    }

    /// Takes in how many bytes the reader says it has read.
    pub(crate) fn learn(&mut self, head: u32) -> Result<(), LaneFault> {
        let used = self.tail.wrapping_sub(head);
        if used > self.used {
            return Err(LaneFault::Read {
                unread: used,
                max: self.used,
            });
        }
        self.used = used;
        Ok(())
    }

    /// Where the next `length` bytes go; no more than there is room for.
    pub(crate) fn places(&self, length: u32) -> [Range<u32>; 2] {
        self.capacity.places(self.tail, length.min(self.room()))
    }

    /// So many bytes were put there.
    pub(crate) fn advance(&mut self, length: u32) {
        let length = length.min(self.room());
        self.tail = self.tail.wrapping_add(length);
        self.used += length;
    }
}

/// The reader's end of a ring.
#[derive(Debug)]
pub(crate) struct ReaderCursor {
    capacity: Capacity,
    /// Bytes read.
    head: u32,
    /// Bytes that are there to be read, as far as is known: at most the capacity.
    unread: u32,
}

impl ReaderCursor {
    pub(crate) fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            head: 0,
            unread: 0,
        }
    }

    pub(crate) fn head(&self) -> u32 {
        self.head
    }

    /// Bytes that can be read, as far as is known.
    pub(crate) fn unread(&self) -> u32 {
        self.unread
    }

    /// Bytes that the writer has room for.
    pub(crate) fn room(&self) -> u32 {
        self.capacity.0 - self.unread
    }

    pub(crate) fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Takes in how many bytes the writer says it has written.
    pub(crate) fn learn(&mut self, tail: u32) -> Result<(), LaneFault> {
        let unread = tail.wrapping_sub(self.head);
        if unread > self.capacity.0 || unread < self.unread {
            return Err(LaneFault::Written {
                unread,
                min: self.unread,
                max: self.capacity.0,
            });
        }
        self.unread = unread;
        Ok(())
    }

    /// Where the next `length` bytes lie; no more than are there.
    pub(crate) fn places(&self, length: u32) -> [Range<u32>; 2] {
        self.capacity.places(self.head, length.min(self.unread))
    }

    /// So many bytes were taken from there.
    pub(crate) fn advance(&mut self, length: u32) {
        let length = length.min(self.unread);
        self.head = self.head.wrapping_add(length);
        self.unread -= length;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn capacity(bytes: u32) -> Capacity {
        Capacity::new(bytes).unwrap()
    }

    #[test]
    fn a_capacity_is_a_power_of_two_that_the_counts_can_tell_apart() {
        for bytes in [1, 2, 1 << 18, 1 << 30] {
            assert_eq!(Capacity::new(bytes).map(Capacity::bytes), Some(bytes));
        }
        for bytes in [0, 3, (1 << 18) + 1, 1 << 31] {
            assert_eq!(Capacity::new(bytes), None);
        }
    }

    #[test]
    fn what_wraps_lies_in_two_places() {
        let mut writer = WriterCursor::new(capacity(8));
        writer.advance(6);
        writer.learn(6).unwrap();
        assert_eq!(writer.places(5), [6..8, 0..3]);
        assert_eq!(writer.places(2), [6..8, 0..0]);
        assert_eq!(writer.places(100), [6..8, 0..6]);
    }

    #[test]
    fn counts_pass_their_end() {
        let mut writer = WriterCursor::new(capacity(8));
        let mut reader = ReaderCursor::new(capacity(8));
        (writer.tail, reader.head) = (u32::MAX - 2, u32::MAX - 2);
        writer.advance(7);
        reader.learn(writer.tail()).unwrap();
        assert_eq!(reader.unread(), 7);
        reader.advance(7);
        writer.learn(reader.head()).unwrap();
        assert_eq!((writer.room(), writer.tail()), (8, 4));
    }

    #[test]
    fn a_reader_believes_no_impossible_count() {
        let mut reader = ReaderCursor::new(capacity(8));
        reader.learn(5).unwrap();
        let faults = [
            // More than fits, less than was there already, and before what was read.
            9,
            4,
            u32::MAX,
        ];
        for tail in faults {
            let fault = reader.learn(tail).unwrap_err();
            assert!(matches!(fault, LaneFault::Written { .. }), "{fault}");
            assert_eq!((reader.unread(), reader.head()), (5, 0));
        }
    }

    #[test]
    fn a_writer_believes_no_impossible_count() {
        let mut writer = WriterCursor::new(capacity(8));
        writer.advance(5);
        writer.learn(2).unwrap();
        // More than was written, less than was read already, and nonsense.
        for head in [6, 1, 1 << 31] {
            let fault = writer.learn(head).unwrap_err();
            assert!(matches!(fault, LaneFault::Read { .. }), "{fault}");
            assert_eq!((writer.room(), writer.tail()), (5, 5));
        }
    }

    proptest! {
        /// Whatever the other side claims, what is handed out lies inside the ring.
        #[test]
        fn no_claim_leads_out_of_the_ring(
            bits in 0u32..=30,
            steps in proptest::collection::vec((any::<u32>(), any::<u32>()), 1..50),
        ) {
            let capacity = Capacity::new(1 << bits).unwrap();
            let mut writer = WriterCursor::new(capacity);
            let mut reader = ReaderCursor::new(capacity);
            for (claim, length) in steps {
                let _ = writer.learn(claim);
                let _ = reader.learn(claim);
                for [first, second] in [writer.places(length), reader.places(length)] {
                    prop_assert!(first.start <= first.end && first.end <= capacity.bytes());
                    prop_assert!(second.end <= first.start || second.is_empty());
                }
                writer.advance(length);
                reader.advance(length);
                prop_assert!(writer.room() <= capacity.bytes());
                prop_assert!(reader.unread() <= capacity.bytes());
            }
        }
    }
}
