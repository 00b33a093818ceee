//! One finished connection, as `stream --closed` shows it.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::{OpenedAt, Process};
use crate::{
    endpoint::{Endpoint, Family},
    process::Owner,
    state::TcpState,
    survey::ContainerFacts,
    time::WallTime,
};

/// The value of `event` in JSON.
pub const CLOSED_EVENT_NAME: &str = "tcp.connection_closed";

/// How a connection lived and died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obituary {
    /// When its socket was closed; a time-wait socket may remain.
    pub time: WallTime,
    /// Local end.
    pub local: Endpoint,
    /// Peer.
    pub peer: Endpoint,
    /// What the two ends spoke.
    pub family: Family,
    /// Socket cookie.
    pub cookie: Option<u64>,
    /// Network namespace.
    pub netns: Option<u32>,
    /// Cgroup of the socket's creator.
    pub cgroup_id: Option<u64>,
    /// Whose it was at the end.
    pub owner: Option<Owner>,
    /// Who opened it: called `connect()`, or `listen()` on the listener that it came in on.
    pub opened_by: Option<Owner>,
    /// Where it was opened; `None` where that is not known.
    pub opened_at: Option<OpenedAt>,
    /// Its container.
    pub container: Option<Arc<ContainerFacts>>,
    /// Which end of the handshake it was; `None` if that was not seen.
    pub role: Option<Role>,
    /// Who sent the first FIN; `None` if nobody did.
    pub closer: Option<Closer>,
    /// How it ended; `None` where that cannot be told.
    pub ending: Option<Ending>,
    /// From its SYN to its end; `None` if its beginning was not seen.
    pub duration_ns: Option<u64>,
    /// Time in each state that it was seen to enter and to leave.
    pub states: BTreeMap<TcpState, u64>,
    /// From SYN to ESTABLISHED, of a client.
    pub connect_ns: Option<u64>,
    /// From SYN to the final ACK, of a server.
    pub half_open_ns: Option<u64>,
    /// What measured `half_open_ns`.
    pub half_open_source: Option<&'static str>,
    /// Payload sent and acknowledged, in bytes.
    pub bytes_sent: Option<u64>,
    /// Payload received, in bytes.
    pub bytes_received: Option<u64>,
    /// Payload received that the program never read, in bytes.
    pub unread_bytes: Option<u64>,
    /// Retransmitted segments.
    pub retransmits: Option<u32>,
    /// Smoothed round-trip time at the end, microseconds.
    pub srtt_us: Option<u32>,
    /// Whether every transition of its life was seen.
    pub complete: bool,
}

/// Which end of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It sent the SYN.
    Client,
    /// It answered it.
    Server,
}

/// Who closed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Closer {
    /// This end.
    Active,
    /// The peer.
    Passive,
    /// Both, before they knew of each other's FIN.
    Simultaneous,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Closed by the peer first, then by the program; the last FIN was acknowledged.
    Closed,
    /// Closed by the program first; its address waits in TIME_WAIT.
    TimeWait,
    /// Closed by the program, and the peer has not closed yet: the kernel waits without a socket.
    Orphaned,
    /// The peer sent a reset.
    ResetByPeer,
    /// The kernel sent a reset, because data came that nobody was left to read.
    ResetByUs,
    /// The peer refused the connection.
    Refused,
    /// No answer.
    TimedOut,
    /// A router said that there is no way.
    Unreachable,
    /// The program closed it without having read everything, which resets it.
    AbortedUnread,
    /// The program closed it with SO_LINGER on and a time of 0, which resets it.
    LingerZero,
    /// The program disconnected it (`connect()` to AF_UNSPEC), which resets it.
    Disconnected,
    /// The program gave up connecting before an answer came.
    GivenUp,
    /// Its listener was closed before anybody accepted it, which resets it.
    NeverAccepted,
    /// Somebody else destroyed it (`ss -K`, SOCK_DESTROY).
    Killed,
    /// Another error.
    Failed,
}

impl Ending {
    /// Every way to end.
    pub const ALL: [Self; 15] = [
        Self::Closed,
        Self::TimeWait,
        Self::Orphaned,
        Self::ResetByPeer,
        Self::ResetByUs,
        Self::Refused,
        Self::TimedOut,
        Self::Unreachable,
        Self::AbortedUnread,
        Self::LingerZero,
        Self::Disconnected,
        Self::GivenUp,
        Self::NeverAccepted,
        Self::Killed,
        Self::Failed,
    ];

    /// The name in JSON and in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::TimeWait => "time_wait",
            Self::Orphaned => "orphaned",
            Self::ResetByPeer => "reset_by_peer",
            Self::ResetByUs => "reset_by_us",
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::AbortedUnread => "aborted_unread",
            Self::LingerZero => "linger_zero",
            Self::Disconnected => "disconnected",
            Self::GivenUp => "given_up",
            Self::NeverAccepted => "never_accepted",
            Self::Killed => "killed",
            Self::Failed => "failed",
        }
    }
}

impl Role {
    /// The name in JSON and in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

impl Closer {
    /// The name in JSON and in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::Simultaneous => "simultaneous",
        }
    }
}

impl Obituary {
    /// What comes after `time` and `event`.
    pub(crate) fn rest<S: SerializeStruct>(&self, fields: &mut S) -> Result<(), S::Error> {
        fields.serialize_field("local", &self.local)?;
        fields.serialize_field("peer", &self.peer)?;
        fields.serialize_field("family", &self.family)?;
        fields.serialize_field("cookie", &self.cookie)?;
        fields.serialize_field("netns", &self.netns)?;
        fields.serialize_field("process", &Process::from(self.owner))?;
        fields.serialize_field("opened_by", &self.opened_by.map(|owner| Process::from(Some(owner))))?;
        fields.serialize_field("opened_at", &self.opened_at)?;
        fields.serialize_field("container", &self.container.as_deref())?;
        fields.serialize_field("cgroup_id", &self.cgroup_id)?;
        fields.serialize_field("role", &self.role)?;
        fields.serialize_field("closer", &self.closer)?;
        fields.serialize_field("ending", &self.ending)?;
        fields.serialize_field("duration_ns", &self.duration_ns)?;
        fields.serialize_field("states", &self.states)?;
        fields.serialize_field("connect_ns", &self.connect_ns)?;
        fields.serialize_field("half_open_ns", &self.half_open_ns)?;
        fields.serialize_field("half_open_source", &self.half_open_source)?;
        fields.serialize_field("bytes_sent", &self.bytes_sent)?;
        fields.serialize_field("bytes_received", &self.bytes_received)?;
        fields.serialize_field("unread_bytes", &self.unread_bytes)?;
        fields.serialize_field("retransmits", &self.retransmits)?;
        fields.serialize_field("srtt_us", &self.srtt_us)?;
        fields.serialize_field("complete", &self.complete)
    }
}

impl Serialize for Obituary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Obituary", 26)?;
        fields.serialize_field("time", &self.time)?;
        fields.serialize_field("event", CLOSED_EVENT_NAME)?;
        self.rest(&mut fields)?;
        fields.end()
    }
}
