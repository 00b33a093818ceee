//! `connect_failures`: a process that cannot connect to a destination.

use std::{collections::BTreeMap, num::NonZeroU64};

use serde::{Deserialize, Serialize};

use super::{
    Evidence, Finding, Severity, Share, Subject,
    memory::Case,
    subject::{boxed, named, who},
};
use crate::{
    endpoint::Endpoint,
    process::Comm,
    report::{Connect, ConnectFailures},
    time::WallTime,
};

/// The id of its findings.
pub(super) const ID: &str = "connect_failures";

/// `[findings.connect_failures]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Failed attempts of one process to one destination in a report: a warning.
    pub min_failures: NonZeroU64,
    /// The least share of its attempts there that fail.
    pub min_share: Share,
    /// So many failures, and none answered: critical.
    pub critical_failures: NonZeroU64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            min_failures: NonZeroU64::MIN.saturating_add(2),
            min_share: Share::new(0.1),
            critical_failures: NonZeroU64::MIN.saturating_add(99),
        }
    }
}

/// Failures of one process or of several, to one destination. Those for want of a local port are another finding.
#[derive(Clone, Copy, Debug)]
struct Sum {
    answered: u64,
    refused: u64,
    timed_out: u64,
    unreachable: u64,
    reset: u64,
    given_up: u64,
    failed: u64,
    first: WallTime,
}

impl From<&ConnectFailures> for Sum {
    fn from(row: &ConnectFailures) -> Self {
        let ConnectFailures {
            answered, refused, timed_out, unreachable, reset, given_up, failed, first, ..
        } = *row;
        Self { answered, refused, timed_out, unreachable, reset, given_up, failed, first }
    }
}

impl Sum {
    fn add(self, other: Self) -> Self {
        Self {
            answered: self.answered + other.answered,
            refused: self.refused + other.refused,
            timed_out: self.timed_out + other.timed_out,
            unreachable: self.unreachable + other.unreachable,
            reset: self.reset + other.reset,
            given_up: self.given_up + other.given_up,
            failed: self.failed + other.failed,
            first: self.first.min(other.first),
        }
    }

    fn failures(&self) -> u64 {
        let Self { refused, timed_out, unreachable, reset, given_up, failed, .. } = self;
        refused + timed_out + unreachable + reset + given_up + failed
    }

    fn share(&self) -> f64 {
        let failures = self.failures() as f64;
        failures / (failures + self.answered as f64)
    }

    /// Each kind, as a person says it, with its errno.
    fn kinds(&self) -> [(Kind, u64); 6] {
        let Self { refused, timed_out, unreachable, reset, given_up, failed, .. } = *self;
        [
            (Kind::Refused, refused),
            (Kind::TimedOut, timed_out),
            (Kind::Unreachable, unreachable),
            (Kind::Reset, reset),
            (Kind::GivenUp, given_up),
            (Kind::Failed, failed),
        ]
    }

