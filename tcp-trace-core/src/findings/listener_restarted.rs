//! `listener_restarted`: a listener that is closed and opened again, and whom that cuts off.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::{
    Evidence, Finding, Severity, Subject, ends,
    memory::Case,
    subject::{boxed, who},
};
use crate::report::ListenerChange;

/// The id of its findings.
pub(super) const ID: &str = "listener_restarted";

/// `[findings.listener_restarted]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Restarts in a report: a warning.
    pub min_restarts: NonZeroU64,
    /// Fewer, and so many connections reset that waited to be accepted: a warning, too.
    pub min_queued: NonZeroU64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { min_restarts: NonZeroU64::MIN.saturating_add(2), min_queued: NonZeroU64::MIN }
    }
}

/// Looks at each address where listeners came and went.
pub(super) fn judge(case: &mut Case<'_>) -> Vec<Finding> {
    let report = case.report;
    report.listeners_changed.iter().filter_map(|row| listener(case, row)).collect()
}

fn listener(case: &Case<'_>, row: &ListenerChange) -> Option<Finding> {
    let thresholds = case.thresholds.listener_restarted;
    let subject = subject(row);
    let often = case.reaches(&subject, row.restarts as f64, thresholds.min_restarts.get() as f64);
    let cut = case.reaches(&subject, row.queued_resets as f64, thresholds.min_queued.get() as f64);
    if row.restarts == 0 || !often && !cut {
        return None;
    }
    let who = who(row.process.as_ref());
    let times = if row.restarts == 1 { "once".to_owned() } else { format!("{} times", row.restarts) };
    let lost = match row.queued_resets {
        0 => String::new(),
        1 => ", and a connection that waited to be accepted was reset".to_owned(),
        count => format!(", and {count} connections that waited to be accepted were reset"),
    };
    let local = row.local;
    let advice = if often {
        format!(
            "See why it ends: `journalctl -e _PID={pid}` or its own log; what connects to {local} meanwhile is refused.",
            pid = row.process.as_ref().map_or_else(|| "PID".to_owned(), |process| process.pid.to_string())
        )
    } else {
        format!(
            "Restart without closing the listener: let systemd hold it (a `.socket` unit with `ListenStream={local}`), or hand it over, and accept what waits before the old one is closed."
        )
    };
    Some(Finding {
        id: ID,
        severity: Severity::Warning,
        subject,
        since: case.since_this_window(),
        cause: format!("The listener at {local} was closed and opened again {times}, now by {who}{lost}."),
        advice,
        evidence: evidence(row),
    })
}

/// The listener, and who had it last.
pub(super) fn subject(row: &ListenerChange) -> Subject {
    Subject::Listener { local: Some(row.local), netns: row.netns, process: boxed(row.process.as_ref()) }
}

/// What both rules on listeners rest on.
pub(super) fn evidence(row: &ListenerChange) -> Vec<Evidence> {
    let mut evidence = vec![
        Evidence::new("closed", row.closed, "listeners", "listeners_changed[].closed"),
        Evidence::new("opened", row.opened, "listeners", "listeners_changed[].opened"),
        Evidence::new(
            "reset unaccepted",
            row.queued_resets,
            "connections",
            "listeners_changed[].queued_resets",
        ),
    ];
    if row.restarts > 0 {
        let source = "listeners_changed[].longest_gap_ns";
        evidence.push(Evidence::new("longest without a listener", row.longest_gap_ns, "ns", source));
    }
    let peers = ends::common(&row.peers, row.queued_resets);
    evidence.extend(peers.map(|peers| Evidence::new("peers", peers, "", "listeners_changed[].peers")));
    evidence
}
