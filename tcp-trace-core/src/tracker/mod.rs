//! Input → Report: one bounded table of connections, and the tallies of the current window.
//!
//! [`Tracker::apply`] is the only way in. An event is counted, finds (or makes) its connection, moves it on,
//! and is then judged by the filter: accepted, turned away, or held back until the connection's final tuple
//! or owner is known.

mod aggregate;
mod balance;
mod connection;
mod drops;
mod ending;
mod endings;
mod errno;
mod gauge;
mod handshake;
mod hold;
mod inherited;
mod life;
mod listed;
mod listeners;
mod namespaces;
mod naming;
mod outcome;
mod people;
mod requests;
mod restarts;
mod series;
mod sources;
mod stacks;
mod summary;
mod survey;
mod table;
mod tally;
mod time_wait;
mod wake;

use tcp_trace_common::filter::{Filter, Subject, Verdict};

pub use self::table::Account;

use self::{
    aggregate::Modes,
    balance::Balance,
    connection::{Connection, Key, Step},
    drops::Drops,
    gauge::RowGauges,
    handshake::DurationSource,
    hold::Held,
    inherited::Inherited,
    life::Life,
    listeners::Listeners,
    namespaces::Namespaces,
    people::People,
    requests::Requests,
    stacks::Stacks,
    survey::{Samples, Survey},
    table::{Place, Table},
    tally::Tally,
    time_wait::TimeWaits,
    wake::Wake,
};
use crate::{
    filter::TooMany,
    input::{Event, Input, RequestChange, SocketUse, UseKind},
    mode::Mode,
    process::{OwnerSource, ProcessId},
    report::{Obituary, ProcessSockets, Report, StateChange},
    session::{Degradation, Session},
    state::TcpState,
    time::{Timestamp, WallTime},
};

/// Bounds and thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A socket in CLOSE_WAIT for longer than this many nanoseconds lingers.
    pub close_wait_after_ns: u64,
    /// Connections kept. One that comes when there is no room takes the place of one that is established and quiet;
    /// where there is none of these its events are counted, but have no history. A fourth as many events may be held
    /// back until the filter can judge them.
    pub max_connections: usize,
    /// Rows kept per table of a report (listeners, destinations, processes).
    pub max_rows: usize,
    /// Sockets and peers listed per process.
    pub max_sockets: usize,
    /// Whether single state changes are wanted, or only reports.
    pub changes: bool,
    /// Whether finished connections are wanted.
    pub closed: bool,
    /// Whether reports are to say how populations went since the start of the run.
    pub series: bool,
}

/// What the tracker says between reports.
#[derive(Debug, Default)]
pub struct Output {
    /// State changes, in order.
    pub changes: Vec<StateChange>,
    /// Finished connections, in order.
    pub closed: Vec<Obituary>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            close_wait_after_ns: 10_000_000_000,
            max_connections: MAX_CONNECTIONS,
            max_rows: 4096,
            max_sockets: 100,
            changes: false,
            closed: false,
            series: false,
        }
    }
}

/// Connections kept unless something else is asked for: 350 MiB of them.
pub const MAX_CONNECTIONS: usize = 2_000_000;
/// The most that can be asked for: what their numbers have room for.
pub const MOST_CONNECTIONS: usize = 1 << 30;

impl Settings {
    /// Sockets that one survey may show. Requests and time-wait sockets are among them, which the table does not keep.
    fn max_survey_rows(&self) -> usize {
        self.max_connections.saturating_mul(2)
    }
}

/// Processes kept of each of two generations.
const PEOPLE: usize = 8192;
/// Events held back at most, some hundred bytes each.
const UNDECIDED: usize = 1 << 18;
/// What a run may do without.
const DEGRADATIONS: usize = 256;
/// Half-open requests kept; as many as the kernel program's map holds.
const REQUESTS: usize = 65_536;

