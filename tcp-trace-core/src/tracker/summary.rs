//! Tallies and table → Report.

use std::{cmp::Reverse, collections::BTreeMap, net::IpAddr};

use rustc_hash::FxHashMap;
use tcp_trace_common::counters::pair;

use super::{
    Tracker,
    connection::{Connection, Key},
    tally::{ConnectTally, HandshakeTally, ListenerKey, ProcessTally},
};
use crate::{
    process::{Comm, OwnerSource, ProcessId},
    report::{
        CloseWait, CloseWaitProcess, Connect, HalfOpen, Listener, PeerCount, ProcessIdentity, ProcessSummary,
        Report, SCHEMA, Socket, Source, StateSummary, TimeWait, TimeWaitProcess, TransitionCount, Window,
    },
    session::Attach,
    state::TcpState,
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
            degradations: session.degradations.clone(),
        },
        loss: balance.loss(),
        transitions: balance.transitions(tracker.counts_lost),
        states: states(tracker),
        half_open: half_open(tracker),
        connect: connects(tracker),
        close_wait: close_wait(tracker),
        time_wait: time_wait(tracker),
        processes: processes(tracker),
        omitted: tracker.tally.omitted,
        containers: None,
        findings: None,
    }
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
    for (state, tally) in &tracker.tally.states {
        let summary = states.entry(*state).or_default();
        summary.entered = tally.entered;
        summary.duration = (&tally.durations).into();
    }
    for connection in accepted(tracker) {
        if let Some(live) = states.entry(connection.state).or_default().live.as_mut() {
            *live += 1;
        }
    }
    states
}

fn half_open(tracker: &Tracker) -> HalfOpen {
    let tally = &tracker.tally;
    // Without the fields of the socket a cookie cannot be told from any other handshake.
    let cookies = |count: u64| (tracker.session.attach == Attach::TpBtf).then_some(count);
    let HandshakeTally { completed, cookies: by_cookie, unknown, owner: _ } = &tally.handshakes;
    let listener = |(key, row): (&Option<ListenerKey>, &HandshakeTally)| Listener {
        local: key.map(|(_, local)| local),
        netns: key.and_then(|(netns, _)| netns),
        process: row.owner.map(|owner| identity(tracker, owner.process, owner.comm)),
        completed: (&row.completed).into(),
        unknown: row.unknown,
        expired: None,
        reset: None,
        live: None,
        cookies: cookies(row.cookies),
        syn_queue: None,
        accept_queue: None,
        sources: None,
    };
    let mut listeners: Vec<_> = tally.listeners.iter().map(listener).collect();
    listeners.sort_by_key(|l| {
        let handshakes = l.completed.count + l.unknown + l.cookies.unwrap_or(0);
        (l.local.is_none(), Reverse(handshakes), l.netns, l.local)
    });
    HalfOpen {
        completed: completed.into(),
        sources: tally.sources,
        unknown: *unknown,
        expired: None,
        reset: None,
        live: None,
        cookies: cookies(*by_cookie),
        listeners,
    }
}

fn connects(tracker: &Tracker) -> Vec<Connect> {
    let mut rows: Vec<_> = tracker.tally.connects.iter().collect();
    rows.sort_by_key(|(peer, row)| (peer.is_none(), Reverse(row.total()), **peer));
    rows.into_iter()
        .map(|(peer, row)| {
            let ConnectTally { completed, refused, timed_out, unreachable, reset, aborted, failed } = row;
            Connect {
                peer: *peer,
                completed: completed.into(),
                refused: *refused,
                timed_out: *timed_out,
                unreachable: *unreachable,
                reset: *reset,
                aborted: *aborted,
                failed: *failed,
            }
        })
        .collect()
}

/// Groups the lingering sockets by owner.
fn close_wait(tracker: &Tracker) -> CloseWait {
    let after_ns = tracker.settings.close_wait_after_ns;
    let mut live = 0;
    let mut by_owner: FxHashMap<Option<ProcessId>, Vec<(&Key, &Connection)>> = FxHashMap::default();
    for (key, connection) in &tracker.table {
        if connection.accepted && connection.state == TcpState::CloseWait {
            live += 1;
            if connection.age_ns(tracker.now).is_none_or(|age| age > after_ns) {
                let owner = connection.owner.map(|owner| owner.process);
                by_owner.entry(owner).or_default().push((key, connection));
            }
        }
    }
    let lingering = by_owner.values().map(Vec::len).sum::<usize>() as u64;
    let mut processes: Vec<_> = by_owner.into_values().map(|sockets| leak(tracker, sockets)).collect();
    processes.sort_by_key(|leak| {
        let pid = leak.process.as_ref().map(|process| process.pid);
        (Reverse(leak.count), Reverse(leak.oldest_ns), pid)
    });
    CloseWait { live, lingering, after_ns, processes }
}

