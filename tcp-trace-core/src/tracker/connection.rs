//! One connection's record, and how an event moves it on.

use std::num::{NonZeroU32, NonZeroU64};

use tcp_trace_common::counters::slot;

use super::{
    errno::{ECONNABORTED, ECONNREFUSED, ECONNRESET, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT},
    handshake::{self, Handshake},
    life::Life,
    listeners::Parent,
};
use crate::{
    endpoint::{Endpoint, Family},
    input::{Event, Task, TimeWait},
    process::{Comm, Owner, OwnerSource, ProcessId},
    report::{Role, StateChange},
    session::Session,
    state::TcpState,
    survey::{Age, SocketRow},
    time::Timestamp,
};

/// What identifies a connection as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    /// The socket's cookie.
    Cookie(NonZeroU64),
    /// Its address, which is reused: `… → CLOSE` ends it, a birth begins a new one.
    Address(u64),
}

/// Accepted transitions that wait to be attributed to the connection's owner. A life has eleven kinds at most; a
/// longer trail is attributed early.
const TRAIL: usize = 13;

/// A connection, or a listener. There may be millions: what is optional is packed.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    /// What it is kept under: a cookie, or an address if `by_address`.
    id: u64,
    /// When `state` was entered; see `entry`.
    since: Timestamp,
    /// Its last event, or the survey that found it.
    pub(super) last: Timestamp,
    pub(super) cookie: Option<NonZeroU64>,
    cgroup_id: Option<NonZeroU64>,
    /// When `connect()` sent its SYN, until the attempt is decided.
    connecting: Option<NonZeroU64>,
    /// What its obituary will say; `None` if none is wanted.
    pub(super) life: Option<Box<Life>>,
    owner: PackedOwner,
    netns: Option<NonZeroU32>,
    pub(super) local: Endpoint,
    pub(super) peer: Endpoint,
    /// The local end of the listener that it came in on.
    pub(super) listener: Option<Endpoint>,
    /// The socket's own family number.
    family: u16,
    pub(super) state: TcpState,
    /// Whether `since` is to be trusted.
    entry: Entry,
    by_address: bool,
    /// The owner is inferred from the listener.
    provisional: bool,
    /// Which end of the handshake it was: a listener's child, or seen to be opened by `connect()`.
    role: Option<Role>,
    /// Whether the filter has accepted it.
    pub(super) accepted: bool,
    /// Whether the survey that is being merged has listed it.
    pub(super) listed: bool,
    trail_len: u8,
    trail: [u8; TRAIL],
}

/// What is known of when a state was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Unknown,
    /// Then or earlier.
    Before,
    Exact,
}

/// An `Option<Owner>`: there is one if its source is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct PackedOwner {
    /// [`Self::NO_START`] if it is not known.
    start_ns: u64,
    pid: u32,
    comm: Option<Comm>,
    source: OwnerSource,
}

impl PackedOwner {
    /// No multiple of a clock tick, and 584 years.
    const NO_START: u64 = u64::MAX;

    pub(super) fn pack(owner: Option<Owner>) -> Self {
        let Some(Owner { process, comm, source }) = owner else {
            return Self { start_ns: Self::NO_START, pid: 0, comm: None, source: OwnerSource::Unknown };
        };
        Self { start_ns: process.start_ns.unwrap_or(Self::NO_START), pid: process.pid, comm, source }
    }

    pub(super) fn unpack(self) -> Option<Owner> {
        let Self { start_ns, pid, comm, source } = self;
        let start_ns = (start_ns != Self::NO_START).then_some(start_ns);
        let owner = Owner { process: ProcessId { pid, start_ns }, comm, source };
        (source != OwnerSource::Unknown).then_some(owner)
    }
}

/// How a connection attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    Completed {
        duration_ns: u64,
    },
    Refused,
    TimedOut,
    Unreachable,
    Reset,
    Aborted {
        after_ns: u64,
    },
    /// It never came to a SYN: no local port was free (EADDRNOTAVAIL).
    NoPort,
    Failed,
}

