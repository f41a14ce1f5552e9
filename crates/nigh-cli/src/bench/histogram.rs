//! Times counted in buckets that are at most 1/128 wide, whatever their size: percentiles in bounded memory. Pure.

/// Buckets per power of two.
const PARTS: u64 = 128;
/// All buckets of 64 bits.
const BUCKETS: usize = 58 * 128;

/// Counted times, in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    sum: u128,
    min: u64,
    max: u64,
}

/// Times from one bound to the next, the upper one not included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bin {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
            sum: 0,
            min: u64::MAX,
            max: 0,
        }
    }
}

impl Histogram {
    pub(crate) fn count(&mut self, nanos: u64) {
        if let Some(bucket) = self.counts.get_mut(bucket(nanos)) {
            *bucket += 1;
        }
        self.total += 1;
        self.sum += u128::from(nanos);
        self.min = self.min.min(nanos);
        self.max = self.max.max(nanos);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (own, more) in self.counts.iter_mut().zip(&other.counts) {
            *own += more;
        }
        self.total += other.total;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Times counted.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The shortest; 0 when none was counted.
    pub(crate) fn min(&self) -> u64 {
        self.min.min(self.max)
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    pub(crate) fn mean(&self) -> u64 {
        let mean = self.sum / u128::from(self.total.max(1));
        u64::try_from(mean).unwrap_or(u64::MAX)
    }

    /// No more than `percent` of all took longer than this; exact to one part in 128, and never above the longest.
    pub(crate) fn percentile(&self, percent: f64) -> u64 {
        let rank = (percent / 100.0 * as_float(self.total)).ceil().max(1.0);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if *count > 0 && as_float(seen) >= rank {
                return longest(index).clamp(self.min(), self.max);
            }
        }
        self.max
    }

    /// The counts between `from` and `to`, in bins of equal width on a logarithmic scale; what lies outside is in the
    /// first or the last.
    pub(crate) fn bins(&self, from: u64, to: u64, bins: usize) -> Vec<Bin> {
        let (low, high) = (as_float(from.max(1)), as_float(to.max(from) + 1));
        let step = (high / low).ln() / as_float(u64::try_from(bins).unwrap_or(1).max(1));
        let mut all: Vec<Bin> = (0..u32::try_from(bins).unwrap_or(u32::MAX))
            .map(|index| Bin {
                from: low * (step * f64::from(index)).exp(),
                to: low * (step * f64::from(index + 1)).exp(),
                count: 0,
            })
            .collect();
        for (index, count) in self.counts.iter().enumerate() {
            if *count > 0 {
                let time = as_float(longest(index).clamp(self.min(), self.max));
                let place = all.partition_point(|bin| bin.to <= time);
                let place = place.min(all.len().saturating_sub(1));
                if let Some(bin) = all.get_mut(place) {
                    bin.count += count;
                }
            }
        }
        all
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts and nanoseconds beyond 2^53 are years of calls"
)]
pub(crate) fn as_float(number: u64) -> f64 {
    number as f64
}

fn bucket(nanos: u64) -> usize {
    let shift = (nanos.max(1).ilog2()).saturating_sub(PARTS.ilog2());
    let part = nanos >> shift;
    usize::try_from(u64::from(shift) * PARTS + part).unwrap_or(usize::MAX)
}

/// The longest time that is counted there.
fn longest(index: usize) -> u64 {
    let index = u64::try_from(index).unwrap_or(u64::MAX);
    let shift = (index / PARTS).saturating_sub(1);
    let part = index - shift * PARTS;
    (((u128::from(part) + 1) << shift) - 1)
        .try_into()
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn nothing_counted_is_nothing() {
        let none = Histogram::default();
        assert_eq!((none.total(), none.min(), none.max()), (0, 0, 0));
        assert_eq!((none.mean(), none.percentile(99.0)), (0, 0));
        assert!(none.bins(0, 0, 4).iter().all(|bin| bin.count == 0));
    }

    #[test]
    fn the_ends_of_all_numbers_have_a_bucket() {
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(longest(BUCKETS - 1), u64::MAX);
        assert_eq!((bucket(255), bucket(256), longest(256)), (255, 256, 257));
    }

    proptest! {
        #[test]
        fn percentiles_are_those_of_the_sorted_times(
            mut times in proptest::collection::vec(0_u64..1 << 40, 1..300),
            percent in 1.0..100.0_f64,
            cut in any::<proptest::sample::Index>(),
        ) {
            let mut parts = [Histogram::default(), Histogram::default()];
            let cut = cut.index(times.len());
            for (index, time) in times.iter().enumerate() {
                parts[usize::from(index < cut)].count(*time);
            }
            let [mut all, other] = parts;
            all.merge(&other);
            times.sort_unstable();
            let rank = (percent / 100.0 * as_float(times.len() as u64)).ceil();
            let exact = (1..).zip(&times).find(|(place, _)| as_float(*place) >= rank).map_or(0, |(_, time)| *time);
            let found = all.percentile(percent);
            prop_assert!(found >= exact && found - exact <= exact / 128, "{found} for {exact}");
            prop_assert_eq!(all.percentile(100.0), times[times.len() - 1]);
            let bins = all.bins(all.min(), all.max(), 20);
            prop_assert_eq!(bins.iter().map(|bin| bin.count).sum::<u64>(), all.total());
        }
    }
}
