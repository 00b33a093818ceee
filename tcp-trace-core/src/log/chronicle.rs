//! From reports to what is new in them.

use std::collections::{BTreeMap, btree_map::Entry};

use super::{DegradationNotice, Document, FindingChange, FindingStep, LossNotice, ReportDigest};
use crate::{
    findings::Finding,
    report::{Loss, Report},
    session::Degradation,
    time::WallTime,
};

/// Findings that are remembered as open. A report has a hundred at most; the others were left out of the last ones.
const FINDINGS: usize = 1024;
/// Degradations that are remembered.
pub(super) const DEGRADATIONS: usize = 64;

/// What the reports of a run have said so far: it takes each report and says what has changed.
///
/// A finding is the same as long as its rule and its subject are: it is told when it appears, when its severity changes,
/// and when it is gone. What stays as it is is in each report's digest.
#[derive(Debug, Default)]
pub struct Chronicle {
    open: BTreeMap<Key, Open>,
    degradations: BTreeMap<(String, String), Degradation>,
    /// Findings that reports have left out so far.
    left_out: u64,
    /// Reports taken so far.
    reports: u64,
}

/// A rule, and the key of a subject.
type Key = (&'static str, String);

/// A finding that was told.
#[derive(Debug)]
struct Open {
    finding: Finding,
    opened: WallTime,
    /// The last report that had it.
    seen: u64,
}

impl Chronicle {
    /// What is new in a report, and its digest as the last. Reports come in the order of time.
    #[must_use]
    pub fn report(&mut self, report: &Report) -> Vec<Document> {
        self.reports += 1;
        let mut documents = Vec::new();
        documents.extend(loss(report).map(Document::Loss));
        documents.extend(self.degradations(report).into_iter().map(Document::Degradation));
        documents.extend(self.findings(report).into_iter().map(|change| Document::Finding(Box::new(change))));
        documents.push(Document::Report(Box::new(ReportDigest::from(report))));
        documents
    }

    /// Findings that were told and are not over.
    pub fn open(&self) -> impl Iterator<Item = &Finding> {
        self.open.values().map(|open| &open.finding)
    }

    fn findings(&mut self, report: &Report) -> Vec<FindingChange> {
        // Nobody has judged this report: nothing is known of any finding.
        let Some(findings) = &report.findings else { return Vec::new() };
        let time = report.window.end;
        let told: Vec<_> = findings.iter().filter_map(|finding| self.finding(time, finding)).collect();
        let mut changes = if self.is_whole(report) { self.close(time) } else { Vec::new() };
        changes.extend(told);
        self.bound();
        changes
    }

    /// One that a report has; nothing is said where it is as it was.
    fn finding(&mut self, time: WallTime, finding: &Finding) -> Option<FindingChange> {
        let change =
            |step, before, opened| FindingChange { time, step, before, opened, finding: finding.clone() };
        match self.open.entry((finding.id, finding.subject.key())) {
            Entry::Vacant(entry) => {
                entry.insert(Open { finding: finding.clone(), opened: time, seen: self.reports });
                Some(change(FindingStep::Opened, None, time))
            }
            Entry::Occupied(mut entry) => {
                let open = entry.get_mut();
                open.seen = self.reports;
                let before = std::mem::replace(&mut open.finding, finding.clone()).severity;
                let opened = open.opened;
                (before != finding.severity).then(|| change(FindingStep::Changed, Some(before), opened))
            }
        }
    }

    /// Whether a report has every finding; one that leaves some out does not say that those are over.
    fn is_whole(&mut self, report: &Report) -> bool {
        let limit = report.limits.iter().find(|limit| limit.name == "findings");
        let left_out = limit.map_or(0, |limit| limit.dropped);
        std::mem::replace(&mut self.left_out, left_out) == left_out
    }

    /// Those that this report does not have are over.
    fn close(&mut self, time: WallTime) -> Vec<FindingChange> {
        let reports = self.reports;
        let gone = self.open.extract_if(.., |_, open| open.seen < reports);
        let closed = |(_, Open { finding, opened, .. })| FindingChange {
            time,
            step: FindingStep::Closed,
            before: None,
            opened,
            finding,
        };
        gone.map(closed).collect()
    }

    /// Forgets those that were left out for longest; one that comes back is told as new.
    fn bound(&mut self) {
        while self.open.len() > FINDINGS {
            let oldest = self.open.iter().min_by_key(|(_, open)| open.seen).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { return };
            self.open.remove(&oldest);
        }
    }

    fn degradations(&mut self, report: &Report) -> Vec<DegradationNotice> {
        let time = report.window.end;
        let notice = |degradation, over| DegradationNotice { time, degradation, over };
        let now: BTreeMap<_, _> = report
            .source
            .degradations
            .iter()
            .take(DEGRADATIONS)
            .map(|degradation| (identity(degradation), degradation.clone()))
            .collect();
        let before = std::mem::replace(&mut self.degradations, now);
        let over = before.iter().filter(|(key, _)| !self.degradations.contains_key(key));
        let new = self.degradations.iter().filter(|(key, _)| !before.contains_key(key));
        over.map(|(_, degradation)| notice(degradation.clone(), true))
            .chain(new.map(|(_, degradation)| notice(degradation.clone(), false)))
            .collect()
    }
}

/// What tells a degradation from others. Numbers in its reason may grow without its being another one.
fn identity(Degradation { feature, reason, remedy: _ }: &Degradation) -> (String, String) {
    (feature.clone(), reason.chars().filter(|c| !c.is_ascii_digit()).collect())
}

/// What a window has lost; `None` if nothing.
fn loss(report: &Report) -> Option<LossNotice> {
    let Loss {
        seen: _,
        delivered: _,
        filtered: _,
        lost,
        aggregated: _,
        unattributed,
        missed,
        balanced,
        repaired: _,
        untracked,
        side_lost,
    } = report.loss;
    let whole = balanced && [lost, unattributed, missed, untracked, side_lost] == [0; 5];
    (!whole).then_some(LossNotice { window: report.window, loss: report.loss })
}
