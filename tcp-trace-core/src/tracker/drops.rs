//! SYNs and final ACKs that each listener has turned away.

use std::num::NonZeroU64;

use rustc_hash::FxHashMap;

use super::gauge::Gauge;
use crate::survey::ListenerFacts;

/// Listeners kept.
pub(super) const MAX: usize = 65_536;

/// Of each listener, by cookie: the kernel's count at the start of the window, and at the last survey.
#[derive(Debug, Default)]
pub(super) struct Drops {
    counts: FxHashMap<NonZeroU64, (u32, u32)>,
    /// Those that were there at the start are known: one that shows up later has counted from 0.
    begun: bool,
    pub(super) gauge: Gauge,
}

impl Drops {
    /// Takes what a survey found, all at once.
    pub(super) fn learn(&mut self, facts: &[ListenerFacts]) {
        if facts.is_empty() {
            return;
        }
        let before = std::mem::take(&mut self.counts);
        for ListenerFacts { cookie, drops } in facts.iter().take(MAX) {
            let first = if self.begun { 0 } else { *drops };
            let since = before.get(cookie).map_or(first, |(since, _)| *since);
            self.counts.insert(*cookie, (since, *drops));
        }
        self.gauge.drops(facts.len().saturating_sub(MAX));
        self.gauge.holds(self.counts.len());
    }

    /// A survey of listeners is over: whoever is not known by now has come since. It may have found none at all.
    pub(super) fn surveyed(&mut self) {
        self.begun = true;
    }

    /// How many a listener has turned away in the window.
    pub(super) fn of(&self, cookie: NonZeroU64) -> Option<u64> {
        self.counts.get(&cookie).map(|(since, now)| u64::from(now.wrapping_sub(*since)))
    }

    /// How many are known.
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// Starts the next window.
    pub(super) fn next_window(&mut self) {
        for (since, now) in self.counts.values_mut() {
            *since = *now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOKIE: NonZeroU64 = NonZeroU64::MIN;

    #[test]
    fn a_listener_that_came_after_a_survey_has_counted_from_zero() {
        let mut drops = Drops::default();
        drops.learn(&[]);
        drops.surveyed();
        drops.learn(&[ListenerFacts { cookie: COOKIE, drops: 5 }]);
        assert_eq!(drops.of(COOKIE), Some(5), "although that survey had found none");
    }

    #[test]
    fn of_one_that_was_there_before_only_what_came_since_counts() {
        let mut drops = Drops::default();
        drops.learn(&[ListenerFacts { cookie: COOKIE, drops: 5 }]);
        drops.surveyed();
        assert_eq!(drops.of(COOKIE), Some(0));
        drops.learn(&[ListenerFacts { cookie: COOKIE, drops: 7 }]);
        assert_eq!(drops.of(COOKIE), Some(2));
        drops.next_window();
        assert_eq!(drops.of(COOKIE), Some(0));
    }
}
