//! What is shown at one moment: a report, the numbers of it that are drawn over time, and the last transitions.

use std::collections::{BTreeMap, VecDeque};

use tcp_trace_core::{
    diagram::{self, Kind},
    endpoint::Endpoint,
    findings::Severity,
    report::{Connect, Report, StateChange},
    state::TcpState,
    time::WallTime,
};

use super::rows::{Who, failures_of};

/// Buckets of [`Durations`]: powers of two from a microsecond on, and what is longer.
pub const BUCKETS: usize = 28;
/// Listeners whose durations are kept apart.
const LISTENERS: usize = 256;
/// Processes whose leaks are kept over time.
const LEAKS: usize = 64;

/// A report and what belongs to it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The report.
    pub report: Report,
    /// Its numbers over time.
    pub sample: Sample,
    /// The last transitions of its window; of a live run they come beside.
    pub changes: Vec<StateChange>,
    /// How long handshakes were half-open, by listener.
    pub handshakes: Handshakes,
    /// In seconds, where there are too many sockets to list them for every report: queues, kinds and what is in TIME_WAIT are
    /// then those of the last survey.
    pub surveyed_every: Option<u64>,
}

/// The numbers of one report that are drawn over time. Rates are per second; `None` is not known.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// The end of the window.
    pub end: Option<WallTime>,
    /// Transitions.
    pub transitions: Option<f64>,
    /// Connections that were established, at either end.
    pub opened: Option<f64>,
    /// Attempts that failed.
    pub failed: Option<f64>,
    /// Connections that were cut off.
    pub cut: Option<f64>,
    /// In CLOSE_WAIT now.
    pub close_wait: Option<f64>,
    /// Half-open now.
    pub half_open: Option<f64>,
    /// In TIME_WAIT now.
    pub time_wait: Option<f64>,
    /// Sockets now.
    pub live: Option<f64>,
    /// Lingering CLOSE_WAIT sockets, by process.
    pub leaks: Vec<(Who, u64)>,
    /// The worst finding.
    pub worst: Option<Severity>,
    /// Transitions that the stream lost.
    pub lost: u64,
}

/// Counts by power of two.
pub type Durations = [u32; BUCKETS];

/// How long handshakes were half-open, by namespace and local end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handshakes(pub BTreeMap<(Option<u32>, Endpoint), Durations>);

impl Frame {
    /// Of a report.
    #[must_use]
    pub fn new(report: Report, changes: Vec<StateChange>, handshakes: Handshakes) -> Self {
        let sample = Sample::of(&report);
        Self { report, sample, changes, handshakes, surveyed_every: None }
    }
}

impl Sample {
    /// The numbers of a report.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        let seconds = report.window.seconds;
        let rate = |count: u64| (seconds > 0.0).then_some(count as f64 / seconds);
        let sum = |wanted: &dyn Fn(TcpState, TcpState) -> bool| {
            let cells = report.transitions.iter().filter(|cell| wanted(cell.old, cell.new));
            cells.map(|cell| cell.count).sum::<u64>()
        };
        let cut = |old, new| diagram::classify(old, new) == Kind::Anomalous && old != TcpState::SynSent;
        Self {
            end: Some(report.window.end),
            transitions: rate(report.loss.seen),
            opened: rate(sum(&|_, new| new == TcpState::Established)),
            failed: rate(report.connect.iter().map(failed).sum()),
            cut: rate(sum(&cut)),
            close_wait: Some(report.close_wait.live as f64),
            half_open: report.half_open.live.map(|live| live as f64),
            time_wait: report.time_wait.live.map(|live| live as f64),
            live: Some(live(report) as f64),
            leaks: report
                .close_wait
                .processes
                .iter()
                .take(LEAKS)
                .map(|row| (Who::of(row.process.as_ref()), row.count))
                .collect(),
            worst: report.findings.iter().flatten().map(|finding| finding.severity).max(),
            lost: report.loss.lost,
        }
    }
}

/// Attempts to one destination that failed. One that its program gave up at once is none.
fn failed(connect: &Connect) -> u64 {
    let Connect { refused, timed_out, unreachable, reset, failed, failing, .. } = connect;
    let given_up: u64 = failing.iter().map(|row| row.given_up + row.no_port).sum();
    let by_process: u64 = failing.iter().map(failures_of).sum();
    (refused + timed_out + unreachable + reset + failed + given_up).max(by_process)
}

/// Sockets at the end of the window, as far as their transitions were seen.
pub(super) fn live(report: &Report) -> u64 {
    report.states.values().filter_map(|state| state.live).sum()
}

impl Handshakes {
    /// Counts the passive handshakes among these.
    pub fn add(&mut self, changes: &[StateChange]) {
        for change in changes {
            if (change.old, change.new) != (TcpState::SynReceived, TcpState::Established) {
                continue;
            }
            let Some(ns) = change.duration_ns else { continue };
            let key = (change.netns, change.local);
            if self.0.len() >= LISTENERS && !self.0.contains_key(&key) {
                continue;
            }
            if let Some(slot) = self.0.entry(key).or_insert([0; BUCKETS]).get_mut(bucket(ns)) {
                *slot = slot.saturating_add(1);
            }
        }
    }

    /// Those of the listener at this end, which may listen on all addresses.
    #[must_use]
    pub fn of(&self, netns: Option<u32>, local: Endpoint) -> Durations {
        let mut sum = [0; BUCKETS];
        for ((_, _), counts) in self.0.iter().filter(|((namespace, end), _)| {
            *namespace == netns
                && end.port == local.port
                && (end.address == local.address || local.address.is_unspecified())
        }) {
            for (all, count) in sum.iter_mut().zip(counts) {
                *all = u32::saturating_add(*all, *count);
            }
        }
        sum
    }
}

/// Which bucket: 0 is below 2 µs.
fn bucket(nanoseconds: u64) -> usize {
    let microseconds = (nanoseconds / 1_000).max(1);
    (microseconds.ilog2() as usize).min(BUCKETS - 1)
}

/// A queue that gives up its oldest.
#[derive(Clone, Debug)]
pub struct Ring<T> {
    items: VecDeque<T>,
    limit: usize,
}

impl<T> Ring<T> {
    /// With room for so many.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { items: VecDeque::new(), limit: limit.max(1) }
    }

    /// Adds one.
    pub fn push(&mut self, item: T) {
        if self.items.len() == self.limit {
            self.items.pop_front();
        }
        self.items.push_back(item);
    }

    /// All, oldest first.
    #[must_use]
    pub fn items(&self) -> &VecDeque<T> {
        &self.items
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.items.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_powers_of_two_of_a_microsecond() {
        assert_eq!([0, 1_999, 2_000, 4_100, 3_300_000_000].map(bucket), [0, 0, 1, 2, 21]);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_ring_gives_up_its_oldest() {
        let mut ring = Ring::new(2);
        [1, 2, 3].map(|item| ring.push(item));
        assert_eq!(ring.items(), &[2, 3]);
    }
}
