//! `handshake_loss`: handshakes complete, but many only after a SYN-ACK was sent again.

use super::{
    Evidence, Finding, Severity,
    memory::Case,
    requests::{self, Requests, Trouble},
};
use crate::report::Listener;

/// The id of its findings.
pub(super) const ID: &str = "handshake_loss";

/// Looks at each listener.
pub(super) fn judge(case: &mut Case<'_>) -> Vec<Finding> {
    let all = requests::all(case);
    let lossy = all.iter().filter(|requests| requests.trouble(case) == Some(Trouble::Loss));
    lossy.map(|requests| finding(case, requests)).collect()
}

fn finding(case: &Case<'_>, requests: &Requests<'_>) -> Finding {
    let Listener { resent, completed, prefixes, .. } = requests.listener;
    let resent = resent.unwrap_or(0);
    let subject = requests.subject();
    let cause = format!(
        "{resent} of {} handshakes with the {subject} completed only after the SYN-ACK was sent again: it or its answer \
         was lost on the way, or the clients are slow.",
        requests.done
    );
    let from = prefixes.first().map(|most| most.prefix.clone());
    let path = from.as_deref().and_then(|prefix| prefix.split('/').next()).unwrap_or("ADDRESS").to_owned();
    let advice = format!(
        "Look for loss on the way to them: `mtr -rwc 100 {path}` (their network), and `ip -s link`, `nstat -az \
         TcpRetransSegs` on this host."
    );
    let mut evidence = vec![
        Evidence::new("SYN-ACK sent again", resent, "handshakes", "half_open.listeners[].resent"),
        Evidence::new("slowest", completed.max_ns, "ns", "half_open.listeners[].completed.max_ns"),
    ];
    evidence.extend(requests.evidence());
    Finding {
        id: ID,
        severity: Severity::Warning,
        subject,
        since: case.since_this_window(),
        cause,
        advice,
        evidence,
    }
}
