//! A histogram of nanoseconds: exact count, minimum and maximum, percentiles within 0.1 %.
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
    }

    /// Adds so many durations that lie somewhere between two bounds: they count as the middle, the bounds as the shortest
    /// and the longest.
    pub fn record_between(&mut self, (least, most): (u64, u64), count: u64) {
        if count == 0 {
            return;
        }
        let (octave, bucket) = place(least + (most - least) / 2);
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
    }

    /// Of all durations, those of which only bounds are known.
    #[must_use]
    pub fn coarse(&self) -> u64 {
        self.coarse
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
        for (octave, buckets) in self.octaves.iter().enumerate() {
            let Some(buckets) = buckets else { continue };
            for (bucket, tally) in buckets.iter().enumerate() {
                passed += u128::from(*tally);
                if passed >= rank {
                    return Some(middle(octave, bucket).clamp(self.min, self.max));
                }
            }
        }
        None
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
