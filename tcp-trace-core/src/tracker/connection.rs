//! One connection's record, and how an event moves it on.

use std::num::NonZeroU64;

use tcp_trace_common::counters::slot;

use super::{
    handshake::{self, Handshake},
    listeners::Parent,
};
use crate::{
    endpoint::{Endpoint, Family},
    input::Event,
    process::{Owner, OwnerSource},
    report::StateChange,
    session::Session,
    state::TcpState,
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

/// Errors of `sk_err` (`include/uapi/asm-generic/errno.h`).
const ENETUNREACH: u16 = 101;
const ECONNABORTED: u16 = 103;
const ECONNRESET: u16 = 104;
const ETIMEDOUT: u16 = 110;
const ECONNREFUSED: u16 = 111;
const EHOSTUNREACH: u16 = 113;

/// Accepted transitions that wait to be attributed to the connection's owner. A life has eleven kinds at most; a
/// longer trail is attributed early.
const TRAIL: usize = 14;

/// A connection, or a listener.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) state: TcpState,
    /// When `state` was entered, if that was seen.
    since: Option<Timestamp>,
    pub(super) local: Endpoint,
    pub(super) peer: Endpoint,
    pub(super) netns: Option<u32>,
    pub(super) cookie: Option<NonZeroU64>,
    pub(super) owner: Option<Owner>,
    /// The owner is inferred from the listener.
    provisional: bool,
    /// The local end of the listener that it came in on.
    pub(super) listener: Option<Endpoint>,
    /// When `connect()` sent its SYN, until the attempt is decided.
    connecting: Option<Timestamp>,
    /// Whether it was born as a listener's child.
    passive: bool,
    /// Whether the filter has accepted it.
    pub(super) accepted: bool,
    trail: [u8; TRAIL],
    trail_len: u8,
}

/// How a connection attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    Completed { duration_ns: u64 },
    Refused,
    TimedOut,
    Unreachable,
    Reset,
    Aborted,
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
}

impl Connection {
    /// A connection whose first event this is.
    pub(super) fn unseen(event: &Event) -> Self {
        Self {
            state: event.old,
            since: None,
            local: event.local,
            peer: event.peer,
            netns: event.netns,
            cookie: event.cookie,
            owner: None,
            provisional: false,
            listener: None,
            connecting: None,
            passive: false,
            accepted: false,
            trail: [0; TRAIL],
            trail_len: 0,
        }
    }

    /// A connection that begins with this event.
    pub(super) fn born(event: &Event) -> Self {
        Self {
            passive: event.old == TcpState::Listen,
            connecting: (event.new == TcpState::SynSent).then_some(event.time),
            ..Self::unseen(event)
        }
    }

    /// Time in the current state.
    pub(super) fn age_ns(&self, now: Timestamp) -> Option<u64> {
        self.since.map(|since| now.since(since))
    }

    /// Moves on by one event.
    pub(super) fn advance(&mut self, event: &Event, parent: Option<Parent>, session: &Session) -> Step {
        self.learn_tuple(event);
        self.learn_owner(event, parent);
        let handshake = (event.old == TcpState::SynReceived
            && event.new == TcpState::Established
            && (self.passive || event.request.is_some()))
        .then(|| handshake::measure(event, session));
        let step = Step {
            change: StateChange {
                at: event.time,
                time: session.anchor.wall(event.time),
                old: event.old,
                new: event.new,
                duration_ns: self.duration_ns(event, session),
                local: self.local,
                peer: self.peer,
                family: self.family(event),
                cookie: self.cookie.map(NonZeroU64::get),
                skaddr: event.skaddr,
                netns: event.netns,
                cgroup_id: event.cgroup_id,
                owner: self.owner,
            },
            handshake,
            attempt: self.attempt(event),
            afterlife: afterlife(event),
            listener: self.listener,
        };
        if event.old != event.new {
            self.since = Some(event.time);
        } else if self.state != event.old {
            self.since = None; // The entry was lost.
        }
        self.state = event.new;
        step
    }

