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
/// has twice as much to tell: in that time no more new ones can come than there is room for at once. It stands still for a
/// minute before it goes, so that whoever reads that often has read its last value.
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
    /// Those that lost theirs in this window: one that came back at once would have fallen to 0.
    gone: BTreeSet<Labels>,
    /// Series taken away.
    retired: u64,
}

#[derive(Clone, Debug)]
struct Named<const N: usize> {
    counts: [u64; N],
    score: f64,
    since: WallTime,
    changed: WallTime,
    /// Since when it stands still, to make room.
    leaving: Option<WallTime>,
}

/// What a window counted of each label set.
pub(super) type Rows<const N: usize> = BTreeMap<Labels, [u64; N]>;

/// Of what a label set had to tell, this much is left after another window.
const DECAY: f64 = 0.8;
/// How long a series stands still before it makes room: as often as anybody should scrape.
const STILL_NS: u64 = 60_000_000_000;
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
            gone: BTreeSet::new(),
            retired: 0,
        }
    }

    /// Adds a window that ended at `now`; `totals` are of all label sets, those that `rows` has no room for included.
    pub(super) fn add(&mut self, now: WallTime, rows: &Rows<N>, totals: [u64; N]) {
        self.gone.clear();
        self.make_room(now);
        let Self { named, candidates, other, .. } = self;
        let mut rest = totals;
        for score in named.values_mut().map(|named| &mut named.score).chain(candidates.values_mut()) {
            *score *= DECAY;
        }
        for (labels, counts) in rows {
            let weight = counts.iter().map(|count| *count as f64).sum::<f64>();
            if let Some(known) = named.get_mut(labels).filter(|known| known.leaving.is_none()) {
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
        let stale = self.stale_after_ns;
        self.retire(|named| now.0.saturating_sub(named.changed.0) < stale);
        self.promote(now);
    }

    /// Takes away what has stood still for long enough.
    fn make_room(&mut self, now: WallTime) {
        let still = self.stale_after_ns.min(STILL_NS);
        self.retire(|named| named.leaving.is_none_or(|leaving| now.0.saturating_sub(leaving.0) < still));
    }

    fn retire(&mut self, stays: impl Fn(&Named<N>) -> bool) {
        let gone = self.named.extract_if(.., |_, named| !stays(named)).map(|(labels, _)| labels);
        let before = self.gone.len();
        self.gone.extend(gone);
        self.retired += (self.gone.len() - before) as u64;
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
        let mut leaving = self.named.values().filter(|named| named.leaving.is_some()).count();
        for (score, labels) in best.into_iter().take(self.max) {
            if self.named.contains_key(&labels) || self.gone.contains(&labels) {
                continue;
            }
            if self.named.len() < self.max {
                self.candidates.remove(&labels);
                let named = Named { counts: [0; N], score, since: now, changed: now, leaving: None };
                self.named.insert(labels, named);
            } else if leaving > 0 {
                // Room is being made for this one.
                leaving -= 1;
            } else {
                self.displace(score, now);
            }
        }
    }

    /// Begins to make room for something with this score.
    fn displace(&mut self, score: f64, now: WallTime) {
        let stale = self.stale_after_ns;
        let settled =
            |named: &Named<N>| named.leaving.is_none() && now.0.saturating_sub(named.since.0) >= stale;
        let least = self.named.values_mut().filter(|named| settled(named));
        if let Some(least) = least.min_by(|a, b| a.score.total_cmp(&b.score))
            && least.score * 2.0 < score
        {
            least.leaving = Some(now);
        }
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
