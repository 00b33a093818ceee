//! Surveys: what user space found by looking is merged with what events told.
//!
//! Events are the authority. A survey adds the sockets that no event has shown, says what events cannot (queues,
//! descriptors), and repairs what lost events have left behind: while it is under way the tracker notes every socket
//! that an event moved or ended, and of those it believes the events.

use std::num::NonZeroU64;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    Tracker, Verdict,
    connection::{Connection, Key},
    gauge::Gauge,
    judge,
    life::Life,
    requests::Live,
    time_wait::is_time_wait,
};
use crate::{
    endpoint::Endpoint,
    process::{Comm, Owner, OwnerSource},
    session::Attach,
    state::TcpState,
    survey::{
        self, CloseWaitKind, Facts, Holder, NamespaceFacts, ProcessFacts, RequestRow, SocketRow, SurveyBegin,
        SurveyEnd, Timer,
    },
    time::Timestamp,
    tracker::Output,
};

/// A survey under way.
#[derive(Debug)]
pub(super) struct Survey {
    begin: Timestamp,
    /// Each with when it had been read.
    rows: Vec<(Timestamp, SocketRow)>,
    holders: FxHashMap<u32, Vec<Holder>>,
    /// How many of them.
    held: usize,
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
    pub(super) inode: Option<u32>,
    pub(super) kind: Option<CloseWaitKind>,
    /// The peer has closed its receive window.
    pub(super) zero_window: bool,
}

/// What the last survey found out.
#[derive(Debug, Default)]
pub(super) struct Samples {
    sockets: FxHashMap<NonZeroU64, Sample>,
    holders: FxHashMap<u32, Vec<Holder>>,
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
            rows: Vec::new(),
            holders: FxHashMap::default(),
            held: 0,
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

impl Samples {
    /// What is known of a socket.
    pub(super) fn get(&self, cookie: Option<NonZeroU64>) -> Option<&Sample> {
        self.sockets.get(&cookie?)
    }

    /// Who holds a socket's file; `None` where nobody has looked.
    pub(super) fn holders(&self, sample: &Sample) -> Option<&[Holder]> {
        let holders = sample.inode.and_then(|inode| self.holders.get(&inode));
        self.looked.then(|| holders.map(Vec::as_slice).unwrap_or_default())
    }

    /// The connection between these ends that only a survey has shown.
    pub(super) fn by_ends(&self, local: Endpoint, peer: Endpoint) -> Option<Key> {
        self.ends.get(&(local, peer)).copied()
    }
}

impl Tracker {
    pub(super) fn survey_rows(&mut self, time: Timestamp, rows: &[SocketRow]) {
        if let Some(survey) = &mut self.survey {
            // Bounded like the table; requests and time-wait sockets are not kept in that.
            let room = self.settings.max_survey_rows().saturating_sub(survey.rows.len());
            survey.truncated |= rows.len() > room;
            self.samples.gauge.drops(rows.len().saturating_sub(room));
            survey.rows.extend(rows.iter().take(room).map(|row| (time, row.clone())));
            self.samples.gauge.holds(survey.rows.len());
        }
    }

    pub(super) fn survey_holders(&mut self, holders: &[Holder]) {
        if let Some(survey) = &mut self.survey {
            // As many as the sockets may be: of more, no report lists the holders.
            let room = self.settings.max_survey_rows().saturating_sub(survey.held);
            survey.held += holders.len().min(room);
            self.samples.gauge.drops(holders.len().saturating_sub(room));
            for holder in holders.iter().take(room) {
                survey.holders.entry(holder.inode).or_default().push(*holder);
            }
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
            let processes = facts.processes.iter().map(|process| (process.id.pid, process.clone()));
            survey.processes.extend(processes);
            survey.namespaces.extend_from_slice(&facts.namespaces);
        }
    }

