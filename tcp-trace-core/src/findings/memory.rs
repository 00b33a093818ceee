//! What is remembered from report to report: which findings are open, and the numbers that slopes are made of.

use std::collections::{BTreeMap, VecDeque};

use super::{Evidence, Finding, Subject, Thresholds};
use crate::{
    report::{Report, Window},
    time::WallTime,
};

/// Windows that a slope is taken over, at most.
const WINDOWS: usize = 30;
/// Series of numbers kept; one that does not fit has the slope of its own window.
const SERIES: usize = 4096;

/// A rule, and the key of a subject.
type Key = (&'static str, String);

#[derive(Debug, Default)]
pub(super) struct Memory {
    open: BTreeMap<Key, Open>,
    series: BTreeMap<(Key, &'static str), Series>,
    /// Reports judged so far.
    reports: u64,
}

/// A finding that is open.
#[derive(Debug)]
struct Open {
    finding: Finding,
    /// Reports in succession in which it was less severe than it is said to be.
    milder: u32,
    /// Reports in succession without it.
    quiet: u32,
    seen: bool,
}

#[derive(Debug, Default)]
struct Series {
    samples: VecDeque<Sample>,
    touched: bool,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    end: WallTime,
    seconds: f64,
    value: f64,
}

/// How fast something changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rate {
    /// By how much in a minute.
    pub(super) per_min: f64,
    /// Over how many reports.
    pub(super) reports: u64,
}

impl Rate {
    /// How long until `left` more of it have come; `None` if it does not grow.
    pub(super) fn time_for(self, left: f64) -> Option<u64> {
        let ns = left.max(0.0) / self.per_min * 60e9;
        // A cast of what is too large saturates.
        (self.per_min > 0.0 && ns.is_finite()).then_some(ns as u64)
    }
}

/// One rule at one report.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) report: &'a Report,
    pub(super) thresholds: &'a Thresholds,
    pub(super) rule: &'static str,
    pub(super) memory: &'a mut Memory,
}

impl Case<'_> {
    /// Whether `measure` reaches `threshold`; of a subject whose finding is open, a share of it.
    pub(super) fn reaches(&self, subject: &Subject, measure: f64, threshold: f64) -> bool {
        let open = self.memory.open.contains_key(&(self.rule, subject.key()));
        measure >= if open { threshold * self.thresholds.close_share.get() } else { threshold }
    }

    /// Since when something is so that was not so in the report before: it began in this window. `None` in the first
    /// report of a run, before which nobody looked.
    pub(super) fn since_this_window(&self) -> Option<WallTime> {
        (self.memory.reports > 0).then_some(self.report.window.start)
    }

    /// How fast something changes that changed by `change` in this window.
    pub(super) fn rate(&mut self, subject: &Subject, what: &'static str, change: f64) -> Rate {
        let samples = self.sample(subject, what, change);
        let (seconds, sum) =
            samples.iter().fold((0.0, 0.0), |(seconds, sum), s| (seconds + s.seconds, sum + s.value));
        Rate {
            per_min: if seconds > 0.0 { sum / seconds * 60.0 } else { 0.0 },
            reports: samples.len() as u64,
        }
    }

    /// How fast something changes that is at `level` at the end of this window; `None` in the first report with it.
    pub(super) fn slope(&mut self, subject: &Subject, what: &'static str, level: f64) -> Option<Rate> {
        let samples = self.sample(subject, what, level);
        let (first, last) = (samples.first()?, samples.last()?);
        let seconds = last.end.0.saturating_sub(first.end.0) as f64 / 1e9;
        let per_min = (last.value - first.value) / seconds * 60.0;
        (seconds > 0.0).then_some(Rate { per_min, reports: samples.len() as u64 })
    }

    fn sample(&mut self, subject: &Subject, what: &'static str, value: f64) -> Vec<Sample> {
        let Window { end, seconds, .. } = self.report.window;
        let sample = Sample { end, seconds, value };
        let (key, series) = (((self.rule, subject.key()), what), &mut self.memory.series);
        if series.len() >= SERIES && !series.contains_key(&key) {
            return vec![sample];
        }
        let series = series.entry(key).or_default();
        // Twice in one report would count twice.
        if !series.touched {
            series.touched = true;
            series.samples.push_back(sample);
            if series.samples.len() > WINDOWS {
                series.samples.pop_front();
            }
        }
        series.samples.iter().copied().collect()
    }
}

impl Memory {
    /// What the rules have found in a report becomes what is said of it: a finding that is open stays open, and as severe as
    /// it was, for a few reports without it.
    pub(super) fn settle(&mut self, found: Vec<Finding>, patience: u32) -> Vec<Finding> {
        let mut order = Vec::new();
        for finding in found {
            let key = (finding.id, finding.subject.key());
            order.push(key.clone());
            match self.open.get_mut(&key) {
                Some(open) => open.again(finding, patience),
                None => {
                    self.open.insert(key, Open { finding, milder: 0, quiet: 0, seen: true });
                }
            }
        }
        self.open.retain(|_, open| open.goes_on(patience));
        self.series.retain(|_, series| std::mem::take(&mut series.touched));
        self.reports += 1;
        let quiet = self.open.iter().filter(|(_, open)| open.quiet > 0).map(|(key, _)| key.clone());
        order.extend(quiet);
        order.iter().filter_map(|key| self.open.get(key)).map(Open::said).collect()
    }
}

impl Open {
    /// It was found once more.
    fn again(&mut self, mut finding: Finding, patience: u32) {
        finding.since = match (self.finding.since, finding.since) {
            (Some(before), Some(now)) => Some(before.min(now)),
            (before, now) => before.or(now),
        };
        self.milder = if finding.severity < self.finding.severity { self.milder + 1 } else { 0 };
        if self.milder > 0 && self.milder < patience {
            finding.severity = self.finding.severity;
        } else {
            self.milder = 0;
        }
        *self = Self { finding, milder: self.milder, quiet: 0, seen: true };
    }

    fn goes_on(&mut self, patience: u32) -> bool {
        if !std::mem::take(&mut self.seen) {
            self.quiet += 1;
        }
        self.quiet < patience
    }

    fn said(&self) -> Finding {
        let mut finding = self.finding.clone();
        if self.quiet > 0 {
            finding.evidence.push(Evidence::new(
                "quiet for",
                u64::from(self.quiet),
                "reports",
                "findings; the other numbers are of the last report with it",
            ));
        }
        finding
    }
}
