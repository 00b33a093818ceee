//! Few series for many label sets.

use std::collections::{BTreeMap, BTreeSet};

use super::{Labels, OTHER};
use crate::time::WallTime;

/// Counters of the label sets that have the most to tell, and one of all others.
///
/// What a counter is for is its increase, so that is what stays right:
///
/// * A label set that gets a series begins at 0. What was counted of it before is in `other` for good, which every reader
///   has seen rise; a series that began at 7 would be 7 that no `increase()` shows.
/// * One that loses its series takes its count along. If `other` took it over, it would rise by what happened long ago.
/// * So in every window the series together rise by exactly what was counted, and none ever falls. What is gone with
///   series that were taken away is what the sum lacks; a total without labels is a metric of its own.
///
/// A series lives for at least `stale_after` and is taken away if it has not changed for as long, or if something else
/// has twice as much to tell: in that time no more new ones can come than there is room for at once.
#[derive(Clone, Debug)]
pub(super) struct Counters<const N: usize> {
    /// The label that says `other`.
    first: &'static str,
    max: usize,
    stale_after_ns: u64,
    named: BTreeMap<Labels, Named<N>>,
    /// Label sets without a series, and how much they have to tell.
    candidates: BTreeMap<Labels, f64>,
    other: [u64; N],
    /// Series taken away.
    retired: u64,
}

#[derive(Clone, Debug)]
struct Named<const N: usize> {
    counts: [u64; N],
    score: f64,
    since: WallTime,
    changed: WallTime,
}

/// What a window counted of each label set.
pub(super) type Rows<const N: usize> = BTreeMap<Labels, [u64; N]>;

/// Of what a label set had to tell, this much is left after another window.
const DECAY: f64 = 0.8;
/// Candidates kept for each series.
const CANDIDATES: usize = 4;

impl<const N: usize> Counters<N> {
    pub(super) fn new(first: &'static str, max: usize, stale_after_ns: u64) -> Self {
        Self {
            first,
            max,
            stale_after_ns,
            named: BTreeMap::new(),
            candidates: BTreeMap::new(),
            other: [0; N],
            retired: 0,
        }
    }

    /// Adds a window that ended at `now`; `totals` are of all label sets, those that `rows` has no room for included.
    pub(super) fn add(&mut self, now: WallTime, rows: &Rows<N>, totals: [u64; N]) {
        let Self { named, candidates, other, .. } = self;
        let mut rest = totals;
        for score in named.values_mut().map(|named| &mut named.score).chain(candidates.values_mut()) {
            *score *= DECAY;
        }
        for (labels, counts) in rows {
            let weight = counts.iter().map(|count| *count as f64).sum::<f64>();
            if let Some(known) = named.get_mut(labels) {
                for ((sum, count), rest) in known.counts.iter_mut().zip(counts).zip(&mut rest) {
                    // More than the total it cannot be, whatever a recording says.
                    let count = (*count).min(*rest);
                    *rest -= count;
                    *sum = sum.saturating_add(count);
                }
                known.score += weight;
                if weight > 0.0 {
                    known.changed = now;
                }
            } else if weight > 0.0 && !is_other(labels, self.first) {
                *candidates.entry(labels.clone()).or_default() += weight;
            }
        }
        for (sum, rest) in other.iter_mut().zip(rest) {
            *sum = sum.saturating_add(rest);
        }
        self.retire(now);
        self.promote(now);
    }

    /// Takes away what has not changed for long.
    fn retire(&mut self, now: WallTime) {
        let before = self.named.len();
        let stale = self.stale_after_ns;
        self.named.retain(|_, named| now.0.saturating_sub(named.changed.0) < stale);
        self.retired += (before - self.named.len()) as u64;
    }

    /// Gives series to those that have the most to tell.
    fn promote(&mut self, now: WallTime) {
        self.candidates.retain(|_, score| *score >= 0.5);
        let mut best: Vec<_> =
            self.candidates.iter().map(|(labels, score)| (*score, labels.clone())).collect();
        best.sort_by(|(a, left), (b, right)| b.total_cmp(a).then_with(|| left.cmp(right)));
        for (_, labels) in best.iter().skip(self.max.saturating_mul(CANDIDATES)) {
            self.candidates.remove(labels);
        }
        for (score, labels) in best.into_iter().take(self.max) {
            if self.named.len() >= self.max && !self.displace(score, now) {
                break;
            }
            self.candidates.remove(&labels);
            self.named.insert(labels, Named { counts: [0; N], score, since: now, changed: now });
        }
    }

    /// Makes room for something with this score.
    fn displace(&mut self, score: f64, now: WallTime) -> bool {
        let stale = self.stale_after_ns;
        let old = self.named.iter().filter(|(_, named)| now.0.saturating_sub(named.since.0) >= stale);
        let least = old.min_by(|(_, a), (_, b)| a.score.total_cmp(&b.score));
        let Some(labels) =
            least.filter(|(_, named)| named.score * 2.0 < score).map(|(labels, _)| labels.clone())
        else {
            return false;
        };
        self.named.remove(&labels);
        self.retired += 1;
        true
    }

    /// Each label set with its counts; the last one is `other`, which is always there.
    pub(super) fn series(&self) -> impl Iterator<Item = (Labels, [u64; N])> {
        let named = self.named.iter().map(|(labels, named)| (labels.clone(), named.counts));
        named.chain([(other(self.first), self.other)])
    }

    pub(super) fn retired(&self) -> u64 {
        self.retired
    }
}

/// The labels of what has no series of its own.
pub(super) fn other(first: &'static str) -> Labels {
    vec![(first, OTHER.to_owned())]
}

/// Whether something calls itself what the others are called: it has to be one of them.
fn is_other(labels: &Labels, first: &'static str) -> bool {
    matches!(labels.as_slice(), [(name, value)] if *name == first && value == OTHER)
}

/// The label sets that have the most to tell now, and which of them had a series before: one that has keeps it until
/// another one has twice as much.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauges {
    shown: BTreeSet<Labels>,
}

impl Gauges {
    /// The `max` heaviest of `rows`.
    pub(super) fn choose(
        &mut self,
        rows: impl Iterator<Item = (Labels, u64)>,
        first: &'static str,
        max: usize,
    ) -> &BTreeSet<Labels> {
        let mut rows: Vec<_> = rows
            .filter(|(labels, _)| !is_other(labels, first))
            .map(|(labels, weight)| {
                let weight = if self.shown.contains(&labels) { weight.saturating_mul(2) } else { weight };
                (weight, labels)
            })
            .collect();
        rows.sort_by(|(a, left), (b, right)| b.cmp(a).then_with(|| left.cmp(right)));
        rows.truncate(max);
        self.shown = rows.into_iter().map(|(_, labels)| labels).collect();
        &self.shown
    }
}
