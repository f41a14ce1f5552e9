//! What became of the calls: times of those that succeeded, and the status of every other.

use std::collections::BTreeMap;
use std::time::Duration;

use tonic::Status;

use super::histogram::{Histogram, as_float};
use crate::call::status::{code_name, describe};

/// Calls that were not over when nobody waited any longer.
const UNANSWERED: &str = "UNANSWERED";
/// Calls that were due and could not be made: too many others were not over.
const UNSENT: &str = "UNSENT";

/// What became of the calls of one wire.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    /// Of calls that succeeded; in an open loop from the time they were due.
    pub(crate) latency: Histogram,
    /// Open loop: how much later than due calls were made.
    pub(crate) late: Histogram,
    /// Calls without success, by the name of their status.
    pub(crate) failures: BTreeMap<&'static str, u64>,
    /// What the first of them ended with.
    pub(crate) first_failure: Option<String>,
    /// Calls that are not over.
    pub(crate) running: u64,
    /// From the first call to the last answer.
    pub(crate) took: Duration,
}

impl Tally {
    pub(crate) fn ended(&mut self, outcome: &Result<(), Status>, took: Duration) {
        self.running -= 1;
        match outcome {
            Ok(()) => self.latency.count(nanos(took)),
            Err(status) => {
                *self.failures.entry(code_name(status.code())).or_default() += 1;
                self.first_failure.get_or_insert_with(|| describe(status));
            }
        }
    }

    /// Nobody waits any longer for what still runs, and `unsent` calls are not made.
    pub(crate) fn give_up(&mut self, unsent: u64) {
        for (name, count) in [
            (UNANSWERED, std::mem::take(&mut self.running)),
            (UNSENT, unsent),
        ] {
            if count > 0 {
                *self.failures.entry(name).or_default() += count;
                self.first_failure.get_or_insert_with(|| name.to_owned());
            }
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.latency.merge(&other.latency);
        self.late.merge(&other.late);
        for (name, count) in &other.failures {
            *self.failures.entry(name).or_default() += count;
        }
        if self.first_failure.is_none() {
            self.first_failure.clone_from(&other.first_failure);
        }
        self.running += other.running;
        self.took += other.took;
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Calls that succeeded, per second.
    pub(crate) fn per_second(&self) -> f64 {
        as_float(self.latency.total()) / self.took.as_secs_f64().max(1e-9)
    }
}

pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_lost_whatever_became_of_it() {
        let mut tally = Tally {
            running: 4,
            ..Tally::default()
        };
        tally.ended(&Ok(()), Duration::from_micros(5));
        tally.ended(&Err(Status::not_found("no")), Duration::from_micros(1));
        tally.give_up(7);
        let mut all = tally.clone();
        all.merge(&tally);
        assert_eq!((all.latency.total(), all.failed()), (2, 20));
        let names: Vec<_> = all.failures.into_iter().collect();
        assert_eq!(names, [("NOT_FOUND", 2), ("UNANSWERED", 4), ("UNSENT", 14)]);
        assert_eq!(all.first_failure.as_deref(), Some("NOT_FOUND: no"));
    }
}
