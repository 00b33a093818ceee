//! What a report says of each owner, listener and destination.

use std::collections::BTreeMap;

use super::{
    Identities, Labels,
    bounded::{Gauges, Rows, other},
    identity,
};
use crate::{
    report::{Connect, Listener, Report},
    state::TcpState,
};

/// What becomes of passive handshakes.
pub(super) const OUTCOME_NAMES: [&str; OUTCOMES] =
    ["completed", "untimed", "cookie", "expired", "reset", "dead"];
pub(super) const OUTCOMES: usize = 6;

/// Why attempts to connect fail.
pub(super) const ERROR_NAMES: [&str; ERRORS] =
    ["refused", "timed_out", "unreachable", "reset", "aborted", "failed"];
pub(super) const ERRORS: usize = 6;

/// A destination that takes fewer local ports is nobody's trouble, and most are somebody's ephemeral port.
const FEW_PORTS: u64 = 10;

/// What is there of a label set.
pub(super) trait Part {
    /// How much there is to tell of it.
    fn weight(&self) -> u64;
    /// Takes another one in.
    fn merge(&mut self, other: &Self);
}

/// The parts that have a series of their own, by label set; what is left of them is merged.
pub(super) fn bounded<P: Part + Default>(
    parts: BTreeMap<Labels, P>,
    gauges: &mut Gauges,
    first: &'static str,
    max: usize,
) -> (Vec<(Labels, P)>, P) {
    let weights = parts.iter().map(|(labels, part)| (labels.clone(), part.weight()));
    let shown = gauges.choose(weights, first, max);
    let mut rest = P::default();
    let mut own = Vec::new();
    for (labels, part) in parts {
        if shown.contains(&labels) {
            own.push((labels, part));
        } else {
            rest.merge(&part);
        }
    }
    (own, rest)
}

/// Puts what is left of a total last, as `other`.
pub(super) fn with_other<P>(mut own: Vec<(Labels, P)>, first: &'static str, rest: P) -> Vec<(Labels, P)> {
    own.push((other(first), rest));
    own
}

/// A listener at the end of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AtListener {
    pub(super) live: Option<u64>,
    pub(super) overdue: Option<u64>,
    /// How many wait in its accept queue, and how many may.
    pub(super) queue: Option<(u64, u64)>,
}

/// The lingering CLOSE_WAIT sockets of an owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lingering {
    pub(super) count: u64,
    pub(super) oldest_ns: Option<u64>,
}

/// The local ports that connections to a destination take.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Ports {
    pub(super) waiting: u64,
    pub(super) ratio: Option<f64>,
    taken: u64,
}

impl Part for AtListener {
    fn weight(&self) -> u64 {
        let Self { live, overdue, queue } = *self;
        let waiting = queue.map_or(0, |(length, _)| length);
        [live.unwrap_or(0), overdue.unwrap_or(0), waiting].into_iter().fold(1, u64::saturating_add)
    }

    fn merge(&mut self, other: &Self) {
        let Self { live, overdue, queue } = self;
        add(live, other.live);
        add(overdue, other.overdue);
        if let Some((more, room)) = other.queue {
            let (length, limit) = queue.unwrap_or_default();
            *queue = Some((length.saturating_add(more), limit.saturating_add(room)));
        }
    }
}

impl Part for Lingering {
    fn weight(&self) -> u64 {
        self.count
    }

    fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.oldest_ns = self.oldest_ns.max(other.oldest_ns);
    }
}

impl Part for Ports {
    fn weight(&self) -> u64 {
        self.taken
    }

    fn merge(&mut self, other: &Self) {
        let Self { waiting, ratio, taken } = self;
        *waiting = waiting.saturating_add(other.waiting);
        *taken = taken.saturating_add(other.taken);
        *ratio = match (*ratio, other.ratio) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
    }
}

/// Adds a number to a sum; a sum of nothing known is not known.
pub(super) fn add(sum: &mut Option<u64>, number: Option<u64>) {
    if let Some(number) = number {
        *sum = Some(sum.unwrap_or(0).saturating_add(number));
    }
}

fn listener_labels(listener: &Listener, identities: Identities) -> Option<Labels> {
    let mut labels = vec![("port", listener.local?.port.to_string())];
    labels.extend(identity::owner(listener.process.as_ref(), identities));
    Some(labels)
}

/// Handshakes by listener and outcome, and all of them; of an outcome that cannot be told the total is `None`.
pub(super) fn handshakes(
    report: &Report,
    identities: Identities,
) -> (Rows<OUTCOMES>, [Option<u64>; OUTCOMES]) {
    let half_open = &report.half_open;
    let totals = [
        Some(half_open.completed.count),
        Some(half_open.unknown),
        half_open.cookies,
        half_open.expired,
        half_open.reset,
        half_open.dead,
    ];
    let mut rows = Rows::new();
    for listener in &half_open.listeners {
        let Some(labels) = listener_labels(listener, identities) else { continue };
        let Listener { completed, unknown, cookies, expired, reset, dead, .. } = listener;
        let counts = [Some(completed.count), Some(*unknown), *cookies, *expired, *reset, *dead];
        accumulate(&mut rows, labels, counts.map(Option::unwrap_or_default));
    }
    (rows, totals)
}

/// What listeners turned away, and how much that is together; `None` if that was not read of any.
pub(super) fn drops(report: &Report, identities: Identities) -> (Rows<1>, Option<u64>) {
    let mut rows = Rows::new();
    let mut total = None;
    for listener in &report.half_open.listeners {
        add(&mut total, listener.drops);
        if let (Some(labels), Some(drops)) = (listener_labels(listener, identities), listener.drops) {
            accumulate(&mut rows, labels, [drops]);
        }
    }
    (rows, total)
}

