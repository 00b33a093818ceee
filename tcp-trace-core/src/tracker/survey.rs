//! Surveys: what user space found by looking is merged with what events told.
//!
//! Events are the authority. A survey adds the sockets that no event has shown, says what events cannot (queues,
//! descriptors), and repairs what lost events have left behind: while it is under way the tracker notes every socket
//! that an event moved or ended, and of those it believes the events.

use std::num::{NonZeroU32, NonZeroU64};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    Tracker, Verdict,
    connection::{Connection, Key},
    gauge::Gauge,
    judge,
    life::Life,
    listed::{Listed, choose, find_parent, first_of, hold, holders_of, index},
    requests::Live,
    time_wait::{Waiting, is_time_wait},
};
use crate::{
    endpoint::Endpoint,
    session::Attach,
    state::TcpState,
    survey::{
        self, CloseWaitKind, Facts, Holder, NamespaceFacts, ProcessFacts, RequestRow, SocketRow, SurveyBegin,
        SurveyEnd, Timer,
    },
    time::Timestamp,
    tracker::Output,
};

/// Namespaces of one survey; as many as the source visits.
const NAMESPACES: usize = 1 << 16;

/// A survey under way. It keeps a few bytes of a row where the table has the rest: a host may have millions of sockets.
#[derive(Debug)]
pub(super) struct Survey {
    begin: Timestamp,
    /// How many rows there were.
    taken: usize,
    /// Sockets that are in the table.
    listed: Vec<Listed>,
    /// Rows that contradict the table, each with when it had been read. Events that are still on their way decide.
    doubtful: Vec<(Timestamp, SocketRow)>,
    sockets: FxHashMap<NonZeroU64, Sample>,
    listeners: Vec<SocketRow>,
    half_open: Vec<(NonZeroU64, Live)>,
    time_waits: Vec<Waiting>,
    holders: Vec<Holder>,
    /// There were more rows than room.
    truncated: bool,
    requests: Vec<RequestRow>,
    processes: FxHashMap<u32, ProcessFacts>,
    namespaces: Vec<NamespaceFacts>,
    /// Connections that ended while it was under way.
    closed: FxHashSet<Key>,
    /// Connections by their ends, where nothing better identifies them.
    by_ends: FxHashMap<(Endpoint, Endpoint), Option<Key>>,
}

/// What a survey found out about one socket, beyond its state.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) receive_queue: u32,
    pub(super) send_queue: u32,
    pub(super) inode: Option<NonZeroU32>,
    pub(super) kind: Option<CloseWaitKind>,
    /// The peer has closed its receive window.
    pub(super) zero_window: bool,
}

/// What the last survey found out.
#[derive(Debug, Default)]
pub(super) struct Samples {
    sockets: FxHashMap<NonZeroU64, Sample>,
    /// Of those sockets, sorted by inode.
    holders: Vec<Holder>,
    /// Whether holders were looked up at all.
    looked: bool,
    /// Whether all of them were seen.
    pub(super) complete: bool,
    /// Connections that the last whole survey should have listed and did not.
    unlisted: FxHashSet<Key>,
    /// Connections that only a survey has shown, by their ends; for the perf tracepoint only.
    ends: FxHashMap<(Endpoint, Endpoint), Key>,
    /// Listening sockets.
    pub(super) listeners: Vec<SocketRow>,
    /// Whether a survey has listed every half-open request.
    pub(super) requests: bool,
    /// What the last survey of more than requests could not look at.
    pub(super) problems: Vec<String>,
    /// Of the rows of surveys.
    pub(super) gauge: Gauge,
}

impl Survey {
    pub(super) fn new(begin: &SurveyBegin) -> Self {
        Self {
            begin: begin.time,
            taken: 0,
            listed: Vec::new(),
            doubtful: Vec::new(),
            sockets: FxHashMap::default(),
            listeners: Vec::new(),
            half_open: Vec::new(),
            time_waits: Vec::new(),
            holders: Vec::new(),
            truncated: false,
            requests: Vec::new(),
            processes: FxHashMap::default(),
            namespaces: Vec::new(),
            closed: FxHashSet::default(),
            by_ends: FxHashMap::default(),
        }
    }

