//! `listener_gone`: a listener that was closed while connections waited to be accepted.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::{
    Finding, Severity,
    listener_restarted::{evidence, subject},
    memory::Case,
    subject::who,
};
use crate::report::ListenerChange;

/// The id of its findings.
pub(super) const ID: &str = "listener_gone";

/// `[findings.listener_gone]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Connections reset that waited to be accepted.
    pub min_queued: NonZeroU64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { min_queued: NonZeroU64::MIN }
    }
}

/// Looks at each address where nobody listens any more, or one of several listeners was closed.
pub(super) fn judge(case: &mut Case<'_>) -> Vec<Finding> {
    let report = case.report;
    report.listeners_changed.iter().filter_map(|row| listener(case, row)).collect()
}

fn listener(case: &Case<'_>, row: &ListenerChange) -> Option<Finding> {
    let subject = subject(row);
    let threshold = case.thresholds.listener_gone.min_queued.get() as f64;
    if row.restarts > 0 || !case.reaches(&subject, row.queued_resets as f64, threshold) {
        return None;
    }
    let (who, local) = (who(row.process.as_ref()), row.local);
    let waited = match row.queued_resets {
        1 => "a connection waited to be accepted, and was reset".to_owned(),
        count => format!("{count} connections waited to be accepted, and were reset"),
    };
    let others = if row.listening { "others still listen there" } else { "nobody listens there now" };
    let advice = if row.listening {
        format!(
            "Accept what waits before one of several listeners at {local} is closed, or let its queue move on: `sysctl -w net.ipv4.tcp_migrate_req=1` (Linux 5.14)."
        )
    } else {
        format!(
            "If it was to stop, take it out of the load balancer first and accept what waits; if not, start it again and see why it ended: `journalctl -e`, `ss -ltn 'sport = :{}'`.",
            local.port
        )
    };
    Some(Finding {
        id: ID,
        severity: Severity::Warning,
        subject,
        since: row.last_closed,
        cause: format!("{who} closed its listener at {local} while {waited}; {others}."),
        advice,
        evidence: evidence(row),
    })
}