/// Sockets that went into TIME_WAIT by owner, and all of them: as the kernel tells it, and inferred.
pub(super) fn closers(report: &Report, identities: Identities) -> (Rows<2>, [Option<u64>; 2]) {
    let time_wait = &report.time_wait;
    let split = |count| if time_wait.inferred { [0, count] } else { [count, 0] };
    let mut rows = Rows::new();
    for process in &time_wait.processes {
        accumulate(&mut rows, identity::owner(process.process.as_ref(), identities), split(process.entered));
    }
    let total = time_wait.entered;
    (rows, if time_wait.inferred { [None, total] } else { [total, None] })
}

/// Attempts to connect that failed, by port of the destination and reason, and all of them.
pub(super) fn failures(report: &Report) -> (Rows<ERRORS>, [u64; ERRORS]) {
    let mut rows = Rows::new();
    let mut totals = [0_u64; ERRORS];
    for connect in &report.connect {
        let Connect { refused, timed_out, unreachable, reset, aborted, failed, .. } = *connect;
        let counts = [refused, timed_out, unreachable, reset, aborted, failed];
        for (total, count) in totals.iter_mut().zip(counts) {
            *total = total.saturating_add(count);
        }
        if let Some(peer) = connect.peer {
            accumulate(&mut rows, vec![("peer_port", peer.port.to_string())], counts);
        }
    }
    (rows, totals)
}

fn accumulate<const N: usize>(rows: &mut Rows<N>, labels: Labels, counts: [u64; N]) {
    let sums = rows.entry(labels).or_insert([0; N]);
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum = sum.saturating_add(count);
    }
}

/// Listeners with something to tell. Of the half-open requests the total is known, listed or not.
pub(super) fn listeners(
    report: &Report,
    gauges: &mut Gauges,
    identities: Identities,
    max: usize,
) -> Vec<(Labels, AtListener)> {
    let mut parts: BTreeMap<Labels, AtListener> = BTreeMap::new();
    let mut nameless = AtListener::default();
    for listener in &report.half_open.listeners {
        let queue = listener.accept_queue.map(|queue| (queue.length, queue.limit));
        let here = AtListener { live: listener.live, overdue: listener.overdue, queue };
        match listener_labels(listener, identities) {
            Some(labels) => parts.entry(labels).or_default().merge(&here),
            None => nameless.merge(&here),
        }
    }
    let (own, mut rest) = bounded(parts, gauges, "port", max);
    rest.merge(&nameless);
    rest.live = remainder(report.half_open.live, own.iter().filter_map(|(_, part)| part.live));
    with_other(own, "port", rest)
}

/// The owners of lingering CLOSE_WAIT sockets.
pub(super) fn owners(
    report: &Report,
    gauges: &mut Gauges,
    identities: Identities,
    max: usize,
) -> Vec<(Labels, Lingering)> {
    let mut parts: BTreeMap<Labels, Lingering> = BTreeMap::new();
    for leak in &report.close_wait.processes {
        let here = Lingering { count: leak.count, oldest_ns: leak.oldest_ns };
        parts.entry(identity::owner(leak.process.as_ref(), identities)).or_default().merge(&here);
    }
    let first = identity::first(identities);
    let (own, mut rest) = bounded(parts, gauges, first, max);
    let listed = own.iter().map(|(_, part)| part.count);
    rest.count = remainder(Some(report.close_wait.lingering), listed).unwrap_or(0);
    with_other(own, first, rest)
}

/// Destinations that take local ports; `None` without a survey.
pub(super) fn destinations(report: &Report, gauges: &mut Gauges, max: usize) -> Option<Vec<(Labels, Ports)>> {
    let live = report.time_wait.live?;
    let mut parts: BTreeMap<Labels, Ports> = BTreeMap::new();
    let mut few = Ports::default();
    for row in report.time_wait.destinations.iter().flatten() {
        let taken = row.count.saturating_add(row.live.unwrap_or(0));
        let ratio = row.ports.filter(|ports| *ports > 0).map(|ports| taken as f64 / ports as f64);
        let here = Ports { waiting: row.count, ratio, taken };
        if taken < FEW_PORTS {
            few.merge(&here);
        } else {
            parts.entry(vec![("peer_port", row.peer.port.to_string())]).or_default().merge(&here);
        }
    }
    let (own, mut rest) = bounded(parts, gauges, "peer_port", max);
    rest.merge(&few);
    rest.waiting = remainder(Some(live), own.iter().map(|(_, part)| part.waiting)).unwrap_or(0);
    Some(with_other(own, "peer_port", rest))
}

/// What of a total is not listed.
fn remainder(total: Option<u64>, listed: impl Iterator<Item = u64>) -> Option<u64> {
    total.map(|total| listed.fold(total, u64::saturating_sub))
}

/// Sockets by state. A state of which only a part is known is not known.
pub(super) fn sockets(report: &Report) -> Vec<(TcpState, Option<u64>)> {
    let time_wait = &report.time_wait;
    let sum = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a.saturating_add(b));
    let mut sockets: Vec<_> = report
        .states
        .iter()
        .map(|(state, summary)| {
            let live = match state {
                TcpState::SynReceived => sum(summary.live, report.half_open.live),
                TcpState::FinWait2 => sum(summary.live, time_wait.live_orphans),
                TcpState::TimeWait => None,
                _ => summary.live,
            };
            (*state, live)
        })
        .collect();
    sockets.push((TcpState::TimeWait, time_wait.live));
    sockets
}
