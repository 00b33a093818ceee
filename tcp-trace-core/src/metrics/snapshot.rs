//! What is known → families, in the order of the catalogue.

use std::{borrow::Cow, collections::BTreeMap};

use super::{
    Bucketed, Family, Labels, Meter, Own, Sample, Series, Snapshot,
    bounded::Counters,
    catalogue::{self as c, CATALOGUE, Metric},
    meter::Last,
    own::SinkHealth,
    rows,
    totals::Totals,
};
use crate::{
    report::{Distribution, Ending, HANDSHAKE_BOUNDS_NS, STATE_BOUNDS_NS},
    state::TcpState::{
        self, Close, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, Listen, SynReceived,
        SynSent,
    },
};

/// [`STATE_BOUNDS_NS`] in seconds.
static STATE_BOUNDS: [f64; STATE_BOUNDS_NS.len()] = seconds(STATE_BOUNDS_NS);
/// [`HANDSHAKE_BOUNDS_NS`] in seconds.
static HANDSHAKE_BOUNDS: [f64; HANDSHAKE_BOUNDS_NS.len()] = seconds(HANDSHAKE_BOUNDS_NS);

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn seconds<const N: usize>(nanoseconds: [u64; N]) -> [f64; N] {
    let mut seconds = [0.0; N];
    let mut at = 0;
    while at < N {
        seconds[at] = nanoseconds[at] as f64 / 1e9;
        at += 1;
    }
    seconds
}

/// Transitions that healthy connections make: their counters are there before the first one, at 0, because a counter's
/// first value is no increase to whoever reads it.
const USUAL: [(TcpState, TcpState); 19] = [
    (Close, SynSent),
    (SynSent, Established),
    (SynSent, Close),
    (Close, Listen),
    (Listen, SynReceived),
    (Listen, Close),
    (SynReceived, Established),
    (SynReceived, Close),
    (Established, FinWait1),
    (Established, CloseWait),
    (Established, Close),
    (FinWait1, FinWait2),
    (FinWait1, Closing),
    (FinWait1, Close),
    (FinWait2, Close),
    (Closing, Close),
    (CloseWait, LastAck),
    (CloseWait, Close),
    (LastAck, Close),
];