    /// The owner as the filter may know it: 0 where a later event may still tell otherwise.
    pub(super) fn pid_for_filter(&self, wanted: u32) -> u32 {
        match self.owner {
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

    /// Keeps what an event knows of the tuple; late events know less again.
    fn learn_tuple(&mut self, event: &Event) {
        if event.local.is_known() {
            self.local = event.local;
        }
        if event.peer.is_known() {
            self.peer = event.peer;
        }
        self.cookie = if event.old == TcpState::Listen && !event.peer.is_known() && self.passive {
            None // The listener's: see `Tracker::key`.
        } else {
            event.cookie.or(self.cookie)
        };
        self.netns = event.netns.or(self.netns);
    }

    fn learn_owner(&mut self, event: &Event, parent: Option<Parent>) {
        if let Some(Parent { local, owner }) = parent {
            self.listener = Some(local);
            self.owner = owner.map(|owner| Owner { source: OwnerSource::Listen, ..owner });
            self.provisional = true;
        }
        // `ss -K` and the like close other people's sockets (`tcp_abort`, `net/ipv4/tcp.c`).
        let stranger =
            self.owner.is_some_and(|owner| event.task.is_some_and(|task| task.process != owner.process));
        let aborted = event.new == TcpState::Close
            && (event.error == Some(ECONNABORTED) || event.old == TcpState::Listen)
            && stranger;
        // An MPTCP subflow's self-transition is made by a kernel worker that holds the lock; recordings may hold it.
        let by_worker = event.old == TcpState::FinWait1 && event.new == TcpState::FinWait1;
        let Some(task) = event.task.filter(|_| !aborted && !by_worker) else { return };
        let source = match (event.old, event.new) {
            (TcpState::Close, TcpState::SynSent) => OwnerSource::Connect,
            (TcpState::Close, TcpState::Listen) => OwnerSource::Listen,
            _ => OwnerSource::Task,
        };
        let same = self.owner.filter(|owner| owner.process == task.process);
        self.owner = Some(Owner {
            process: task.process,
            comm: task.comm.or(same.and_then(|owner| owner.comm)),
            source,
        });
        self.provisional = false;
    }

    /// Time in the state that the event leaves, if its entry was seen.
    fn duration_ns(&self, event: &Event, session: &Session) -> Option<u64> {
        if event.old == event.new || event.old == TcpState::Close || self.state != event.old {
            return None;
        }
        if event.old == TcpState::SynReceived && (self.passive || event.request.is_some()) {
            // The child lives in SYN_RECV for microseconds; the connection was half-open since its SYN.
            return handshake::measure(event, session).duration_ns();
        }
        self.age_ns(event.time)
    }

    fn family(&self, event: &Event) -> Family {
        let v4 = event.family == tcp_trace_common::address::AF_INET
            || self.local.address.is_ipv4()
            || self.peer.address.is_ipv4();
        if v4 { Family::Ipv4 } else { Family::Ipv6 }
    }

    /// How an attempt to connect ended, if this event ends one.
    fn attempt(&mut self, event: &Event) -> Option<Attempt> {
        if event.new == TcpState::SynSent || event.new == TcpState::SynReceived {
            return None;
        }
        let started = self.connecting.take()?;
        Some(match (event.new, event.error) {
            (TcpState::Close, Some(ECONNREFUSED)) => Attempt::Refused,
            (TcpState::Close, Some(ETIMEDOUT)) => Attempt::TimedOut,
            (TcpState::Close, Some(ENETUNREACH | EHOSTUNREACH)) => Attempt::Unreachable,
            (TcpState::Close, Some(ECONNRESET)) => Attempt::Reset,
            // Without a local port it never came to a SYN: no port was free.
            (TcpState::Close, Some(0)) if event.local.is_known() => Attempt::Aborted,
            (TcpState::Close, _) => Attempt::Failed,
            _ => Attempt::Completed { duration_ns: event.time.since(started) },
        })
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
    Some(if event.done? { Afterlife::TimeWait } else { Afterlife::Orphan })
}