/// What the kernel keeps of a closed socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Afterlife {
    TimeWait,
    /// A time-wait socket in FIN_WAIT2.
    Orphan,
}

/// One event, with all that follows from it.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) change: StateChange,
    pub(super) handshake: Option<Handshake>,
    pub(super) attempt: Option<Attempt>,
    pub(super) afterlife: Option<Afterlife>,
    pub(super) listener: Option<Endpoint>,
    /// Whether a survey has counted the request already.
    pub(super) counted: bool,
    /// Whether the SYN-ACK of its handshake was sent more than once; the kernel counts that as retransmissions of the child
    /// (`tcp_create_openreq_child`, `net/ipv4/tcp_minisocks.c`).
    pub(super) resent: bool,
}

impl Connection {
    /// A connection in `state` of which nothing else is known.
    fn blank(state: TcpState, last: Timestamp, local: Endpoint, peer: Endpoint, family: u16) -> Self {
        Self {
            id: 0,
            since: last,
            last,
            cookie: None,
            cgroup_id: None,
            connecting: None,
            life: None,
            owner: PackedOwner::pack(None),
            netns: None,
            local,
            peer,
            listener: None,
            family,
            state,
            entry: Entry::Unknown,
            by_address: true,
            provisional: false,
            role: None,
            accepted: false,
            listed: false,
            trail_len: 0,
            trail: [0; TRAIL],
        }
    }

    /// A connection whose first event this is.
    pub(super) fn unseen(event: &Event) -> Self {
        Self {
            cookie: event.cookie,
            cgroup_id: event.cgroup_id.and_then(NonZeroU64::new),
            netns: event.netns.and_then(NonZeroU32::new),
            ..Self::blank(event.old, event.time, event.local, event.peer, event.family)
        }
    }

    /// A connection that a survey found at `now`.
    pub(super) fn found(row: &SocketRow, age: Option<Age>, now: Timestamp) -> Self {
        let mut found = Self {
            cookie: Some(row.cookie),
            cgroup_id: row.cgroup_id.and_then(NonZeroU64::new),
            netns: NonZeroU32::new(row.netns),
            ..Self::blank(row.state, now, row.local, row.peer, row.family)
        };
        found.entered(age, now);
        found
    }

    /// Which end of the handshake it was; `None` if that was not seen.
    pub(super) fn role(&self) -> Option<Role> {
        if self.listener.is_some() { Some(Role::Server) } else { self.role }
    }

    /// Whether it is a listener's child.
    fn is_passive(&self) -> bool {
        self.role == Some(Role::Server)
    }

    /// What it is kept under.
    pub(super) fn key(&self) -> Key {
        match NonZeroU64::new(self.id) {
            Some(cookie) if !self.by_address => Key::Cookie(cookie),
            _ => Key::Address(self.id),
        }
    }

    /// It is kept under this key from now on.
    pub(super) fn set_key(&mut self, key: Key) {
        (self.id, self.by_address) = match key {
            Key::Cookie(cookie) => (cookie.get(), false),
            Key::Address(address) => (address, true),
        };
    }

    /// Whom it belongs to.
    pub(super) fn owner(&self) -> Option<Owner> {
        self.owner.unpack()
    }

    /// Network namespace.
    pub(super) fn netns(&self) -> Option<u32> {
        self.netns.map(NonZeroU32::get)
    }

    /// Cgroup of its creator.
    pub(super) fn cgroup_id(&self) -> Option<u64> {
        self.cgroup_id.map(NonZeroU64::get)
    }

    /// It has been in its state for so long.
    fn entered(&mut self, age: Option<Age>, now: Timestamp) {
        (self.since, self.entry) = match age {
            Some(Age { ns, exact: true }) => (now.minus(ns), Entry::Exact),
            Some(Age { ns, exact: false }) => (now.minus(ns), Entry::Before),
            None => (now, Entry::Unknown),
        };
    }

    /// A connection that begins with this event.
    pub(super) fn born(event: &Event) -> Self {
        let role = if event.old == TcpState::Listen {
            Some(Role::Server)
        } else {
            (event.new == TcpState::SynSent).then_some(Role::Client)
        };
        Self {
            role,
            connecting: NonZeroU64::new(event.time.0).filter(|_| event.new == TcpState::SynSent),
            ..Self::unseen(event)
        }
    }

