//! What the tracker consumes: everything that is not computed.

use std::num::NonZeroU64;

use crate::{
    endpoint::Endpoint,
    mode::ModeChange,
    process::{Comm, ProcessId},
    record::CounterReading,
    session::Degradation,
    stack::StackFacts,
    state::TcpState,
    survey::{Facts, Holder, RequestRow, SocketRow, SurveyBegin, SurveyEnd},
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
    /// A task used a socket that it had not opened.
    SocketUse(SocketUse),
    /// Something happened to a half-open request.
    Request(RequestChange),
    /// A survey begins.
    SurveyBegin(SurveyBegin),
    /// Sockets of a survey, and when they had been read.
    Sockets(Timestamp, Vec<SocketRow>),
    /// Holders of sockets of a survey.
    Holders(Vec<Holder>),
    /// Half-open requests of a survey.
    Requests(Vec<RequestRow>),
    /// Facts.
    Facts(Facts),
    /// A survey is over.
    SurveyEnd(SurveyEnd),
    /// Transitions reach user space in another way from here on.
    Mode(ModeChange),
    /// Transitions that the kernel has counted.
    Aggregates(Vec<Aggregate>),
    /// Something turned out not to be had.
    Degradation(Degradation),
    /// Where connections were opened.
    Stacks(StackFacts),
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
    /// Whether the socket has a file: `false` before it is accepted and after its last holder has closed it.
    pub file: Option<bool>,
    /// Whether `close()` resets: SO_LINGER with a time of 0.
    pub linger_zero: bool,
    /// What the kernel made of the socket as it closed; `None` where that can only be inferred.
    pub time_wait: Option<TimeWait>,
    /// What was transferred; only at `… → CLOSE`.
    pub bytes: Option<Bytes>,
    /// The transition is in an [`Aggregate`]; this only says how the socket fares.
    pub aggregated: bool,
}

/// Transitions of one kind and owner, and of times that fall under the same power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// State left.
    pub old: TcpState,
    /// State entered.
    pub new: TcpState,
    /// Whose, as far as the kernel programs knew.
    pub process: Option<ProcessId>,
    /// Network namespace.
    pub netns: Option<u32>,
    /// Cgroup of the sockets' creator.
    pub cgroup_id: Option<u64>,
    /// Port of the listener that the sockets came in on, if they did.
    pub listener_port: Option<u16>,
    /// How an attempt to connect failed: an errno; `None` if it never had a port.
    pub error: Option<u16>,
    /// What is told of the time.
    pub time: Time,
    /// The shortest and the longest time that it may be, nanoseconds.
    pub bounds: Option<(u64, u64)>,
    /// How many.
    pub count: u64,
}

/// What the time of an [`Aggregate`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Time in the state that was left.
    State,
    /// A handshake, from its request on, which sock_ops saw.
    SockOps,
    /// The same, seen by fentry.
    Fentry,
    /// A handshake of TCP Fast Open.
    FastOpen,
    /// The kernel's first round-trip sample of a handshake.
    Srtt,
    /// A handshake by SYN cookie, which has none.
    Cookie,
    /// A handshake that nobody has measured.
    Unmeasured,
    /// Time in the state that was left; the kernel keeps the ends in TIME_WAIT.
    TimeWait,
    /// The same, in FIN_WAIT2.
    Orphan,
}

/// What the kernel makes of a socket that closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeWait {
    /// Nothing: it is gone.
    None,
    /// A time-wait socket in TIME_WAIT.
    TimeWait,
    /// A time-wait socket in FIN_WAIT2, of an orphan whose peer has not closed yet.
    Orphan,
}

/// What a connection transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// Received, in bytes.
    pub received: u64,
    /// Sent and acknowledged, in bytes.
    pub acked: u64,
    /// Received and not read by the program, in bytes, the FIN counting as one.
    pub unread: u32,
}

/// A task used a socket that it had not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketUse {
    /// When.
    pub time: Timestamp,
    /// The socket.
    pub cookie: NonZeroU64,
    /// Address of the kernel's socket.
    pub skaddr: u64,
    /// How.
    pub how: UseKind,
    /// Who.
    pub task: Task,
}

/// How a socket was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UseKind {
    /// `accept()` returned it.
    Accept,
    /// It was read from for the first time.
    Read,
    /// Its last holder closed it, after the connection had ended.
    Close,
}

/// Something happened to a half-open request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestChange {
    /// When.
    pub time: Timestamp,
    /// What.
    pub what: RequestEvent,
    /// Cookie of the request.
    pub cookie: Option<NonZeroU64>,
    /// Cookie of its listener.
    pub listener_cookie: Option<NonZeroU64>,
    /// Network namespace.
    pub netns: Option<u32>,
    /// When its first SYN-ACK was sent.
    pub sent: Option<Timestamp>,
    /// Local end.
    pub local: Endpoint,
    /// Peer.
    pub peer: Endpoint,
    /// The listener's family.
    pub family: u16,
    /// How often the SYN-ACK's timer has fired.
    pub timeouts: u16,
    /// Connections that wait to be accepted, and how many may.
    pub accept_queue: Option<(u32, u32)>,
    /// Whether the client's final ACK came and was turned away.
    pub acked: bool,
}

/// What happens to half-open requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestEvent {
    /// The SYN-ACK was sent once more.
    Retransmit,
    /// Given up by its timer.
    Expired,
    /// Dropped: a reset, an ICMP error, or its listener is gone.
    Dropped,
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
    /// Who saw it.
    pub source: RequestSource,
}

/// Who saw a request begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestSource {
    /// sock_ops.
    SockOps,
    /// fentry on the function that queues it.
    Fentry,
    /// sock_ops; it was a TCP Fast Open one, whose child exists from the SYN on.
    FastOpen,
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
