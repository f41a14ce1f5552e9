//! Descriptors that came, with the part of the stream they came in, until it is known whose they are.
//!
//! The kernel gives a message's descriptors with its first byte, may put earlier bytes in front of it, and never
//! reads past it: one reception holds at most one message with descriptors, and a frame that carries some begins in it
//! [5.2].

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

/// Descriptors received together.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// Offsets of the stream that the reception covered.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) fds: Vec<OwnedFd>,
    /// Some could not be installed: this process has no descriptors left.
    pub(crate) truncated: bool,
}

/// Arrivals in the order of the stream.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    waiting: VecDeque<Arrival>,
}

impl Arrivals {
    pub(crate) fn push(&mut self, arrival: Arrival) {
        self.waiting.push_back(arrival);
    }

    /// The oldest, when more wait than any reader of frames leaves waiting: nobody reads frames here.
    pub(crate) fn surplus(&mut self) -> Option<Arrival> {
        const WAITING_MAX: usize = 4;
        if self.waiting.len() > WAITING_MAX {
            self.waiting.pop_front()
        } else {
            None
        }
    }

    /// What was carried by the frame that began at this offset.
    pub(crate) fn at(&mut self, offset: u64) -> Option<Arrival> {
        let found = self
            .waiting
            .iter()
            .position(|arrival| (arrival.start..arrival.end).contains(&offset))?;
        self.waiting.remove(found)
    }

    /// What came before this offset and no frame asked for.
    pub(crate) fn strays(&mut self, settled: u64) -> Vec<Arrival> {
        let mut strays = Vec::new();
        while let Some(arrival) = self.waiting.pop_front_if(|first| first.end <= settled) {
            strays.push(arrival);
        }
        strays
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(start: u64, end: u64) -> Arrival {
        Arrival {
            start,
            end,
            fds: Vec::new(),
            truncated: false,
        }
    }

    #[test]
    fn a_frame_takes_what_came_with_its_first_byte_and_nothing_else() {
        let mut arrivals = Arrivals::default();
        arrivals.push(arrival(0, 10));
        arrivals.push(arrival(10, 35));
        assert!(arrivals.at(35).is_none());
        assert_eq!(arrivals.at(10).unwrap().start, 10);
        assert!(arrivals.at(10).is_none());
        assert_eq!(arrivals.at(9).unwrap().start, 0);
    }

    #[test]
    fn strays_are_those_that_no_frame_can_ask_for_any_more() {
        let mut arrivals = Arrivals::default();
        arrivals.push(arrival(0, 10));
        arrivals.push(arrival(12, 20));
        assert_eq!(arrivals.strays(9).len(), 0);
        assert_eq!(arrivals.strays(19).len(), 1);
        assert_eq!(arrivals.strays(20).len(), 1);
    }
}