    /// Time in the current state.
    pub(super) fn age(&self, now: Timestamp) -> Option<Age> {
        let age = Age { ns: now.since(self.since), exact: self.entry == Entry::Exact };
        (self.entry != Entry::Unknown).then_some(age)
    }

    /// A survey shows the connection in a state that no event told of: some were lost.
    pub(super) fn repair(&mut self, row: &SocketRow, age: Option<Age>, now: Timestamp) {
        self.state = row.state;
        self.entered(age, now);
        self.last = now;
        self.connecting = None;
        if let Some(life) = &mut self.life {
            life.interrupted(row.state);
        }
    }

    /// Moves on by one event.
    pub(super) fn advance(
        &mut self,
        event: &Event,
        parent: Option<Parent>,
        sent: Option<Timestamp>,
        session: &Session,
    ) -> Step {
        self.learn_tuple(event);
        self.learn_owner(event, parent, session);
        let handshake = self.handshake(event, sent, session);
        let duration_ns = self.duration_ns(event, handshake);
        let handshake = handshake.filter(|_| event.new == TcpState::Established);
        let attempt = self.attempt(event);
        let step = Step {
            change: StateChange {
                at: event.time,
                time: session.anchor.wall(event.time),
                old: event.old,
                new: event.new,
                duration_ns,
                local: self.local,
                peer: self.peer,
                family: self.family(),
                cookie: self.cookie.map(NonZeroU64::get),
                skaddr: event.skaddr,
                netns: event.netns,
                cgroup_id: self.cgroup_id(),
                owner: self.owner(),
                container: None,
            },
            handshake,
            attempt,
            afterlife: afterlife(event),
            listener: self.listener,
            counted: false,
            resent: sent.is_some() || event.tcp.is_some_and(|tcp| tcp.total_retrans > 0),
        };
        if let Some(life) = &mut self.life {
            life.advance(event, &step, self.state == event.old);
        }
        if event.old != event.new {
            (self.since, self.entry) = (event.time, Entry::Exact);
        } else if self.state != event.old {
            self.entry = Entry::Unknown; // The entry was lost.
        }
        self.state = event.new;
        self.last = event.time;
        step
    }

    /// A survey shows how long it has been in its state at least; an event that was seen knows better.
    pub(super) fn learn_age(&mut self, state: TcpState, age: Option<Age>, now: Timestamp) {
        if self.entry == Entry::Unknown && self.state == state {
            self.entered(age, now);
        }
    }

    /// Another task than the one that opened it uses it.
    pub(super) fn used_by(&mut self, task: Task, source: OwnerSource) {
        self.own(task, source);
    }

    /// The processes that hold its descriptors were looked up; `owner` is the one among them that it is put down to.
    pub(super) fn held_by(&mut self, owner: Owner) {
        self.owner = PackedOwner::pack(Some(owner));
        self.provisional = false;
    }

    /// The owner is not known.
    pub(super) fn disown(&mut self) {
        self.owner = PackedOwner::pack(None);
    }

    /// Whether the owner is an inference from the listener.
    pub(super) fn is_provisional(&self) -> bool {
        self.provisional
    }

    /// The listener of a connection that was not seen to be born.
    pub(super) fn came_in_on(&mut self, parent: Parent) {
        self.listener = Some(parent.local);
        self.role = Some(Role::Server);
        if self.owner().is_none() {
            self.inherit(parent.owner);
        }
    }

    /// The owner as the filter may know it: 0 where a later event may still tell otherwise.
    pub(super) fn pid_for_filter(&self, wanted: u32) -> u32 {
        match self.owner() {
            Some(owner) if !self.provisional || owner.process.pid == wanted => owner.process.pid,
            _ => 0,
        }
    }

    /// The transitions since the last call, for attribution to the owner.
    pub(super) fn take_trail(&mut self) -> impl Iterator<Item = u8> + use<> {
        let (trail, len) = (self.trail, usize::from(self.trail_len));
        self.trail_len = 0;
        trail.into_iter().take(len)
    }

