//! A report, as far as a line can hold it: totals, and the few that a reader would ask for first.

use std::{cmp::Reverse, collections::BTreeMap};

use serde::Serialize;

use crate::{
    endpoint::Endpoint,
    findings::{Evidence, Severity},
    process::Comm,
    report::{
        CloseWaitProcess, Connect, Limit, Listener, Loss, ModeSpan, ProcessIdentity, ProcessSummary, Queue,
        Report, TimeWaitDestination, TransitionCount, Window,
    },
    state::TcpState,
    survey::ContainerFacts,
    time::WallTime,
};

/// Rows of each list of a digest.
pub(super) const ROWS: usize = 5;
/// Stretches of modes in a digest: the latest ones.
const MODES: usize = 16;

/// A report, as far as a line can hold it. Its lists have at most five rows each, the worst first; modes are the sixteen
/// latest stretches.
#[derive(Clone, Debug, Serialize)]
pub struct ReportDigest {
    /// The time that the counts are of.
    pub window: Window,
    /// The balance.
    pub loss: Loss,
    /// Which mode held when.
    pub modes: Vec<ModeSpan>,
    /// The transition matrix.
    pub transitions: Vec<TransitionCount>,
    /// Live sockets by state; states whose population is not known are absent.
    pub live: BTreeMap<TcpState, u64>,
    /// Sockets in TIME_WAIT; `None` without a survey.
    pub time_wait: Option<u64>,
    /// Half-open requests; `None` without a survey.
    pub half_open: Option<u64>,
    /// Sockets that linger in CLOSE_WAIT.
    pub lingering: u64,
    /// Open findings by severity.
    pub findings: BTreeMap<Severity, u64>,
    /// The worst of them.
    pub open: Vec<OpenFinding>,
    /// Whose the lingering sockets are, most first.
    pub close_wait: Vec<CloseWaitDigest>,
    /// Listeners with requests that did not complete or were turned away, most first; then the busiest.
    pub listeners: Vec<ListenerDigest>,
    /// Destinations that attempts failed to, most failures first.
    pub destinations: Vec<DestinationDigest>,
    /// Where the most local ports are taken, most first; `None` without a survey.
    pub ports: Option<Vec<PortsDigest>>,
    /// Processes with most transitions.
    pub processes: Vec<ProcessDigest>,
    /// Words for what the run does without.
    pub degradations: Vec<String>,
    /// Tables that have turned something away since the start.
    pub limits: Vec<Limit>,
}

/// An open finding in a digest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OpenFinding {
    /// Which rule found it.
    pub id: &'static str,
    /// [`Finding::key`](crate::findings::Finding::key), by which its own documents are found.
    pub key: String,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about, for people.
    pub subject: String,
    /// Since when; `None` where it may have been so before anything was seen.
    pub since: Option<WallTime>,
    /// The first of its numbers.
    pub evidence: Option<Evidence>,
}

/// A process, as short as it can be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Who {
    /// Process id.
    pub pid: u32,
    /// Its name.
    pub comm: Option<Comm>,
    /// When it started; `None` where the attach kind does not give it.
    pub start_time: Option<WallTime>,
    /// Its container; `None` without a look-up, or for a process of the host.
    pub container: Option<ContainerFacts>,
}

/// Lingering CLOSE_WAIT sockets of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CloseWaitDigest {
    /// The process; `None` for those whose owner is not known.
    pub process: Option<Who>,
    /// How many.
    pub count: u64,
    /// Age of the oldest; `None` if no entry was seen.
    pub oldest_ns: Option<u64>,
    /// Whether `oldest_ns` is the age itself and not a lower bound; `None` with it.
    pub oldest_exact: Option<bool>,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListenerDigest {
    /// Where it listens; `None` sums up those that the table had no room for.
    pub local: Option<Endpoint>,
    /// Network namespace.
    pub netns: Option<u32>,
    /// Whose it is.
    pub process: Option<Who>,
    /// Completed handshakes, of known duration or not, cookie ones included.
    pub completed: u64,
    /// Requests that died: expired, reset, or one of the two; `None` where they cannot be seen.
    pub died: Option<u64>,
    /// Half-open now; `None` where that cannot be seen.
    pub live: Option<u64>,
    /// Completed by a SYN cookie; `None` where they cannot be told.
    pub cookies: Option<u64>,
    /// SYNs and final ACKs that it turned away; `None` where that was not read.
    pub drops: Option<u64>,
    /// Connections that wait to be accepted, and how many may; `None` without a survey.
    pub accept_queue: Option<Queue>,
}

/// A destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DestinationDigest {
    /// Where; `None` sums up those that the table had no room for.
    pub peer: Option<Endpoint>,
    /// Whose attempts failed; `None` where several processes' did, or nobody knows.
    pub process: Option<Who>,
    /// Attempts that were answered.
    pub completed: u64,
    /// ECONNREFUSED.
    pub refused: u64,
    /// ETIMEDOUT.
    pub timed_out: u64,
    /// EHOSTUNREACH, ENETUNREACH.
    pub unreachable: u64,
    /// ECONNRESET.
    pub reset: u64,
    /// Given up by the program itself before an answer came, as one does that tries two addresses at once.
    pub aborted: u64,
    /// Otherwise.
    pub failed: u64,
}

/// Local ports between a local address and a destination.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PortsDigest {
    /// Network namespace.
    pub netns: u32,
    /// Local address.
    pub local: std::net::IpAddr,
    /// Destination.
    pub peer: Endpoint,
    /// In TIME_WAIT.
    pub time_wait: u64,
    /// Live; `None` where namespaces cannot be told apart.
    pub live: Option<u64>,
    /// How many there are (`ip_local_port_range`); `None` where that cannot be read.
    pub ports: Option<u64>,
    /// Share of these that are taken; `None` with `ports`.
    pub share: Option<f64>,
}

