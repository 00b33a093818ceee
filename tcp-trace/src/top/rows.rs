//! What a report says of each process or container in several places, in one row each; the worst first.

use std::{cmp::Ordering, collections::HashMap};

use tcp_trace_core::{
    findings::{Severity, Subject},
    report::{ConnectFailures, Ending, ProcessIdentity, Report},
    time::WallTime,
};

use super::words;

/// Which process, or which container; what a row is told from others by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// A process, by its number and start.
    Process(u32, Option<WallTimeKey>),
    /// Sockets whose owner is not known.
    Unknown,
    /// A container, by its id.
    Container(String),
    /// Processes of the host, and those whose container is not known.
    Host,
}

/// A start time that can be hashed.
pub type WallTimeKey = u64;

impl Who {
    /// Of a process.
    #[must_use]
    pub fn of(process: Option<&ProcessIdentity>) -> Self {
        process.map_or(Self::Unknown, |process| {
            Self::Process(process.pid, process.start_time.map(|WallTime(ns)| ns))
        })
    }
}

/// One row. `None` is not known.
#[derive(Clone, Debug)]
pub struct Row {
    /// Whose.
    pub who: Who,
    /// What it is called, safe to be shown.
    pub name: String,
    /// Its container, safe to be shown.
    pub container: Option<String>,
    /// The worst finding about it.
    pub worst: Option<Severity>,
    /// Lingering in CLOSE_WAIT.
    pub close_wait: u64,
    /// Age of the oldest of them, and whether that is exact.
    pub oldest: (Option<u64>, Option<bool>),
    /// Half-open now, at its listeners.
    pub half_open: Option<u64>,
    /// In TIME_WAIT now because it closed first.
    pub time_wait: Option<u64>,
    /// Attempts to connect that failed in the window.
    pub failed: u64,
    /// Connections that were cut off in the window; `None` where that is not told.
    pub cut: Option<u64>,
    /// Sockets now.
    pub live: u64,
    /// Transitions in the window.
    pub transitions: u64,
    /// Processes, of a container.
    pub processes: Option<u64>,
}

/// By what rows are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// By what hurts.
    #[default]
    Trouble,
    /// Lingering CLOSE_WAIT.
    CloseWait,
    /// Half-open.
    HalfOpen,
    /// TIME_WAIT.
    TimeWait,
    /// Failed attempts.
    Failed,
    /// Sockets.
    Live,
    /// Transitions.
    Transitions,
    /// By name.
    Name,
}

impl Sort {
    /// Every order, as they follow each other.
    pub const ALL: [Self; 8] = [
        Self::Trouble,
        Self::CloseWait,
        Self::HalfOpen,
        Self::TimeWait,
        Self::Failed,
        Self::Live,
        Self::Transitions,
        Self::Name,
    ];

    /// The next order, or the one before.
    #[must_use]
    pub fn step(self, by: isize) -> Self {
        let at = Self::ALL.iter().position(|sort| *sort == self).unwrap_or(0) as isize;
        let next = (at + by).rem_euclid(Self::ALL.len() as isize);
        Self::ALL.get(next as usize).copied().unwrap_or_default()
    }

    /// In a title.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Trouble => "trouble",
            Self::CloseWait => "CLOSE_WAIT",
            Self::HalfOpen => "half-open",
            Self::TimeWait => "TIME_WAIT",
            Self::Failed => "failed",
            Self::Live => "sockets",
            Self::Transitions => "transitions",
            Self::Name => "name",
        }
    }
}

/// Failed attempts of one process to one destination.
pub(super) fn failures_of(row: &ConnectFailures) -> u64 {
    let ConnectFailures { refused, timed_out, unreachable, reset, given_up, no_port, failed, .. } = row;
    refused + timed_out + unreachable + reset + given_up + no_port + failed
}

/// Whether an ending cuts a connection off.
pub(super) fn cuts(ending: Ending) -> bool {
    match ending {
        Ending::ResetByPeer
        | Ending::ResetByUs
        | Ending::AbortedUnread
        | Ending::LingerZero
        | Ending::Disconnected
        | Ending::NeverAccepted
        | Ending::Killed => true,
        Ending::Closed
        | Ending::TimeWait
        | Ending::Orphaned
        | Ending::Refused
        | Ending::TimedOut
        | Ending::Unreachable
        | Ending::GivenUp
        | Ending::Failed => false,
    }
}

/// Rows under way.
struct Rows<'a> {
    report: &'a Report,
    rows: HashMap<Who, Row>,
}

impl Rows<'_> {
    fn of(&mut self, process: Option<&ProcessIdentity>) -> &mut Row {
        let who = Who::of(process);
        let report = self.report;
        let row = self.rows.entry(who.clone()).or_insert_with(|| Row {
            who,
            name: words::who(process),
            container: None,
            worst: None,
            close_wait: 0,
            oldest: (None, None),
            half_open: report.half_open.live.map(|_| 0),
            time_wait: report.time_wait.live.map(|_| 0),
            failed: 0,
            cut: report.endings.as_ref().map(|_| 0),
            live: 0,
            transitions: 0,
            processes: None,
        });
        let container = process.and_then(|process| process.container.as_ref());
        row.container = row.container.take().or_else(|| container.map(words::container));
        row
    }
}

