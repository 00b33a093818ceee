//! Aggregation: rows of transitions that the kernel has counted, and the events that only keep the table right.
//!
//! Each transition is tallied once: by its own event, or as part of a row. An event that says that its transition is in
//! a row moves its connection on and is tallied nowhere.

use super::{
    Output, Tracker, Verdict, connection,
    endings::End,
    handshake::{DurationSource, Handshake},
    judge,
    listeners::Parent,
};
use crate::{
    endpoint::Endpoint,
    input::{Aggregate, Event, Time},
    mode::{Mode, ModeChange},
    process::Owner,
    report::ModeSpan,
    session::Session,
    state::TcpState,
    time::Timestamp,
};

/// Which mode held when.
#[derive(Debug, Default)]
pub(super) struct Modes {
    /// The one that holds now.
    pub(super) now: ModeChange,
    /// Those of the window that are over, and when they were.
    over: Vec<(ModeChange, Timestamp)>,
    /// Transitions have moved connections unseen since the last survey of everything.
    pub(super) blurred: bool,
    /// Listeners that were closed since the rows before the last: the next rows may still be of their connections.
    gone: [Vec<(Option<u32>, Parent)>; 2],
}

impl Modes {
    fn change(&mut self, change: ModeChange, max: usize) {
        if change.mode != self.now.mode {
            if self.over.len() >= max {
                self.over.remove(0);
            }
            self.over.push((self.now, change.time));
        }
        self.now = change;
        self.blurred |= change.mode != Mode::Stream;
    }

    /// The modes of the window from `start` to `end`.
    pub(super) fn spans(&self, session: &Session, start: Timestamp, end: Timestamp) -> Vec<ModeSpan> {
        let now = (self.now, end);
        let span = |(ModeChange { time, mode, reason }, until): (ModeChange, Timestamp)| {
            // A change may become known only after the report on its time.
            let (from, to) = (time.clamp(start, end), until.clamp(start, end));
            ModeSpan {
                mode,
                reason,
                start: session.anchor.wall(from),
                end: session.anchor.wall(to),
                seconds: to.since(from) as f64 / 1e9,
            }
        };
        let over = self.over.iter().copied().map(span).filter(|span| span.seconds > 0.0);
        over.chain([span(now)]).collect()
    }

    /// Whether transitions are counted by kind and nothing else is known of them, which holds for a whole run.
    pub(super) fn only_counts(&self) -> bool {
        self.now.mode == Mode::Count
    }

    pub(super) fn next_window(&mut self) {
        self.over.clear();
    }

    /// Everything was looked at.
    pub(super) fn surveyed(&mut self) {
        self.blurred = self.now.mode != Mode::Stream;
    }

    /// A listener is closed.
    pub(super) fn listener_gone(&mut self, netns: Option<u32>, listener: Parent, max: usize) {
        if self.blurred && self.gone[0].len() < max {
            self.gone[0].push((netns, listener));
        }
    }
}

impl Tracker {
    pub(super) fn mode(&mut self, change: ModeChange) {
        self.now = self.now.max(change.time);
        self.modes.change(change, self.settings.max_rows);
    }

    /// Rows of transitions, none of which has been tallied before.
    pub(super) fn aggregates(&mut self, rows: &[Aggregate]) {
        for row in rows {
            self.balance.aggregated(row.old, row.new, row.count);
            // Nobody can say which of them a filter of the reader's would have let through.
            if self.counts_lost {
                self.aggregate(row);
            }
        }
        self.modes.blurred = true;
        self.modes.gone = [Vec::new(), std::mem::take(&mut self.modes.gone[0])];
    }

    fn aggregate(&mut self, row: &Aggregate) {
        let listener = row.listener_port.and_then(|port| self.listener_at(row.netns, port));
        let inferred = listener.and_then(|(_, owner)| owner).filter(|_| row.process.is_none());
        // Whoever looks at a descriptor keeps it for the moment (see `socket_use`).
        let owner = row.process.filter(|process| Some(process.pid) != self.session.pid);
        let owner = owner.or_else(|| inferred.map(|owner| owner.process));
        if let Some(process) = owner {
            self.people.meet(process);
        }
        // As in `handshake::measure`, a sample that stands in for a request is not believed beside real ones.
        let believed = row.time != Time::Srtt || !self.session.watches_requests();
        let row = &Aggregate { bounds: row.bounds.filter(|_| believed), ..*row };
        self.tally.aggregate(row, owner, inferred);
        let Some(handshake) = handshake(row) else { return };
        let local = listener.and_then(|(local, _)| local);
        self.tally.aggregate_handshakes(local.map(|local| (row.netns, local)), handshake, row);
    }

