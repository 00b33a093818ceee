//! `close_wait_leak`: sockets that their peer has closed and their process has not.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::{
    Evidence, Finding, Severity, Share, Subject,
    memory::{Case, Rate},
    subject::{named, same, who},
};
use crate::{
    endpoint::Endpoint,
    report::{CloseWaitKinds, CloseWaitProcess, PeerCount, ProcessIdentity, TransitionCount},
    state::TcpState,
};

/// The id of its findings.
pub(super) const ID: &str = "close_wait_leak";

/// `[findings.close_wait_leak]`. What counts as lingering is `--close-wait-after`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Lingering sockets of one process: a warning.
    pub min_sockets: NonZeroU64,
    /// Fewer of them, the oldest for longer than this: an information.
    pub old_after_s: u64,
    /// The process may have no descriptors left within this time: critical.
    pub critical_time_left_s: u64,
    /// It has used this share of them: critical.
    pub critical_fds_share: Share,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            min_sockets: NonZeroU64::MIN.saturating_add(9),
            old_after_s: 300,
            critical_time_left_s: 3600,
            critical_fds_share: Share::new(0.9),
        }
    }
}

/// Looks at each process with lingering sockets.
pub(super) fn judge(case: &mut Case<'_>) -> Vec<Finding> {
    let report = case.report;
    report.close_wait.processes.iter().filter_map(|row| leak(case, row)).collect()
}

fn leak(case: &mut Case<'_>, row: &CloseWaitProcess) -> Option<Finding> {
    let thresholds = case.thresholds.close_wait_leak;
    let subject = Subject::process(row.process.as_ref());
    let rate = growth(case, &subject, row.process.as_ref());
    let many = case.reaches(&subject, row.count as f64, thresholds.min_sockets.get() as f64);
    let old = row.oldest_ns.is_some_and(|ns| ns >= thresholds.old_after_s.saturating_mul(1_000_000_000));
    let (fds, nofile) = row.process.as_ref().map_or((None, None), |process| (process.fds, process.nofile));
    let left = fds.zip(nofile).map(|(fds, nofile)| nofile.saturating_sub(fds));
    let time_left = left.zip(rate).and_then(|(left, rate)| rate.time_for(left as f64));
    let soon = time_left.is_some_and(|ns| ns < thresholds.critical_time_left_s.saturating_mul(1_000_000_000));
    let share = thresholds.critical_fds_share.get();
    let full = fds.zip(nofile).is_some_and(|(fds, nofile)| fds as f64 >= nofile as f64 * share);
    let severity = match (many, old) {
        (true, _) if soon || full => Severity::Critical,
        (true, _) => Severity::Warning,
        (false, true) if full => Severity::Warning,
        (false, true) => Severity::Info,
        (false, false) => return None,
    };
    let exact = row.oldest_exact == Some(true);
    let since = row.oldest_ns.filter(|_| exact).map(|ns| case.report.window.end.minus(ns));
    let (cause, advice) = sentences(row);
    Some(Finding {
        id: ID,
        severity,
        subject,
        since,
        cause,
        advice,
        evidence: evidence(row, rate, time_left),
    })
}

/// How fast its sockets in CLOSE_WAIT become more: those that came in minus those that left. `None` if nothing is known of
/// its transitions.
fn growth(case: &mut Case<'_>, subject: &Subject, process: Option<&ProcessIdentity>) -> Option<Rate> {
    let row = case.report.processes.iter().find(|row| same(row.process.as_ref(), process))?;
    let sum = |wanted: fn(&TransitionCount) -> bool| {
        row.transitions.iter().filter(|cell| wanted(cell)).map(|cell| cell.count as f64).sum::<f64>()
    };
    let came = sum(|cell| cell.new == TcpState::CloseWait && cell.old != TcpState::CloseWait);
    let left = sum(|cell| cell.old == TcpState::CloseWait && cell.new != TcpState::CloseWait);
    Some(case.rate(subject, "close_wait", came - left))
}

/// The kind that at least half of those are of that a survey has seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    ForgotClose,
    NeverLooked,
    UnreadData,
    NeverAccepted,
}

/// With how many are of it.
fn most(kinds: CloseWaitKinds) -> Option<(Kind, u64)> {
    let CloseWaitKinds { forgot_close, never_looked, unread_data, never_accepted } = kinds;
    let all = [
        (Kind::ForgotClose, forgot_close),
        (Kind::UnreadData, unread_data),
        (Kind::NeverAccepted, never_accepted),
        (Kind::NeverLooked, never_looked),
    ];
    let sum: u64 = all.iter().map(|(_, count)| count).sum();
    all.into_iter().find(|(_, count)| *count > 0 && *count >= sum.div_ceil(2))
}

