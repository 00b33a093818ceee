//! Tallies and table → Report.

mod close_wait;
mod closing;
mod connect;
mod half_open;
mod processes;
mod sockets;
mod time_wait;
mod trouble;

use std::collections::BTreeMap;

use tcp_trace_common::counters::pair;

use super::{Tracker, connection::Connection};
use crate::{
    histogram::Histogram,
    process::{Comm, ProcessId},
    report::{
        Distribution, Distributions, HANDSHAKE_BOUNDS_NS, ProcessIdentity, ProcessSockets, Report, SCHEMA,
        STATE_BOUNDS_NS, Source, StateSummary, TransitionCount, Window,
    },
    session::Degradation,
    state::TcpState,
    time::WallTime,
};

/// The states that a report always lists; TIME_WAIT has its own section, because no transition enters it.
const STATES: [TcpState; 10] = [
    TcpState::Established,
    TcpState::SynSent,
    TcpState::SynReceived,
    TcpState::FinWait1,
    TcpState::FinWait2,
    TcpState::Close,
    TcpState::CloseWait,
    TcpState::LastAck,
    TcpState::Listen,
    TcpState::Closing,
];

/// The report of the window that ends now.
pub(super) fn report(tracker: &Tracker) -> Report {
    let Tracker { session, balance, window_start, now, .. } = tracker;
    let census = processes::census(tracker);
    Report {
        schema: SCHEMA,
        host: session.host.clone(),
        window: Window {
            start: session.anchor.wall(*window_start),
            end: session.anchor.wall(*now),
            seconds: now.since(*window_start) as f64 / 1e9,
        },
        source: Source {
            attach: session.attach.name(),
            tiers: session.tiers(),
            degradations: degradations(tracker),
        },
        loss: balance.loss(),
        modes: tracker.modes.spans(session, *window_start, *now),
        transitions: balance.transitions(tracker.counts_lost),
        states: states(tracker),
        half_open: half_open::half_open(tracker),
        connect: connect::connects(tracker),
        close_wait: close_wait::close_wait(tracker),
        time_wait: time_wait::time_wait(tracker),
        closing: closing::closing(tracker),
        endings: trouble::endings(tracker),
        listeners_changed: trouble::listeners(tracker),
        inherited: trouble::inherited(tracker),
        processes: processes::processes(tracker, &census),
        omitted: tracker.tally.omitted,
        containers: processes::containers(tracker, &census),
        limits: tracker.limits(),
        findings: None,
        distributions: distributions(tracker),
        series: super::series::series(tracker),
    }
}

/// The durations of the window in buckets. What cannot be told apart by destination or listener is in them all the same.
fn distributions(tracker: &Tracker) -> Distributions {
    let tally = &tracker.tally;
    let timed = tally.states().filter(|(_, state)| state.durations.count() > 0);
    let mut connect = Distribution::new(&HANDSHAKE_BOUNDS_NS, &Histogram::default());
    for attempts in tally.connects.values() {
        connect.add(&Distribution::new(&HANDSHAKE_BOUNDS_NS, &attempts.completed));
    }
    Distributions {
        states: timed
            .map(|(state, tally)| (state, Distribution::new(&STATE_BOUNDS_NS, &tally.durations)))
            .collect(),
        half_open: Distribution::new(&HANDSHAKE_BOUNDS_NS, &tally.handshakes.completed),
        connect,
    }
}

/// The sockets of one process as they are now.
pub(super) fn sockets_of(
    tracker: &Tracker,
    pid: u32,
    start: Option<WallTime>,
    most: usize,
) -> ProcessSockets {
    sockets::of(tracker, pid, start, most)
}

/// What the run does without, and what the last survey could not look at.
fn degradations(tracker: &Tracker) -> Vec<Degradation> {
    let problem =
        |text: &String| Degradation { feature: "survey".to_owned(), reason: text.clone(), remedy: None };
    let problems = tracker.samples.problems.iter().map(problem);
    tracker.session.degradations.iter().cloned().chain(problems).chain(missing_stacks(tracker)).collect()
}

/// What stacks there was no room for.
fn missing_stacks(tracker: &Tracker) -> Option<Degradation> {
    let (lost, omitted) = tracker.stacks.missing()?;
    let most = super::stacks::STACKS;
    let reason = match (lost, omitted) {
        (0, 0) => return None,
        (_, 0) => format!(
            "{lost} stacks found no room in the kernel's buffer: where those connections were opened is not known"
        ),
        _ => format!(
            "{lost} stacks found no room in the kernel's buffer, and {omitted} were none of the {most} that are told apart: where those connections were opened is not known"
        ),
    };
    Some(Degradation { feature: "stacks".to_owned(), reason, remedy: None })
}

fn states(tracker: &Tracker) -> BTreeMap<TcpState, StateSummary> {
    let mut states: BTreeMap<_, _> = STATES
        .into_iter()
        .map(|state| {
            // A socket that is in CLOSE is no longer (or not yet) tracked.
            let live = (state != TcpState::Close).then_some(0);
            (state, StateSummary { live, ..StateSummary::default() })
        })
        .collect();
    for (state, tally) in tracker.tally.states() {
        let summary = states.entry(state).or_default();
        summary.entered = tally.entered;
        summary.duration = (&tally.durations).into();
    }
    for (_, new, count) in unattributed(tracker).filter(|(old, new, _)| old != new) {
        // Saturating, because the counters of a recording may say anything.
        let entered = &mut states.entry(new).or_default().entered;
        *entered = entered.saturating_add(count);
    }
    for connection in accepted(tracker) {
        if let Some(live) = states.entry(connection.state).or_default().live.as_mut() {
            *live += 1;
        }
    }
    states
}

/// Transitions that the kernel has counted by kind only, unless a filter of the reader's may not want them.
fn unattributed(tracker: &Tracker) -> impl Iterator<Item = (TcpState, TcpState, u64)> {
    tracker.balance.unattributed().filter(|_| tracker.counts_lost)
}

fn cell(slot: u8, count: u64) -> TransitionCount {
    let (old, new) = pair(usize::from(slot));
    TransitionCount { old: TcpState::from_number(old), new: TcpState::from_number(new), count }
}

fn accepted(tracker: &Tracker) -> impl Iterator<Item = &Connection> {
    tracker.table.values().filter(|connection| connection.accepted)
}

/// Whoever it is, with what is known of it.
pub(super) fn identity(tracker: &Tracker, id: ProcessId, comm: Option<Comm>) -> ProcessIdentity {
    let facts = tracker.people.get(id).and_then(|person| person.facts.as_deref());
    ProcessIdentity {
        pid: id.pid,
        comm,
        exe: facts.and_then(|facts| facts.exe.clone()),
        cmdline: facts.map(|facts| facts.cmdline.clone()),
        user: facts.map(|facts| facts.user.clone().unwrap_or_else(|| facts.uid.to_string())),
        start_time: id.start_ns.map(|ns| tracker.session.anchor.wall_of_boottime(ns)),
        container: facts.and_then(|facts| facts.container.clone()),
        cgroup: facts.and_then(|facts| facts.cgroup.clone()),
        fds: facts.and_then(|facts| facts.fds),
        nofile: facts.and_then(|facts| facts.nofile),
    }
}
