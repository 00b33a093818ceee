//! What identifies a connection, and which listener it came in on.

use super::{
    Tracker, Verdict,
    connection::{self, Key},
    listeners,
};
use crate::{input::Event, session::Attach, state::TcpState};

impl Tracker {
    /// The connection's key. Up to 6.12 a child is born with its listener's cookie and without its peer, and 5.10
    /// gives a socket its cookie only when something asks for it: such a connection is kept under its address until
    /// an event brings its own cookie.
    pub(super) fn key(&mut self, event: &Event) -> Key {
        let by_address = Key::Address(event.skaddr);
        let Some(cookie) = event.cookie else {
            if !connection::is_birth(event) && !self.table.contains_key(by_address) {
                self.adopt(by_address, event);
            }
            return by_address;
        };
        let key = Key::Cookie(cookie);
        if is_child_birth(event) && !event.peer.is_known() {
            return by_address;
        }
        // A survey may have found it under its cookie meanwhile; what saw it begin knows more.
        let may_be_unnamed = || event.old == TcpState::SynReceived || !self.table.contains_key(key);
        if self.table.has_unnamed() && !connection::is_birth(event) && may_be_unnamed() {
            self.rename(by_address, key);
        }
        key
    }

    /// A connection's key has become known.
    pub(super) fn rename(&mut self, from: Key, to: Key) {
        if let Some(connection) = self.table.remove(from) {
            if connection.state == TcpState::Listen {
                self.listeners.remove(from, &connection);
                self.listeners.insert(to, &connection);
            }
            if let Some(mut displaced) = self.table.insert(to, connection) {
                if displaced.state == TcpState::Listen {
                    self.listeners.remove(to, &displaced);
                }
                self.tally.attribute(&mut displaced);
            }
            self.held.rename(from, to);
        }
    }

    /// The perf tracepoint knows no cookies: a connection that a survey has found is recognised by its ends.
    pub(super) fn adopt(&mut self, by_address: Key, event: &Event) {
        if self.session.attach == Attach::Tracepoint
            && let Some(key) = self.samples.by_ends(event.local, event.peer)
        {
            self.rename(key, by_address);
        }
    }

    /// The listener that a child came in on.
    pub(super) fn parent(&self, event: &Event) -> Option<listeners::Parent> {
        if !is_child_birth(event) {
            return None;
        }
        match event.cookie {
            // The listener's own: if that is not in the table, no other one is the parent.
            Some(cookie) if !event.peer.is_known() => self
                .table
                .get(Key::Cookie(cookie))
                .filter(|listener| listener.state == TcpState::Listen)
                .map(|listener| listeners::Parent { local: listener.local, owner: listener.owner() }),
            _ => self.listeners.find(event.netns, event.local, event.family),
        }
    }
}

/// Up to 6.12 a child is born with its listener's address and without a peer: that says nothing of the connection, so
/// the event waits for the next one, which comes with the same packet.
pub(super) fn ripeness(event: &Event) -> Verdict {
    if is_child_birth(event) && !event.peer.is_known() { Verdict::Defer } else { Verdict::Accept }
}

fn is_child_birth(event: &Event) -> bool {
    event.old == TcpState::Listen && event.new == TcpState::SynReceived
}