    /// A connection has ended. Returns whether there was room, among `max`, to remember it: a survey that does not know
    /// what has ended meanwhile would bring it back.
    pub(super) fn closed(&mut self, key: Key, max: usize) -> bool {
        self.closed.insert(key);
        self.closed.len() <= max
    }
}

impl Sample {
    /// Whether a report shows more of a socket in this state than the state.
    fn is_wanted(state: TcpState) -> bool {
        use TcpState::{CloseWait, Closing, FinWait1, FinWait2, LastAck, Listen};
        matches!(state, Listen | CloseWait | FinWait1 | FinWait2 | Closing | LastAck)
    }
}

impl From<&SocketRow> for Sample {
    fn from(row: &SocketRow) -> Self {
        let SocketRow { receive_queue, send_queue, timer, .. } = *row;
        let (inode, kind) = (row.inode.and_then(NonZeroU32::new), CloseWaitKind::of(row));
        Self { receive_queue, send_queue, inode, kind, zero_window: timer == Timer::ZeroWindow }
    }
}

impl Samples {
    /// What is known of a socket.
    pub(super) fn get(&self, cookie: Option<NonZeroU64>) -> Option<&Sample> {
        self.sockets.get(&cookie?)
    }

    /// Who holds a socket's file; `None` where nobody has looked.
    pub(super) fn holders(&self, sample: &Sample) -> Option<&[Holder]> {
        let holders = sample.inode.map(|inode| holders_of(&self.holders, inode.get()));
        self.looked.then(|| holders.unwrap_or_default())
    }

    /// The connection between these ends that only a survey has shown.
    pub(super) fn by_ends(&self, local: Endpoint, peer: Endpoint) -> Option<Key> {
        self.ends.get(&(local, peer)).copied()
    }
}

impl Tracker {
    pub(super) fn survey_rows(&mut self, time: Timestamp, rows: &[SocketRow], output: &mut Output) {
        let Some(mut survey) = self.survey.take() else { return };
        // Bounded like the table; requests and time-wait sockets are not kept in that.
        let room = self.settings.max_survey_rows().saturating_sub(survey.taken);
        survey.taken += rows.len().min(room);
        survey.truncated |= rows.len() > room;
        self.samples.gauge.drops(rows.len().saturating_sub(room));
        self.samples.gauge.holds(survey.taken);
        for row in rows.iter().take(room) {
            self.survey_row(row, time, &mut survey, output);
        }
        self.survey = Some(survey);
    }

    /// Takes one row. What is new goes into the table at once: an event that comes behind it, also one that happened
    /// before, moves it on as if it had been there.
    fn survey_row(&mut self, row: &SocketRow, read: Timestamp, survey: &mut Survey, output: &mut Output) {
        if is_time_wait(row) {
            survey.time_waits.push(Waiting::from(row));
            return;
        }
        match row.state {
            TcpState::NewSynReceived => {
                survey.half_open.push((row.cookie, Live::from(row)));
                return;
            }
            TcpState::Close => return,
            TcpState::Listen => survey.listeners.push(row.clone()),
            _ => {}
        }
        if Sample::is_wanted(row.state) {
            survey.sockets.insert(row.cookie, Sample::from(row));
        }
        self.inherited.see(row, read);
        // With the perf tracepoint a connection has no cookie: see `survey_end`.
        let known = self.table.get(Key::Cookie(row.cookie));
        let behind = known.is_some_and(|known| known.state != row.state && known.last < survey.begin);
        if behind || self.session.attach == Attach::Tracepoint {
            survey.doubtful.push((read, row.clone()));
        } else {
            self.merge(row, read, survey);
            // What the filters turn away must not take the room of what they want until the end.
            if !self.filters.is_empty()
                && let Some(listed) = survey.listed.pop_if(|listed| listed.found)
            {
                self.admit(listed.key(), output);
                survey.listed.extend(Some(listed).filter(|listed| self.table.contains_key(listed.key())));
            }
        }
    }

