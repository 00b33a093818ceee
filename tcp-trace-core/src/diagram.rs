//! The state diagram of TCP as Linux has it: which transitions belong to a healthy life, which are seldom, which say
//! that something was cut off. Whoever draws it (`top`, the HTML report) takes its meaning from here; where a box stands
//! and how an arrow bends is the drawing's own business, and [`NODES`] only says which rows and columns suggest
//! themselves.
//!
//! One transition does not say everything. `FIN_WAIT2 → CLOSE` is the way into TIME_WAIT and also the end of an orphan
//! whose peer never closed, and `LAST_ACK → CLOSE` is the last ACK or a timeout: both count as normal here, and the
//! report's `endings` and `time_wait` tell the cases apart.

use crate::state::TcpState::{self, *};

/// A state's place in the diagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// The state.
    pub state: TcpState,
    /// From the left: 0 for who answers and who closes first, 1 the middle, 2 for who opens and who closes second. CLOSE is
    /// the beginning and the end, and stands at the top; a drawing may show it at the bottom again.
    pub column: u8,
    /// From the top.
    pub row: u8,
    /// Who has to do something for a socket to leave it.
    pub waits_for: WaitsFor,
    /// Whether transitions enter it. Linux keeps the others as something smaller than a socket, and surveys show them.
    pub is_socket: bool,
}

/// Who has to do something for a socket to leave a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// The program on this host.
    Program,
    /// The peer, or the network between.
    Peer,
    /// A timer of the kernel.
    Timer,
    /// Nobody: it may stay there for as long as it likes.
    Nobody,
}

/// What a transition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Part of a connection that opens, works and closes as it should.
    Normal,
    /// As it should be, and seldom: both ends at once, or TCP Fast Open.
    Rare,
    /// Something was refused, reset, timed out or thrown away.
    Anomalous,
}

/// An arrow of the diagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// State left.
    pub old: TcpState,
    /// State entered.
    pub new: TcpState,
    /// What it says.
    pub kind: Kind,
    /// What happens, in a few words.
    pub label: &'static str,
    /// Whether the tracepoint shows it. The others lead to or from what is no socket, and are not counted as transitions.
    pub counted: bool,
}

/// Every state of the diagram, from top to bottom.
pub const NODES: [Node; 12] = [
    node(Close, 1, 0, WaitsFor::Nobody),
    node(Listen, 0, 1, WaitsFor::Nobody),
    node(SynSent, 2, 1, WaitsFor::Peer),
    small(NewSynReceived, 0, 2, WaitsFor::Peer),
    node(SynReceived, 1, 2, WaitsFor::Timer),
    node(Established, 1, 3, WaitsFor::Nobody),
    node(FinWait1, 0, 4, WaitsFor::Peer),
    node(CloseWait, 2, 4, WaitsFor::Program),
    node(FinWait2, 0, 5, WaitsFor::Peer),
    node(Closing, 1, 5, WaitsFor::Peer),
    node(LastAck, 2, 5, WaitsFor::Peer),
    small(TimeWait, 0, 6, WaitsFor::Timer),
];

/// Every arrow: the normal ones in the order of a life, then the seldom, then the anomalous ones.
const EDGES: [Edge; 27] = [
    normal(Close, Listen, "listen()"),
    normal(Close, SynSent, "connect()"),
    normal(Listen, SynReceived, "last ACK of the handshake"),
    normal(SynSent, Established, "SYN-ACK"),
    normal(SynReceived, Established, "handshake done"),
    normal(Established, FinWait1, "close() or shutdown()"),
    normal(Established, CloseWait, "FIN of the peer"),
    normal(FinWait1, FinWait2, "ACK of our FIN"),
    normal(FinWait2, Close, "FIN of the peer"),
    normal(CloseWait, LastAck, "close()"),
    normal(LastAck, Close, "ACK of our FIN"),
    normal(Listen, Close, "listener closed"),
    drawn(Listen, NewSynReceived, "SYN"),
    drawn(NewSynReceived, SynReceived, "last ACK of the handshake"),
    drawn(FinWait2, TimeWait, "FIN of the peer"),
    drawn(Closing, TimeWait, "ACK of our FIN"),
    drawn(TimeWait, Close, "60 s"),
    rare(SynSent, SynReceived, "both opened at once"),
    rare(FinWait1, Closing, "both closed at once"),
    rare(Closing, Close, "ACK of our FIN"),
    rare(SynReceived, FinWait1, "closed before the last ACK (Fast Open)"),
    rare(SynReceived, CloseWait, "FIN before the last ACK (Fast Open)"),
    anomalous(SynSent, Close, "connect() refused, timed out or given up"),
    anomalous(SynReceived, Close, "handshake broken off"),
    anomalous(Established, Close, "cut off: reset, timeout or abort"),
    anomalous(FinWait1, Close, "cut off while closing: reset or timeout"),
    anomalous(CloseWait, Close, "cut off: reset, or closed with unread data"),
];

