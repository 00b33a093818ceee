//! Input → Report: one bounded table of connections, and the tallies of the current window.
//!
//! [`Tracker::apply`] is the only way in. An event is counted, finds (or makes) its connection, moves it on,
//! and is then judged by the filter: accepted, turned away, or held back until the connection's final tuple
//! or owner is known.

mod balance;
mod connection;
mod handshake;
mod hold;
mod listeners;
mod summary;
mod tally;

use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;
use tcp_trace_common::filter::{Filter, Subject, Verdict};

use self::{
    balance::Balance,
    connection::{Connection, Key, Step},
    hold::Held,
    listeners::Listeners,
    tally::Tally,
};
use crate::{
    filter::TooManyPorts,
    input::{Event, Input},
    report::{Report, StateChange},
    session::Session,
    state::TcpState,
    time::Timestamp,
};

/// Bounds and thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A socket in CLOSE_WAIT for longer than this many nanoseconds lingers.
    pub close_wait_after_ns: u64,
    /// Connections kept; events of further ones are counted, but have no history. A fourth as
    /// many events may be held back until the filter can judge them.
    pub max_connections: usize,
    /// Rows kept per table of a report (listeners, destinations, processes).
    pub max_rows: usize,
    /// Sockets and peers listed per process.
    pub max_sockets: usize,
    /// Whether single state changes are wanted, or only reports.
    pub changes: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            close_wait_after_ns: 10_000_000_000,
            max_connections: 1 << 20,
            max_rows: 4096,
            max_sockets: 100,
            changes: false,
        }
    }
}

/// Everything that is known of the traced host's connections.
#[derive(Debug)]
pub struct Tracker {
    session: Session,
    settings: Settings,
    /// The recording's filter and the reader's own; both must accept.
    filters: Vec<Filter>,
    /// Whether lost events are known to be ones that the filters accept.
    counts_lost: bool,
    table: FxHashMap<Key, Connection>,
    listeners: Listeners,
    held: Held,
    balance: Balance,
    tally: Tally,
    window_start: Timestamp,
    now: Timestamp,
}

impl Tracker {
    /// An empty tracker for the records of `session`. `filter` is what the reader asks for beyond the filter
    /// that the session itself ran with.
    ///
    /// # Errors
    ///
    /// If a filter has more ports than can be filtered by.
    pub fn new(
        session: Session,
        filter: &crate::filter::FilterSpec,
        settings: Settings,
    ) -> Result<Self, TooManyPorts> {
        let filters = [&session.filter, filter]
            .into_iter()
            .filter(|spec| !spec.is_empty())
            .map(crate::filter::FilterSpec::compile)
            .collect::<Result<_, _>>()?;
        let started = session.started;
        let counts_lost = session.filter.is_decided_in_kernel() && filter.is_empty();
        Ok(Self {
            session,
            settings,
            filters,
            counts_lost,
            table: FxHashMap::default(),
            listeners: Listeners::default(),
            held: Held::new(settings.max_connections / 4),
            balance: Balance::default(),
            tally: Tally::new(settings.max_rows),
            window_start: started,
            now: started,
        })
    }

    /// The time of the latest input.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Takes one input. State changes that the filter accepts are appended to `changes`, if they are wanted.
    pub fn apply(&mut self, input: &Input, changes: &mut Vec<StateChange>) {
        match input {
            Input::Event(event) => self.event(event, changes),
            Input::Counters(reading) => {
                self.now = self.now.max(reading.time);
                self.balance.read(reading);
            }
            Input::End(time) => {
                self.now = self.now.max(*time);
                self.balance.end();
            }
        }
    }

    /// The report of the window that ends now, and the start of the next one.
    #[must_use]
    pub fn report(&mut self) -> Report {
        for connection in self.table.values_mut() {
            self.tally.attribute(connection);
        }
        let report = summary::report(self);
        self.tally = Tally::new(self.settings.max_rows);
        self.balance.next_window();
        self.window_start = self.now;
        report
    }