    pub(super) fn survey_holders(&mut self, holders: &[Holder]) {
        if let Some(survey) = &mut self.survey {
            // As many as the sockets may be: of more, no report lists the holders.
            let room = self.settings.max_survey_rows().saturating_sub(survey.holders.len());
            self.samples.gauge.drops(holders.len().saturating_sub(room));
            survey.holders.extend(holders.iter().take(room));
        }
    }

    pub(super) fn survey_requests(&mut self, rows: &[RequestRow]) {
        if let Some(survey) = &mut self.survey {
            let room = self.requests.max().saturating_sub(survey.requests.len());
            self.requests.gauge.drops(rows.len().saturating_sub(room));
            survey.requests.extend(rows.iter().take(room));
        }
    }

    pub(super) fn facts(&mut self, facts: &Facts) {
        self.people.learn(facts);
        self.namespaces.learn(&facts.namespaces);
        self.drops.learn(&facts.listeners);
        if let Some(survey) = &mut self.survey {
            // As many as sockets, which is more than any host has; a recording may have any number.
            let room = self.settings.max_survey_rows().saturating_sub(survey.processes.len());
            let processes = facts.processes.iter().map(|process| (process.id.pid, process.clone()));
            survey.processes.extend(processes.take(room));
            let room = NAMESPACES.saturating_sub(survey.namespaces.len());
            survey.namespaces.extend(facts.namespaces.iter().take(room).cloned());
        }
    }

    pub(super) fn survey_end(&mut self, end: &SurveyEnd, output: &mut Output) {
        let Some(mut survey) = self.survey.take() else { return };
        self.now = self.now.max(end.time);
        let whole = TABLE_STATES.iter().all(|state| end.states.contains(&state.number()));
        let listed = |state: TcpState| end.states.contains(&state.number());
        if listed(TcpState::TimeWait) {
            self.time_waits.listed(&survey.time_waits, survey.begin);
        }
        if listed(TcpState::Listen) {
            self.drops.surveyed();
            self.samples.listeners = std::mem::take(&mut survey.listeners);
        }
        if listed(TcpState::CloseWait) {
            self.samples.sockets.clear();
            self.samples.problems.clone_from(&end.problems);
        }
        self.samples.sockets.extend(std::mem::take(&mut survey.sockets));
        self.samples.ends.clear();
        if self.session.attach == Attach::Tracepoint {
            for known in self.table.values() {
                // The same ends in two namespaces are two connections, and nobody can tell which is which.
                let key = known.key();
                let known = survey.by_ends.entry((known.local, known.peer));
                known.and_modify(|key| *key = None).or_insert(Some(key));
            }
        }
        for (time, row) in std::mem::take(&mut survey.doubtful) {
            self.merge(&row, time, &mut survey);
        }
        self.settle_listed(&mut survey, end, whole, output);
        if end.holders {
            self.inherited.prune(&self.table, survey.begin);
        }
        // Where there are more sockets than room, no later survey can tell more.
        let certain = whole && (survey.truncated || self.bury_unlisted(&survey, end));
        self.balance.surveyed(certain);
        if certain {
            self.modes.surveyed();
        }
        if listed(TcpState::NewSynReceived) {
            self.requests_listed(&survey, &end.namespaces);
        }
    }

