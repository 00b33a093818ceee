//! `fork_leak`: connections that are held only by a process that never used them, so that nobody ever closes them.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::{Evidence, Finding, Severity, Subject, ends, memory::Case, subject::who};
use crate::report::Inherited;

/// The id of its findings.
pub(super) const ID: &str = "fork_leak";

/// `[findings.fork_leak]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Nobody else has held it, and no data has gone over it, for this long.
    pub after_s: u64,
    /// So many of one process.
    pub min_sockets: NonZeroU64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { after_s: 60, min_sockets: NonZeroU64::MIN.saturating_add(4) }
    }
}

/// Looks at each process that holds what another has used.
pub(super) fn judge(case: &mut Case<'_>) -> Vec<Finding> {
    let report = case.report;
    report.inherited.iter().flatten().filter_map(|row| leak(case, row)).collect()
}

fn leak(case: &Case<'_>, row: &Inherited) -> Option<Finding> {
    let thresholds = case.thresholds.fork_leak;
    let subject = Subject::process(Some(&row.process));
    let after_ns = thresholds.after_s.saturating_mul(1_000_000_000);
    let listed = row.sockets.iter().filter(|socket| socket.idle_ns >= after_ns).count();
    // Of more than are listed, the youngest of these is older than the others.
    let count = if listed == row.sockets.len() { row.count } else { listed as u64 };
    if listed == 0 || !case.reaches(&subject, count as f64, thresholds.min_sockets.get() as f64) {
        return None;
    }
    let (holder, user) = (who(Some(&row.process)), who(Some(&row.user)));
    let pid = row.process.pid;
    Some(Finding {
        id: ID,
        severity: Severity::Warning,
        subject,
        since: Some(case.report.window.end.minus(row.oldest_ns)),
        cause: format!(
            "{holder} holds {count} connections that it has inherited from {user} and never uses: {user} has closed its own descriptors of them, and the peers do not learn of it."
        ),
        advice: format!(
            "Let {user} open sockets with SOCK_CLOEXEC (socket(), accept4()), or close them in the child after fork(); `ls -l /proc/{pid}/fd` shows them, and they go when {holder} ends."
        ),
        evidence: evidence(row, count),
    })
}

fn evidence(row: &Inherited, count: u64) -> Vec<Evidence> {
    let source = "inherited[].sockets[].idle_ns: for longer than after_s";
    let mut evidence = vec![
        Evidence::new("held and never used", count, "sockets", source),
        Evidence::new("for, at least", row.oldest_ns, "ns", "inherited[].oldest_ns"),
        Evidence::new("used by", who(Some(&row.user)), "", "inherited[].user"),
    ];
    let listener = ends::common(&row.listeners, row.count);
    evidence.extend(listener.map(|common| Evidence::new("listener", common, "", "inherited[].listeners")));
    let peers = ends::common(&row.peers, row.count);
    evidence.extend(peers.map(|common| Evidence::new("peers", common, "", "inherited[].peers")));
    evidence
}
