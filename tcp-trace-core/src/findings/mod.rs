//! What is wrong, whose fault it is, and what to do about it: rules over reports.
//!
//! A rule is a file: its thresholds with their defaults, and one function from a report to findings. It is entered in
//! [`Thresholds`] and `RULES`, and in `docs/findings.md`. A rule sees nothing but the report (and, for slopes, the
//! numbers that it has put by from the reports before), so that a recording has the findings of the live run. What it
//! needs and the report lacks is added to the report.
//!
//! What a rule must not do: blame a process that is not known to own the socket, take an unknown number for 0, or find
//! anything in healthy traffic.

mod abort_unread_data;
mod accept_queue_overflow;
mod close_wait_leak;
mod connect_failures;
mod cut;
mod ends;
mod finding;
mod fork_leak;
mod handshake_loss;
mod linger_zero_close;
mod listener_backlog;
mod listener_gone;
mod listener_restarted;
mod memory;
mod port_exhaustion;
mod requests;
mod reset_storm;
mod stuck_closing;
mod subject;
mod syn_flood;
mod thresholds;

use std::cmp::Reverse;

pub use close_wait_leak::Thresholds as CloseWaitLeak;
pub use connect_failures::Thresholds as ConnectFailures;
pub use cut::Thresholds as Cut;
pub use finding::{Evidence, Finding, Severity, Value};
pub use fork_leak::Thresholds as ForkLeak;
pub use listener_backlog::Thresholds as ListenerBacklog;
pub use listener_gone::Thresholds as ListenerGone;
pub use listener_restarted::Thresholds as ListenerRestarted;
pub use port_exhaustion::Thresholds as PortExhaustion;
pub use requests::{AcceptQueueOverflow, HandshakeLoss, SynFlood};
pub use stuck_closing::Thresholds as StuckClosing;
pub use subject::Subject;
pub use thresholds::{NoShare, Share, Thresholds};

use self::memory::{Case, Memory};
use crate::report::{Limit, Report};

/// A rule.
struct Rule {
    /// The `id` of its findings.
    id: &'static str,
    /// Looks for them.
    judge: fn(&mut Case<'_>) -> Vec<Finding>,
}

/// Every rule, in the order in which findings of the same severity are told.
const RULES: &[Rule] = &[
    Rule { id: close_wait_leak::ID, judge: close_wait_leak::judge },
    Rule { id: syn_flood::ID, judge: syn_flood::judge },
    Rule { id: accept_queue_overflow::ID, judge: accept_queue_overflow::judge },
    Rule { id: handshake_loss::ID, judge: handshake_loss::judge },
    Rule { id: port_exhaustion::ID, judge: port_exhaustion::judge },
    Rule { id: connect_failures::ID, judge: connect_failures::judge },
    Rule { id: stuck_closing::ID, judge: stuck_closing::judge },
    Rule { id: reset_storm::ID, judge: reset_storm::judge },
    Rule { id: linger_zero_close::ID, judge: linger_zero_close::judge },
    Rule { id: abort_unread_data::ID, judge: abort_unread_data::judge },
    Rule { id: listener_backlog::ID, judge: listener_backlog::judge },
    Rule { id: listener_restarted::ID, judge: listener_restarted::judge },
    Rule { id: listener_gone::ID, judge: listener_gone::judge },
    Rule { id: fork_leak::ID, judge: fork_leak::judge },
];

/// The most findings that a report has; the least severe are left out.
const MAX_FINDINGS: usize = 100;

/// The identifiers of all findings that there may be.
pub fn ids() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|rule| rule.id)
}

/// Judges the reports of one run, in order.
#[derive(Debug, Default)]
pub struct Judge {
    thresholds: Thresholds,
    memory: Memory,
    /// The most findings at once.
    peak: usize,
    /// Findings that were left out.
    dropped: usize,
}

impl Judge {
    /// One that has seen nothing yet.
    #[must_use]
    pub fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, ..Self::default() }
    }

    /// Judges by others from the next report on. What is open stays open as long as the new ones have it so.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    /// Says in `findings` what is wrong.
    pub fn judge(&mut self, report: &mut Report) {
        let Self { thresholds, memory, peak, dropped } = self;
        let found = RULES
            .iter()
            .flat_map(|rule| (rule.judge)(&mut Case { report, thresholds, rule: rule.id, memory }))
            .collect();
        let mut findings = memory.settle(found, thresholds.quiet_reports.get());
        let place = |finding: &Finding| RULES.iter().position(|rule| rule.id == finding.id);
        findings.sort_by_key(|finding| (Reverse(finding.severity), place(finding)));
        *peak = (*peak).max(findings.len().min(MAX_FINDINGS));
        *dropped = dropped.saturating_add(findings.len().saturating_sub(MAX_FINDINGS));
        findings.truncate(MAX_FINDINGS);
        report.limits.push(Limit {
            name: "findings",
            limit: MAX_FINDINGS as u64,
            in_use: findings.len() as u64,
            peak: *peak as u64,
            dropped: *dropped as u64,
        });
        report.findings = Some(findings);
    }
}
