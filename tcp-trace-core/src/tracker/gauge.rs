//! How full the tables are that have a limit, and what they had no room for.

use super::Tracker;
use crate::report::Limit;

/// What a table has come to since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gauge {
    /// The most that there were in it at once.
    peak: usize,
    /// How many it had no room for, or gave up to make room.
    dropped: u64,
}

impl Gauge {
    /// There are so many now.
    pub(super) fn holds(&mut self, count: usize) {
        self.peak = self.peak.max(count);
    }

    /// So many were turned away or given up.
    pub(super) fn drops(&mut self, count: usize) {
        self.dropped = self.dropped.saturating_add(count as u64);
    }

    #[cfg(test)]
    pub(super) fn dropped(self) -> u64 {
        self.dropped
    }

    fn limit(self, name: &'static str, limit: usize, in_use: usize) -> Limit {
        let Self { peak, dropped } = self;
        let peak = peak.max(in_use) as u64;
        Limit { name, limit: limit as u64, in_use: in_use as u64, peak, dropped }
    }
}

/// Gauges of the tables that begin anew with each window, whose rows sum up in one what they have no room for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RowGauges {
    pub(super) listeners: Gauge,
    pub(super) destinations: Gauge,
    pub(super) failing: Gauge,
    pub(super) processes: Gauge,
    pub(super) endings: Gauge,
    pub(super) listener_changes: Gauge,
}

impl Tracker {
    /// Takes note of how full the tables of the window are, which ends.
    pub(super) fn gauge_rows(&mut self) {
        let Self { rows, tally, .. } = self;
        for (gauge, (used, overflow)) in [
            (&mut rows.listeners, tally.listeners_used()),
            (&mut rows.destinations, tally.destinations_used()),
            (&mut rows.failing, (tally.failing.rows.len(), tally.failing.dropped)),
            (&mut rows.processes, (tally.processes.len(), tally.omitted)),
            (&mut rows.endings, (tally.endings.used(), tally.endings.dropped)),
            (&mut rows.listener_changes, (tally.restarts.rows.len(), tally.restarts.dropped)),
        ] {
            gauge.holds(used);
            gauge.drops(usize::try_from(overflow).unwrap_or(usize::MAX));
        }
    }

    /// Every table with its limit, in the order in which their loss hurts.
    pub(super) fn limits(&self) -> Vec<Limit> {
        let Self {
            settings,
            table,
            held,
            tally,
            rows,
            people,
            requests,
            namespaces,
            time_waits,
            wake,
            inherited,
            drops,
            series,
            ..
        } = self;
        let (max_rows, samples) = (settings.max_rows, &self.samples);
        let row = |gauge: Gauge, name, used| gauge.limit(name, max_rows, used);
        let over_time = series
            .as_ref()
            .map(|series| series.gauge.limit("processes_over_time", super::series::PROCESSES, series.len()));
        let mut limits = vec![
            table.gauge.limit("connections", settings.max_connections, table.len()),
            samples.gauge.limit("surveyed_sockets", settings.max_survey_rows(), 0),
            held.gauge.limit("undecided_events", held.max(), held.len()),
            row(rows.processes, "processes", tally.processes.len()),
            row(rows.listeners, "listeners", tally.listeners_used().0),
            row(rows.destinations, "destinations", tally.destinations_used().0),
            row(rows.endings, "endings", tally.endings.used()),
            row(rows.listener_changes, "listeners_changed", tally.restarts.rows.len()),
            row(rows.failing, "connect_failures", tally.failing.rows.len()),
            requests.gauge.limit("half_open_requests", requests.max(), requests.len()),
            wake.gauge.limit("unclosed_sockets", super::wake::MAX, wake.len()),
            time_waits.gauge.limit("time_wait_owners", super::time_wait::OWNERS, time_waits.len()),
            people.gauge.limit("identities", people.max(), people.len()),
            namespaces.gauge.limit("namespaces", super::namespaces::MAX, namespaces.len()),
            inherited.gauge.limit("inherited", super::inherited::MAX, inherited.known.len()),
            drops.gauge.limit("listener_drops", super::drops::MAX, drops.len()),
        ];
        limits.extend(over_time);
        limits
    }
}
