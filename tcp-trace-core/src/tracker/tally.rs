//! The counts of one window.

mod aggregate;
mod failing;

use std::{collections::BTreeMap, net::IpAddr};

use rustc_hash::FxHashMap;

pub(super) use self::failing::{Failing, Failures};

use super::{
    connection::{Afterlife, Attempt, Connection, Step},
    endings::{End, Endings},
    handshake::{DurationSource, Handshake},
    requests::{Dead, Death},
    restarts::Restarts,
    sources::{Outcome, Sources},
};
use crate::{
    endpoint::Endpoint,
    histogram::Histogram,
    process::{Comm, Owner, ProcessId},
    report::{Ending, HalfOpenCause, HalfOpenSources},
    state::TcpState,
};

/// What happened since the window began.
#[derive(Debug)]
pub(super) struct Tally {
    max_rows: usize,
    states: [StateTally; STATES],
    /// Those that no kernel had when this was written.
    strange: BTreeMap<TcpState, StateTally>,
    pub(super) handshakes: HandshakeTally,
    pub(super) sources: HalfOpenSources,
    /// By namespace and local end; key `None` sums up what the table had no room for.
    pub(super) listeners: FxHashMap<Option<ListenerKey>, HandshakeTally>,
    /// By destination; key `None` sums up what the table had no room for.
    pub(super) connects: FxHashMap<Option<Endpoint>, ConnectTally>,
    pub(super) failing: Failing,
    /// By owner; key `None` is the sockets of unknown owners.
    pub(super) processes: FxHashMap<Option<ProcessId>, ProcessTally>,
    /// Transitions of processes that the table had no room for.
    pub(super) omitted: u64,
    /// Aggregated transitions of unknown owners, by cgroup.
    pub(super) cgroups: FxHashMap<u64, u64>,
    pub(super) time_wait: u64,
    pub(super) orphaned: u64,
    pub(super) endings: Endings,
    pub(super) restarts: Restarts,
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
    /// Of the completed ones, those whose SYN-ACK was sent more than once.
    pub(super) resent: u64,
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
    pub(super) transitions: Cells,
    pub(super) time_wait: u64,
    /// Of its transitions, those of aggregated sockets that are only inferred to be its own.
    pub(super) inferred: u64,
}

/// Transitions by kind, of which a process has a dozen at most, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Cells {
    kinds: Vec<u8>,
    counts: Vec<u64>,
}

/// States that kernels have, by number.
const STATES: usize = 16;

impl Tally {
    pub(super) fn new(max_rows: usize) -> Self {
        Self {
            max_rows,
            states: Default::default(),
            strange: BTreeMap::new(),
            handshakes: HandshakeTally::default(),
            sources: HalfOpenSources::default(),
            listeners: FxHashMap::default(),
            connects: FxHashMap::default(),
            failing: Failing::default(),
            processes: FxHashMap::default(),
            omitted: 0,
            cgroups: FxHashMap::default(),
            time_wait: 0,
            orphaned: 0,
            endings: Endings::default(),
            restarts: Restarts::new(max_rows),
        }
    }

    /// The next window begins.
    pub(super) fn next(&mut self) -> Self {
        Self { restarts: self.restarts.next(), ..Self::new(self.max_rows) }
    }

    /// A connection has ended, and all is known of it that will be.
    pub(super) fn ended(&mut self, end: End, connection: &Connection) {
        self.endings.add(end, connection, self.max_rows);
        if end.ending == Ending::NeverAccepted {
            self.restarts.queued_reset(connection);
        }
    }