/// A row for each process that a report tells of.
#[must_use]
pub fn processes(report: &Report) -> Vec<Row> {
    let mut rows = Rows { report, rows: HashMap::new() };
    for part in &report.processes {
        let row = rows.of(part.process.as_ref());
        (row.live, row.transitions) = (part.live, part.total);
    }
    for leak in &report.close_wait.processes {
        let row = rows.of(leak.process.as_ref());
        (row.close_wait, row.oldest) = (leak.count, (leak.oldest_ns, leak.oldest_exact));
    }
    for listener in &report.half_open.listeners {
        if listener.live.is_some_and(|live| live > 0) {
            let row = rows.of(listener.process.as_ref());
            row.half_open = row.half_open.zip(listener.live).map(|(a, b)| a + b);
        }
    }
    for closer in &report.time_wait.processes {
        let row = rows.of(closer.process.as_ref());
        row.time_wait = row.time_wait.zip(closer.live).map(|(a, b)| a + b);
    }
    for failing in report.connect.iter().flat_map(|connect| &connect.failing) {
        rows.of(failing.process.as_ref()).failed += failures_of(failing);
    }
    for ending in report.endings.iter().flatten().filter(|ending| cuts(ending.ending)) {
        let row = rows.of(ending.process.as_ref());
        row.cut = row.cut.map(|cut| cut + ending.count);
    }
    for finding in report.findings.iter().flatten() {
        if let Some(process) = subject(&finding.subject) {
            let row = rows.of(Some(process));
            row.worst = row.worst.max(Some(finding.severity));
        }
    }
    rows.rows.into_values().collect()
}

/// The process that a finding is about, if it is about one.
#[must_use]
pub fn subject(subject: &Subject) -> Option<&ProcessIdentity> {
    match subject {
        Subject::Process { process }
        | Subject::Listener { process, .. }
        | Subject::Destination { process, .. }
        | Subject::LocalPorts { process, .. } => process.as_deref(),
        Subject::Container { .. } | Subject::Namespace { .. } => None,
    }
}

/// A row for each container; `None` where nobody has looked.
#[must_use]
pub fn containers(report: &Report) -> Option<Vec<Row>> {
    let all = processes(report);
    let row = |part: &tcp_trace_core::report::ContainerSummary| {
        let name = part.container.as_ref().map(words::container);
        let inside = all.iter().filter(|row| row.container == name);
        let sum = |pick: fn(&Row) -> u64| inside.clone().map(pick).sum();
        let known = |pick: fn(&Row) -> Option<u64>| inside.clone().map(pick).sum::<Option<u64>>();
        Row {
            who: part.container.as_ref().map_or(Who::Host, |container| Who::Container(container.id.clone())),
            name: name.clone().unwrap_or_else(|| "(host or unknown)".to_owned()),
            container: name.clone(),
            worst: inside.clone().filter_map(|row| row.worst).max(),
            close_wait: part.close_wait,
            oldest: inside.clone().map(|row| row.oldest).max_by_key(|(ns, _)| *ns).unwrap_or_default(),
            half_open: known(|row| row.half_open),
            time_wait: known(|row| row.time_wait),
            failed: sum(|row| row.failed),
            cut: known(|row| row.cut),
            live: part.live,
            transitions: part.total,
            processes: Some(part.processes),
        }
    };
    Some(report.containers.as_ref()?.iter().map(row).collect())
}

/// Puts the worst first; with `reverse` last.
pub fn sort(rows: &mut [Row], by: Sort, reverse: bool) {
    let order = |a: &Row, b: &Row| -> Ordering {
        let descending = match by {
            Sort::Trouble => trouble(b).cmp(&trouble(a)),
            Sort::CloseWait => b.close_wait.cmp(&a.close_wait),
            Sort::HalfOpen => b.half_open.cmp(&a.half_open),
            Sort::TimeWait => b.time_wait.cmp(&a.time_wait),
            Sort::Failed => (b.failed, b.cut).cmp(&(a.failed, a.cut)),
            Sort::Live => b.live.cmp(&a.live),
            Sort::Transitions => b.transitions.cmp(&a.transitions),
            Sort::Name => a.name.cmp(&b.name),
        };
        let descending = if reverse { descending.reverse() } else { descending };
        // Always the same order, so that rows do not change places without a reason.
        descending.then_with(|| b.live.cmp(&a.live)).then_with(|| a.who.cmp(&b.who))
    };
    rows.sort_by(order);
}

/// How much a row hurts: findings first, then what never goes away by itself, then what fails now.
fn trouble(row: &Row) -> (Option<Severity>, u64, u64, u64, u64) {
    let Row { worst, close_wait, half_open, failed, cut, time_wait, .. } = row;
    (*worst, *close_wait, half_open.unwrap_or(0), failed + cut.unwrap_or(0), time_wait.unwrap_or(0))
}
