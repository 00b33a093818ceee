//! `listener_backlog`: a listener whose accept queue is too small for how fast connections come, although its program
//! accepts fast enough.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::{
    Evidence, Finding, Severity, Subject,
    memory::Case,
    subject::{boxed, who},
};
use crate::report::{Listener, NamespaceSummary};

/// The id of its findings.
pub(super) const ID: &str = "listener_backlog";

/// `[findings.listener_backlog]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// SYNs and final ACKs that a listener turned away in a report.
    pub min_drops: NonZeroU64,
    /// At the rate at which connections come, its queue is full within this time: a program that needs longer for as many
    /// is slow.
    pub max_queue_s: NonZeroU64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { min_drops: NonZeroU64::MIN.saturating_add(9), max_queue_s: NonZeroU64::MIN }
    }
}

/// The least backlog that is worth a change.
const LEAST: u64 = 128;

/// Looks at each listener that turns connections away.
pub(super) fn judge(case: &mut Case<'_>) -> Vec<Finding> {
    let report = case.report;
    report.half_open.listeners.iter().filter_map(|row| listener(case, row)).collect()
}

fn listener(case: &Case<'_>, row: &Listener) -> Option<Finding> {
    let thresholds = case.thresholds.listener_backlog;
    let (drops, queue) = (row.drops?, row.accept_queue?);
    let namespace = case.report.half_open.namespaces.iter().find(|space| Some(space.netns) == row.netns)?;
    let subject =
        Subject::Listener { local: row.local, netns: row.netns, process: boxed(row.process.as_ref()) };
    // A listener drops SYNs for other reasons, too; those for want of room in this queue the kernel counts, per namespace.
    let overflows = drops.min(namespace.listen_overflows);
    if !case.reaches(&subject, overflows as f64, thresholds.min_drops.get() as f64) {
        return None;
    }
    let came = row.completed.count + row.unknown + row.cookies.unwrap_or(0);
    let per_s = came as f64 / case.report.window.seconds;
    // The queue holds one more than its limit (`sk_acceptq_is_full`, `include/net/sock.h`).
    let room = queue.limit + 1;
    let fills_s = room as f64 / per_s;
    // A queue that is full when somebody looks is a slow program's, which `accept_queue_overflow` tells.
    let drained = queue.length == 0 || queue.length < queue.limit;
    if !drained || !fills_s.is_finite() || fills_s > thresholds.max_queue_s.get() as f64 {
        return None;
    }
    let (cause, advice) = sentences(row, overflows, per_s, namespace);
    Some(Finding {
        id: ID,
        severity: Severity::Warning,
        subject,
        since: case.since_this_window(),
        cause,
        advice,
        evidence: evidence(row, (overflows, came, per_s, queue.limit), namespace),
    })
}

fn sentences(row: &Listener, overflows: u64, per_s: f64, namespace: &NamespaceSummary) -> (String, String) {
    let limit = row.accept_queue.map_or(0, |queue| queue.limit);
    let place = row.local.map_or_else(|| "others".to_owned(), |local| local.to_string());
    let who = who(row.process.as_ref());
    let cause = format!(
        "The backlog of {limit} at {place} is too small for bursts of {per_s:.0} connections a second on average: {who} accepts fast enough, but {overflows} SYNs and final ACKs found the queue full, and each costs its client a second or more."
    );
    // Room for a second of what comes; a power of two, as people write it.
    let wanted = (per_s.ceil() as u64).max(LEAST).max(limit.saturating_mul(2)).next_power_of_two();
    let raise = match namespace.somaxconn {
        Some(most) if most < wanted => {
            format!(", after `sysctl -w net.core.somaxconn={wanted}` (now {most})")
        }
        _ => String::new(),
    };
    let advice = format!(
        "Give listen() at {place} a backlog of {wanted}{raise}; many servers have a setting for it (nginx: `listen … backlog={wanted}`)."
    );
    (cause, advice)
}

fn evidence(
    row: &Listener,
    (overflows, came, per_s, limit): (u64, u64, f64, u64),
    namespace: &NamespaceSummary,
) -> Vec<Evidence> {
    vec![
        Evidence::new("turned away", row.drops, "SYNs and ACKs", "half_open.listeners[].drops"),
        Evidence::new(
            "of these for want of room, at most",
            overflows,
            "SYNs and ACKs",
            "half_open.namespaces[].listen_overflows",
        ),
        Evidence::new("backlog", limit, "connections", "half_open.listeners[].accept_queue.limit"),
        Evidence::new("came in", came, "connections", "half_open.listeners[]: completed, unknown, cookies"),
        Evidence::new("rate", per_s, "connections/s", "half_open.listeners[]: came in / window.seconds"),
        Evidence::new(
            "net.core.somaxconn",
            namespace.somaxconn,
            "connections",
            "half_open.namespaces[].somaxconn",
        ),
    ]
}
