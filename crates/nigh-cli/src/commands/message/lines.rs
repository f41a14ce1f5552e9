//! Cuts a stream into lines, each with the descriptors of the line they came with. Pure.
//!
//! Trap: the kernel glues bytes without descriptors to the front of those with: what comes belongs to the last line.

use std::mem;

/// A line was longer than is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

/// A line without its newline, and what came with it.
pub(super) type Line<T> = (Vec<u8>, Vec<T>);

/// What is still missing its newline.
#[derive(Debug)]
pub(super) struct Lines<T> {
    max: usize,
    partial: Vec<u8>,
    extras: Vec<T>,
}

impl<T> Lines<T> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            partial: Vec::new(),
            extras: Vec::new(),
        }
    }

    /// The lines that `bytes` complete, without their newlines.
    pub(super) fn feed(&mut self, bytes: &[u8], extras: Vec<T>) -> Result<Vec<Line<T>>, TooLong> {
        let mut lines = Vec::new();
        let mut pieces = bytes.split(|byte| *byte == b'\n');
        let last = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            self.append(piece)?;
            lines.push((mem::take(&mut self.partial), mem::take(&mut self.extras)));
        }
        self.append(last)?;
        match lines.last_mut() {
            Some((_, of_line)) if last.is_empty() => of_line.extend(extras),
            _ => self.extras.extend(extras),
        }
        Ok(lines)
    }

    /// What came after the last newline, at the end.
    pub(super) fn rest(&mut self) -> Option<Line<T>> {
        let is_something = !self.partial.is_empty() || !self.extras.is_empty();
        is_something.then(|| (mem::take(&mut self.partial), mem::take(&mut self.extras)))
    }

    fn append(&mut self, piece: &[u8]) -> Result<(), TooLong> {
        if self.partial.len() + piece.len() > self.max {
            return Err(TooLong);
        }
        self.partial.extend_from_slice(piece);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::*;

    fn line(text: &str, extras: &[u8]) -> (Vec<u8>, Vec<u8>) {
        (text.as_bytes().to_vec(), extras.to_vec())
    }

    #[test]
    fn what_comes_with_bytes_belongs_to_their_last_line() {
        let mut lines = Lines::new(100);
        let fed = lines.feed(b"aaa\nbbb\n", vec![1]).unwrap();
        assert_eq!(fed, [line("aaa", &[]), line("bbb", &[1])]);
        let fed = lines.feed(b"ccc\ndd", vec![2]).unwrap();
        assert_eq!(fed, [line("ccc", &[])]);
        assert_eq!(lines.feed(b"d\n", vec![]).unwrap(), [line("ddd", &[2])]);
        assert_eq!(lines.feed(b"e", vec![3]).unwrap(), []);
        assert_eq!(lines.rest(), Some(line("e", &[3])));
        assert_eq!(lines.rest(), None);
    }

    #[test]
    fn a_long_line_is_an_error_and_never_cut() {
        let mut lines = Lines::<u8>::new(4);
        assert_eq!(lines.feed(b"aaaa\nbb", vec![]).unwrap().len(), 1);
        assert_eq!(lines.feed(b"bbb", vec![]), Err(TooLong));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_lines(text in "[a\n]{0,40}", cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5)) {
            let whole = Lines::<u8>::new(100).feed(text.as_bytes(), vec![]).unwrap();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut lines = Lines::<u8>::new(100);
            let mut found = Vec::new();
            for pair in cuts.windows(2) {
                found.extend(lines.feed(&text.as_bytes()[pair[0]..pair[1]], vec![]).unwrap());
            }
            prop_assert_eq!(found, whole);
        }
    }
}
