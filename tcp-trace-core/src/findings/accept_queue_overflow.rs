//! `accept_queue_overflow`: a program accepts more slowly than connections come.

use super::{
    Evidence, Finding, Severity,
    memory::Case,
    requests::{self, Requests, Trouble},
    subject::who,
};
use crate::report::{Listener, Queue};

/// The id of its findings.
pub(super) const ID: &str = "accept_queue_overflow";

/// Looks at each listener.
pub(super) fn judge(case: &mut Case<'_>) -> Vec<Finding> {
    let all = requests::all(case);
    let slow = all.iter().filter(|requests| requests.trouble(case) == Some(Trouble::SlowAccept));
    slow.map(|requests| finding(case, requests)).collect()
}

fn finding(case: &Case<'_>, requests: &Requests<'_>) -> Finding {
    let Listener { process, accept_queue, live, .. } = requests.listener;
    let overflows = requests.overflows();
    let critical = case.thresholds.accept_queue_overflow.critical_overflows.get();
    let Queue { length, limit } = accept_queue.unwrap_or(Queue { length: 0, limit: 0 });
    let program = who(process.as_ref());
    let subject = requests.subject();
    let cause = format!(
        "{program} accepts too slowly: {length} connections wait to be accepted (backlog {limit}), and {overflows} \
         times one was turned away at a full queue."
    );
    let pid = process.as_ref().map_or_else(|| "PID".to_owned(), |process| process.pid.to_string());
    let advice = format!(
        "Find what keeps its accept loop (`cat /proc/{pid}/task/*/wchan`, a profiler), or give it more workers; a longer \
         backlog in listen() and `sysctl -w net.core.somaxconn=4096` only buy time."
    );
    let queue = format!("{length} of {limit}");
    let counted = "half_open.namespaces[].listen_overflows: of all listeners of the namespace";
    Finding {
        id: ID,
        severity: if overflows >= critical { Severity::Critical } else { Severity::Warning },
        subject,
        since: case.since_this_window(),
        cause,
        advice,
        evidence: vec![
            Evidence::new("accept queue", queue, "", "half_open.listeners[].accept_queue"),
            Evidence::new("ListenOverflows", overflows, "times", counted),
            Evidence::new(
                "completed",
                requests.done,
                "handshakes",
                "half_open.listeners[]: completed, unknown, cookies",
            ),
            Evidence::new("half-open", *live, "requests", "half_open.listeners[].live"),
        ],
    }
}