    pub(super) fn survey_end(&mut self, end: &SurveyEnd, output: &mut Output) {
        let Some(mut survey) = self.survey.take() else { return };
        self.now = self.now.max(end.time);
        let whole = TABLE_STATES.iter().all(|state| end.states.contains(&state.number()));
        let listed = |state: TcpState| end.states.contains(&state.number());
        if listed(TcpState::TimeWait) {
            self.time_waits.listed(survey.rows.iter().map(|(_, row)| row), survey.begin);
        }
        if listed(TcpState::Listen) {
            let listening = survey.rows.iter().filter(|(_, row)| row.state == TcpState::Listen);
            self.samples.listeners = listening.map(|(_, row)| row.clone()).collect();
        }
        if end.holders {
            self.samples.holders = std::mem::take(&mut survey.holders);
            self.samples.looked = true;
            self.samples.complete = end.holders_complete;
        }
        if listed(TcpState::CloseWait) {
            self.samples.sockets.clear();
            self.samples.problems.clone_from(&end.problems);
        }
        self.samples.ends.clear();
        if self.session.attach == Attach::Tracepoint {
            for known in self.table.values() {
                // The same ends in two namespaces are two connections, and nobody can tell which is which.
                let key = known.key();
                let known = survey.by_ends.entry((known.local, known.peer));
                known.and_modify(|key| *key = None).or_insert(Some(key));
            }
        }
        // Listeners first, so that connections find theirs.
        let (rows, survey) = (std::mem::take(&mut survey.rows), survey);
        let (listening, others): (Vec<_>, Vec<_>) =
            rows.iter().filter(|(_, row)| is_socket(row)).partition(|(_, row)| row.state == TcpState::Listen);
        for (time, row) in listening.into_iter().chain(others) {
            self.merge(row, *time, &survey, end, output);
        }
        if end.holders {
            self.inherited.prune(&self.table);
        }
        // Where there are more sockets than room, no later survey can tell more.
        let certain = whole && (survey.truncated || self.bury_unlisted(&rows, &survey, end));
        self.balance.surveyed(certain);
        if certain {
            self.modes.surveyed();
        }
        if listed(TcpState::NewSynReceived) {
            self.requests_listed(&rows, &survey, &end.namespaces);
        }
    }

