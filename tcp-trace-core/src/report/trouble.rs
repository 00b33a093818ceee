//! How connections end and what keeps them from ending, in the report document.

use serde::Serialize;

use super::{Ending, PeerCount, ProcessIdentity, Role};
use crate::{endpoint::Endpoint, state::TcpState, time::WallTime};

/// Sockets that their program has closed, or shut down, and that wait for the peer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Closing {
    /// Sockets in FIN_WAIT1, FIN_WAIT2, CLOSING and LAST_ACK at the end of the window; those that the kernel has put away in
    /// FIN_WAIT2 are `time_wait.live_orphans`.
    pub live: u64,
    /// By process and state, most first.
    pub groups: Vec<ClosingGroup>,
}

/// The sockets of one process that wait for their peers in one state.
#[derive(Clone, Debug, Serialize)]
pub struct ClosingGroup {
    /// Whose they are or, of those that nobody holds any more, were; `None` where that is not known.
    pub process: Option<ProcessIdentity>,
    /// Which state.
    pub state: TcpState,
    /// How many, those that the kernel has put away in FIN_WAIT2 included.
    pub count: u64,
    /// Of these, those that no process holds any more, as the last survey saw it; `None` without one.
    pub orphans: Option<u64>,
    /// Of these, those whose peer has closed its receive window; `None` without a survey.
    pub zero_window: Option<u64>,
    /// Their peers, most frequent first.
    pub peers: Vec<PeerCount>,
    /// The oldest of them.
    pub sockets: Vec<ClosingSocket>,
}

/// A socket that waits for its peer.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ClosingSocket {
    /// Socket cookie.
    pub cookie: Option<u64>,
    /// Local end.
    pub local: Endpoint,
    /// Peer.
    pub peer: Endpoint,
    /// Its state.
    pub state: TcpState,
    /// Time in its state; `None` if its entry was not seen.
    pub age_ns: Option<u64>,
    /// Whether `age_ns` is the age itself and not a lower bound; `None` with it.
    pub age_exact: Option<bool>,
    /// Whether a process still holds it; `None` without a survey.
    pub held: Option<bool>,
    /// Bytes that the peer has not acknowledged, the FIN counting as one; `None` without a survey.
    pub unacknowledged: Option<u64>,
}

/// Connections of one process that ended in the same way.
#[derive(Clone, Debug, Serialize)]
pub struct EndingCount {
    /// Whose they were; `None` where that is not known, and for what the table had no room for.
    pub process: Option<ProcessIdentity>,
    /// Which end of the handshake it was; `None` where that is not known.
    pub role: Option<Role>,
    /// How they ended.
    pub ending: Ending,
    /// The state that they were in before.
    pub state: TcpState,
    /// How many.
    pub count: u64,
    /// Of these, those over which no data had gone in either direction.
    pub without_data: u64,
    /// In how many seconds of the window there was at least one: a crash has one or two, a storm many.
    pub seconds: u64,
    /// Where those of a server came in, most frequent first; only of endings that cut a connection off.
    pub listeners: Vec<PeerCount>,
    /// Their peers, most frequent first, of a client with their port; only of endings that cut a connection off.
    pub peers: Vec<PeerCount>,
}

/// An address at which listening ended, or began, in the window.
#[derive(Clone, Debug, Serialize)]
pub struct ListenerChange {
    /// Where.
    pub local: Endpoint,
    /// Network namespace.
    pub netns: Option<u32>,
    /// Who listened there last; `None` where that is not known.
    pub process: Option<ProcessIdentity>,
    /// Listeners that were opened there.
    pub opened: u64,
    /// Listeners that were closed there.
    pub closed: u64,
    /// How often one was opened after nobody had listened there since another was closed.
    pub restarts: u64,
    /// The longest time between the two.
    pub longest_gap_ns: Option<u64>,
    /// Whether anybody listens there at the end of the window.
    pub listening: bool,
    /// When the last one was closed.
    pub last_closed: Option<WallTime>,
    /// Connections that waited to be accepted, and that were reset because their listener was closed.
    pub queued_resets: u64,
    /// Whose they were: the peers of these connections, most frequent first.
    pub peers: Vec<PeerCount>,
}

/// Connections that are held only by a process that never used them.
#[derive(Clone, Debug, Serialize)]
pub struct Inherited {
    /// Who holds them.
    pub process: ProcessIdentity,
    /// Who used them before, and has closed its own descriptors of them; it is alive.
    pub user: ProcessIdentity,
    /// How many.
    pub count: u64,
    /// For how long nobody else has held the first of them, at least; no data has gone over any of them since.
    pub oldest_ns: u64,
    /// Their local ends if they came in on a listener, most frequent first.
    pub listeners: Vec<PeerCount>,
    /// Their peers, most frequent first.
    pub peers: Vec<PeerCount>,
    /// The oldest of them.
    pub sockets: Vec<InheritedSocket>,
}

/// A connection that is held only by a process that never used it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct InheritedSocket {
    /// Socket cookie.
    pub cookie: u64,
    /// Local end.
    pub local: Endpoint,
    /// Peer.
    pub peer: Endpoint,
    /// Its state.
    pub state: TcpState,
    /// For how long nobody else has held it, at least.
    pub idle_ns: u64,
}
