//! Rows of aggregated transitions, tallied.

use std::net::IpAddr;

use super::{
    super::{
        errno::{ECONNREFUSED, ECONNRESET, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT},
        handshake::Handshake,
        sources::Outcome,
    },
    HandshakeTally, ListenerKey, Tally, bounded,
};
use crate::{
    input::{Aggregate, Task, Time},
    process::{Owner, OwnerSource, ProcessId},
    state::TcpState,
};

impl Tally {
    /// Adds a row. `owner` is whom it is put down to, `inferred` the owner of the listener that its sockets came in on,
    /// where that is all that tells.
    pub(in crate::tracker) fn aggregate(
        &mut self,
        row: &Aggregate,
        owner: Option<ProcessId>,
        inferred: Option<Owner>,
    ) {
        let Aggregate { old, new, bounds, count, .. } = *row;
        if old != new {
            self.state(new).entered += count;
        }
        if let Some(bounds) = bounds {
            self.state(old).durations.record_between(bounds, count);
        }
        self.attempts(row);
        let comm = inferred.filter(|inferred| Some(inferred.process) == owner).and_then(|owner| owner.comm);
        let source = OwnerSource::Listen;
        let known = owner.map(|process| Owner { process, comm, source });
        let time_wait = row.time == Time::TimeWait;
        self.time_wait += if time_wait { count } else { 0 };
        self.orphaned += if row.time == Time::Orphan { count } else { 0 };
        if owner.is_none()
            && let Some(cgroup) = row.cgroup_id
            && (self.cgroups.len() < self.max_rows || self.cgroups.contains_key(&cgroup))
        {
            *self.cgroups.entry(cgroup).or_default() += count;
        }
        let Some(process) = self.process(known) else {
            self.omitted += count;
            return;
        };
        let slot = tcp_trace_common::counters::slot(old.number(), new.number());
        process.transitions.add(u8::try_from(slot).unwrap_or(0), count);
        process.time_wait += if time_wait { count } else { 0 };
        process.inferred += if row.process.is_none() && owner.is_some() { count } else { 0 };
    }

    /// Attempts to connect that a row's transitions decided; where to is not known of them.
    fn attempts(&mut self, row: &Aggregate) {
        let Aggregate { old, new, error, bounds, count, .. } = *row;
        if old != TcpState::SynSent || matches!(new, TcpState::SynSent | TcpState::SynReceived) {
            return;
        }
        if new != TcpState::Close {
            if let Some(bounds) = bounds {
                self.connects.entry(None).or_default().completed.record_between(bounds, count);
            }
            return;
        }
        let attempts = self.connects.entry(None).or_default();
        *match error {
            Some(ECONNREFUSED) => &mut attempts.refused,
            Some(ETIMEDOUT) => &mut attempts.timed_out,
            Some(ENETUNREACH | EHOSTUNREACH) => &mut attempts.unreachable,
            Some(ECONNRESET) => &mut attempts.reset,
            Some(0) => &mut attempts.aborted,
            _ => &mut attempts.failed,
        } += count;
    }

    /// Adds the handshakes of a row; `listener` is where they came in, if that is known.
    pub(in crate::tracker) fn aggregate_handshakes(
        &mut self,
        listener: Option<ListenerKey>,
        handshake: Handshake,
        row: &Aggregate,
    ) {
        let Aggregate { bounds, count, .. } = *row;
        match listener {
            Some(key) => bounded(&mut self.listeners, key, self.max_rows),
            None => self.listeners.entry(None).or_default(),
        }
        .add_many(handshake, bounds, count);
        self.handshakes.add_many(handshake, bounds, count);
        self.count_source(handshake, count);
    }

    /// A connection has come in whose transition is in a row; `counted`: a survey has counted its request already.
    pub(in crate::tracker) fn arrived(&mut self, listener: ListenerKey, source: IpAddr, counted: bool) {
        let row = bounded(&mut self.listeners, listener, self.max_rows);
        if !counted {
            row.requested(source);
        }
        row.ended(source, Outcome::Completed);
    }

    /// A process of which rows will tell has a name.
    pub(in crate::tracker) fn name(&mut self, task: Task) {
        let Task { process, comm, .. } = task;
        self.process(Some(Owner { process, comm, source: OwnerSource::Task }));
    }
}

impl HandshakeTally {
    fn add_many(&mut self, handshake: Handshake, bounds: Option<(u64, u64)>, count: u64) {
        match (handshake, bounds) {
            (Handshake::Known { .. }, Some(bounds)) => self.completed.record_between(bounds, count),
            (Handshake::Cookie, _) => self.cookies += count,
            (Handshake::Known { .. } | Handshake::Unknown, _) => self.unknown += count,
        }
    }
}
