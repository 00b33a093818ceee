//! `linger_zero_close`: a process that closes with SO_LINGER on and a time of 0, which throws away what is under way.

use super::{Finding, Severity, cut, memory::Case, subject::who};
use crate::report::{Ending, EndingCount};

/// The id of its findings.
pub(super) const ID: &str = "linger_zero_close";

/// Looks at each process that does so. A health checker that resets what it has only opened loses nothing.
pub(super) fn judge(case: &mut Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for cut in cut::by_process(case.report, with_data) {
        if !cut.is_too_much(case, case.thresholds.linger_zero_close) {
            continue;
        }
        let who = who(cut.process);
        let pid = cut.process.map_or_else(|| "PID".to_owned(), |process| process.pid.to_string());
        findings.push(Finding {
            id: ID,
            severity: Severity::Warning,
            subject: cut.subject(),
            since: case.since_this_window(),
            cause: format!(
                "{who} has closed {} with SO_LINGER on and a time of 0: the kernel sends a reset instead of a FIN, and throws away what has not arrived.",
                cut.of_all()
            ),
            advice: format!(
                "Take the setsockopt(SO_LINGER, {{1, 0}}) out, or do shutdown(SHUT_WR) and read() until 0 before close(); `strace -f -e trace=setsockopt,close -p {pid}` shows where it is."
            ),
            evidence: cut.evidence("closed with linger 0"),
        });
    }
    findings
}

fn with_data(row: &EndingCount) -> u64 {
    if row.ending == Ending::LingerZero { row.count.saturating_sub(row.without_data) } else { 0 }
}