fn sentences(row: &CloseWaitProcess) -> (String, String) {
    let who = who(row.process.as_ref());
    let pid = row.process.as_ref().map(|process| format!(" -p {}", process.pid)).unwrap_or_default();
    let list = format!("`tcp-trace snapshot --state close_wait --sockets{pid}` lists them");
    let most = row.kinds.and_then(most);
    let them = match most {
        Some((_, count)) if count < row.count => format!("{count} of them"),
        _ if row.count == 1 => "it".to_owned(),
        _ => "them".to_owned(),
    };
    let (did, todo) = match most.map(|(kind, _)| kind) {
        Some(Kind::ForgotClose) => (
            format!("has read {them} to the end without calling close()"),
            "call close() wherever read() returns 0, error paths included",
        ),
        Some(Kind::NeverLooked) => (
            format!("has not read from {them} since"),
            "keep idle connections (pools!) under watch, and close those that become readable with 0 bytes",
        ),
        Some(Kind::UnreadData) => (
            format!("has left data in {them} unread"),
            "find what its readers wait for: a lock, another service, a full queue",
        ),
        Some(Kind::NeverAccepted) => (
            format!("has not even accepted {them}"),
            "find what keeps its accept loop, and raise the number of its workers if it is work",
        ),
        None => (
            "has not closed its end".to_owned(),
            "call close() wherever read() returns 0, error paths included",
        ),
    };
    let (connections, peers) = match row.count {
        1 => ("connection", "is in CLOSE_WAIT: the peer closed it"),
        _ => ("connections", "are in CLOSE_WAIT: the peers closed them"),
    };
    let opened = opened_at(row).map(|(text, count)| format!("; {count} of {} {text}", row.count));
    let opened = opened.unwrap_or_default();
    let cause = format!("{} {connections} of {who} {peers}, and the program {did}{opened}.", row.count);
    (cause, format!("In the program: {todo}; {list}."))
}

/// The place where most of those were opened of which that is known (`--stacks`), and how many. Names of functions and files
/// are what the traced program wants them to be.
fn opened_at(row: &CloseWaitProcess) -> Option<(String, u64)> {
    let known = row.stacks.iter().flatten().find_map(|stack| Some((stack.opened_at.as_ref()?, stack.count)));
    let (place, count) = known?;
    Some((format!("were {}", named(&place.text(FUNCTIONS))), count))
}

/// Functions of a stack that a sentence names.
const FUNCTIONS: usize = 3;

fn evidence(row: &CloseWaitProcess, rate: Option<Rate>, time_left: Option<u64>) -> Vec<Evidence> {
    let CloseWaitProcess { process, count, oldest_ns, oldest_exact, kinds, peers, listeners, .. } = row;
    let oldest = if *oldest_exact == Some(false) { "oldest, at least" } else { "oldest" };
    let mut evidence = vec![
        Evidence::new("lingering", *count, "sockets", "close_wait.processes[].count"),
        Evidence::new(oldest, *oldest_ns, "ns", "close_wait.processes[].oldest_ns"),
    ];
    if let Some(Rate { per_min, reports }) = rate {
        let source = "processes[].transitions: into minus out of CLOSE_WAIT";
        evidence.push(Evidence::new("growth", per_min, "sockets/min", source));
        evidence.push(Evidence::new("growth over", reports, "reports", "findings"));
    }
    if let Some((fds, nofile)) = process.as_ref().and_then(|process| process.fds.zip(process.nofile)) {
        let source = "close_wait.processes[].process";
        evidence.push(Evidence::new("descriptors", fds, "descriptors", source));
        evidence.push(Evidence::new("RLIMIT_NOFILE", nofile, "descriptors", source));
    }
    if let Some(left) = time_left {
        let source = "inferred: (RLIMIT_NOFILE - descriptors) / growth";
        evidence.push(Evidence::new("no descriptors left in", left, "ns", source));
    }
    if let Some(CloseWaitKinds { forgot_close, never_looked, unread_data, never_accepted }) = kinds {
        let source = "close_wait.processes[].kinds";
        let kinds = [
            ("close() forgotten", forgot_close),
            ("not read since", never_looked),
            ("data not read", unread_data),
            ("never accepted", never_accepted),
        ];
        let kinds = kinds.into_iter().filter(|(_, count)| **count > 0);
        evidence.extend(kinds.map(|(name, count)| Evidence::new(name, *count, "sockets", source)));
    }
    for (name, ends, source) in [
        ("listener", listeners, "close_wait.processes[].listeners"),
        ("peers", peers, "close_wait.processes[].peers"),
    ] {
        evidence.extend(ends.first().map(|end| Evidence::new(name, common(end, ends, *count), "", source)));
    }
    evidence
}

/// The most frequent one, and how many have it: `127.0.0.1:8080 (37 of 41)`.
fn common(most: &PeerCount, all: &[PeerCount], count: u64) -> String {
    let end = match most.port {
        Some(port) => Endpoint { address: most.address, port }.to_string(),
        None => most.address.to_string(),
    };
    let others = match all.len() {
        0 | 1 => String::new(),
        ends => format!(", {ends} in all"),
    };
    format!("{end} ({} of {count}{others})", most.count)
}
