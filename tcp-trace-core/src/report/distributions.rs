//! Durations in fixed buckets, for sinks that add up windows: a [`DurationSummary`](super::DurationSummary) cannot be.

use crate::{histogram::Histogram, state::TcpState};

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

/// Bounds of times in a state: from a request's answer to a forgotten socket.
pub const STATE_BOUNDS_NS: [u64; 8] = [MS, 10 * MS, 100 * MS, S, 10 * S, 60 * S, 600 * S, 3_600 * S];

/// Bounds of handshakes. From a second on they are the moments at which an unanswered SYN or SYN-ACK is sent again (after
/// 1, 2, 4, … s: `TCP_TIMEOUT_INIT`, `include/net/tcp.h`), so that each bucket there is one more retransmission.
pub const HANDSHAKE_BOUNDS_NS: [u64; 11] =
    [100 * US, MS, 10 * MS, 100 * MS, 500 * MS, S, 3 * S, 7 * S, 15 * S, 31 * S, 63 * S];

/// The durations of a window. Not in the document, whose percentiles people read.
#[derive(Clone, Debug, Default)]
pub struct Distributions {
    /// Time in a state, by the state that was left.
    pub states: Vec<(TcpState, Distribution)>,
    /// Completed handshakes of known duration, of all listeners: as `half_open.completed`.
    pub half_open: Distribution,
    /// Attempts to connect that were answered, to all destinations: as `connect[].completed`.
    pub connect: Distribution,
}

/// Durations in buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// Upper bounds, rising, in nanoseconds.
    pub bounds_ns: &'static [u64],
    /// How many fell into each: one more than there are bounds.
    pub counts: Vec<u64>,
    /// All of them together.
    pub sum_ns: u128,
    /// Of these, those that are only known to lie between a power of two and the next, and count as the middle.
    pub coarse: u64,
}

impl Distribution {
    /// A histogram, in these buckets.
    #[must_use]
    pub fn new(bounds_ns: &'static [u64], histogram: &Histogram) -> Self {
        Self {
            bounds_ns,
            counts: histogram.buckets(bounds_ns),
            sum_ns: histogram.sum(),
            coarse: histogram.coarse(),
        }
    }

    /// Adds another one with the same bounds.
    pub fn add(&mut self, other: &Self) {
        let Self { bounds_ns, counts, sum_ns, coarse } = self;
        *bounds_ns = other.bounds_ns;
        counts.resize(counts.len().max(other.counts.len()), 0);
        for (count, more) in counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
        *sum_ns = sum_ns.saturating_add(other.sum_ns);
        *coarse = coarse.saturating_add(other.coarse);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }
}
