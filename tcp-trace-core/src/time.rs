//! Time as data: kernel timestamps, and the one anchor that ties them to the wall clock.

use serde::{Deserialize, Serialize, Serializer};

/// A moment of CLOCK_MONOTONIC, in nanoseconds; what `bpf_ktime_get_ns()` gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Nanoseconds from `earlier` to `self`; 0 if the two CPUs that took them disagree about the order.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This many nanoseconds earlier.
    #[must_use]
    pub fn minus(self, nanoseconds: u64) -> Self {
        Self(self.0.saturating_sub(nanoseconds))
    }

    /// This many nanoseconds later.
    #[must_use]
    pub fn plus(self, nanoseconds: u64) -> Self {
        Self(self.0.saturating_add(nanoseconds))
    }
}

/// The same moment on three clocks, read once per run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockAnchor {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub monotonic_ns: u64,
    /// CLOCK_BOOTTIME, nanoseconds; ahead of the former by the time spent suspended.
    pub boottime_ns: u64,
    /// CLOCK_REALTIME, nanoseconds since the Unix epoch.
    pub unix_ns: u64,
}

impl ClockAnchor {
    /// The wall-clock time of a kernel timestamp.
    #[must_use]
    pub fn wall(&self, at: Timestamp) -> WallTime {
        WallTime(self.unix_ns.wrapping_add(at.0).wrapping_sub(self.monotonic_ns))
    }

    /// The kernel timestamp of a moment given in nanoseconds since boot.
    #[must_use]
    pub fn monotonic_of_boottime(&self, boottime_ns: u64) -> Timestamp {
        Timestamp(self.monotonic_ns.wrapping_add(boottime_ns).wrapping_sub(self.boottime_ns))
    }

    /// The wall-clock time of a moment given in nanoseconds since boot.
    #[must_use]
    pub fn wall_of_boottime(&self, boottime_ns: u64) -> WallTime {
        WallTime(self.unix_ns.wrapping_add(boottime_ns).wrapping_sub(self.boottime_ns))
    }
}

/// A wall-clock time, in nanoseconds since the Unix epoch. Serialises as RFC 3339 in UTC with nine digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(pub u64);

impl WallTime {
    /// This many nanoseconds earlier.
    #[must_use]
    pub fn minus(self, nanoseconds: u64) -> Self {
        Self(self.0.saturating_sub(nanoseconds))
    }

    /// For formatting in other ways.
    #[must_use]
    pub fn timestamp(self) -> jiff::Timestamp {
        jiff::Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.9}", self.timestamp()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANCHOR: ClockAnchor = ClockAnchor {
        monotonic_ns: 5_000_000_000,
        boottime_ns: 6_000_000_000,
        unix_ns: 1_700_000_000_000_000_000,
    };

    #[test]
    fn the_anchor_maps_both_kernel_clocks() {
        assert_eq!(ANCHOR.wall(Timestamp(4_999_999_999)), WallTime(1_699_999_999_999_999_999));
        assert_eq!(ANCHOR.wall_of_boottime(6_000_000_001), WallTime(1_700_000_000_000_000_001));
    }

    #[test]
    fn a_negative_duration_is_none_at_all() {
        assert_eq!(Timestamp(1).since(Timestamp(2)), 0);
    }
}
