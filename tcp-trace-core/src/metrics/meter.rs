//! Reports → what is exposed: counters go on over all windows, everything else is of the last one.

use std::collections::BTreeMap;

use super::{
    Labels, OTHER, Own, Settings, Snapshot,
    bounded::{Counters, Gauges},
    identity, rows, snapshot,
    totals::Totals,
};
use crate::{
    findings::{Severity, ids},
    report::{Limit, Report},
    state::TcpState,
    time::WallTime,
};

/// Adds up the reports of one run.
#[derive(Clone, Debug)]
pub struct Meter {
    pub(super) settings: Settings,
    pub(super) start: WallTime,
    pub(super) totals: Totals,
    pub(super) listeners: Counters<{ rows::OUTCOMES }>,
    pub(super) drops: Counters<1>,
    pub(super) closers: Counters<2>,
    pub(super) failures: Counters<{ rows::ERRORS }>,
    shown: Shown,
    /// What was there at the end of the last window.
    pub(super) last: Option<Box<Last>>,
}

/// Which label sets of a gauge had a series last.
#[derive(Clone, Debug, Default)]
struct Shown {
    listeners: Gauges,
    owners: Gauges,
    destinations: Gauges,
}

/// What is there at the end of a window.
#[derive(Clone, Debug)]
pub(super) struct Last {
    pub(super) time: WallTime,
    /// By state; `None` where it is not known.
    pub(super) sockets: Vec<(TcpState, Option<u64>)>,
    pub(super) listeners: Vec<(Labels, rows::AtListener)>,
    pub(super) owners: Vec<(Labels, rows::Lingering)>,
    pub(super) destinations: Option<Vec<(Labels, rows::Ports)>>,
    /// By rule and severity; `None` where nobody has judged.
    pub(super) findings: Option<BTreeMap<(&'static str, Severity), u64>>,
    pub(super) limits: Vec<Limit>,
    pub(super) degradations: BTreeMap<String, u64>,
}

/// Degradations that are told apart; there are not so many words for them.
const FEATURES: usize = 32;

impl Meter {
    /// One that has seen nothing; its counters count from `start` on.
    #[must_use]
    pub fn new(settings: Settings, start: WallTime) -> Self {
        let Settings { identities, max_owners, max_listeners, max_destinations, stale_after_s, .. } =
            settings;
        let stale_ns = stale_after_s.saturating_mul(1_000_000_000);
        Self {
            settings,
            start,
            totals: Totals::default(),
            listeners: Counters::new("port", max_listeners.get(), stale_ns),
            drops: Counters::new("port", max_listeners.get(), stale_ns),
            closers: Counters::new(identity::first(identities), max_owners.get(), stale_ns),
            failures: Counters::new("peer_port", max_destinations.get(), stale_ns),
            shown: Shown::default(),
            last: None,
        }
    }

    /// Adds a report: the next one of the run, with its findings.
    pub fn absorb(&mut self, report: &Report) {
        let now = report.window.end;
        let identities = self.settings.identities;
        self.totals.add(report);
        let (counted, totals) = rows::handshakes(report, identities);
        add_up(&mut self.totals.outcomes, totals);
        self.listeners.add(now, &counted, totals.map(Option::unwrap_or_default));
        let (dropped, total) = rows::drops(report, identities);
        rows::add(&mut self.totals.drops, total);
        self.drops.add(now, &dropped, [total.unwrap_or(0)]);
        let (closed, totals) = rows::closers(report, identities);
        add_up(&mut self.totals.time_wait, totals);
        self.closers.add(now, &closed, totals.map(Option::unwrap_or_default));
        let (failed, totals) = rows::failures(report);
        self.failures.add(now, &failed, totals);
        self.last = Some(Box::new(self.look(report)));
    }

    /// Every metric, as the reports so far and `own` have it.
    #[must_use]
    pub fn snapshot(&self, own: &Own) -> Snapshot {
        snapshot::snapshot(self, own)
    }

    fn look(&mut self, report: &Report) -> Last {
        let Settings { identities, max_owners, max_listeners, max_destinations, .. } = self.settings;
        let Shown { listeners, owners, destinations } = &mut self.shown;
        Last {
            time: report.window.end,
            sockets: rows::sockets(report),
            listeners: rows::listeners(report, listeners, identities, max_listeners.get()),
            owners: rows::owners(report, owners, identities, max_owners.get()),
            destinations: rows::destinations(report, destinations, max_destinations.get()),
            findings: findings(report),
            limits: report.limits.clone(),
            degradations: degradations(report),
        }
    }
}

fn add_up<const N: usize>(sums: &mut [Option<u64>; N], counts: [Option<u64>; N]) {
    for (sum, count) in sums.iter_mut().zip(counts) {
        rows::add(sum, count);
    }
}

/// Every rule and severity, so that one that has found nothing says so.
fn findings(report: &Report) -> Option<BTreeMap<(&'static str, Severity), u64>> {
    let severities = [Severity::Info, Severity::Warning, Severity::Critical];
    let mut open: BTreeMap<_, u64> =
        ids().flat_map(|id| severities.map(|severity| ((id, severity), 0))).collect();
    for finding in report.findings.as_ref()? {
        *open.entry((finding.id, finding.severity)).or_default() += 1;
    }
    Some(open)
}

fn degradations(report: &Report) -> BTreeMap<String, u64> {
    let mut features: BTreeMap<String, u64> = BTreeMap::new();
    for degradation in &report.source.degradations {
        let feature = identity::value(&degradation.feature);
        let fits = features.len() < FEATURES || features.contains_key(&feature);
        *features.entry(if fits { feature } else { OTHER.to_owned() }).or_default() += 1;
    }
    features
}