    /// Finds listeners and owners for the sockets of the table that were listed.
    fn settle_listed(&mut self, survey: &mut Survey, end: &SurveyEnd, whole: bool, output: &mut Output) {
        // As they come from the kernel they are sorted already. Those of one socket stay in their order.
        if !survey.holders.is_sorted_by_key(|holder| holder.inode) {
            survey.holders.sort_by_key(|holder| holder.inode);
        }
        let index = index(&survey.holders);
        // Listeners first, so that connections find theirs.
        for listens in [true, false] {
            for listed in survey.listed.iter().filter(|listed| listed.listens == listens) {
                let key = listed.key();
                let Some(connection) = self.table.get_mut(key) else { continue };
                connection.listed = whole && !survey.truncated;
                if listed.found {
                    find_parent(&mut self.listeners, key, connection, listed.inode.is_some());
                }
                let holders = listed.inode.filter(|_| end.holders).and_then(|inode| index.get(&inode.get()));
                let holders = holders.map(|from| first_of(survey.holders.get(*from as usize..)));
                let holders = holders.unwrap_or_default();
                if self.session.attach == Attach::TpBtf && !holders.is_empty() {
                    let (processes, begin) = (&survey.processes, survey.begin);
                    self.inherited.look(connection, holders, processes, &self.session, begin);
                }
                if let Some(owner) = choose(holders, &survey.processes, connection) {
                    hold(&mut self.listeners, key, connection, owner);
                    self.people.meet(owner.process);
                }
                if !connection.accepted {
                    self.admit(key, output);
                }
            }
        }
        if end.holders {
            let sockets = &self.samples.sockets;
            let inodes: FxHashSet<u32> =
                sockets.values().filter_map(|sample| sample.inode).map(NonZeroU32::get).collect();
            let holders = survey.holders.iter().filter(|holder| inodes.contains(&holder.inode));
            self.samples.holders = holders.copied().collect();
            self.samples.looked = true;
            self.samples.complete = end.holders_complete;
        }
    }

    fn requests_listed(&mut self, survey: &Survey, namespaces: &[u32]) {
        self.samples.requests = true;
        for request in self.requests.listed(&survey.half_open, namespaces) {
            if let Some(listener) = self.listener_of(&request) {
                self.tally.requested(listener, request.peer.address);
            }
        }
        let dead = if self.session.watches_requests() {
            let home = |local, family| self.listeners.find_anywhere(local, family)?.0;
            self.requests.died(&survey.requests, &survey.namespaces, self.now, home)
        } else {
            self.requests.departed(&survey.namespaces)
        };
        for dead in dead {
            if let Some(listener) = self.listener_of(&dead.request) {
                self.tally.died(listener, &dead);
            }
        }
    }

    /// Namespace and local end of the listener that a request came in on, if the filter wants it.
    pub(super) fn listener_of(&self, request: &Live) -> Option<(Option<u32>, Endpoint)> {
        let Live { netns, local, peer, family, overdue: _ } = *request;
        let parent = match netns {
            Some(_) => self.listeners.find(netns, local, family).map(|parent| (netns, parent)),
            None => self.listeners.find_anywhere(local, family),
        };
        let (netns, local) = parent.map_or((netns, local), |(netns, parent)| (netns, parent.local));
        self.wants_request(netns, local, peer).then_some((netns, local))
    }

    /// Merges one socket.
    fn merge(&mut self, row: &SocketRow, read: Timestamp, survey: &mut Survey) {
        let key = Key::Cookie(row.cookie);
        if survey.closed.contains(&key) {
            return;
        }
        // With the perf tracepoint a connection has no cookie.
        let key = match survey.by_ends.get(&(row.local, row.peer)) {
            Some(None) => return,
            Some(Some(known)) => *known,
            None => key,
        };
        let age = survey::age(row);
        let closed = self.settings.closed;
        let room = self.table.len() < self.settings.max_connections;
        let mut found = false;
        match self.table.get_mut(key) {
            Some(known) if known.last < survey.begin && known.state != row.state => {
                known.repair(row, age, read);
                if !self.modes.blurred {
                    self.balance.repaired();
                }
            }
            Some(known) => known.learn_age(row.state, age, read),
            None if room => {
                let mut new = Connection::found(row, age, read);
                new.life = closed.then(|| Box::new(Life::found(row.state)));
                self.table.add(key, new);
                if self.session.attach == Attach::Tracepoint {
                    self.samples.ends.insert((row.local, row.peer), key);
                }
                found = true;
            }
            None => {
                self.table.gauge.drops(1);
                return;
            }
        }
        survey.listed.push(Listed::new(key, row, found));
    }