/// Series by metric, until they are put in order.
#[derive(Default)]
struct Collected(BTreeMap<&'static str, Vec<Series>>);

impl Collected {
    fn add(&mut self, metric: &'static Metric, labels: Labels, value: Sample) {
        self.0.entry(metric.name).or_default().push(Series { labels, value });
    }

    fn count(&mut self, metric: &'static Metric, labels: Labels, count: impl Into<Option<u64>>) {
        if let Some(count) = count.into() {
            self.add(metric, labels, Sample::Count(count));
        }
    }

    fn real(&mut self, metric: &'static Metric, labels: Labels, value: Option<f64>) {
        if let Some(value) = value {
            self.add(metric, labels, Sample::Real(value));
        }
    }

    fn families(mut self) -> Vec<Family> {
        CATALOGUE.iter().filter_map(|metric| Some(metric.family(self.0.remove(metric.name)?))).collect()
    }
}

/// Every metric of which something is known.
pub(super) fn snapshot(meter: &Meter, own: &Own) -> Snapshot {
    let mut collected = Collected::default();
    let mut time = meter.start;
    if let Some(last) = &meter.last {
        time = last.time;
        traffic(&mut collected, meter);
        bounded(&mut collected, meter);
        present(&mut collected, last);
        balance(&mut collected, &meter.totals);
        tables(&mut collected, meter, last);
    }
    health(&mut collected, own);
    Snapshot { start: meter.start, time, families: collected.families() }
}

fn one(name: &'static str, value: impl Into<String>) -> Labels {
    vec![(name, value.into())]
}

/// The labels of a series that is one of several of the same owner, listener or destination.
fn and(labels: &Labels, name: &'static str, value: &str) -> Labels {
    labels.iter().cloned().chain([(name, value.to_owned())]).collect()
}

fn traffic(collected: &mut Collected, meter: &Meter) {
    let Totals { transitions, states, half_open, connect, outcomes, ended, .. } = &meter.totals;
    let mut kinds: BTreeMap<(Cow<'_, str>, Cow<'_, str>), u64> = BTreeMap::new();
    let named = |(old, new): (TcpState, TcpState)| (old.otel_name(), new.otel_name());
    for pair in USUAL {
        kinds.insert(named(pair), 0);
    }
    for (pair, count) in transitions {
        let sum = kinds.entry(named(*pair)).or_default();
        *sum = sum.saturating_add(*count);
    }
    for ((old, new), count) in kinds {
        collected.count(&c::TRANSITIONS, vec![("old", old.into_owned()), ("new", new.into_owned())], count);
    }
    let mut coarse = 0_u64;
    for (state, durations) in states {
        coarse = coarse.saturating_add(durations.coarse);
        if meter.settings.state_durations {
            let histogram = histogram(durations, &STATE_BOUNDS);
            collected.add(&c::STATE_DURATION, one("state", state.otel_name()), histogram);
        }
    }
    collected.add(&c::HALF_OPEN_DURATION, Vec::new(), histogram(half_open, &HANDSHAKE_BOUNDS));
    collected.add(&c::CONNECT_DURATION, Vec::new(), histogram(connect, &HANDSHAKE_BOUNDS));
    for (name, count) in [("state", coarse), ("half_open", half_open.coarse), ("connect", connect.coarse)] {
        collected.count(&c::COARSE_DURATIONS, one("histogram", name), count);
    }
    for (name, count) in rows::OUTCOME_NAMES.into_iter().zip(outcomes) {
        collected.count(&c::HANDSHAKES, one("outcome", name), *count);
    }
    for ending in ended.iter().flat_map(|_| Ending::ALL) {
        let count = ended.as_ref().and_then(|ended| ended.get(&ending)).copied().unwrap_or(0);
        collected.count(&c::ENDED, one("ending", ending.name()), count);
    }
}

fn histogram(durations: &Distribution, bounds: &'static [f64]) -> Sample {
    let mut counts = durations.counts.clone();
    counts.resize(bounds.len() + 1, 0);
    Sample::Histogram(Bucketed { bounds, counts, sum: durations.sum_ns as f64 / 1e9 })
}

/// Counters of owners, listeners and destinations.
fn bounded(collected: &mut Collected, meter: &Meter) {
    let Meter { totals, listeners, drops, closers, failures, .. } = meter;
    each(collected, &c::LISTENER_HANDSHAKES, listeners, "outcome", rows::OUTCOME_NAMES, totals.outcomes);
    if totals.drops.is_some() {
        for (labels, [count]) in drops.series() {
            collected.count(&c::LISTENER_DROPS, labels, count);
        }
    }
    each(collected, &c::TIME_WAIT_ENTERED, closers, "source", ["kernel", "inferred"], totals.time_wait);
    let known = [Some(0); rows::ERRORS];
    each(collected, &c::CONNECT_FAILURES, failures, "error", rows::ERROR_NAMES, known);
    for (metric, retired) in [
        (&c::LISTENER_HANDSHAKES, listeners.retired()),
        (&c::LISTENER_DROPS, drops.retired()),
        (&c::TIME_WAIT_ENTERED, closers.retired()),
        (&c::CONNECT_FAILURES, failures.retired()),
    ] {
        collected.count(&c::RETIRED, one("metric", metric.prometheus_name()), retired);
    }
}

/// The counts of each label set; those of which nothing is known are left out.
fn each<const N: usize>(
    collected: &mut Collected,
    metric: &'static Metric,
    counters: &Counters<N>,
    label: &'static str,
    values: [&'static str; N],
    known: [Option<u64>; N],
) {
    for (labels, counts) in counters.series() {
        for ((value, count), known) in values.iter().zip(counts).zip(known) {
            collected.count(metric, and(&labels, label, value), known.map(|_| count));
        }
    }
}

/// What is there at the end of the last window.
fn present(collected: &mut Collected, last: &Last) {
    let Last { time, sockets, listeners, owners, destinations, findings, .. } = last;
    for (state, live) in sockets {
        collected.count(&c::SOCKETS, one("state", state.otel_name()), *live);
    }
    for (labels, at) in listeners {
        collected.count(&c::HALF_OPEN_REQUESTS, labels.clone(), at.live);
        collected.count(&c::HALF_OPEN_OVERDUE, labels.clone(), at.overdue);
        collected.count(&c::ACCEPT_QUEUE, labels.clone(), at.queue.map(|(length, _)| length));
        collected.count(&c::ACCEPT_QUEUE_LIMIT, labels.clone(), at.queue.map(|(_, limit)| limit));
    }
    for (labels, lingering) in owners {
        collected.count(&c::CLOSE_WAIT_LINGERING, labels.clone(), lingering.count);
        let oldest = lingering.oldest_ns.map(|ns| ns as f64 / 1e9);
        collected.real(&c::CLOSE_WAIT_OLDEST, labels.clone(), oldest);
    }
    for (labels, ports) in destinations.iter().flatten() {
        collected.count(&c::TIME_WAIT, labels.clone(), ports.waiting);
        collected.real(&c::LOCAL_PORTS, labels.clone(), ports.ratio);
    }
    for ((id, severity), count) in findings.iter().flatten() {
        let labels = vec![("id", (*id).to_owned()), ("severity", severity.name().to_owned())];
        collected.count(&c::FINDINGS, labels, *count);
    }
    collected.real(&c::REPORT_TIME, Vec::new(), Some(time.0 as f64 / 1e9));
}

/// Whether every transition is accounted for.
fn balance(collected: &mut Collected, totals: &Totals) {
    let Totals { seen, events, missed, unattributed, untracked, side_lost, repaired, windows, modes, .. } =
        totals;
    collected.count(&c::SEEN, Vec::new(), *seen);
    for (outcome, count) in ["delivered", "filtered", "lost", "aggregated"].into_iter().zip(events) {
        collected.count(&c::EVENTS, one("outcome", outcome), *count);
    }
    collected.count(&c::MISSED, Vec::new(), *missed);
    collected.count(&c::UNATTRIBUTED, Vec::new(), *unattributed);
    collected.count(&c::UNTRACKED, Vec::new(), *untracked);
    collected.count(&c::SIDE_LOST, Vec::new(), *side_lost);
    collected.count(&c::REPAIRED, Vec::new(), *repaired);
    for (balanced, count) in ["true", "false"].into_iter().zip(windows) {
        collected.count(&c::WINDOWS, one("balanced", balanced), *count);
    }
    for (mode, seconds) in ["stream", "aggregate", "count"].into_iter().zip(modes) {
        collected.real(&c::MODE, one("mode", mode), Some(*seconds));
    }
}

/// What is bounded, and what that has cost.
fn tables(collected: &mut Collected, meter: &Meter, last: &Last) {
    for limit in &last.limits {
        let used = (limit.limit > 0).then(|| limit.in_use as f64 / limit.limit as f64);
        collected.real(&c::TABLE_USED, one("table", limit.name), used);
    }
    for (table, dropped) in &meter.totals.dropped {
        collected.count(&c::TABLE_DROPPED, one("table", *table), *dropped);
    }
    for (feature, count) in &last.degradations {
        collected.count(&c::DEGRADATIONS, one("feature", feature), *count);
    }
}

/// tcp-trace itself.
fn health(collected: &mut Collected, own: &Own) {
    let Own { version, revision, started, cpu_seconds, resident_bytes, reloads, sinks } = own;
    for sink in sinks {
        let SinkHealth { name, queued, queue_limit, sent, dropped, limited, refused, failures } = sink;
        let labels = one("sink", super::identity::value(name));
        collected.count(&c::SINK_QUEUE, labels.clone(), *queued);
        collected.count(&c::SINK_QUEUE_LIMIT, labels.clone(), *queue_limit);
        let outcomes = [("sent", sent), ("dropped", dropped), ("limited", limited), ("refused", refused)];
        for (outcome, count) in outcomes {
            collected.count(&c::SINK_DOCUMENTS, and(&labels, "outcome", outcome), *count);
        }
        collected.count(&c::SINK_FAILURES, labels, *failures);
    }
    if let Some((applied, refused)) = reloads {
        collected.count(&c::RELOADS, one("outcome", "applied"), *applied);
        collected.count(&c::RELOADS, one("outcome", "refused"), *refused);
    }
    collected.real(&c::CPU, Vec::new(), *cpu_seconds);
    collected.count(&c::MEMORY, Vec::new(), *resident_bytes);
    collected.real(&c::START_TIME, Vec::new(), started.map(|time| time.0 as f64 / 1e9));
    let mut labels = one("version", version);
    labels.extend(revision.as_ref().map(|revision| ("revision", revision.clone())));
    collected.count(&c::BUILD, labels, 1);
}