    /// The most frequent one; the first of equals.
    fn kind(&self) -> Kind {
        let most = |best: (Kind, u64), kind: (Kind, u64)| if kind.1 > best.1 { kind } else { best };
        self.kinds().into_iter().fold((Kind::Failed, 0), most).0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Refused,
    TimedOut,
    Unreachable,
    Reset,
    GivenUp,
    Failed,
}

/// Looks at each process and destination with failures, most failures first; what is too little alone is looked at
/// together.
pub(super) fn judge(case: &mut Case<'_>) -> Vec<Finding> {
    let report = case.report;
    report.connect.iter().flat_map(|row| destination(case, row)).collect()
}

fn destination(case: &mut Case<'_>, row: &Connect) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut rest: Option<Sum> = None;
    let mut names = Names::new();
    for failing in &row.failing {
        let sum = Sum::from(failing);
        let process = failing.process.as_ref();
        let subject = Subject::Destination { peer: row.peer, process: boxed(process) };
        let known = process.and_then(|_| finding(case, subject, &sum, &who(process), row.peer));
        if let Some(finding) = known {
            findings.push(finding);
        } else if sum.failures() > 0 {
            rest = Some(rest.map_or(sum, |rest| rest.add(sum)));
            *names.entry(process.map(|process| process.comm)).or_default() += 1;
        }
    }
    // Programs that are started for each attempt.
    if let Some(rest) = rest {
        let subject = Subject::Destination { peer: row.peer, process: None };
        findings.extend(finding(case, subject, &rest, &several(&names), row.peer));
    }
    findings
}

/// Names of processes, and how many have each; `None` for a process that is not known.
type Names = BTreeMap<Option<Option<Comm>>, u64>;

/// `12 processes (curl, sh)`.
fn several(names: &Names) -> String {
    let known = || names.iter().filter_map(|(name, count)| Some(((*name)?, count)));
    let count: u64 = known().map(|(_, count)| count).sum();
    let shown = known().take(3);
    let shown = shown.map(|(name, _)| name.map_or_else(|| "?".to_owned(), |name| named(&name.to_string())));
    let shown = shown.collect::<Vec<_>>().join(", ");
    let more = if known().count() > 3 { ", …" } else { "" };
    let unknown = if names.contains_key(&None) { " and of unknown ones" } else { "" };
    match count {
        0 => "unknown processes".to_owned(),
        1 => format!("a process ({shown}){unknown}"),
        count => format!("{count} processes ({shown}{more}){unknown}"),
    }
}

fn finding(
    case: &mut Case<'_>,
    subject: Subject,
    sum: &Sum,
    who: &str,
    peer: Option<Endpoint>,
) -> Option<Finding> {
    let thresholds = case.thresholds.connect_failures;
    let failures = sum.failures();
    if failures == 0
        || !case.reaches(&subject, failures as f64, thresholds.min_failures.get() as f64)
        || !case.reaches(&subject, sum.share(), thresholds.min_share.get())
    {
        return None;
    }
    let all = sum.answered == 0 && failures >= thresholds.critical_failures.get();
    let severity = if all { Severity::Critical } else { Severity::Warning };
    let (cause, advice) = sentences(sum, who, peer);
    Some(Finding {
        id: ID,
        severity,
        subject,
        since: Some(sum.first),
        cause,
        advice,
        evidence: evidence(sum),
    })
}

fn sentences(sum: &Sum, who: &str, peer: Option<Endpoint>) -> (String, String) {
    let place = peer.map_or_else(|| "destinations beyond those listed".to_owned(), |peer| peer.to_string());
    let (address, port) = peer.map_or_else(
        || ("ADDRESS".to_owned(), "PORT".to_owned()),
        |peer| (peer.address.to_string(), peer.port.to_string()),
    );
    let (why, advice) = match sum.kind() {
        Kind::Refused => (
            "the host answered and refused (ECONNREFUSED): nothing listens there, or a firewall says so",
            format!(
                "Start the service or correct the address; on that host `ss -ltnp 'sport = :{port}'` shows who listens."
            ),
        ),
        Kind::TimedOut => (
            "nobody answered the SYNs (ETIMEDOUT): the host is down, or packets are dropped on the way",
            format!(
                "Find where they end: `ping -c 3 {address}`, then `traceroute -T -p {port} {address}` from this host."
            ),
        ),
        Kind::GivenUp => (
            "no answer came, and the program gave up: the host is down, or packets are dropped on the way",
            format!(
                "Find where they end: `ping -c 3 {address}`, then `traceroute -T -p {port} {address}` from this host."
            ),
        ),
        Kind::Unreachable => (
            "there is no way there (EHOSTUNREACH, ENETUNREACH): no route, no neighbour, or a router says so",
            format!(
                "Look at the route and the neighbour: `ip route get {address}`, `ip neigh show {address}`."
            ),
        ),
        Kind::Reset => (
            "the attempts were reset (ECONNRESET): something in between ends them",
            format!(
                "Look at what stands before the service (proxy, firewall, load balancer), and at `tcp-trace stream -D {port}`."
            ),
        ),
        Kind::Failed => (
            "why is not known with this way of tracing",
            format!(
                "Let the program say its errno: `strace -f -e trace=connect -p PID`, or trace with `--attach tp_btf` ({place})."
            ),
        ),
    };
    let failures = sum.failures();
    let all = failures + sum.answered;
    (format!("{failures} of {all} attempts of {who} to connect to {place} failed; {why}."), advice)
}

fn evidence(sum: &Sum) -> Vec<Evidence> {
    let name = |kind: Kind| match kind {
        Kind::Refused => ("ECONNREFUSED", "connect[].failing[].refused"),
        Kind::TimedOut => ("ETIMEDOUT", "connect[].failing[].timed_out"),
        Kind::Unreachable => ("EHOSTUNREACH, ENETUNREACH", "connect[].failing[].unreachable"),
        Kind::Reset => ("ECONNRESET", "connect[].failing[].reset"),
        Kind::GivenUp => ("given up after 1 s or more", "connect[].failing[].given_up"),
        Kind::Failed => ("failed otherwise", "connect[].failing[].failed"),
    };
    let kinds = sum.kinds().into_iter().filter(|(_, count)| *count > 0);
    let kinds = kinds.map(|(kind, count)| Evidence::new(name(kind).0, count, "attempts", name(kind).1));
    let answered = "connect[].failing[].answered: since the first failure of the window";
    kinds.chain([Evidence::new("answered", sum.answered, "attempts", answered)]).collect()
}
