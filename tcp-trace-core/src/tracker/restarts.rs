//! Listeners that come and go: how long nobody listened, and whom that cut off.

use rustc_hash::FxHashMap;

use super::{connection::Connection, endings::Ends, tally::ListenerKey};
use crate::{process::Owner, time::Timestamp};

/// What became of the listeners at an address.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) owner: Option<Owner>,
    pub(super) opened: u64,
    pub(super) closed: u64,
    pub(super) restarts: u64,
    pub(super) longest_gap_ns: Option<u64>,
    pub(super) last_closed: Option<Timestamp>,
    pub(super) queued_resets: u64,
    pub(super) peers: Ends,
}

/// All of a window, and where nobody listens any more.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    pub(super) rows: FxHashMap<ListenerKey, Row>,
    /// Since when nobody has listened where somebody did.
    down: FxHashMap<ListenerKey, Timestamp>,
    pub(super) dropped: u64,
    max: usize,
}

impl Restarts {
    pub(super) fn new(max: usize) -> Self {
        Self { max, ..Self::default() }
    }

    /// The next window begins.
    pub(super) fn next(&mut self) -> Self {
        Self { down: std::mem::take(&mut self.down), ..Self::new(self.max) }
    }

    fn row(&mut self, at: ListenerKey) -> Option<&mut Row> {
        if self.rows.len() >= self.max && !self.rows.contains_key(&at) {
            self.dropped += 1;
            return None;
        }
        Some(self.rows.entry(at).or_default())
    }

    pub(super) fn opened(&mut self, at: ListenerKey, owner: Option<Owner>, now: Timestamp) {
        let gap = self.down.remove(&at).map(|since| now.since(since));
        let Some(row) = self.row(at) else { return };
        row.owner = owner.or(row.owner);
        row.opened += 1;
        row.restarts += u64::from(gap.is_some());
        row.longest_gap_ns = row.longest_gap_ns.max(gap);
    }

    /// A listener was closed; `others` still listen there.
    pub(super) fn closed(&mut self, listener: &Connection, others: bool) {
        let at = (listener.netns(), listener.local);
        if !others && (self.down.len() < self.max || self.down.contains_key(&at)) {
            self.down.insert(at, listener.last);
        }
        let Some(row) = self.row(at) else { return };
        row.owner = listener.owner().or(row.owner);
        row.closed += 1;
        row.last_closed = Some(listener.last);
    }

    /// A connection that nobody had accepted was reset because its listener was closed.
    pub(super) fn queued_reset(&mut self, connection: &Connection) {
        let at = (connection.netns(), connection.listener.unwrap_or(connection.local));
        let Some(row) = self.row(at) else { return };
        row.queued_resets += 1;
        row.peers.add((connection.peer.address, None));
    }
}
