//! `reset_storm`: connections that resets end, by which side and in which state.

use super::{
    Evidence, Finding, Severity,
    cut::{self, Cut},
    memory::Case,
    subject::who,
};
use crate::{
    report::{Ending, EndingCount, Report, Role},
    state::TcpState,
};

/// The id of its findings.
pub(super) const ID: &str = "reset_storm";

/// Looks at each process whose connections were reset, unless another process of this host is known to do it.
pub(super) fn judge(case: &mut Case<'_>) -> Vec<Finding> {
    let report = case.report;
    cut::by_process(report, resets)
        .into_iter()
        .filter(|cut| !is_explained(report, cut))
        .filter_map(|cut| storm(case, &cut))
        .collect()
}

fn resets(row: &EndingCount) -> u64 {
    let reset = matches!(row.ending, Ending::ResetByPeer | Ending::ResetByUs);
    // What ends an attempt to connect is another finding.
    if reset && row.state != TcpState::SynSent { row.count } else { 0 }
}

fn storm(case: &Case<'_>, cut: &Cut<'_>) -> Option<Finding> {
    if !cut.is_too_much(case, case.thresholds.reset_storm) {
        return None;
    }
    let most = cut.rows.first()?;
    let (cause, advice) = sentences(cut, most);
    let mut evidence = cut.evidence("reset");
    for row in &cut.rows {
        let name = if row.ending == Ending::ResetByPeer { "by the peer in" } else { "by this host in" };
        let text = format!("{} ({})", row.state, row.count);
        evidence.push(Evidence::new(name, text, "", "endings[].state"));
    }
    Some(Finding {
        id: ID,
        severity: Severity::Warning,
        subject: cut.subject(),
        since: case.since_this_window(),
        cause,
        advice,
        evidence,
    })
}

/// Whether both ends are here, and the other one's doing is told where it is done: it closes with linger 0, or without
/// having read everything.
fn is_explained(report: &Report, cut: &Cut<'_>) -> bool {
    let done = report
        .endings
        .iter()
        .flatten()
        .filter(|row| matches!(row.ending, Ending::LingerZero | Ending::AbortedUnread));
    let others: u64 =
        done.filter(|row| cut.rows.iter().any(|reset| face(reset, row))).map(|row| row.count).sum();
    others * 5 >= cut.count * 4
}

/// Whether most of their connections may be the two ends of the same.
fn face(reset: &EndingCount, done: &EndingCount) -> bool {
    let (server, client) = match (reset.role, done.role) {
        (Some(Role::Client), Some(Role::Server)) => (done, reset),
        (Some(Role::Server), Some(Role::Client)) => (reset, done),
        _ => return false,
    };
    let ends = server.listeners.first().zip(client.peers.first());
    // A listener of all addresses is at each of them.
    ends.is_some_and(|(local, peer)| {
        local.port == peer.port && (local.address == peer.address || local.address.is_unspecified())
    })
}

fn sentences(cut: &Cut<'_>, most: &EndingCount) -> (String, String) {
    let who = who(cut.process);
    let pid = cut.process.map(|process| format!(" -p {}", process.pid)).unwrap_or_default();
    let (side, why, advice) = match (most.ending, most.state) {
        (Ending::ResetByUs, _) => (
            "the kernel here reset",
            "data came for connections that the program had closed already",
            "Let the program read to the end before close(): shutdown(SHUT_WR), read() until 0, then close()",
        ),
        (_, TcpState::CloseWait) => (
            "the peers reset",
            "they had closed, and the program wrote on",
            "Let the program stop writing and close when read() returns 0",
        ),
        (_, TcpState::FinWait1 | TcpState::FinWait2 | TcpState::LastAck | TcpState::Closing) => (
            "the peers reset",
            "the program had closed, and they threw away what was still under way",
            "Look at the peers' time-outs, and whether they close without reading the whole answer",
        ),
        _ => (
            "the peers reset",
            "they gave up connections that were in use (a crash, a time-out, a proxy or firewall in between)",
            "Look at the peers' logs and time-outs, and those of what stands in between",
        ),
    };
    let cause = format!("Of {who}, {side} {} in {}: {why}.", cut.of_all(), most.state);
    (cause, format!("{advice}; `tcp-trace stream --closed{pid}` lists each with its peer."))
}
