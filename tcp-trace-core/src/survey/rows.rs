//! Rows: sockets, holders of sockets, half-open requests.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::{endpoint::Endpoint, state::TcpState, time::Timestamp};

/// Names of what a survey may look at ([`SurveyBegin::scope`]).
pub mod scope {
    /// Every socket in every state, and the holders of all of them.
    pub const ALL: &str = "all";
    /// What a report needs: listeners, half-opens, CLOSE_WAIT, TIME_WAIT; the holders of those that have one.
    pub const REPORT: &str = "report";
    /// Half-open requests only.
    pub const REQUESTS: &str = "requests";
}

/// A survey begins: what is read from now on is later than `time`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurveyBegin {
    /// CLOCK_MONOTONIC.
    pub time: Timestamp,
    /// One of [`scope`].
    pub scope: String,
}

/// A survey is over: what was read is earlier than `time`, and so is every transition that stands before this in the
/// stream and no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurveyEnd {
    /// CLOCK_MONOTONIC.
    pub time: Timestamp,
    /// States of which every socket was listed, in every namespace of `namespaces`; kernel numbers.
    pub states: Vec<u8>,
    /// Namespaces that were listed completely, by inode number.
    pub namespaces: Vec<u32>,
    /// Whether the holders of the listed sockets were looked up.
    pub holders: bool,
    /// Whether every process could be looked at: a socket without a holder has none.
    #[serde(default)]
    pub holders_complete: bool,
    /// What could not be read, for people: one sentence each. Bounded by the source.
    pub problems: Vec<String>,
}

/// A socket as `sock_diag` lists it (`inet_sk_diag_fill`, `net/ipv4/inet_diag.c`). A half-open request is listed in
/// SYN_RECV without an inode; a time-wait socket in TIME_WAIT or FIN_WAIT2 without an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketRow {
    /// Network namespace, by inode number.
    pub netns: u32,
    /// Socket cookie; of a half-open request and of a time-wait socket that of the connection.
    pub cookie: NonZeroU64,
    /// State; [`TcpState::NewSynReceived`] for a half-open request.
    pub state: TcpState,
    /// Local end.
    pub local: Endpoint,
    /// Peer; unknown of a listener.
    pub peer: Endpoint,
    /// The socket's own family, `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// Inode number of the socket's file; `None` without a file: never accepted, orphaned, a request, time-wait.
    pub inode: Option<u32>,
    /// Cgroup of its creator (`INET_DIAG_CGROUP_ID`, first kernel 5.7); `None` where the kernel does not tell.
    pub cgroup_id: Option<u64>,
    /// User id of its creator.
    pub uid: u32,
    /// Bytes not read yet, the FIN counting as one; of a listener, connections waiting to be accepted.
    pub receive_queue: u32,
    /// Bytes not acknowledged yet; of a listener, the limit of the accept queue (`backlog`).
    pub send_queue: u32,
    /// Its timer.
    pub timer: Timer,
    /// Retransmissions by that timer.
    pub retransmits: u8,
    /// Milliseconds until that timer expires.
    pub expires_ms: u32,
    /// `TCP_INFO`, where it was asked for and the socket has one.
    pub info: Option<TcpInfo>,
}

/// `idiag_timer` (`include/uapi/linux/inet_diag.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// None is running.
    Off,
    /// Retransmission, or of a request: the next SYN-ACK.
    Retransmit,
    /// Keep-alive, or a full socket's FIN_WAIT2.
    KeepAlive,
    /// TIME_WAIT.
    TimeWait,
    /// Zero-window probe.
    ZeroWindow,
    /// Another number.
    Other(u8),
}

/// What is used of `struct tcp_info` (`include/uapi/linux/tcp.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// Milliseconds since data was sent last.
    pub last_data_sent_ms: u32,
    /// Milliseconds since data was received last; a bare FIN does not count.
    pub last_data_received_ms: u32,
    /// Milliseconds since an ACK was received last; of a CLOSE_WAIT socket nothing is exchanged on any more, since its
    /// FIN.
    pub last_ack_received_ms: u32,
    /// Smoothed round-trip time, microseconds.
    pub srtt_us: u32,
    /// Retransmissions in its life.
    pub total_retrans: u32,
    /// Bytes sent and acknowledged (RFC 4898 tcpEStatsAppHCThruOctetsAcked).
    pub bytes_acked: u64,
    /// Bytes received (tcpEStatsAppHCThruOctetsReceived).
    pub bytes_received: u64,
    /// Segments received, the SYN or SYN-ACK among them.
    pub segments_in: u32,
    /// Of those, segments with data.
    pub data_segments_in: u32,
    /// Segments with data that were sent.
    pub data_segments_out: u32,
}

/// One file descriptor of one process that is a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// Inode number of the socket's file.
    pub inode: u32,
    /// Process id (the kernel's tgid).
    pub pid: u32,
    /// Descriptor.
    pub fd: u32,
}

/// A half-open request of the kernel program's map whose handshake has not completed: it is live, or it died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestRow {
    /// Cookie.
    pub cookie: NonZeroU64,
    /// When it was queued.
    pub queued: Timestamp,
    /// Local end.
    pub local: Endpoint,
    /// Peer.
    pub peer: Endpoint,
    /// Family of its listener.
    pub family: u16,
}