const fn node(state: TcpState, column: u8, row: u8, waits_for: WaitsFor) -> Node {
    Node { state, column, row, waits_for, is_socket: true }
}

const fn small(state: TcpState, column: u8, row: u8, waits_for: WaitsFor) -> Node {
    Node { is_socket: false, ..node(state, column, row, waits_for) }
}

const fn normal(old: TcpState, new: TcpState, label: &'static str) -> Edge {
    Edge { old, new, kind: Kind::Normal, label, counted: true }
}

const fn drawn(old: TcpState, new: TcpState, label: &'static str) -> Edge {
    Edge { counted: false, ..normal(old, new, label) }
}

const fn rare(old: TcpState, new: TcpState, label: &'static str) -> Edge {
    Edge { kind: Kind::Rare, ..normal(old, new, label) }
}

const fn anomalous(old: TcpState, new: TcpState, label: &'static str) -> Edge {
    Edge { kind: Kind::Anomalous, ..normal(old, new, label) }
}

/// Every arrow of the diagram.
#[must_use]
pub fn edges() -> &'static [Edge] {
    &EDGES
}

/// The arrow of a transition; `None` if the diagram has none.
#[must_use]
pub fn edge(old: TcpState, new: TcpState) -> Option<&'static Edge> {
    EDGES.iter().find(|edge| (edge.old, edge.new) == (old, new))
}

/// What a transition says. One that stays where it is says nothing; one that the diagram does not have is anomalous.
#[must_use]
pub fn classify(old: TcpState, new: TcpState) -> Kind {
    match edge(old, new) {
        Some(edge) => edge.kind,
        None if old == new => Kind::Normal,
        None => Kind::Anomalous,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_arrow_joins_two_states_and_no_two_are_the_same() {
        let states: BTreeSet<_> = NODES.iter().map(|node| node.state).collect();
        let mut pairs = BTreeSet::new();
        for edge in edges() {
            assert!(states.contains(&edge.old) && states.contains(&edge.new), "{edge:?}");
            assert!(pairs.insert((edge.old, edge.new)), "{edge:?} is there twice");
            assert!(edge.old != edge.new && !edge.label.is_empty(), "{edge:?}");
        }
    }

    #[test]
    fn places_are_taken_once() {
        let places: BTreeSet<_> = NODES.iter().map(|node| (node.column, node.row)).collect();
        assert_eq!(places.len(), NODES.len());
    }

    /// What no transition shows touches a state that is no socket, and the other way round.
    #[test]
    fn arrows_are_counted_between_sockets() {
        let is_socket = |state| NODES.iter().any(|node| node.state == state && node.is_socket);
        for edge in edges() {
            assert_eq!(edge.counted, is_socket(edge.old) && is_socket(edge.new), "{edge:?}");
        }
    }

    #[test]
    fn a_reset_is_anomalous_and_a_close_is_not() {
        assert_eq!(classify(Established, Close), Kind::Anomalous);
        assert_eq!(classify(LastAck, Close), Kind::Normal);
        assert_eq!(classify(FinWait1, Closing), Kind::Rare);
        assert_eq!(classify(Close, Close), Kind::Normal);
        assert_eq!(classify(Unknown(14), Established), Kind::Anomalous);
    }
}
