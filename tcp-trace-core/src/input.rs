//! What the tracker consumes: everything that is not computed.

use std::num::NonZeroU64;

use crate::{
    endpoint::Endpoint,
    process::{Comm, ProcessId},
    record::CounterReading,
    state::TcpState,
    time::Timestamp,
};

/// One decoded record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A socket changed its state.
    Event(Event),
    /// The kernel's counters.
    Counters(CounterReading),
    /// The stream is complete.
    End(Timestamp),
}

/// A state change, as the kernel program saw it. `None` is "not known" throughout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// State left.
    pub old: TcpState,
    /// State entered.
    pub new: TcpState,
    /// Socket cookie.
    pub cookie: Option<NonZeroU64>,
    /// Address of the kernel's socket.
    pub skaddr: u64,
    /// Local end, as far as it is known yet.
    pub local: Endpoint,
    /// Peer, as far as it is known yet.
    pub peer: Endpoint,
    /// The socket's own family number, as the filter predicate wants it.
    pub family: u16,
    /// Network namespace.
    pub netns: Option<u32>,
    /// Cgroup of the socket's creator.
    pub cgroup_id: Option<u64>,
    /// The task inside whose system call this happened.
    pub task: Option<Task>,
    /// `sk_err`, 0 for no error.
    pub error: Option<u16>,
    /// `SOCK_DONE`: the peer's FIN was seen.
    pub done: Option<bool>,
    /// The half-open request that this handshake began with.
    pub request: Option<Request>,
    /// What the kernel measured.
    pub tcp: Option<TcpFacts>,
}

/// A task that is the socket's user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its process.
    pub process: ProcessId,
    /// Its thread id.
    pub tid: u32,
    /// The process's name; `None` if only the thread's is known.
    pub comm: Option<Comm>,
}

/// A half-open request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it was queued, which is when its SYN came.
    pub queued: Timestamp,
    /// Whether it was a TCP Fast Open one.
    pub fast_open: bool,
}

/// Fields of `struct tcp_sock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFacts {
    /// Smoothed round-trip time, microseconds.
    pub srtt_us: u32,
    /// Retransmissions so far.
    pub total_retrans: u32,
    /// Retransmission timeouts so far: how many, and how many milliseconds (first kernel: 6.7).
    pub rto: Option<(u16, u32)>,
}