/// A busy process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessDigest {
    /// The process; `None` sums up the sockets whose owner is not known.
    pub process: Option<Who>,
    /// Transitions of its sockets.
    pub total: u64,
    /// Its sockets at the end.
    pub live: u64,
}

impl From<&Report> for ReportDigest {
    fn from(report: &Report) -> Self {
        let live = report.states.iter().filter_map(|(state, summary)| Some((*state, summary.live?)));
        let findings = report.findings.as_deref().unwrap_or_default();
        let mut by_severity = BTreeMap::new();
        findings.iter().for_each(|finding| *by_severity.entry(finding.severity).or_insert(0) += 1);
        let mut features: Vec<_> = report.source.degradations.iter().map(|d| d.feature.clone()).collect();
        features.sort_unstable();
        features.dedup();
        features.truncate(super::chronicle::DEGRADATIONS);
        let destinations = report.time_wait.destinations.as_ref();
        Self {
            window: report.window,
            loss: report.loss,
            modes: report.modes.iter().skip(report.modes.len().saturating_sub(MODES)).copied().collect(),
            transitions: report.transitions.clone(),
            live: live.collect(),
            time_wait: report.time_wait.live,
            half_open: report.half_open.live,
            lingering: report.close_wait.lingering,
            findings: by_severity,
            open: findings.iter().take(ROWS).map(OpenFinding::from).collect(),
            close_wait: report.close_wait.processes.iter().take(ROWS).map(CloseWaitDigest::from).collect(),
            listeners: listeners(report),
            destinations: failing(report),
            ports: destinations.map(|rows| rows.iter().take(ROWS).map(PortsDigest::from).collect()),
            processes: report.processes.iter().take(ROWS).map(ProcessDigest::from).collect(),
            degradations: features,
            limits: report.limits.iter().filter(|limit| limit.dropped > 0).copied().collect(),
        }
    }
}

fn listeners(report: &Report) -> Vec<ListenerDigest> {
    let mut rows: Vec<_> = report.half_open.listeners.iter().map(ListenerDigest::from).collect();
    let trouble = |row: &ListenerDigest| {
        [row.died, row.live, row.cookies, row.drops].into_iter().flatten().fold(0, u64::saturating_add)
    };
    // A stable sort: those alike stay in the report's order, the busiest first.
    rows.sort_by_key(|row| Reverse(trouble(row)));
    rows.truncate(ROWS);
    rows
}

fn failing(report: &Report) -> Vec<DestinationDigest> {
    let mut rows: Vec<_> = report.connect.iter().map(DestinationDigest::from).collect();
    rows.retain(|row| row.failures() > 0);
    rows.sort_by_key(|row| Reverse(row.failures()));
    rows.truncate(ROWS);
    rows
}

impl DestinationDigest {
    /// Attempts that failed; those that were given up are not among them.
    #[must_use]
    pub fn failures(&self) -> u64 {
        let Self { refused, timed_out, unreachable, reset, failed, .. } = self;
        [refused, timed_out, unreachable, reset, failed]
            .into_iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }
}

impl From<&crate::findings::Finding> for OpenFinding {
    fn from(finding: &crate::findings::Finding) -> Self {
        Self {
            id: finding.id,
            key: finding.key(),
            severity: finding.severity,
            subject: finding.subject.to_string(),
            since: finding.since,
            evidence: finding.evidence.first().cloned(),
        }
    }
}

impl From<&ProcessIdentity> for Who {
    fn from(process: &ProcessIdentity) -> Self {
        let ProcessIdentity { pid, comm, start_time, container, .. } = process;
        Self { pid: *pid, comm: *comm, start_time: *start_time, container: container.clone() }
    }
}

impl From<&CloseWaitProcess> for CloseWaitDigest {
    fn from(row: &CloseWaitProcess) -> Self {
        Self {
            process: row.process.as_ref().map(Who::from),
            count: row.count,
            oldest_ns: row.oldest_ns,
            oldest_exact: row.oldest_exact,
        }
    }
}

impl From<&Listener> for ListenerDigest {
    fn from(row: &Listener) -> Self {
        let died = [row.expired, row.reset, row.dead];
        Self {
            local: row.local,
            netns: row.netns,
            process: row.process.as_ref().map(Who::from),
            completed: row
                .completed
                .count
                .saturating_add(row.unknown)
                .saturating_add(row.cookies.unwrap_or_default()),
            // Each is there where requests can be seen at all.
            died: died.iter().any(Option::is_some).then(|| died.into_iter().flatten().sum()),
            live: row.live,
            cookies: row.cookies,
            drops: row.drops,
            accept_queue: row.accept_queue,
        }
    }
}

impl From<&Connect> for DestinationDigest {
    fn from(row: &Connect) -> Self {
        let process = match row.failing.as_slice() {
            [only] => only.process.as_ref(),
            _ => None,
        };
        Self {
            peer: row.peer,
            process: process.map(Who::from),
            completed: row.completed.count,
            refused: row.refused,
            timed_out: row.timed_out,
            unreachable: row.unreachable,
            reset: row.reset,
            aborted: row.aborted,
            failed: row.failed,
        }
    }
}

impl From<&TimeWaitDestination> for PortsDigest {
    fn from(row: &TimeWaitDestination) -> Self {
        Self {
            netns: row.netns,
            local: row.local,
            peer: row.peer,
            time_wait: row.count,
            live: row.live,
            ports: row.ports,
            share: row.share,
        }
    }
}

impl From<&ProcessSummary> for ProcessDigest {
    fn from(row: &ProcessSummary) -> Self {
        Self { process: row.process.as_ref().map(Who::from), total: row.total, live: row.live }
    }
}