/// Everything that is known of the traced host's connections.
#[derive(Debug)]
pub struct Tracker {
    session: Session,
    settings: Settings,
    /// The recording's filter and the reader's own; both must accept.
    filters: Vec<Filter>,
    /// Whether lost events are known to be ones that the filters accept.
    counts_lost: bool,
    table: Table,
    listeners: Listeners,
    held: Held,
    balance: Balance,
    tally: Tally,
    rows: RowGauges,
    people: People,
    requests: Requests,
    namespaces: Namespaces,
    time_waits: TimeWaits,
    inherited: Inherited,
    drops: Drops,
    wake: Wake,
    modes: Modes,
    stacks: Stacks,
    /// The survey that is under way.
    survey: Option<Survey>,
    /// What the last survey found out about sockets beyond their state.
    samples: Samples,
    /// How populations went; `None` if nobody asks.
    series: Option<series::Recorder>,
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
    ) -> Result<Self, TooMany> {
        let filters = [&session.filter, filter]
            .into_iter()
            .filter(|spec| !spec.is_empty())
            .map(crate::filter::FilterSpec::compile)
            .collect::<Result<_, _>>()?;
        let started = session.started;
        let stacks = Stacks::new(&session, settings.max_connections);
        let counts_lost = session.filter.is_decided_in_kernel() && filter.is_empty();
        Ok(Self {
            session,
            settings,
            filters,
            counts_lost,
            table: Table::default(),
            listeners: Listeners::default(),
            held: Held::new((settings.max_connections / 4).min(UNDECIDED)),
            balance: Balance::default(),
            tally: Tally::new(settings.max_rows),
            rows: RowGauges::default(),
            people: People::new(PEOPLE),
            requests: Requests::new(REQUESTS),
            namespaces: Namespaces::default(),
            time_waits: TimeWaits::default(),
            inherited: Inherited::default(),
            drops: Drops::default(),
            wake: Wake::default(),
            modes: Modes::default(),
            stacks,
            survey: None,
            samples: Samples::default(),
            series: settings.series.then(|| series::Recorder::new(started)),
            window_start: started,
            now: started,
        })
    }

    /// The time of the latest input.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// From now on a socket lingers after so many nanoseconds, and so much is wanted between reports. Connections that were
    /// there before anybody wanted to hear of their end have a life that begins now: their obituaries say that it is not
    /// complete.
    pub fn reconfigure(&mut self, close_wait_after_ns: u64, changes: bool, closed: bool) {
        if closed && !self.settings.closed {
            for connection in self.table.values_mut() {
                let found = || Box::new(Life::found(connection.state));
                connection.life.get_or_insert_with(found);
            }
        }
        self.settings = Settings { close_wait_after_ns, changes, closed, ..self.settings };
    }

    /// Takes one input. State changes and finished connections that the filter accepts are appended to `output`, if
    /// they are wanted.
    pub fn apply(&mut self, input: &Input, output: &mut Output) {
        match input {
            Input::Event(event) if event.aggregated => self.shown(event, output),
            Input::Event(event) => self.event(event, output),
            Input::SocketUse(used) => self.socket_use(used, output),
            Input::Request(change) => self.request(change),
            Input::Counters(reading) => {
                self.now = self.now.max(reading.time);
                self.balance.read(reading);
                self.sample(false);
            }
            Input::End(time) => {
                self.now = self.now.max(*time);
                self.balance.end();
                self.sample(true);
            }
            Input::SurveyBegin(begin) => self.survey = Some(Survey::new(begin)),
            Input::Sockets(time, rows) => self.survey_rows(*time, rows, output),
            Input::Holders(holders) => self.survey_holders(holders),
            Input::Requests(rows) => self.survey_requests(rows),
            Input::Facts(facts) => self.facts(facts),
            Input::SurveyEnd(end) => self.survey_end(end, output),
            Input::Mode(change) => self.mode(*change),
            Input::Degradation(degradation) => self.degrade(degradation),
            Input::Aggregates(rows) => self.aggregates(rows),
            Input::Stacks(facts) => self.stacks(facts, output),
        }
        if matches!(input, Input::End(_)) {
            for ended in self.wake.drain() {
                self.conclude(ended, output);
            }
        }
        while let Some(ended) = self.wake.overdue(self.now) {
            self.conclude(ended, output);
        }
        self.release_obituaries(matches!(input, Input::End(_)), output);
    }

    /// What has become of all connections: a look at the whole table, for tests.
    #[must_use]
    pub fn account(&self) -> Account {
        self.table.account()
    }

    /// Whether the table is to be put right as soon as possible: transitions were lost since the last whole survey, or
    /// aggregated until a moment ago.
    #[must_use]
    pub fn needs_repair(&self) -> bool {
        self.balance.needs_repair() || (self.modes.blurred && self.modes.now.mode == Mode::Stream)
    }

    /// Whether it is to be put right before it is reported on.
    #[must_use]
    pub fn is_blurred(&self) -> bool {
        self.balance.needs_repair() || self.modes.blurred
    }

    /// The processes that were seen since the last call and that no facts are known of yet.
    pub fn take_wanted(&mut self) -> Vec<ProcessId> {
        self.people.take_wanted()
    }

    /// The sockets of one process as they are now, at most so many of them: a look at the whole table.
    #[must_use]
    pub fn sockets_of(&self, pid: u32, start: Option<WallTime>, most: usize) -> ProcessSockets {
        summary::sockets_of(self, pid, start, most)
    }

    /// The report of the window that ends now, and the start of the next one.
    #[must_use]
    pub fn report(&mut self) -> Report {
        self.attribute_ended();
        for connection in self.table.values_mut() {
            self.tally.attribute(connection);
        }
        self.gauge_rows();
        let report = summary::report(self);
        self.tally = self.tally.next();
        self.drops.next_window();
        self.balance.next_window();
        self.namespaces.next_window();
        self.modes.next_window();
        self.window_start = self.now;
        report
    }

    /// An event has come, whatever is made of it.
    fn received(&mut self, event: &Event) {
        self.now = self.now.max(event.time);
        self.balance.received(event.old, event.new);
        if let Some(task) = event.task {
            self.people.meet(task.process);
        }
    }

    fn event(&mut self, event: &Event, output: &mut Output) {
        self.received(event);
        let key = self.key(event);
        let parent = self.parent(event);
        let sent = self.requests.sent(event.cookie);
        let ends = event.new == TcpState::Close && !self.awaits_close(event);
        let birth = connection::is_birth(event);
        if birth {
            self.bury_predecessor(key, output);
        }
        let place = self.place(key, event, birth);
        let tracked = place.is_some();
        let mut stranger;
        let connection = if let Some(known) = place.and_then(|place| self.table.at_mut(place)) {
            known
        } else {
            self.balance.untracked();
            self.table.gauge.drops(1);
            stranger = begin(event, birth, self.settings.closed);
            &mut stranger
        };
        let mut step = connection.advance(event, parent, sent, &self.session);
        if self.settings.changes || self.settings.closed {
            step.change.container = self.people.container(step.change.owner, step.change.cgroup_id);
        }
        if step.handshake.is_some() {
            step.counted = self.requests.completed(event.cookie);
        }
        if tracked && event.new == TcpState::Listen {
            self.listeners.insert(key, connection);
        }
        let mut given_up = None;
        match judge(&self.filters, connection, (event.old, event.new)).and(naming::ripeness(event)) {
            Verdict::Accept => {
                connection.accepted = true;
                let (tally, balance) = (&mut self.tally, &mut self.balance);
                if self.held.len() > 0 {
                    let changes = self.settings.changes.then_some(&mut output.changes);
                    accept_held(self.held.take(key), connection, tally, balance, changes);
                }
                step.complete(connection);
                accept(tally, balance, connection, &step);
                if self.settings.changes {
                    output.changes.push(step.change.clone());
                }
            }
            Verdict::Defer if !ends => {
                given_up = self.held.push(key, step.clone());
            }
            Verdict::Defer | Verdict::Reject => drop(self.held.take(key)),
        }
        if !tracked {
            self.tally.attribute(connection);
        } else if event.new == TcpState::Close {
            self.close(key, event, &step, output);
        }
        if let Some(key) = given_up {
            self.give_up(key);
        }
    }

    /// Where the event's connection stands in the table; it is entered if it is new. `None` if there is no room.
    fn place(&mut self, key: Key, event: &Event, birth: bool) -> Option<Place> {
        let Some(place) = self.table.find(key) else {
            let room = self.table.len() < self.settings.max_connections || self.make_room();
            return room.then(|| self.table.add(key, begin(event, birth, self.settings.closed)));
        };
        if let Some(known) = self.table.at(place)
            && known.state == TcpState::Listen
        {
            self.listeners.remove(key, known);
        }
        Some(place)
    }

    /// Gives up a connection whose loss hurts least. If an event brings it back, it is one whose beginning was not
    /// seen: nothing is known of it that is not known again. Returns whether there was one.
    fn make_room(&mut self) -> bool {
        let Some(mut given_up) = self.table.give_up() else { return false };
        self.held.take(given_up.key());
        self.tally.attribute(&mut given_up);
        true
    }

    /// There was no room for the events of a connection that the filter cannot judge.
    fn give_up(&mut self, key: Key) {
        if self.table.get(key).is_some_and(|connection| connection.state != TcpState::Listen) {
            self.table.remove(key);
        }
    }

    /// Something turned out not to be had. There are a few dozen such things; a recording may have any number.
    fn degrade(&mut self, degradation: &Degradation) {
        let known = &mut self.session.degradations;
        if known.len() < DEGRADATIONS && !known.contains(degradation) {
            known.push(degradation.clone());
        }
    }

    /// A task used a socket that it had not opened.
    fn socket_use(&mut self, used: &SocketUse, output: &mut Output) {
        self.now = self.now.max(used.time);
        // Whoever looks at a descriptor keeps it for the moment, and may be the last to do so.
        if Some(used.task.process.pid) == self.session.pid {
            return;
        }
        self.people.meet(used.task.process);
        if used.how == UseKind::Close {
            if let Some(mut ended) = self.wake.take(used.cookie) {
                ended.connection.used_by(used.task, OwnerSource::Task);
                self.conclude(ended, output);
            }
            return;
        }
        let key = Key::Cookie(used.cookie);
        let Some(connection) = self.table.get_mut(key) else { return };
        // A later use, by another task than the one that a transition showed, may be a helper's.
        if connection.owner().is_none() || connection.is_provisional() {
            connection.used_by(used.task, OwnerSource::Accept);
        }
        self.decide(key, output);
    }

    /// Judges the events of a connection that were held back, after its owner has become known.
    fn decide(&mut self, key: Key, output: &mut Output) {
        let Some(connection) = self.table.get_mut(key) else { return };
        let Some(transition) = self.held.last(key) else { return };
        match judge(&self.filters, connection, transition) {
            Verdict::Accept => {
                connection.accepted = true;
                let changes = self.settings.changes.then_some(&mut output.changes);
                let (tally, balance) = (&mut self.tally, &mut self.balance);
                accept_held(self.held.take(key), connection, tally, balance, changes);
            }
            Verdict::Reject => drop(self.held.take(key)),
            Verdict::Defer => {}
        }
    }

    fn request(&mut self, change: &RequestChange) {
        self.now = self.now.max(change.time);
        if !self.wants_request(change.netns, change.local, change.peer) {
            return;
        }
        let listener = self.listeners.find(change.netns, change.local, change.family);
        let local = listener.map_or(change.local, |listener| listener.local);
        if let Some(cause) = requests::cause(change.accept_queue, change.acked) {
            self.tally.cause((change.netns, local), cause);
        }
        if let Some(dead) = self.requests.change(change) {
            self.tally.died((change.netns, local), &dead);
        }
    }
}