    /// Whether the trail has no room for another transition.
    pub(super) fn trail_is_full(&self) -> bool {
        usize::from(self.trail_len) == TRAIL
    }

    /// Adds an accepted transition, which is attributed later.
    pub(super) fn push_trail(&mut self, change: &StateChange) {
        if let Some(entry) = self.trail.get_mut(usize::from(self.trail_len)) {
            *entry = u8::try_from(slot(change.old.number(), change.new.number())).unwrap_or(0);
            self.trail_len += 1;
        }
    }

    /// Keeps what an event knows of the tuple; late events know less again. What is known already is not written again:
    /// it will be read in a moment, in larger pieces than the event's, and would have to be waited for.
    fn learn_tuple(&mut self, event: &Event) {
        if event.local.is_known() && self.local != event.local {
            self.local = event.local;
        }
        if event.peer.is_known() && self.peer != event.peer {
            self.peer = event.peer;
        }
        self.cookie = if event.old == TcpState::Listen && !event.peer.is_known() && self.is_passive() {
            None // The listener's: see `Tracker::key`.
        } else {
            event.cookie.or(self.cookie)
        };
        self.netns = event.netns.and_then(NonZeroU32::new).or(self.netns);
        self.cgroup_id = event.cgroup_id.and_then(NonZeroU64::new).or(self.cgroup_id);
    }

    /// Its owner is its listener's, as far as anybody knows.
    fn inherit(&mut self, owner: Option<Owner>) {
        self.owner = PackedOwner::pack(owner.map(|owner| Owner { source: OwnerSource::Listen, ..owner }));
        self.provisional = true;
    }

    fn learn_owner(&mut self, event: &Event, parent: Option<Parent>, session: &Session) {
        if let Some(Parent { local, owner }) = parent {
            self.listener = Some(local);
            self.inherit(owner);
        }
        // `ss -K` and the like close other people's sockets (`tcp_abort`, `net/ipv4/tcp.c`).
        let own = |task: Task| self.owner().is_some_and(|owner| task.process == owner.process);
        let stranger = event.task.is_some_and(|task| !own(task));
        let aborted = event.new == TcpState::Close
            && stranger
            && (event.error == Some(ECONNABORTED)
                || (event.old == TcpState::Listen && self.owner().is_some()));
        // An MPTCP subflow's self-transition is made by a kernel worker that holds the lock; recordings may hold it.
        let by_worker = event.old == TcpState::FinWait1 && event.new == TcpState::FinWait1;
        let seen = event.task.filter(|task| Some(task.process.pid) != session.pid);
        let Some(task) = seen.filter(|_| !aborted && !by_worker) else { return };
        let source = match (event.old, event.new) {
            (TcpState::Close, TcpState::SynSent) => OwnerSource::Connect,
            (TcpState::Close, TcpState::Listen) => OwnerSource::Listen,
            _ => OwnerSource::Task,
        };
        self.own(task, source);
    }

    fn own(&mut self, task: Task, source: OwnerSource) {
        let same = self.owner().filter(|owner| owner.process == task.process);
        let comm = task.comm.or(same.and_then(|owner| owner.comm));
        self.owner = PackedOwner::pack(Some(Owner { process: task.process, comm, source }));
        self.provisional = false;
    }

    /// How long the connection was half-open, if this event ends that.
    fn handshake(&self, event: &Event, sent: Option<Timestamp>, session: &Session) -> Option<Handshake> {
        (event.old == TcpState::SynReceived
            && event.new != TcpState::SynReceived
            && (self.is_passive() || event.request.is_some()))
        .then(|| handshake::measure(event, sent, session))
    }

    /// Time in the state that the event leaves, if its entry was seen.
    fn duration_ns(&self, event: &Event, handshake: Option<Handshake>) -> Option<u64> {
        if event.old == event.new || event.old == TcpState::Close || self.state != event.old {
            return None;
        }
        match handshake {
            // The child lives in SYN_RECV for microseconds; the connection was half-open since its SYN.
            Some(handshake) => handshake.duration_ns(),
            None => self.age(event.time).filter(|age| age.exact).map(|age| age.ns),
        }
    }

