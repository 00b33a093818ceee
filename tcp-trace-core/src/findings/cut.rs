//! Connections that were cut off instead of closed: what the rules on them have in common.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::{Evidence, Share, Subject, ends, memory::Case, subject::same};
use crate::{
    report::{EndingCount, ProcessIdentity, Report},
    state::TcpState,
};

/// How many it takes, and how often. A few are part of every service's life, and so is a client that dies with all its
/// connections: many, at once, and no more.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Connections of one process in a report.
    pub min_connections: NonZeroU64,
    /// Their share of its connections that ended.
    pub min_share: Share,
    /// Seconds in which there was at least one.
    pub min_seconds: NonZeroU64,
    /// How many there were in these seconds, as a rate.
    pub min_per_min: NonZeroU64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            min_connections: NonZeroU64::MIN.saturating_add(99),
            min_share: Share::new(0.2),
            min_seconds: NonZeroU64::MIN.saturating_add(2),
            min_per_min: NonZeroU64::MIN.saturating_add(599),
        }
    }
}

/// Those of one process.
pub(super) struct Cut<'a> {
    pub(super) process: Option<&'a ProcessIdentity>,
    /// Most first.
    pub(super) rows: Vec<&'a EndingCount>,
    pub(super) count: u64,
    pub(super) seconds: u64,
    /// Of so many that ended.
    pub(super) all: u64,
}

/// The wanted endings by process. Attempts to connect that failed are no connections.
pub(super) fn by_process<'a>(report: &'a Report, wanted: impl Fn(&EndingCount) -> u64) -> Vec<Cut<'a>> {
    let mut cuts: Vec<Cut<'a>> = Vec::new();
    let rows = report.endings.iter().flatten();
    for row in rows.clone() {
        let count = wanted(row);
        if count == 0 {
            continue;
        }
        let known = cuts.iter_mut().find(|cut| same(cut.process, row.process.as_ref()));
        if let Some(cut) = known {
            cut.rows.push(row);
            cut.count += count;
            cut.seconds = cut.seconds.max(row.seconds);
        } else {
            let process = row.process.as_ref();
            let seconds = row.seconds;
            cuts.push(Cut { process, rows: vec![row], count, seconds, all: 0 });
        }
    }
    for row in rows.filter(|row| row.state != TcpState::SynSent) {
        if let Some(cut) = cuts.iter_mut().find(|cut| same(cut.process, row.process.as_ref())) {
            cut.all += row.count;
        }
    }
    cuts
}

impl Cut<'_> {
    /// What it is about.
    pub(super) fn subject(&self) -> Subject {
        Subject::process(self.process)
    }

    /// In a minute of the seconds in which there were any.
    fn per_min(&self) -> f64 {
        self.count as f64 / self.seconds.max(1) as f64 * 60.0
    }

    fn share(&self) -> f64 {
        self.count as f64 / self.all.max(self.count).max(1) as f64
    }

    /// Whether that is more than every service has.
    pub(super) fn is_too_much(&self, case: &Case<'_>, thresholds: Thresholds) -> bool {
        let subject = self.subject();
        case.reaches(&subject, self.count as f64, thresholds.min_connections.get() as f64)
            && case.reaches(&subject, self.share(), thresholds.min_share.get())
            && case.reaches(&subject, self.seconds as f64, thresholds.min_seconds.get() as f64)
            && case.reaches(&subject, self.per_min(), thresholds.min_per_min.get() as f64)
    }

    /// `120 of 130 connections`.
    pub(super) fn of_all(&self) -> String {
        format!("{} of {} connections", self.count, self.all.max(self.count))
    }

    /// The numbers, and where they came in or went to.
    pub(super) fn evidence(&self, name: &'static str) -> Vec<Evidence> {
        let source = "endings[].count";
        let mut evidence = vec![
            Evidence::new(name, self.count, "connections", source),
            Evidence::new("ended in all", self.all.max(self.count), "connections", source),
            Evidence::new("seconds with any", self.seconds, "s", "endings[].seconds"),
            Evidence::new("rate in these", self.per_min(), "connections/min", "endings[]: count / seconds"),
        ];
        let Some(row) = self.rows.first() else { return evidence };
        for (name, ends, source) in
            [("listener", &row.listeners, "endings[].listeners"), ("peers", &row.peers, "endings[].peers")]
        {
            let common = ends::common(ends, row.count);
            evidence.extend(common.map(|common| Evidence::new(name, common, "", source)));
        }
        evidence
    }
}