    fn requests_listed(&mut self, rows: &[(Timestamp, SocketRow)], survey: &Survey, namespaces: &[u32]) {
        self.samples.requests = true;
        for request in self.requests.listed(rows.iter().map(|(_, row)| row), namespaces) {
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
    fn merge(
        &mut self,
        row: &SocketRow,
        read: Timestamp,
        survey: &Survey,
        end: &SurveyEnd,
        output: &mut Output,
    ) {
        if row.state != TcpState::Established {
            let SocketRow { receive_queue, send_queue, inode, timer, .. } = *row;
            let (kind, zero_window) = (CloseWaitKind::of(row), timer == Timer::ZeroWindow);
            let sample = Sample { receive_queue, send_queue, inode, kind, zero_window };
            self.samples.sockets.insert(row.cookie, sample);
        }
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
        match self.table.get_mut(key) {
            Some(known) if known.last < survey.begin && known.state != row.state => {
                known.repair(row, age, read);
                if !self.modes.blurred {
                    self.balance.repaired();
                }
            }
            Some(known) => known.learn_age(row.state, age, read),
            None if room => {
                let mut found = Connection::found(row, age, read);
                found.life = closed.then(|| Box::new(Life::found(row.state)));
                self.table.add(key, found);
                if self.session.attach == Attach::Tracepoint {
                    self.samples.ends.insert((row.local, row.peer), key);
                }
                self.find_parent(key, row);
            }
            None => {
                self.table.gauge.drops(1);
                return;
            }
        }
        if end.holders {
            self.hold(key, row, read, survey);
        }
        self.admit(key, output);
    }

    /// A socket that was found, not born in sight: a listener is entered, a connection may have come in on one.
    fn find_parent(&mut self, key: Key, row: &SocketRow) {
        let Some(connection) = self.table.get_mut(key) else { return };
        if row.state == TcpState::Listen {
            self.listeners.insert(key, connection);
        } else if row.inode.is_none()
            && matches!(row.state, TcpState::Established | TcpState::CloseWait)
            && let Some(parent) = self.listeners.find(Some(row.netns), row.local, row.family)
        {
            // No file and not closed: it waits to be accepted.
            connection.came_in_on(parent);
        } else if let Some(parent) = self.listeners.find(Some(row.netns), row.local, row.family) {
            connection.listener = Some(parent.local);
        }
    }

    /// Puts a socket down to one of its holders.
    fn hold(&mut self, key: Key, row: &SocketRow, read: Timestamp, survey: &Survey) {
        let Some(inode) = row.inode else { return };
        let holders = self.samples.holders.get(&inode).map(Vec::as_slice).unwrap_or_default();
        let Some(connection) = self.table.get_mut(key) else { return };
        if self.session.attach == Attach::TpBtf {
            let processes = &survey.processes;
            self.inherited.look(connection, row, read, holders, processes, &self.session);
        }
        let Some(owner) = choose(holders, &survey.processes, connection) else { return };
        connection.held_by(owner);
        if row.state == TcpState::Listen {
            self.listeners.remove(key, connection);
            self.listeners.insert(key, connection);
        }
        self.people.meet(owner.process);
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
    fn bury_unlisted(&mut self, rows: &[(Timestamp, SocketRow)], survey: &Survey, end: &SurveyEnd) -> bool {
        let (sockets, others): (Vec<_>, Vec<_>) =
            rows.iter().map(|(_, row)| row).partition(|row| is_socket(row));
        let listed: FxHashSet<_> = sockets.into_iter().map(|row| row.cookie).collect();
        // A time-wait socket has the cookie of the socket that it has taken the place of.
        let replaced: FxHashSet<_> =
            others.into_iter().filter(|row| is_time_wait(row)).map(|row| row.cookie).collect();
        let before = std::mem::take(&mut self.samples.unlisted);
        let unlisted = self.table.values().filter(|connection| {
            connection.last < survey.begin
                && connection.netns().is_some_and(|netns| end.namespaces.contains(&netns))
                && connection.cookie.is_some_and(|cookie| !listed.contains(&cookie))
        });
        let (dead, unlisted): (Vec<_>, _) =
            unlisted.map(|connection| (connection.key(), connection.cookie)).partition(|(key, cookie)| {
                before.contains(key) || cookie.is_some_and(|cookie| replaced.contains(&cookie))
            });
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

/// Whether a row is a full socket that events tell of, and not a request or a time-wait socket.
fn is_socket(row: &SocketRow) -> bool {
    row.state != TcpState::NewSynReceived && row.state != TcpState::Close && !is_time_wait(row)
}

/// The one among a socket's holders that it is put down to: whoever was its owner before if it still holds it, or
/// whoever has lived longest, who is likelier to have opened it than its children are.
fn choose(
    holders: &[Holder],
    processes: &FxHashMap<u32, ProcessFacts>,
    connection: &Connection,
) -> Option<Owner> {
    let held_by = |pid: u32| holders.iter().any(|holder| holder.pid == pid);
    if let Some(owner) = connection.owner()
        && held_by(owner.process.pid)
        && processes
            .get(&owner.process.pid)
            .is_none_or(|process| owner.process.start_ns.is_none() || process.id == owner.process)
    {
        let source = if connection.is_provisional() { OwnerSource::Fd } else { owner.source };
        return Some(Owner { source, ..owner });
    }
    let eldest = holders
        .iter()
        .filter_map(|holder| processes.get(&holder.pid))
        .min_by_key(|process| (process.id.start_ns, process.id.pid))?;
    Some(Owner { process: eldest.id, comm: Comm::from_text(&eldest.comm), source: OwnerSource::Fd })
}

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