    /// The listener at a port, and its owner: each `None` if there are several and they differ.
    fn listener_at(&self, netns: Option<u32>, port: u16) -> Option<(Option<Endpoint>, Option<Owner>)> {
        let gone = self.modes.gone.iter().flatten();
        let gone = gone.filter(|(home, parent)| *home == netns && parent.local.port == port);
        let mut all = self.listeners.at_port(netns, port).chain(gone.map(|(_, parent)| *parent));
        let first = all.next()?;
        let (mut local, mut owner) = (Some(first.local), first.owner);
        for other in all {
            local = local.filter(|local| *local == other.local);
            owner = owner.filter(|owner| other.owner.is_some_and(|other| other.process == owner.process));
        }
        Some((local, owner))
    }

    /// An event whose transition is in a row.
    pub(super) fn shown(&mut self, event: &Event, output: &mut Output) {
        self.now = self.now.max(event.time);
        self.modes.blurred = true;
        if let Some(task) = event.task {
            self.people.meet(task.process);
            self.tally.name(task);
        }
        let key = self.key(event);
        let birth = connection::is_birth(event);
        if birth {
            self.bury_predecessor(key, output);
        }
        let arrives = event.old == TcpState::SynReceived && event.new == TcpState::Established;
        let parent = (arrives && event.file == Some(false))
            .then(|| self.listeners.find(event.netns, event.local, event.family))
            .flatten();
        let counted = arrives && self.requests.completed(event.cookie);
        if event.new == TcpState::Close && !self.table.contains_key(key) {
            return self.finished(key);
        }
        let place = self.place(key, event, birth);
        let Some(connection) = place.and_then(|place| self.table.at_mut(place)) else {
            self.table.gauge.drops(1);
            return self.balance.untracked();
        };
        if let Some(parent) = parent {
            connection.came_in_on(parent);
        }
        let step = connection.advance(event, None, None, &self.session);
        if event.new == TcpState::Listen {
            self.listeners.insert(key, connection);
        }
        let accepted = judge(&self.filters, connection, (event.old, event.new)) == Verdict::Accept;
        connection.accepted |= accepted;
        if accepted && event.new == TcpState::Listen {
            let at = (connection.netns(), connection.local);
            self.tally.restarts.opened(at, connection.owner(), event.time);
        }
        if accepted && arrives {
            let local = parent.map_or(event.local, |parent| parent.local);
            self.tally.arrived((event.netns, local), event.peer.address, counted);
        }
        let held = if accepted { self.held.take(key) } else { Vec::new() };
        if !held.is_empty()
            && let Some(mut connection) = self.table.remove(key)
        {
            self.accept_all(held, &mut connection, output);
            self.table.insert(key, connection);
        }
        if event.new == TcpState::Close {
            self.close_shown(key, event, &step, output);
        }
    }

    fn close_shown(
        &mut self,
        key: connection::Key,
        event: &Event,
        step: &connection::Step,
        output: &mut Output,
    ) {
        self.finished(key);
        let Some(mut connection) = self.table.remove(key) else { return };
        if event.old == TcpState::Listen {
            self.listener_gone(&connection);
        }
        if let Some(afterlife) = step.afterlife.filter(|_| connection.accepted) {
            self.time_waits.entered(connection.cookie, connection.owner(), afterlife, event.time);
        }
        let end = End::of(event, step, &connection);
        self.bury(&mut connection, None, end, self.now, output);
    }

    /// A listener is closed. Rows may still come of connections that came in on it.
    pub(super) fn listener_gone(&mut self, listener: &connection::Connection) {
        if listener.accepted {
            let others = self.listeners.at_port(listener.netns(), listener.local.port);
            let others = others.filter(|parent| parent.local == listener.local).count() > 0;
            self.tally.restarts.closed(listener, others);
        }
        let parent = Parent { local: listener.local, owner: listener.owner() };
        self.modes.listener_gone(listener.netns(), parent, self.settings.max_rows);
    }
}

/// The handshakes of a row; `None` if it is of other transitions.
fn handshake(row: &Aggregate) -> Option<Handshake> {
    if row.new != TcpState::Established {
        return None;
    }
    let known = |source| match row.bounds {
        // The duration itself is in the row's bounds.
        Some((least, _)) => Handshake::Known { duration_ns: least, source },
        None => Handshake::Unknown,
    };
    Some(match row.time {
        Time::SockOps => known(DurationSource::SockOps),
        Time::Fentry => known(DurationSource::Fentry),
        Time::FastOpen => known(DurationSource::FastOpen),
        Time::Srtt => known(DurationSource::Srtt),
        Time::Cookie => Handshake::Cookie,
        Time::Unmeasured => Handshake::Unknown,
        Time::State | Time::TimeWait | Time::Orphan => return None,
    })
}
