//! Half-open handshakes, in the report document.

use serde::Serialize;

use super::{DurationSummary, ProcessIdentity};
use crate::endpoint::Endpoint;

/// Passive handshakes: from the SYN to the final ACK.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HalfOpen {
    /// Completed handshakes of known duration.
    pub completed: DurationSummary,
    /// Where the durations come from.
    pub sources: HalfOpenSources,
    /// Completed handshakes of unknown duration that are not known to be cookie ones.
    pub unknown: u64,
    /// Requests that died by their timer; `None` where they cannot be seen.
    pub expired: Option<u64>,
    /// Requests that a reset ended; `None` where they cannot be seen.
    pub reset: Option<u64>,
    /// Requests that died, of which it cannot be told whether their timer or a reset ended them; `None` where they
    /// cannot be seen.
    pub dead: Option<u64>,
    /// Requests that are half-open now; `None` where they cannot be seen.
    pub live: Option<u64>,
    /// Handshakes completed by a SYN cookie: the kernel kept no request, so no duration exists. `None`
    /// where they cannot be told.
    pub cookies: Option<u64>,
    /// Per listener, busiest first.
    pub listeners: Vec<Listener>,
    /// What the kernel counted in the window, per network namespace.
    pub namespaces: Vec<NamespaceSummary>,
}

/// How the durations of completed handshakes were measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HalfOpenSources {
    /// Request queued → final ACK, seen by sock_ops.
    pub sock_ops: u64,
    /// The same, seen by fentry.
    pub fentry: u64,
    /// SYN → final ACK of a TCP Fast Open connection.
    pub fast_open: u64,
    /// First SYN-ACK → final ACK, as the retransmission of the SYN-ACK showed it.
    pub synack: u64,
    /// The kernel's first round-trip sample: SYN-ACK → final ACK, no retransmission.
    pub srtt: u64,
    /// The kernel's time in retransmission timeouts.
    pub rto: u64,
}

/// A listener.
#[derive(Clone, Debug, Serialize)]
pub struct Listener {
    /// Where it listens, or, if its `listen()` was not seen, where its children were connected; `None` sums
    /// up the listeners that the table had no room for.
    pub local: Option<Endpoint>,
    /// Network namespace.
    pub netns: Option<u32>,
    /// Whose it is.
    pub process: Option<ProcessIdentity>,
    /// Completed handshakes of known duration.
    pub completed: DurationSummary,
    /// Completed handshakes of unknown duration.
    pub unknown: u64,
    /// Of the completed ones, those whose SYN-ACK the kernel sent more than once: it or its answer was lost, or the answer
    /// came late or was turned away. Without the aggregated ones; `None` where that cannot be seen.
    pub resent: Option<u64>,
    /// See [`HalfOpen::expired`].
    pub expired: Option<u64>,
    /// See [`HalfOpen::reset`].
    pub reset: Option<u64>,
    /// See [`HalfOpen::dead`].
    pub dead: Option<u64>,
    /// See [`HalfOpen::live`].
    pub live: Option<u64>,
    /// Of the live ones, those that have waited for their final ACK for a second or more.
    pub overdue: Option<u64>,
    /// See [`HalfOpen::cookies`].
    pub cookies: Option<u64>,
    /// Half-open requests, and how many there may be; `None` without a survey.
    pub syn_queue: Option<Queue>,
    /// Connections that wait to be accepted, and how many may; `None` without a survey.
    pub accept_queue: Option<Queue>,
    /// SYNs and final ACKs that it turned away in the window, because a queue was full as a rule (`sk_drops`); `None` where
    /// that was not read.
    pub drops: Option<u64>,
    /// Distinct addresses that its requests came from, estimated within a few percent; `None` if there were none.
    pub sources: Option<u64>,
    /// The prefixes (/24, /64) that most of its requests came from.
    pub prefixes: Vec<PrefixCount>,
    /// Why its requests stay half-open; `None` where nothing was retransmitted.
    pub cause: Option<HalfOpenCause>,
}

/// A listener's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// How many wait in it.
    pub length: u64,
    /// The listener's backlog: what `listen()` asked for, cut to `net.core.somaxconn`.
    pub limit: u64,
}

/// What became of the requests from one prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrefixCount {
    /// Such as `198.18.7.0/24`.
    pub prefix: String,
    /// How many. With more prefixes than are counted it may be too high, never too low; the outcomes the reverse.
    pub requests: u64,
    /// Completed handshakes, of known duration or not.
    pub completed: u64,
    /// See [`HalfOpen::expired`].
    pub expired: Option<u64>,
    /// See [`HalfOpen::reset`].
    pub reset: Option<u64>,
    /// See [`HalfOpen::dead`].
    pub dead: Option<u64>,
    /// See [`HalfOpen::live`].
    pub live: Option<u64>,
}

/// Why requests stay half-open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HalfOpenCause {
    /// The listener has room, and the clients do not answer.
    SilentClients,
    /// The clients answered; the program accepts too slowly, and its queue is full.
    AcceptQueueFull,
}

/// What the kernel counted in one network namespace, in the window (`/proc/net/netstat`, `/proc/net/snmp`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamespaceSummary {
    /// Inode number.
    pub netns: u32,
    /// Its name, if `ip netns` knows it.
    pub name: Option<String>,
    /// `net.ipv4.tcp_syncookies`.
    pub syncookies: Option<u8>,
    /// `net.core.somaxconn`.
    pub somaxconn: Option<u64>,
    /// ListenOverflows.
    pub listen_overflows: u64,
    /// ListenDrops.
    pub listen_drops: u64,
    /// SyncookiesSent.
    pub syncookies_sent: u64,
    /// SyncookiesRecv.
    pub syncookies_received: u64,
    /// SyncookiesFailed.
    pub syncookies_failed: u64,
    /// TCPReqQFullDoCookies.
    pub request_queue_full_cookies: u64,
    /// TCPReqQFullDrop.
    pub request_queue_full_drops: u64,
    /// EmbryonicRsts.
    pub embryonic_resets: u64,
    /// TCPTimeWaitOverflow.
    pub time_wait_overflows: u64,
    /// PassiveOpens.
    pub passive_opens: u64,
    /// ActiveOpens.
    pub active_opens: u64,
    /// AttemptFails.
    pub attempt_fails: u64,
}
