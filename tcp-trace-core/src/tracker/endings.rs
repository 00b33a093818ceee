//! How the connections of a window ended, by process.

use std::net::IpAddr;

use rustc_hash::FxHashMap;

use super::{
    connection::{Connection, Step},
    outcome,
};
use crate::{
    input::Event,
    process::{Comm, Owner, ProcessId},
    report::{Ending, Role},
    state::TcpState,
    time::Timestamp,
};

/// Ends kept per row; of more, those that come first.
const ENDS: usize = 64;

/// The end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) ending: Ending,
    state: TcpState,
    without_data: bool,
    /// The owner is the listener's, and somebody has accepted it.
    guessed: bool,
    at: Timestamp,
}

impl End {
    /// Of a connection whose last event this is; `None` where nobody can tell how it ended.
    pub(super) fn of(event: &Event, step: &Step, connection: &Connection) -> Option<Self> {
        if event.old == TcpState::Listen {
            return None;
        }
        let role = connection.role();
        Some(Self {
            ending: outcome::ending(event, step.afterlife, role)?,
            state: event.old,
            without_data: event
                .bytes
                .is_some_and(|bytes| outcome::payload(event, bytes.acked, bytes.received, role) == (0, 0)),
            guessed: connection.is_provisional() && event.file != Some(false),
            at: event.time,
        })
    }

    /// Whose connection it was, as far as that is more than a guess.
    fn owner(self, connection: &Connection) -> Option<Owner> {
        connection.owner().filter(|_| !self.guessed || !connection.is_provisional())
    }
}

/// What connections have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Kind {
    pub(super) process: Option<ProcessId>,
    pub(super) role: Option<Role>,
    pub(super) ending: Ending,
    pub(super) state: TcpState,
}

/// Connections that ended in the same way.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) comm: Option<Comm>,
    pub(super) count: u64,
    pub(super) without_data: u64,
    pub(super) seconds: u64,
    /// The last of these seconds.
    second: Option<u64>,
    pub(super) listeners: Ends,
    pub(super) peers: Ends,
}

/// All of a window.
#[derive(Debug, Default)]
pub(super) struct Endings {
    pub(super) rows: FxHashMap<Kind, Row>,
    /// Connections whose process there was no room for.
    pub(super) dropped: u64,
}

/// Ends and how many connections have them.
#[derive(Debug, Default)]
pub(super) struct Ends(FxHashMap<(IpAddr, Option<u16>), u64>);

impl Ends {
    pub(super) fn add(&mut self, end: (IpAddr, Option<u16>)) {
        if self.0.len() < ENDS || self.0.contains_key(&end) {
            *self.0.entry(end).or_default() += 1;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = ((IpAddr, Option<u16>), u64)> {
        self.0.iter().map(|(end, count)| (*end, *count))
    }
}

impl Endings {
    /// Rows of processes. Those of none sum up the rest, and are as many as there are ways to end.
    pub(super) fn used(&self) -> usize {
        self.rows.keys().filter(|kind| kind.process.is_some()).count()
    }

    /// A connection has ended, with at most `max` rows of processes.
    pub(super) fn add(&mut self, end: End, connection: &Connection, max: usize) {
        let owner = end.owner(connection);
        let role = connection.role();
        let mut kind =
            Kind { process: owner.map(|owner| owner.process), role, ending: end.ending, state: end.state };
        if self.rows.len() >= max && !self.rows.contains_key(&kind) {
            kind.process = None;
            self.dropped += 1;
        }
        let row = self.rows.entry(kind).or_default();
        row.comm = owner.and_then(|owner| owner.comm).filter(|_| kind.process.is_some()).or(row.comm);
        row.count += 1;
        row.without_data += u64::from(end.without_data);
        let second = end.at.0 / 1_000_000_000;
        row.seconds += u64::from(row.second.replace(second) != Some(second));
        if matches!(end.ending, Ending::Closed | Ending::TimeWait | Ending::Orphaned) {
            return;
        }
        let peer = connection.peer;
        if role == Some(Role::Client) {
            row.peers.add((peer.address, Some(peer.port)));
        } else {
            let local = connection.listener.unwrap_or(connection.local);
            row.listeners.add((local.address, Some(local.port)));
            row.peers.add((peer.address, None));
        }
    }
}
