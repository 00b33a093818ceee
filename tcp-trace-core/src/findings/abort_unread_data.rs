//! `abort_unread_data`: a process that closes connections without having read everything, which resets them.

use super::{Finding, Severity, cut, memory::Case, subject::who};
use crate::report::{Ending, EndingCount};

/// The id of its findings.
pub(super) const ID: &str = "abort_unread_data";

/// Looks at each process that does so.
pub(super) fn judge(case: &mut Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for cut in cut::by_process(case.report, aborted) {
        if !cut.is_too_much(case, case.thresholds.abort_unread_data) {
            continue;
        }
        let who = who(cut.process);
        let pid = cut.process.map(|process| format!(" -p {}", process.pid)).unwrap_or_default();
        findings.push(Finding {
            id: ID,
            severity: Severity::Warning,
            subject: cut.subject(),
            since: case.since_this_window(),
            cause: format!(
                "{who} has closed {} with data in them that it had not read: the kernel sends a reset, which may cost the peer the answer before it.",
                cut.of_all()
            ),
            advice: format!(
                "Let the program read() until 0 (with a time-out) before close(), also after an error; `tcp-trace stream --closed{pid} --json` tells `unread_bytes` of each."
            ),
            evidence: cut.evidence("closed with unread data"),
        });
    }
    findings
}

fn aborted(row: &EndingCount) -> u64 {
    if row.ending == Ending::AbortedUnread { row.count } else { 0 }
}
