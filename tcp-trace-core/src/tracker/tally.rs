//! The counts of one window.

mod aggregate;

use std::{collections::BTreeMap, net::IpAddr};

use rustc_hash::FxHashMap;

use super::{
    connection::{Afterlife, Attempt, Connection, Step},
    handshake::{DurationSource, Handshake},
    requests::{Dead, Death},
    sources::{Outcome, Sources},
};
use crate::{
    endpoint::Endpoint,
    histogram::Histogram,
    process::{Comm, Owner, ProcessId},
    report::{HalfOpenCause, HalfOpenSources},
    state::TcpState,
};

/// What happened since the window began.
#[derive(Debug)]
pub(super) struct Tally {
    max_rows: usize,
    pub(super) states: BTreeMap<TcpState, StateTally>,
    pub(super) handshakes: HandshakeTally,
    pub(super) sources: HalfOpenSources,
    /// By namespace and local end; key `None` sums up what the table had no room for.
    pub(super) listeners: FxHashMap<Option<ListenerKey>, HandshakeTally>,
    /// By destination; key `None` sums up what the table had no room for.
    pub(super) connects: FxHashMap<Option<Endpoint>, ConnectTally>,
    /// By owner; key `None` is the sockets of unknown owners.
    pub(super) processes: FxHashMap<Option<ProcessId>, ProcessTally>,
    /// Transitions of processes that the table had no room for.
    pub(super) omitted: u64,
    /// Aggregated transitions of unknown owners, by cgroup.
    pub(super) cgroups: FxHashMap<u64, u64>,
    pub(super) time_wait: u64,
    pub(super) orphaned: u64,
}

/// Namespace and local end of a listener.
pub(super) type ListenerKey = (Option<u32>, Endpoint);

#[derive(Debug, Default)]
pub(super) struct StateTally {
    pub(super) entered: u64,
    pub(super) durations: Histogram,
}

#[derive(Debug, Default)]
pub(super) struct HandshakeTally {
    pub(super) completed: Histogram,
    pub(super) cookies: u64,
    pub(super) unknown: u64,
    pub(super) expired: u64,
    pub(super) reset: u64,
    /// Requests that died of one of these two.
    pub(super) dead: u64,
    pub(super) cause: Option<HalfOpenCause>,
    pub(super) sources: Option<Sources>,
    pub(super) owner: Option<Owner>,
}

#[derive(Debug, Default)]
pub(super) struct ConnectTally {
    pub(super) completed: Histogram,
    pub(super) refused: u64,
    pub(super) timed_out: u64,
    pub(super) unreachable: u64,
    pub(super) reset: u64,
    pub(super) aborted: u64,
    pub(super) failed: u64,
}

#[derive(Debug, Default)]
pub(super) struct ProcessTally {
    pub(super) comm: Option<Comm>,
    pub(super) transitions: BTreeMap<u8, u64>,
    pub(super) time_wait: u64,
    /// Of its transitions, those of aggregated sockets that are only inferred to be its own.
    pub(super) inferred: u64,
}

impl Tally {
    pub(super) fn new(max_rows: usize) -> Self {
        Self {
            max_rows,
            states: BTreeMap::new(),
            handshakes: HandshakeTally::default(),
            sources: HalfOpenSources::default(),
            listeners: FxHashMap::default(),
            connects: FxHashMap::default(),
            processes: FxHashMap::default(),
            omitted: 0,
            cgroups: FxHashMap::default(),
            time_wait: 0,
            orphaned: 0,
        }
    }

    /// Adds an accepted event.
    pub(super) fn step(&mut self, step: &Step) {
        let Step { change, handshake, attempt, afterlife, listener, counted } = step;
        if change.old != change.new {
            self.states.entry(change.new).or_default().entered += 1;
        }
        if let Some(duration) = change.duration_ns {
            self.states.entry(change.old).or_default().durations.record(duration);
        }
        if let Some(handshake) = handshake {
            let local = listener.unwrap_or(change.local);
            let row = bounded(&mut self.listeners, (change.netns, local), self.max_rows);
            row.owner = change.owner.or(row.owner);
            row.add(*handshake);
            if !counted {
                row.requested(change.peer.address);
            }
            row.ended(change.peer.address, Outcome::Completed);
            self.handshakes.add(*handshake);
            self.count_source(*handshake, 1);
        }
        if let Some(attempt) = attempt {
            bounded(&mut self.connects, change.peer, self.max_rows).add(*attempt);
        }
        match afterlife {
            Some(Afterlife::TimeWait) => {
                self.time_wait += 1;
                if let Some(process) = self.process(change.owner) {
                    process.time_wait += 1;
                }
            }
            Some(Afterlife::Orphan) => self.orphaned += 1,
            None => {}
        }
    }