    /// Adds an accepted event.
    pub(super) fn step(&mut self, step: &Step) {
        let Step { change, handshake, attempt, afterlife, listener, counted, resent } = step;
        if change.old != change.new {
            self.state(change.new).entered += 1;
        }
        if let Some(duration) = change.duration_ns {
            self.state(change.old).durations.record(duration);
        }
        if let Some(handshake) = handshake {
            let local = listener.unwrap_or(change.local);
            let row = bounded(&mut self.listeners, (change.netns, local), self.max_rows);
            row.owner = change.owner.or(row.owner);
            row.add(*handshake);
            row.resent += u64::from(*resent);
            if !counted {
                row.requested(change.peer.address);
            }
            row.ended(change.peer.address, Outcome::Completed);
            self.handshakes.add(*handshake);
            self.count_source(*handshake, 1);
        }
        if let Some(attempt) = attempt {
            let (row, has_room) = row(&mut self.connects, change.peer, self.max_rows);
            row.add(*attempt);
            let peer = has_room.then_some(change.peer);
            self.failing.add(change.owner, peer, *attempt, change.at, self.max_rows);
        }
        if change.new == TcpState::Listen {
            self.restarts.opened((change.netns, change.local), change.owner, change.at);
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

    /// Rows of listeners, and handshakes that are summed up in the one of all others.
    pub(super) fn listeners_used(&self) -> (usize, u64) {
        let others = self.listeners.get(&None);
        (self.listeners.len() - usize::from(others.is_some()), others.map_or(0, HandshakeTally::total))
    }

    /// Rows of destinations, and attempts that are summed up in the one of all others.
    pub(super) fn destinations_used(&self) -> (usize, u64) {
        let others = self.connects.get(&None);
        (self.connects.len() - usize::from(others.is_some()), others.map_or(0, ConnectTally::total))
    }

    /// The states that something is known of.
    pub(super) fn states(&self) -> impl Iterator<Item = (TcpState, &StateTally)> {
        let known = (0_u8..).zip(&self.states).map(|(number, tally)| (TcpState::from_number(number), tally));
        let strange = self.strange.iter().map(|(state, tally)| (*state, tally));
        known.filter(|(_, tally)| tally.entered > 0 || tally.durations.count() > 0).chain(strange)
    }

    fn state(&mut self, state: TcpState) -> &mut StateTally {
        match self.states.get_mut(usize::from(state.number())) {
            Some(tally) => tally,
            None => self.strange.entry(state).or_default(),
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
        self.attribute_to(connection.owner(), connection);
    }

    /// Attributes a connection's transitions to `owner`.
    pub(super) fn attribute_to(&mut self, owner: Option<Owner>, connection: &mut Connection) {
        if !connection.accepted {
            return;
        }
        let mut trail = connection.take_trail().peekable();
        if trail.peek().is_none() {
            return;
        }
        match self.process(owner) {
            Some(process) => trail.for_each(|slot| process.transitions.add(slot, 1)),
            None => self.omitted += trail.count() as u64,
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

impl Cells {
    fn add(&mut self, slot: u8, times: u64) {
        // All of them lie in one cache line, and a search that halves them guesses wrong at every step.
        let known = self.kinds.iter().position(|kind| *kind == slot);
        if let Some(count) = known.and_then(|at| self.counts.get_mut(at)) {
            *count += times;
        } else {
            self.kinds.push(slot);
            self.counts.push(times);
        }
    }

    /// Every kind with its count, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, u64)> {
        let mut all: Vec<_> = self.kinds.iter().copied().zip(self.counts.iter().copied()).collect();
        all.sort_unstable();
        all.into_iter()
    }

    /// Transitions of all kinds.
    pub(super) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl HandshakeTally {
    /// Requests of every outcome.
    fn total(&self) -> u64 {
        let Self { completed, cookies, unknown, expired, reset, dead, .. } = self;
        completed.count() + cookies + unknown + expired + reset + dead
    }

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
            Attempt::Aborted { .. } => self.aborted += 1,
            Attempt::NoPort | Attempt::Failed => self.failed += 1,
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
    row(table, key, max_rows).0
}

/// The same, and whether it is the row of `key` alone.
fn row<K: Eq + std::hash::Hash + Copy, V: Default>(
    table: &mut FxHashMap<Option<K>, V>,
    key: K,
    max_rows: usize,
) -> (&mut V, bool) {
    let fits = table.len() < max_rows || table.contains_key(&Some(key));
    (table.entry(fits.then_some(key)).or_default(), fits)
}