/// The record of a connection that `event` begins, or begins to show.
fn begin(event: &Event, birth: bool, closed: bool) -> Connection {
    let mut connection = if birth { Connection::born(event) } else { Connection::unseen(event) };
    connection.life = closed.then(|| Box::new(Life::new(event, birth)));
    connection
}

/// Applies the filters to the connection as it is known by now. What was accepted once stays accepted, so
/// that no connection of a report lacks its end.
fn judge(filters: &[Filter], connection: &Connection, (old, new): (TcpState, TcpState)) -> Verdict {
    if filters.is_empty() || connection.accepted {
        return Verdict::Accept;
    }
    let (local_addr, peer_addr) = (connection.local.wire_address(), connection.peer.wire_address());
    filters.iter().fold(Verdict::Accept, |verdict, filter| {
        verdict.and(filter.judge(&Subject {
            old: old.number(),
            new: new.number(),
            local_port: connection.local.port,
            peer_port: connection.peer.port,
            family: connection.family_number(),
            netns: connection.netns().unwrap_or(0),
            cgroup_id: connection.cgroup_id().unwrap_or(0),
            local_addr: &local_addr,
            peer_addr: &peer_addr,
            pid: connection.pid_for_filter(filter.pid),
        }))
    })
}

/// Makes events part of the report that were held back.
fn accept_held(
    held: Vec<Step>,
    connection: &mut Connection,
    tally: &mut Tally,
    balance: &mut Balance,
    mut changes: Option<&mut Vec<StateChange>>,
) {
    for mut step in held {
        step.complete(connection);
        accept(tally, balance, connection, &step);
        if let Some(changes) = &mut changes {
            changes.push(step.change);
        }
    }
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