    /// A survey shows a new half-open request.
    pub(super) fn requested(&mut self, listener: ListenerKey, source: IpAddr) {
        bounded(&mut self.listeners, listener, self.max_rows).requested(source);
    }

    /// A half-open request has died.
    pub(super) fn died(&mut self, listener: ListenerKey, dead: &Dead) {
        let row = bounded(&mut self.listeners, listener, self.max_rows);
        if !dead.counted {
            row.requested(dead.request.peer.address);
        }
        row.ended(dead.request.peer.address, Outcome::Died(dead.death));
        for tally in [row, &mut self.handshakes] {
            *match dead.death {
                Death::Expired => &mut tally.expired,
                Death::Reset => &mut tally.reset,
                Death::Unknown => &mut tally.dead,
            } += 1;
        }
    }

    /// Why a listener's requests stay half-open. A full accept queue explains what silent clients would not.
    pub(super) fn cause(&mut self, listener: ListenerKey, cause: HalfOpenCause) {
        let row = bounded(&mut self.listeners, listener, self.max_rows);
        row.cause = row.cause.max(Some(cause));
    }

    /// Attributes a connection's transitions to its owner as it is known by now.
    pub(super) fn attribute(&mut self, connection: &mut Connection) {
        if !connection.accepted {
            return;
        }
        let owner = connection.owner;
        for slot in connection.take_trail() {
            match self.process(owner) {
                Some(process) => *process.transitions.entry(slot).or_default() += 1,
                None => self.omitted += 1,
            }
        }
    }

    fn process(&mut self, owner: Option<Owner>) -> Option<&mut ProcessTally> {
        let id = owner.map(|owner| owner.process);
        if self.processes.len() >= self.max_rows && !self.processes.contains_key(&id) {
            return None;
        }
        let process = self.processes.entry(id).or_default();
        process.comm = owner.and_then(|owner| owner.comm).or(process.comm);
        Some(process)
    }

    fn count_source(&mut self, handshake: Handshake, count: u64) {
        let Handshake::Known { source, .. } = handshake else { return };
        let HalfOpenSources { sock_ops, fentry, fast_open, synack, srtt, rto } = &mut self.sources;
        *match source {
            DurationSource::SockOps => sock_ops,
            DurationSource::Fentry => fentry,
            DurationSource::FastOpen => fast_open,
            DurationSource::SynAck => synack,
            DurationSource::Srtt => srtt,
            DurationSource::Rto => rto,
        } += count;
    }
}

impl HandshakeTally {
    fn requested(&mut self, source: IpAddr) {
        self.sources.get_or_insert_default().add(source);
    }

    fn ended(&mut self, source: IpAddr, outcome: Outcome) {
        if let Some(sources) = &mut self.sources {
            sources.ended(source, outcome);
        }
    }

    fn add(&mut self, handshake: Handshake) {
        match handshake {
            Handshake::Known { duration_ns, .. } => self.completed.record(duration_ns),
            Handshake::Cookie => self.cookies += 1,
            Handshake::Unknown => self.unknown += 1,
        }
    }
}

impl ConnectTally {
    fn add(&mut self, attempt: Attempt) {
        match attempt {
            Attempt::Completed { duration_ns } => self.completed.record(duration_ns),
            Attempt::Refused => self.refused += 1,
            Attempt::TimedOut => self.timed_out += 1,
            Attempt::Unreachable => self.unreachable += 1,
            Attempt::Reset => self.reset += 1,
            Attempt::Aborted => self.aborted += 1,
            Attempt::Failed => self.failed += 1,
        }
    }

    /// Attempts of every outcome.
    pub(super) fn total(&self) -> u64 {
        let Self { completed, refused, timed_out, unreachable, reset, aborted, failed } = self;
        completed.count() + refused + timed_out + unreachable + reset + aborted + failed
    }
}

/// The row of `key`, or the one that sums up the rest when the table is full.
fn bounded<K: Eq + std::hash::Hash + Copy, V: Default>(
    table: &mut FxHashMap<Option<K>, V>,
    key: K,
    max_rows: usize,
) -> &mut V {
    let fits = table.len() < max_rows || table.contains_key(&Some(key));
    table.entry(fits.then_some(key)).or_default()
}
