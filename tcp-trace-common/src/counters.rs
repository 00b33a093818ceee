//! The counters that the kernel programs keep per CPU, whatever happens to the stream.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::nesting::Taken;

/// States fit four bits each, so that a pair indexes a 256-entry matrix without a bounds check that the
/// verifier would have to be convinced of.
pub const TRANSITIONS: usize = 256;

/// Index of a transition in the matrices of [`Counters`].
///
/// States above 15 do not exist (13 is the highest in 7.2); one would be counted in the slot of its low
/// bits rather than outside the array.
#[inline(always)]
#[must_use]
pub const fn slot(old: u8, new: u8) -> usize {
    (((old & 0xf) as usize) << 4) | (new & 0xf) as usize
}

/// Old and new state of a slot; the inverse of [`slot`].
#[must_use]
pub const fn pair(slot: usize) -> (u8, u8) {
    (((slot >> 4) & 0xf) as u8, (slot & 0xf) as u8)
}

/// One CPU's counters. What was seen and neither filtered nor lost stands, slot by slot, in the ring buffer, in a row of
/// [`crate::aggregate`] or in `unaggregated`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Counters {
    /// Every transition of a TCP socket, before any filter.
    pub seen: [u64; TRANSITIONS],
    /// Turned away by the filter.
    pub filtered: [u64; TRANSITIONS],
    /// Wanted, but the ring buffer had no room.
    pub lost: [u64; TRANSITIONS],
    /// To be aggregated, but the map of rows had no room: counted here and in no row.
    pub unaggregated: [u64; TRANSITIONS],
    /// Transitions written into the ring buffer, about: an interrupt may take one away. Only decides when to see whether
    /// the reader has to be woken; nothing is concluded from it.
    pub written: u64,
    /// Seen by `set_state_nested`, because the kernel skipped `set_state` (see [`crate::nesting`]).
    pub rescued: u64,
    /// Records of other kinds than transitions for which the ring buffer had no room.
    pub side_lost: u64,
}

/// Network namespaces that a CPU remembers.
pub const NAMESPACES: usize = 8;

/// A network namespace's cookie and inode number, in one word. The kernel keeps the number beside a count of users that every
/// socket changes, so that its cache line goes from CPU to CPU with each of them; the cookie stands elsewhere, and no later
/// namespace has the same. Of the cookie the lower half: there are no four billion namespaces between two boots.
#[inline(always)]
#[must_use]
pub const fn remember(cookie: u64, netns: u32) -> u64 {
    cookie << 32 | netns as u64
}

/// The inode number of the namespace with this cookie, if that is what a word remembers.
#[inline(always)]
#[must_use]
pub const fn recall(word: u64, cookie: u64) -> Option<u32> {
    // No namespace has the number 0.
    if word != 0 && word >> 32 == cookie & 0xffff_ffff { Some(word as u32) } else { None }
}

/// What the programs keep per CPU: one value, so that one look finds it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PerCpu {
    /// Transitions under way.
    pub taken: Taken,
    /// Network namespaces, each a word of [`remember`]; 0 where there is none.
    pub namespaces: [u64; NAMESPACES],
    /// What was counted.
    pub counters: Counters,
}

impl Counters {
    /// All zero.
    pub const ZERO: Self = Self {
        seen: [0; TRANSITIONS],
        filtered: [0; TRANSITIONS],
        lost: [0; TRANSITIONS],
        unaggregated: [0; TRANSITIONS],
        written: 0,
        rescued: 0,
        side_lost: 0,
    };

    /// Counts as seen whatever became of transitions that are not counted as seen yet: `seen` may have been read before
    /// the rest.
    pub fn include(&mut self) {
        for index in 0..TRANSITIONS {
            let parts = [self.filtered[index], self.lost[index], self.unaggregated[index]];
            let sum = parts.into_iter().fold(0_u64, u64::saturating_add);
            self.seen[index] = self.seen[index].max(sum);
        }
    }

    /// Adds another CPU's counters.
    pub fn add(&mut self, other: &Self) {
        let Self { seen, filtered, lost, unaggregated, written, rescued, side_lost } = other;
        let matrices = [
            (&mut self.seen, seen),
            (&mut self.filtered, filtered),
            (&mut self.lost, lost),
            (&mut self.unaggregated, unaggregated),
        ];
        for (sums, terms) in matrices {
            for (sum, term) in sums.iter_mut().zip(terms) {
                *sum += term;
            }
        }
        self.written += written;
        self.rescued += rescued;
        self.side_lost += side_lost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_and_pair_are_inverse() {
        for old in 0..16 {
            for new in 0..16 {
                assert_eq!(pair(slot(old, new)), (old, new));
            }
        }
    }

    #[test]
    fn only_the_same_namespace_is_recalled() {
        let word = remember(0x1_0000_0002, 0xf000_0001);
        assert_eq!(recall(word, 0x1_0000_0002), Some(0xf000_0001));
        assert_eq!(recall(word, 0x1_0000_000a), None, "it has the same place");
        assert_eq!(recall(0, 1 << 32), None);
        assert_eq!(recall(0, 8), None);
    }

    #[test]
    fn a_state_beyond_four_bits_stays_inside() {
        assert!(slot(255, 255) < TRANSITIONS);
    }
}