/// The lingering sockets of one owner, oldest first.
fn leak(tracker: &Tracker, mut sockets: Vec<(&Key, &Connection)>) -> CloseWaitProcess {
    let age = |connection: &Connection| connection.age_ns(tracker.now);
    sockets.sort_by_key(|(key, connection)| (Reverse(age(connection)), **key));
    let owner = sockets.iter().find_map(|(_, connection)| connection.owner);
    let max = tracker.settings.max_sockets;
    let peers = sockets.iter().map(|(_, c)| (c.peer.address, None));
    let listeners = sockets.iter().filter_map(|(_, c)| c.listener).map(|l| (l.address, Some(l.port)));
    CloseWaitProcess {
        process: owner.map(|owner| identity(tracker, owner.process, owner.comm)),
        count: sockets.len() as u64,
        oldest_ns: sockets.first().and_then(|(_, connection)| age(connection)),
        kinds: None,
        peers: most_frequent(peers, max),
        listeners: most_frequent(listeners, max),
        sockets: sockets.iter().take(max).map(|(_, c)| socket(c, age(c))).collect(),
    }
}

fn socket(connection: &Connection, age_ns: Option<u64>) -> Socket {
    Socket {
        cookie: connection.cookie.map(std::num::NonZeroU64::get),
        local: connection.local,
        peer: connection.peer,
        state: connection.state,
        age_ns,
        age_exact: age_ns.map(|_| true),
        fds: None,
        unread_bytes: None,
        kind: None,
        owner_source: connection.owner.map_or(OwnerSource::Unknown, |owner| owner.source),
    }
}

fn most_frequent(ends: impl Iterator<Item = (IpAddr, Option<u16>)>, max: usize) -> Vec<PeerCount> {
    let mut counts: BTreeMap<(IpAddr, Option<u16>), u64> = BTreeMap::new();
    for end in ends {
        *counts.entry(end).or_default() += 1;
    }
    let mut counts: Vec<_> =
        counts.into_iter().map(|((address, port), count)| PeerCount { address, port, count }).collect();
    counts.sort_by_key(|peer| Reverse(peer.count));
    counts.truncate(max);
    counts
}

fn time_wait(tracker: &Tracker) -> TimeWait {
    let known = tracker.session.attach == Attach::TpBtf;
    let mut processes: Vec<_> = tracker
        .tally
        .processes
        .iter()
        .filter(|(_, tally)| tally.time_wait > 0)
        .map(|(id, tally)| TimeWaitProcess {
            process: id.map(|id| identity(tracker, id, tally.comm)),
            entered: tally.time_wait,
        })
        .collect();
    processes.sort_by_key(|row| (Reverse(row.entered), row.process.as_ref().map(|process| process.pid)));
    TimeWait {
        live: None,
        entered: known.then_some(tracker.tally.time_wait),
        orphaned: known.then_some(tracker.tally.orphaned),
        inferred: true,
        processes,
        destinations: None,
    }
}

fn processes(tracker: &Tracker) -> Vec<ProcessSummary> {
    let mut live: FxHashMap<Option<ProcessId>, (u64, Option<Comm>)> = FxHashMap::default();
    for connection in accepted(tracker) {
        let (count, comm) = live.entry(connection.owner.map(|owner| owner.process)).or_default();
        *count += 1;
        // The order of the table is nobody's business: of several names the greatest.
        *comm = (*comm).max(connection.owner.and_then(|owner| owner.comm));
    }
    let idle = ProcessTally::default();
    let ids: std::collections::BTreeSet<_> =
        tracker.tally.processes.keys().chain(live.keys()).copied().collect();
    let mut processes: Vec<_> = ids
        .into_iter()
        .map(|id| {
            let tally = tracker.tally.processes.get(&id).unwrap_or(&idle);
            let (live, comm) = live.get(&id).copied().unwrap_or_default();
            ProcessSummary {
                process: id.map(|id| identity(tracker, id, tally.comm.or(comm))),
                total: tally.transitions.values().sum(),
                transitions: tally.transitions.iter().map(|(slot, count)| cell(*slot, *count)).collect(),
                live,
            }
        })
        .collect();
    processes.sort_by_key(|row| (Reverse(row.total), Reverse(row.live)));
    processes.truncate(tracker.settings.max_rows);
    processes
}

fn cell(slot: u8, count: u64) -> TransitionCount {
    let (old, new) = pair(usize::from(slot));
    TransitionCount { old: TcpState::from_number(old), new: TcpState::from_number(new), count }
}

fn accepted(tracker: &Tracker) -> impl Iterator<Item = &Connection> {
    tracker.table.values().filter(|connection| connection.accepted)
}

fn identity(tracker: &Tracker, id: ProcessId, comm: Option<Comm>) -> ProcessIdentity {
    ProcessIdentity {
        pid: id.pid,
        comm,
        exe: None,
        cmdline: None,
        user: None,
        start_time: id.start_ns.map(|ns| tracker.session.anchor.wall_of_boottime(ns)),
        container: None,
        cgroup: None,
    }
}
