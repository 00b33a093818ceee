//! A histogram of nanoseconds: exact count, sum, minimum and maximum, percentiles within 0.1 %.
//!
//! Values share a bucket when they agree in their ten highest bits. Memory is taken per power of two that
//! occurs (4 KiB each), so a histogram of similar durations costs a few of them and none can exceed 54.

/// Buckets per power of two.
const SUB: usize = 512;
const SUB_BITS: u32 = SUB.ilog2();

/// A histogram of durations in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    count: u64,
    min: u64,
    max: u64,
    /// Wider than any single duration: a million sockets that live for a day are more nanoseconds than 64 bits hold.
    sum: u128,
    /// Of `count`, those of which only bounds are known.
    coarse: u64,
    /// Index: octave of the value. Octave 0 holds the values below `SUB`, exactly.
    octaves: Vec<Option<Box<[u64; SUB]>>>,
}

impl Histogram {
    /// Adds one duration.
    pub fn record(&mut self, nanoseconds: u64) {
        let (octave, bucket) = place(nanoseconds);
        if self.octaves.len() <= octave {
            self.octaves.resize_with(octave + 1, || None);
        }
        if let Some(slot) = self.octaves.get_mut(octave) {
            let buckets = slot.get_or_insert_with(|| Box::new([0; SUB]));
            if let Some(tally) = buckets.get_mut(bucket) {
                *tally = tally.saturating_add(1);
            }
        }
        self.min = if self.count == 0 { nanoseconds } else { self.min.min(nanoseconds) };
        self.max = self.max.max(nanoseconds);
        self.count = self.count.saturating_add(1);
        self.sum = self.sum.saturating_add(u128::from(nanoseconds));
    }

    /// Adds so many durations that lie somewhere between two bounds: they count as the middle, the bounds as the shortest
    /// and the longest.
    pub fn record_between(&mut self, (least, most): (u64, u64), count: u64) {
        if count == 0 {
            return;
        }
        let middle = least + (most - least) / 2;
        let (octave, bucket) = place(middle);
        if self.octaves.len() <= octave {
            self.octaves.resize_with(octave + 1, || None);
        }
        if let Some(slot) = self.octaves.get_mut(octave)
            && let Some(tally) = slot.get_or_insert_with(|| Box::new([0; SUB])).get_mut(bucket)
        {
            // Saturating, because the counts of a recording may say anything.
            *tally = tally.saturating_add(count);
        }
        self.min = if self.count == 0 { least } else { self.min.min(least) };
        self.max = self.max.max(most);
        self.count = self.count.saturating_add(count);
        self.coarse = self.coarse.saturating_add(count);
        self.sum = self.sum.saturating_add(u128::from(middle) * u128::from(count));
    }

    /// Of all durations, those of which only bounds are known.
    #[must_use]
    pub fn coarse(&self) -> u64 {
        self.coarse
    }

    /// All durations together; those of which only bounds are known count as their middle.
    #[must_use]
    pub fn sum(&self) -> u128 {
        self.sum
    }

    /// How many durations exceed the bound before and not their own, for each of the rising `bounds`; the last number is of
    /// those that exceed them all. A duration within 0.1 % of a bound may be on either side of it, and one of which only
    /// bounds are known is where its middle is.
    #[must_use]
    pub fn buckets(&self, bounds: &[u64]) -> Vec<u64> {
        let mut counts = vec![0_u64; bounds.len() + 1];
        for (value, tally) in self.values() {
            let place = bounds.partition_point(|bound| *bound < value);
            if let Some(count) = counts.get_mut(place) {
                *count = count.saturating_add(tally);
            }
        }
        counts
    }

    /// The middle of each bucket that is not empty, rising, and what is in it.
    fn values(&self) -> impl Iterator<Item = (u64, u64)> {
        let octaves = self.octaves.iter().enumerate();
        let buckets = octaves.flat_map(|(octave, buckets)| {
            buckets.iter().flat_map(|buckets| buckets.iter().enumerate()).map(move |bucket| (octave, bucket))
        });
        buckets
            .filter(|(_, (_, tally))| **tally > 0)
            .map(|(octave, (bucket, tally))| (middle(octave, bucket).clamp(self.min, self.max), *tally))
    }