    fn event(&mut self, event: &Event, changes: &mut Vec<StateChange>) {
        self.now = self.now.max(event.time);
        self.balance.received(event.old, event.new);
        let key = self.key(event);
        let parent = self.parent(event);
        let tracked = self.table.len() < self.settings.max_connections || self.table.contains_key(&key);
        let mut stranger;
        let connection = if tracked {
            match self.table.entry(key) {
                Entry::Occupied(known) => {
                    let known = known.into_mut();
                    if known.state == TcpState::Listen {
                        self.listeners.remove(key, known);
                    }
                    known
                }
                Entry::Vacant(new) => new.insert(Connection::unseen(event)),
            }
        } else {
            self.balance.untracked();
            stranger = Connection::unseen(event);
            &mut stranger
        };
        if connection::is_birth(event) {
            // Whatever is known under this key belongs to an earlier life, whose end was lost.
            self.tally.attribute(connection);
            self.held.take(key);
            *connection = Connection::born(event);
        }
        let step = connection.advance(event, parent, &self.session);
        if tracked && event.new == TcpState::Listen {
            self.listeners.insert(key, connection);
        }
        let mut given_up = None;
        match judge(&self.filters, connection, event) {
            Verdict::Accept => {
                connection.accepted = true;
                for step in self.held.take(key).iter().chain([&step]) {
                    accept(&mut self.tally, &mut self.balance, connection, step);
                    if self.settings.changes {
                        changes.push(step.change.clone());
                    }
                }
            }
            Verdict::Defer if event.new != TcpState::Close => given_up = self.held.push(key, step),
            Verdict::Defer | Verdict::Reject => drop(self.held.take(key)),
        }
        if event.new == TcpState::Close || !tracked {
            self.tally.attribute(connection);
        }
        if event.new == TcpState::Close {
            self.table.remove(&key);
        }
        if let Some(key) = given_up
            && self.table.get(&key).is_some_and(|connection| connection.state != TcpState::Listen)
        {
            self.table.remove(&key);
        }
    }

    /// The connection's key. Up to 6.12 a child is born with its listener's cookie and without its peer: it
    /// is kept under its address until its next event, which brings its own cookie.
    fn key(&mut self, event: &Event) -> Key {
        let by_address = Key::Address(event.skaddr);
        let Some(cookie) = event.cookie else { return by_address };
        let key = Key::Cookie(cookie);
        if is_child_birth(event) && !event.peer.is_known() {
            return by_address;
        }
        if event.old == TcpState::SynReceived
            && !self.table.contains_key(&key)
            && let Some(child) = self.table.remove(&by_address)
        {
            self.table.insert(key, child);
            self.held.rename(by_address, key);
        }
        key
    }

    /// The listener that a child came in on.
    fn parent(&self, event: &Event) -> Option<listeners::Parent> {
        if !is_child_birth(event) {
            return None;
        }
        match event.cookie {
            // The listener's own: if that is not in the table, no other one is the parent.
            Some(cookie) if !event.peer.is_known() => self
                .table
                .get(&Key::Cookie(cookie))
                .filter(|listener| listener.state == TcpState::Listen)
                .map(|listener| listeners::Parent { local: listener.local, owner: listener.owner }),
            _ => self.listeners.find(event.netns, event.local, event.family),
        }
    }
}

fn is_child_birth(event: &Event) -> bool {
    event.old == TcpState::Listen && event.new == TcpState::SynReceived
}

/// Applies the filters to the connection as it is known by now. What was accepted once stays accepted, so
/// that no connection of a report lacks its end.
fn judge(filters: &[Filter], connection: &Connection, event: &Event) -> Verdict {
    if filters.is_empty() || connection.accepted {
        return Verdict::Accept;
    }
    let (local_addr, peer_addr) = (connection.local.wire_address(), connection.peer.wire_address());
    filters.iter().fold(Verdict::Accept, |verdict, filter| {
        verdict.and(filter.judge(&Subject {
            old: event.old.number(),
            new: event.new.number(),
            local_port: connection.local.port,
            peer_port: connection.peer.port,
            family: event.family,
            netns: event.netns.unwrap_or(0),
            cgroup_id: event.cgroup_id.unwrap_or(0),
            local_addr: &local_addr,
            peer_addr: &peer_addr,
            pid: connection.pid_for_filter(filter.pid),
        }))
    })
}

/// Makes an event part of the report.
fn accept(tally: &mut Tally, balance: &mut Balance, connection: &mut Connection, step: &Step) {
    balance.accepted(step.change.old, step.change.new);
    tally.step(step);
    if connection.trail_is_full() {
        tally.attribute(connection);
    }
    connection.push_trail(&step.change);
}
