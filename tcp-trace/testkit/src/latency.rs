//! How long something took, many times over: a log-linear histogram.

/// Buckets for each power of two: a value is known to 1/64 of itself.
const PARTS: usize = 64;
const PART_BITS: u32 = PARTS.trailing_zeros();
/// Powers of two above the first [`PARTS`] values, which have a bucket each.
const POWERS: usize = (u64::BITS - PART_BITS) as usize;

/// Durations in nanoseconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Box<[u64]>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; PARTS * (POWERS + 1)].into(), count: 0, max: 0 }
    }
}

impl Histogram {
    /// Takes one duration.
    pub fn record(&mut self, ns: u64) {
        if let Some(bucket) = self.buckets.get_mut(index(ns)) {
            *bucket += 1;
        }
        self.count += 1;
        self.max = self.max.max(ns);
    }

    /// Takes those of another histogram.
    pub fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(sum, more)| *sum += more);
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The duration that this share of all does not exceed, to 1/64 of itself; `None` of nothing.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let wanted = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count.max(1));
        let mut below = 0;
        let found = self.buckets.iter().position(|bucket| {
            below += bucket;
            below >= wanted
        })?;
        Some(upper(found).min(self.max))
    }
}

fn index(ns: u64) -> usize {
    let power = ns.checked_ilog2().unwrap_or(0).saturating_sub(PART_BITS - 1);
    // The first power has all of its values below PARTS, the others the upper half of their parts twice as wide.
    let part = (ns >> power) as usize;
    if power == 0 { part } else { power as usize * PARTS / 2 + part }
}

/// The greatest value of a bucket.
fn upper(index: usize) -> u64 {
    let half = PARTS / 2;
    if index < PARTS {
        return index as u64;
    }
    let power = (index - half) / half;
    let part = (index - power * half) as u64;
    (((u128::from(part) + 1) << power) - 1).try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_a_bucket_that_is_not_much_wider() {
        for ns in (0..200).chain((7..63).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1])) {
            let bucket = index(ns);
            assert!(upper(bucket) >= ns, "{ns}");
            assert!(bucket == 0 || upper(bucket - 1) < ns, "{ns}");
            assert!(upper(bucket) - ns <= ns / 32, "{ns}");
        }
        assert!(index(u64::MAX) < Histogram::default().buckets.len());
        assert_eq!(upper(index(u64::MAX)), u64::MAX);
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        (1..=1_000).for_each(|us| histogram.record(us * 1_000));
        let mut twice = histogram.clone();
        twice.add(&histogram);
        assert_eq!((twice.count(), twice.max()), (2_000, 1_000_000));
        for (share, exact) in [(0.5, 500_000), (0.99, 990_000), (1.0, 1_000_000)] {
            let found = twice.quantile(share).unwrap();
            assert!(found >= exact && found - exact <= exact / 32, "{share}: {found}");
        }
    }
}