    /// What the two ends speak.
    pub(super) fn family(&self) -> Family {
        let v4 = self.family == tcp_trace_common::address::AF_INET
            || self.local.address.is_ipv4()
            || self.peer.address.is_ipv4();
        if v4 { Family::Ipv4 } else { Family::Ipv6 }
    }

    /// The socket's own family number.
    pub(super) fn family_number(&self) -> u16 {
        self.family
    }

    /// How an attempt to connect ended, if this event ends one.
    fn attempt(&mut self, event: &Event) -> Option<Attempt> {
        if event.new == TcpState::SynSent || event.new == TcpState::SynReceived {
            return None;
        }
        let started = self.connecting.take()?;
        // Otherwise the transition that decided it was lost, or aggregated.
        if !matches!(event.old, TcpState::SynSent | TcpState::SynReceived) {
            return None;
        }
        Some(match (event.new, event.error) {
            (TcpState::Close, Some(ECONNREFUSED)) => Attempt::Refused,
            (TcpState::Close, Some(ETIMEDOUT)) => Attempt::TimedOut,
            (TcpState::Close, Some(ENETUNREACH | EHOSTUNREACH)) => Attempt::Unreachable,
            (TcpState::Close, Some(ECONNRESET)) => Attempt::Reset,
            // The port is chosen after the state is entered (`tcp_v4_connect`, `net/ipv4/tcp_ipv4.c`).
            (TcpState::Close, Some(0)) if !event.local.is_known() => Attempt::NoPort,
            (TcpState::Close, Some(0)) => {
                Attempt::Aborted { after_ns: event.time.since(Timestamp(started.get())) }
            }
            (TcpState::Close, _) => Attempt::Failed,
            _ => Attempt::Completed { duration_ns: event.time.since(Timestamp(started.get())) },
        })
    }
}

impl Step {
    /// With the ends of its connection, which an event before them did not know.
    pub(super) fn complete(&mut self, connection: &Connection) {
        if connection.is_passive() && !self.change.peer.is_known() {
            self.change.local = connection.local;
            self.change.peer = connection.peer;
            self.change.family = connection.family();
            self.change.cookie = connection.cookie.map(NonZeroU64::get);
        }
    }
}

/// The three transitions that begin a connection or a listener.
pub(super) fn is_birth(event: &Event) -> bool {
    matches!(
        (event.old, event.new),
        (TcpState::Close, TcpState::SynSent | TcpState::Listen) | (TcpState::Listen, TcpState::SynReceived)
    )
}

/// What becomes of a socket that closed first. The kernel replaces it by a time-wait socket and closes it, also
/// when it is an orphan in FIN_WAIT2 whose peer has not closed yet (`tcp_time_wait`, `net/ipv4/tcp_minisocks.c`);
/// only in the former case has the peer's FIN been seen, and only a reset or a time-out sets an error.
fn afterlife(event: &Event) -> Option<Afterlife> {
    let closed_first = matches!(event.old, TcpState::FinWait2 | TcpState::Closing);
    if event.new != TcpState::Close || !closed_first || event.error? != 0 {
        return None;
    }
    match event.time_wait {
        Some(TimeWait::TimeWait) => return Some(Afterlife::TimeWait),
        Some(TimeWait::Orphan) => return Some(Afterlife::Orphan),
        Some(TimeWait::None) => return None,
        None => {}
    }
    // Closed by its own program with linger 0 or unread data: it was reset. After the peer's FIN a FIN_WAIT2 socket
    // is replaced at once, so that only one without it can be closed.
    let unread = event.bytes.map_or(0, |bytes| bytes.unread);
    let reset = match event.old {
        TcpState::FinWait2 => event.done == Some(false) && (event.linger_zero || unread > 0),
        _ => event.linger_zero || unread > 1,
    };
    if event.task.is_some() && reset {
        return None;
    }
    Some(if event.done? { Afterlife::TimeWait } else { Afterlife::Orphan })
}
