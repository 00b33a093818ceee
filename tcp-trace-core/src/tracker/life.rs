//! What is gathered of a connection for its obituary.

use super::{
    connection::{Attempt, Connection, Step},
    handshake::Handshake,
    outcome,
};
use crate::{
    input::{Event, TcpFacts},
    process::Owner,
    report::{Closer, Obituary, Role},
    state::TcpState,
    time::Timestamp,
};

/// A connection's life so far.
#[derive(Clone, Debug)]
pub(super) struct Life {
    /// When it began: its SYN, or, of a server's, when the request was queued. `None` if that was not seen.
    opened: Option<Timestamp>,
    opened_by: Option<Owner>,
    role: Option<Role>,
    closer: Option<Closer>,
    /// Every transition was seen.
    complete: bool,
    /// Time in each state that was entered and left in sight, in the order in which they were left.
    states: Vec<(TcpState, u64)>,
    connect_ns: Option<u64>,
    handshake: Option<Handshake>,
}

impl Life {
    /// Of a connection that `event` begins, or begins to show.
    pub(super) fn new(event: &Event, birth: bool) -> Self {
        let role = match (birth, event.old) {
            (true, TcpState::Listen) => Some(Role::Server),
            (true, _) => Some(Role::Client),
            (false, _) => None,
        };
        Self { opened: birth.then_some(event.time), role, complete: birth, ..Self::found(event.old) }
    }

    /// Of a connection that a survey found in `state`.
    pub(super) fn found(state: TcpState) -> Self {
        Self {
            opened: None,
            opened_by: None,
            role: None,
            closer: closer(state),
            complete: false,
            states: Vec::new(),
            connect_ns: None,
            handshake: None,
        }
    }

    /// Transitions were lost; it is in `state` now.
    pub(super) fn interrupted(&mut self, state: TcpState) {
        self.complete = false;
        self.closer = closer(state).or(self.closer);
    }

    /// Moves on by one event; `seamless` if the state that it leaves is the one that was known.
    pub(super) fn advance(&mut self, event: &Event, step: &Step, seamless: bool) {
        if self.opened_by.is_none() && self.opened == Some(event.time) {
            self.opened_by = step.change.owner;
        }
        self.complete &= seamless;
        match step.change.duration_ns {
            Some(ns) => self.spent(event.old, ns),
            // A cookie's child was never half-open in sight, which is no gap.
            None => {
                self.complete &= event.old == event.new || event.old == TcpState::SynReceived || birth(event);
            }
        }
        if let Some(Attempt::Completed { duration_ns }) = step.attempt {
            self.connect_ns = Some(duration_ns);
        }
        if let Some(handshake) = step.handshake {
            self.handshake = Some(handshake);
            // The child's own birth is the handshake's end.
            self.opened = handshake.duration_ns().map(|ns| event.time.minus(ns));
        }
        self.closer = match (event.old, event.new) {
            (_, TcpState::Closing) => Some(Closer::Simultaneous),
            (_, new) => self.closer.or_else(|| closer(new)),
        };
    }

    fn spent(&mut self, state: TcpState, ns: u64) {
        match self.states.iter_mut().find(|(known, _)| *known == state) {
            Some((_, sum)) => *sum = sum.saturating_add(ns),
            None => self.states.push((state, ns)),
        }
    }

    /// What is said of it at its end, which is `event`.
    pub(super) fn obituary(&self, connection: &Connection, event: &Event, step: &Step) -> Obituary {
        // The listener's process is the owner of what nobody has accepted; of what somebody has it is a guess.
        let guessed = connection.is_provisional() && event.file != Some(false);
        let transferred =
            event.bytes.map(|bytes| outcome::payload(event, bytes.acked, bytes.received, self.role));
        Obituary {
            time: step.change.time,
            local: connection.local,
            peer: connection.peer,
            family: connection.family(),
            cookie: step.change.cookie,
            netns: connection.netns(),
            cgroup_id: connection.cgroup_id(),
            owner: connection.owner().filter(|_| !guessed),
            opened_by: self.opened_by,
            opened_at: None,
            container: None,
            role: self.role,
            closer: self.closer,
            ending: outcome::ending(event, step.afterlife, self.role),
            duration_ns: self.opened.map(|opened| event.time.since(opened)),
            states: self.states.iter().copied().collect(),
            connect_ns: self.connect_ns,
            half_open_ns: self.handshake.and_then(Handshake::duration_ns),
            half_open_source: self.handshake.and_then(Handshake::source).map(super::DurationSource::name),
            bytes_sent: transferred.map(|(sent, _)| sent),
            bytes_received: transferred.map(|(_, received)| received),
            unread_bytes: event.bytes.map(|bytes| outcome::unread(event, bytes.unread)),
            retransmits: event.tcp.map(|tcp: TcpFacts| tcp.total_retrans),
            srtt_us: event.tcp.map(|tcp| tcp.srtt_us).filter(|srtt| *srtt != 0),
            complete: self.complete,
        }
    }
}

fn birth(event: &Event) -> bool {
    super::connection::is_birth(event)
}

/// Who has closed first, as a state tells.
fn closer(state: TcpState) -> Option<Closer> {
    match state {
        TcpState::FinWait1 | TcpState::FinWait2 => Some(Closer::Active),
        TcpState::CloseWait | TcpState::LastAck => Some(Closer::Passive),
        TcpState::Closing => Some(Closer::Simultaneous),
        _ => None,
    }
}