    /// How many durations were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The smallest, `None` if there is none.
    #[must_use]
    pub fn min(&self) -> Option<u64> {
        (self.count > 0).then_some(self.min)
    }

    /// The largest, `None` if there is none.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max)
    }

    /// The value that `percent` of all durations do not exceed (nearest rank), `None` if there is none.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let rank = (u128::from(self.count) * u128::from(percent)).div_ceil(100).max(1);
        let mut passed = 0_u128;
        let mut values = self.values();
        values.find_map(|(value, tally)| {
            passed += u128::from(tally);
            (passed >= rank).then_some(value)
        })
    }
}

fn place(value: u64) -> (usize, usize) {
    let octave = (64 - value.leading_zeros()).saturating_sub(SUB_BITS);
    let shift = octave.saturating_sub(1);
    // In octaves above the first the highest bit is always set: it is not part of the index.
    let bucket = if octave == 0 { value } else { (value >> shift) & (SUB as u64 - 1) };
    (octave as usize, usize::try_from(bucket).unwrap_or(SUB - 1))
}

/// The middle of a bucket.
fn middle(octave: usize, bucket: usize) -> u64 {
    let Some(shift) = octave.checked_sub(1) else { return bucket as u64 };
    let low = ((SUB + bucket) as u64) << shift;
    low + ((1_u64 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_histogram_has_no_values() {
        let empty = Histogram::default();
        assert_eq!((empty.count(), empty.min(), empty.percentile(50), empty.max()), (0, None, None, None));
    }

    #[test]
    fn one_value_is_exact_at_every_percentile() {
        let mut histogram = Histogram::default();
        histogram.record(3_300_315_001);
        for percent in [0, 50, 90, 99, 100] {
            assert_eq!(histogram.percentile(percent), Some(3_300_315_001));
        }
    }

    #[test]
    fn every_value_falls_within_a_thousandth_of_its_bucket() {
        for value in (0..63).flat_map(|bit| [1_u64 << bit, (1 << bit) + (1 << bit) / 3, (2 << bit) - 1]) {
            let (octave, bucket) = place(value);
            let error = middle(octave, bucket).abs_diff(value);
            assert!(error <= value / 1000, "{value}: off by {error}");
        }
    }

    #[test]
    fn of_a_coarse_duration_only_the_bounds_are_claimed() {
        let mut histogram = Histogram::default();
        histogram.record_between((512, 1023), 3);
        assert_eq!((histogram.count(), histogram.coarse()), (3, 3));
        assert_eq!((histogram.min(), histogram.max()), (Some(512), Some(1023)));
        assert_eq!(histogram.percentile(50), Some(767));
        histogram.record(2_000_000);
        histogram.record_between((0, u64::MAX), u64::MAX);
        assert_eq!((histogram.min(), histogram.max()), (Some(0), Some(u64::MAX)));
        assert_eq!(histogram.count(), u64::MAX);
    }

    #[test]
    fn buckets_hold_every_duration_once_and_the_sum_is_exact() {
        let mut histogram = Histogram::default();
        for value in [1, 999, 1_000, 1_001, 3_000_000_000, u64::MAX] {
            histogram.record(value);
        }
        assert_eq!(histogram.buckets(&[1_000, 2_000_000_000]), [3, 1, 2]);
        assert_eq!(histogram.buckets(&[]), [6]);
        assert_eq!(histogram.sum(), 3_000_003_001 + u128::from(u64::MAX));
        assert_eq!(Histogram::default().buckets(&[1, 2]), [0, 0, 0]);
    }

    #[test]
    fn a_coarse_duration_is_in_the_bucket_of_its_middle() {
        let mut histogram = Histogram::default();
        histogram.record_between((512, 1023), 3);
        assert_eq!((histogram.buckets(&[700, 800]), histogram.sum()), (vec![0, 3, 0], 3 * 767));
    }

    #[test]
    fn percentiles_follow_nearest_rank() {
        let mut histogram = Histogram::default();
        for value in 1..=100 {
            histogram.record(value);
        }
        assert_eq!(histogram.percentile(50), Some(50));
        assert_eq!(histogram.percentile(99), Some(99));
        assert_eq!(histogram.percentile(100), Some(100));
    }
}
