//! Connections that are held only by a process that never used them: inherited over `fork`, and forgotten.
//!
//! It is claimed only where it was seen: a process used the connection, is alive, and does not hold it any more, others
//! do, and since that was found out no byte has gone over it. A child that serves what its parent has accepted reads
//! first, so that nobody else was seen to use it.

use std::num::NonZeroU64;

use rustc_hash::FxHashMap;

use super::{
    connection::{Connection, Key},
    gauge::Gauge,
    table::Table,
};
use crate::{
    process::{Owner, OwnerSource, ProcessId},
    session::Session,
    state::TcpState,
    survey::{Holder, ProcessFacts, SocketRow},
    time::Timestamp,
};

/// Connections kept.
pub(super) const MAX: usize = 65_536;

/// Who used a connection that others hold now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heirloom {
    pub(super) user: Owner,
    /// When the look began that has found out that it does not hold it any more.
    pub(super) since: Timestamp,
    /// When it was listed last.
    seen: Timestamp,
}

/// All of them, by cookie.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    pub(super) known: FxHashMap<NonZeroU64, Heirloom>,
    /// When the last look began; `None` before the first one.
    looked: Option<Timestamp>,
    pub(super) gauge: Gauge,
}

impl Inherited {
    /// Takes what a survey shows of one connection. If it is used it is not forgotten.
    pub(super) fn see(&mut self, row: &SocketRow, read: Timestamp) {
        let Some(known) = self.known.get_mut(&row.cookie) else { return };
        known.seen = read;
        if has_moved(row, read, known.since) {
            self.known.remove(&row.cookie);
        }
    }

    /// Takes who holds one connection, as a look that began at `begin` has found out, before it is put down to one of
    /// them.
    pub(super) fn look(
        &mut self,
        connection: &Connection,
        holders: &[Holder],
        processes: &FxHashMap<u32, ProcessFacts>,
        session: &Session,
        begin: Timestamp,
    ) {
        let Some(cookie) = connection.cookie else { return };
        let held_by = |id: ProcessId| holders.iter().any(|holder| holder.pid == id.pid);
        if let Some(known) = self.known.get(&cookie) {
            if held_by(known.user.process) {
                self.known.remove(&cookie);
            }
            return;
        }
        let Some(user) = user(connection, session) else { return };
        let lives = processes.get(&user.process.pid).is_some_and(|process| process.id == user.process);
        if !lives || held_by(user.process) || !is_open(connection.state) {
            return;
        }
        if self.known.len() >= MAX {
            return self.gauge.drops(1);
        }
        self.known.insert(cookie, Heirloom { user, since: begin, seen: begin });
        self.gauge.holds(self.known.len());
    }

    /// Those that the last look has found unused again; `None` before the first one. Where a namespace has too many sockets
    /// to list them all nobody knows.
    pub(super) fn unused(&self) -> Option<impl Iterator<Item = (NonZeroU64, Heirloom)>> {
        let looked = self.looked?;
        let known = self.known.iter().filter(move |(_, heirloom)| heirloom.seen >= looked);
        Some(known.map(|(cookie, heirloom)| (*cookie, *heirloom)))
    }

    /// A survey that began at `begin` is over: forgets those that have ended, and those that another use has shown of.
    pub(super) fn prune(&mut self, table: &Table, begin: Timestamp) {
        self.looked = Some(begin);
        self.known.retain(|cookie, _| {
            table.get(Key::Cookie(*cookie)).is_some_and(|connection| {
                let found = connection.owner().is_some_and(|owner| owner.source == OwnerSource::Fd);
                found && is_open(connection.state)
            })
        });
    }
}

/// Whether a program may still read from it.
fn is_open(state: TcpState) -> bool {
    matches!(state, TcpState::Established | TcpState::CloseWait)
}

/// Whoever was seen to use the connection. Whoever has accepted it need not have.
fn user(connection: &Connection, session: &Session) -> Option<Owner> {
    let accepted = session.programs.iter().any(|name| name == "accepted");
    connection.owner().filter(|owner| match owner.source {
        OwnerSource::Connect | OwnerSource::Task => true,
        OwnerSource::Accept => !accepted,
        OwnerSource::Unknown | OwnerSource::Listen | OwnerSource::Fd => false,
    })
}

/// Whether data has gone over a connection since then, and was read if it came.
fn has_moved(row: &SocketRow, read: Timestamp, since: Timestamp) -> bool {
    // Without `TCP_INFO` nothing is known, and nothing is claimed.
    let Some(info) = row.info else { return true };
    // The kernel counts in ticks, and both clocks were read a moment apart.
    const SLACK_NS: u64 = 100_000_000;
    let later = |ms: u32| read.minus(u64::from(ms) * 1_000_000) > Timestamp(since.0.saturating_add(SLACK_NS));
    let unread = row.receive_queue > u32::from(row.state == TcpState::CloseWait);
    later(info.last_data_sent_ms) || later(info.last_data_received_ms) && !unread
}