    /// Judges a connection that no event has brought up for judgement.
    fn admit(&mut self, key: Key, output: &mut Output) {
        let Some(connection) = self.table.get_mut(key) else { return };
        if connection.accepted {
            return;
        }
        if self.held.last(key).is_some() {
            self.decide(key, output);
        } else {
            let state = connection.state;
            let verdict = judge(&self.filters, connection, (state, state));
            connection.accepted = verdict == Verdict::Accept;
            // The kernel's filter keeps its events back, and without them the table would not know when it ends.
            if verdict == Verdict::Reject && self.filters.iter().all(|filter| filter.pid == 0) {
                if state == TcpState::Listen {
                    self.listeners.remove(key, connection);
                }
                self.table.remove(key);
            }
        }
    }

    /// Takes out of the table what two whole surveys in a row have not listed. Once is not enough: the kernel makes its
    /// list in steps, between which a place in it may shift (`inet_diag_dump_icsk`, `net/ipv4/inet_diag.c`). Returns whether
    /// nothing awaits a second look.
    fn bury_unlisted(&mut self, survey: &Survey, end: &SurveyEnd) -> bool {
        // A time-wait socket has the cookie of the socket that it has taken the place of.
        let replaced: FxHashSet<_> = survey.time_waits.iter().map(|waiting| waiting.cookie).collect();
        let mut unlisted = Vec::new();
        for connection in self.table.values_mut() {
            if !std::mem::take(&mut connection.listed)
                && connection.last < survey.begin
                && connection.netns().is_some_and(|netns| end.namespaces.contains(&netns))
                && let Some(cookie) = connection.cookie
            {
                unlisted.push((connection.key(), cookie));
            }
        }
        // One that is kept under its address is listed under its cookie.
        unlisted.retain(|(key, cookie)| {
            matches!(key, Key::Cookie(_)) || !self.table.contains_key(Key::Cookie(*cookie))
        });
        let before = std::mem::take(&mut self.samples.unlisted);
        let (dead, unlisted): (Vec<_>, Vec<_>) =
            unlisted.into_iter().partition(|(key, cookie)| before.contains(key) || replaced.contains(cookie));
        self.samples.unlisted = unlisted.into_iter().map(|(key, _)| key).collect();
        for (key, _) in dead {
            let Some(mut connection) = self.table.remove(key) else { continue };
            if connection.state == TcpState::Listen {
                self.listeners.remove(key, &connection);
            }
            self.tally.attribute(&mut connection);
            self.held.take(key);
            if !self.modes.blurred {
                self.balance.repaired();
            }
        }
        self.samples.unlisted.is_empty()
    }
}

/// The states in which a socket stands in the table.
const TABLE_STATES: [TcpState; 9] = [
    TcpState::Established,
    TcpState::SynSent,
    TcpState::SynReceived,
    TcpState::FinWait1,
    TcpState::FinWait2,
    TcpState::CloseWait,
    TcpState::LastAck,
    TcpState::Listen,
    TcpState::Closing,
];

impl Tracker {
    /// Whether the filters may want a request of these ends. Of its owner nothing is known but the listener's.
    pub(super) fn wants_request(&self, netns: Option<u32>, local: Endpoint, peer: Endpoint) -> bool {
        use tcp_trace_common::filter::{Filter, Subject};
        let (local_addr, peer_addr) = (local.wire_address(), peer.wire_address());
        let listener = self.listeners.find_at(netns, local);
        // Its process or cgroup is asked for, and nobody knows that this is it: the kernel's filter keeps others away.
        let asked = |filter: &Filter| filter.pid != 0 || filter.cgroup_ids.iter().any(|id| *id != 0);
        if listener.is_none() && self.filters.iter().any(asked) {
            return false;
        }
        let owner = listener.and_then(|listener| listener.owner);
        self.filters.iter().all(|filter| {
            filter.judge(&Subject {
                old: TcpState::NewSynReceived.number(),
                new: TcpState::NewSynReceived.number(),
                local_port: local.port,
                peer_port: peer.port,
                family: 0,
                netns: netns.unwrap_or(0),
                cgroup_id: 0,
                local_addr: &local_addr,
                peer_addr: &peer_addr,
                pid: owner.map_or(0, |owner| owner.process.pid),
            }) != Verdict::Reject
        })
    }
}
