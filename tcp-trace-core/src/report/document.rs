//! The report document, `tcp-trace.report/1`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Closing, Distributions, EndingCount, HalfOpen, Inherited, ListenerChange, Series, StackCount};
use crate::{
    endpoint::Endpoint,
    findings::Finding,
    histogram::Histogram,
    mode::{Mode, Reason},
    process::{Comm, OwnerSource},
    session::{Degradation, Host},
    state::TcpState,
    survey::{CloseWaitKind, ContainerFacts},
    time::WallTime,
};

/// The value of `schema`.
pub const SCHEMA: &str = "tcp-trace.report/1";

/// One report: what happened in its window, and what is there at its end.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The host that was traced.
    pub host: Host,
    /// The time that the counts are of.
    pub window: Window,
    /// Where the numbers come from, and what they lack.
    pub source: Source,
    /// Whether every transition is accounted for.
    pub loss: Loss,
    /// Which mode held when, in order.
    pub modes: Vec<ModeSpan>,
    /// The transition matrix, exact also where the stream lost events.
    pub transitions: Vec<TransitionCount>,
    /// Per state, by name.
    pub states: BTreeMap<TcpState, StateSummary>,
    /// Passive handshakes.
    pub half_open: HalfOpen,
    /// Active connection attempts, per destination.
    pub connect: Vec<Connect>,
    /// Sockets that their peer has closed and their program has not.
    pub close_wait: CloseWait,
    /// Sockets that closed first.
    pub time_wait: TimeWait,
    /// Sockets that wait for their peer to let them close.
    pub closing: Closing,
    /// How connections ended, most first; `None` where that is not told (attach `tracepoint`, mode `count`).
    pub endings: Option<Vec<EndingCount>>,
    /// Where listeners came and went.
    pub listeners_changed: Vec<ListenerChange>,
    /// Connections that are held only by a process that never used them, most first; `None` where nobody could tell.
    pub inherited: Option<Vec<Inherited>>,
    /// Processes by number of transitions; the last may be the one of unknown owners.
    pub processes: Vec<ProcessSummary>,
    /// Transitions of processes that the table of processes had no room for.
    pub omitted: u64,
    /// Containers by number of transitions; `None` where nobody has looked.
    pub containers: Option<Vec<ContainerSummary>>,
    /// How full the tables are that have a limit, and what they had no room for.
    pub limits: Vec<Limit>,
    /// What is wrong, the worst first; `None` as long as no [`Judge`](crate::findings::Judge) has looked.
    pub findings: Option<Vec<Finding>>,
    /// How populations went; `None` unless [`Settings::series`](crate::tracker::Settings::series) asks for it.
    #[serde(skip)]
    pub series: Option<Series>,
    /// Its durations in buckets, for whoever adds up windows; not in the document.
    #[serde(skip)]
    pub distributions: Distributions,
}

/// A table with a limit. The counts are of the whole run up to the end of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// What it is a table of.
    pub name: &'static str,
    /// What it has room for.
    pub limit: u64,
    /// What is in it.
    pub in_use: u64,
    /// The most that was in it at once.
    pub peak: u64,
    /// What it had no room for, or gave up to make room.
    pub dropped: u64,
}

/// A stretch of time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Window {
    /// Its beginning.
    pub start: WallTime,
    /// Its end.
    pub end: WallTime,
    /// Its length.
    pub seconds: f64,
}

/// Where the numbers come from.
#[derive(Clone, Debug, Serialize)]
pub struct Source {
    /// `tp_btf` or `tracepoint`.
    pub attach: &'static str,
    /// The sources that are on.
    pub tiers: Vec<&'static str>,
    /// What could not be had, why, and how to get it.
    pub degradations: Vec<Degradation>,
}

/// The balance `seen = delivered + filtered + lost + aggregated`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// Transitions of TCP sockets in the window.
    pub seen: u64,
    /// Those that reached the report.
    pub delivered: u64,
    /// Those that the filter turned away.
    pub filtered: u64,
    /// Those that the stream lost; they are in `transitions` by kind, except for `missed`.
    pub lost: u64,
    /// Those that were counted in the kernel; they are in `transitions` by kind.
    pub aggregated: u64,
    /// Of the aggregated, those of which only the kind was counted, because there was no room for a row of their owner
    /// and time.
    pub unattributed: u64,
    /// Of the lost, those whose kind is not known: the kernel skipped the program, because it was
    /// already running on that CPU.
    pub missed: u64,
    /// Whether the kernel's counters agree with what arrived, kind by kind.
    pub balanced: bool,
    /// Connections repaired by a snapshot after a loss; `None` without snapshots.
    pub repaired: Option<u64>,
    /// Events of connections that a full table had no room for: counted, but without any history.
    pub untracked: u64,
    /// Records of other kinds that the ring buffer had no room for: who accepted a socket, what became of a half-open
    /// request. Not among the transitions; what they would have told is unknown.
    pub side_lost: u64,
}

/// A stretch of the window in which transitions reached user space in one way.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ModeSpan {
    /// Which way.
    pub mode: Mode,
    /// Why it began, at `start` or before the window.
    pub reason: Reason,
    /// Its beginning in the window.
    pub start: WallTime,
    /// Its end in the window.
    pub end: WallTime,
    /// Its length in the window.
    pub seconds: f64,
}

/// One cell of the transition matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TransitionCount {
    /// State left.
    pub old: TcpState,
    /// State entered.
    pub new: TcpState,
    /// How often.
    pub count: u64,
}

/// One state.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StateSummary {
    /// Transitions into it.
    pub entered: u64,
    /// Sockets in it at the end, as far as their transitions were seen; `None` for states that no
    /// transition shows.
    pub live: Option<u64>,
    /// Time from entering to leaving it.
    pub duration: DurationSummary,
}

/// Durations in nanoseconds. All but `count` are `None` if there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DurationSummary {
    /// How many.
    pub count: u64,
    /// The shortest.
    pub min_ns: Option<u64>,
    /// Median.
    pub p50_ns: Option<u64>,
    /// 90th percentile.
    pub p90_ns: Option<u64>,
    /// 99th percentile.
    pub p99_ns: Option<u64>,
    /// The longest.
    pub max_ns: Option<u64>,
    /// Of these, those that are only known to lie between a power of two and the next: they were aggregated.
    pub coarse: u64,
}

impl From<&Histogram> for DurationSummary {
    fn from(histogram: &Histogram) -> Self {
        Self {
            count: histogram.count(),
            min_ns: histogram.min(),
            p50_ns: histogram.percentile(50),
            p90_ns: histogram.percentile(90),
            p99_ns: histogram.percentile(99),
            max_ns: histogram.max(),
            coarse: histogram.coarse(),
        }
    }
}

/// Connection attempts to one destination.
#[derive(Clone, Debug, Serialize)]
pub struct Connect {
    /// The destination; `None` sums up those that the table had no room for.
    pub peer: Option<Endpoint>,
    /// Attempts that were answered: SYN → ESTABLISHED.
    pub completed: DurationSummary,
    /// ECONNREFUSED.
    pub refused: u64,
    /// ETIMEDOUT.
    pub timed_out: u64,
    /// EHOSTUNREACH, ENETUNREACH.
    pub unreachable: u64,
    /// ECONNRESET.
    pub reset: u64,
    /// Given up by the program itself before an answer came.
    pub aborted: u64,
    /// Failed for a reason that is not among these, or that this attach kind does not show.
    pub failed: u64,
    /// Whose attempts failed, most first.
    pub failing: Vec<ConnectFailures>,
}

/// Attempts of one process to connect to one destination, of which some failed.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectFailures {
    /// The process; `None` for those whose owner is not known.
    pub process: Option<ProcessIdentity>,
    /// Attempts that were answered, from the first failure in the window on.
    pub answered: u64,
    /// ECONNREFUSED.
    pub refused: u64,
    /// ETIMEDOUT.
    pub timed_out: u64,
    /// EHOSTUNREACH, ENETUNREACH.
    pub unreachable: u64,
    /// ECONNRESET.
    pub reset: u64,
    /// Given up by the program after a second or more without an answer.
    pub given_up: u64,
    /// EADDRNOTAVAIL: no local port was free.
    pub no_port: u64,
    /// Failed for a reason that is not among these, or that this attach kind does not show.
    pub failed: u64,
    /// When the first of the window failed.
    pub first: WallTime,
    /// When the last one did.
    pub last: WallTime,
}

/// CLOSE_WAIT.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CloseWait {
    /// Sockets in CLOSE_WAIT at the end of the window.
    pub live: u64,
    /// Of these, the lingering ones: longer there than `after_ns`, or for an unknown time.
    pub lingering: u64,
    /// What counts as lingering (`--close-wait-after`).
    pub after_ns: u64,
    /// Whose the lingering ones are, most first.
    pub processes: Vec<CloseWaitProcess>,
}

/// The lingering CLOSE_WAIT sockets of one process.
#[derive(Clone, Debug, Serialize)]
pub struct CloseWaitProcess {
    /// The process; `None` for those whose owner is not known.
    pub process: Option<ProcessIdentity>,
    /// How many.
    pub count: u64,
    /// Age of the oldest; `None` if no entry was seen.
    pub oldest_ns: Option<u64>,
    /// Whether `oldest_ns` is the age itself and not a lower bound; `None` with it.
    pub oldest_exact: Option<bool>,
    /// Whose fault, as the last survey saw their queues; `None` without one.
    pub kinds: Option<CloseWaitKinds>,
    /// Their peers, most frequent first.
    pub peers: Vec<PeerCount>,
    /// The listeners that they came in on, most frequent first.
    pub listeners: Vec<PeerCount>,
    /// Where they were opened, most frequent first; `None` where no stacks are taken.
    pub stacks: Option<Vec<StackCount>>,
    /// The oldest of them.
    pub sockets: Vec<Socket>,
}

/// How many CLOSE_WAIT sockets are of which kind. Those that no survey has seen yet are in none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CloseWaitKinds {
    /// Everything read, the end included; `close()` forgotten.
    pub forgot_close: u64,
    /// Not looked at since the peer closed.
    pub never_looked: u64,
    /// Data left unread.
    pub unread_data: u64,
    /// Never accepted.
    pub never_accepted: u64,
}

/// An endpoint and how many sockets have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PeerCount {
    /// An address; of a peer without its port, which differs from connection to connection.
    pub address: std::net::IpAddr,
    /// The port, where it means something.
    pub port: Option<u16>,
    /// How many.
    pub count: u64,
}

/// One socket.
#[derive(Clone, Debug, Serialize)]
pub struct Socket {
    /// Socket cookie.
    pub cookie: Option<u64>,
    /// Local end.
    pub local: Endpoint,
    /// Peer.
    pub peer: Endpoint,
    /// Its state.
    pub state: TcpState,
    /// Time in that state; `None` if its entry was not seen.
    pub age_ns: Option<u64>,
    /// Whether `age_ns` is the age itself and not a lower bound; `None` with it.
    pub age_exact: Option<bool>,
    /// The owner's descriptors of it; `None` without a look-up.
    pub fds: Option<Vec<u32>>,
    /// Everybody's descriptors of it; `None` without a look-up.
    pub holders: Option<Vec<SocketHolder>>,
    /// Bytes that the program has not read; `None` without a survey.
    pub unread_bytes: Option<u64>,
    /// Whose fault; `None` without a survey.
    pub kind: Option<CloseWaitKind>,
    /// Who holds it; `None` without a look-up.
    pub owner_state: Option<OwnerState>,
    /// How its owner is known.
    pub owner_source: OwnerSource,
    /// Which of its process's `stacks` it was opened by, counted from 0; `None` where that is not known.
    pub stack: Option<u64>,
}

/// A descriptor of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SocketHolder {
    /// Process id.
    pub pid: u32,
    /// Descriptor.
    pub fd: u32,
}

/// Who holds a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerState {
    /// One process.
    Held,
    /// Several processes: it was inherited or passed on.
    Shared,
    /// Nobody yet: it waits to be accepted.
    NeverAccepted,
    /// Nobody that has a descriptor: it is being passed over a UNIX socket, or the kernel holds it (io_uring).
    InFlight,
}

/// TIME_WAIT.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TimeWait {
    /// Sockets in TIME_WAIT now; `None` without a survey.
    pub live: Option<u64>,
    /// Orphans in FIN_WAIT2 that are kept like them; `None` without a survey.
    pub live_orphans: Option<u64>,
    /// Sockets that went into TIME_WAIT; `None` where nothing tells them from orphans.
    pub entered: Option<u64>,
    /// Sockets that the kernel put away in FIN_WAIT2, because their program had closed them and the peer had
    /// not closed yet: each of them may go into TIME_WAIT later, unseen. `None` with `entered`.
    pub orphaned: Option<u64>,
    /// Whether `entered` is inferred: a `… → CLOSE` after the peer's FIN, rather than the kernel's own
    /// `tcp_time_wait`.
    pub inferred: bool,
    /// Who closed first, most first.
    pub processes: Vec<TimeWaitProcess>,
    /// Local ports that are taken by sockets in TIME_WAIT, or by very many live ones, by local address and peer, most
    /// first; `None` without a survey.
    pub destinations: Option<Vec<TimeWaitDestination>>,
}

/// Sockets in TIME_WAIT between a local address and a peer: they differ in the local port only.
#[derive(Clone, Debug, Serialize)]
pub struct TimeWaitDestination {
    /// Network namespace.
    pub netns: u32,
    /// Local address.
    pub local: std::net::IpAddr,
    /// Peer.
    pub peer: Endpoint,
    /// How many.
    pub count: u64,
    /// Of these, those that entered it less than ten seconds before the survey, by their timers.
    pub arrived: u64,
    /// Of these, those that leave it less than ten seconds after the survey.
    pub leaving: u64,
    /// Live connections that were opened from here and that take a port as well; `None` where the attach kind does not
    /// tell namespaces apart.
    pub live: Option<u64>,
    /// How many ports `ip_local_port_range` has; `None` where that cannot be read.
    pub ports: Option<u64>,
    /// Share of these that are taken, between 0 and 1; more where the ports were chosen by the program. `None` with
    /// `ports`.
    pub share: Option<f64>,
    /// Whether the kernel gives such a port to a new connection after a second (`tcp_tw_reuse`); `None` where that cannot
    /// be read.
    pub reuse: Option<bool>,
    /// Who closed them, most first; at most five.
    pub closers: Vec<TimeWaitCloser>,
}

/// Who closed sockets that are in TIME_WAIT.
#[derive(Clone, Debug, Serialize)]
pub struct TimeWaitCloser {
    /// The process; `None` for those whose entry was not seen.
    pub process: Option<ProcessIdentity>,
    /// How many.
    pub count: u64,
}

/// Sockets of one process that went into TIME_WAIT.
#[derive(Clone, Debug, Serialize)]
pub struct TimeWaitProcess {
    /// The process; `None` for those whose owner is not known.
    pub process: Option<ProcessIdentity>,
    /// How many.
    pub entered: u64,
    /// Those that are in TIME_WAIT now, among those whose entry was seen; `None` without a survey.
    pub live: Option<u64>,
}

/// A process's part in the window.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessSummary {
    /// The process; `None` sums up the sockets whose owner is not known.
    pub process: Option<ProcessIdentity>,
    /// Transitions of its sockets.
    pub total: u64,
    /// Of these, those that were aggregated and whose owner is inferred: the process listens where they came in.
    pub inferred: u64,
    /// The same as `total`, by kind.
    pub transitions: Vec<TransitionCount>,
    /// Its sockets at the end of the window, as far as their transitions were seen.
    pub live: u64,
}

/// The sockets of one process; no part of a report.
#[derive(Clone, Debug, Default)]
pub struct ProcessSockets {
    /// How many are in each state.
    pub states: BTreeMap<TcpState, u64>,
    /// Those that have been in their state for longest, first.
    pub sockets: Vec<Socket>,
}

/// Who a process is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessIdentity {
    /// Process id.
    pub pid: u32,
    /// Its name.
    pub comm: Option<Comm>,
    /// Its executable; `None` without a look-up.
    pub exe: Option<String>,
    /// Its command line; `None` without a look-up.
    pub cmdline: Option<Vec<String>>,
    /// Its user; `None` without a look-up.
    pub user: Option<String>,
    /// When it started; `None` where the attach kind does not give it.
    pub start_time: Option<WallTime>,
    /// Its container; `None` without a look-up, or for a process of the host.
    pub container: Option<ContainerFacts>,
    /// Its cgroup; `None` without a look-up.
    pub cgroup: Option<String>,
    /// How many descriptors it had when it was looked at; `None` without a look-up.
    pub fds: Option<u64>,
    /// How many it may have (RLIMIT_NOFILE); `None` without a look-up.
    pub nofile: Option<u64>,
}

/// A container's part in the window.
#[derive(Clone, Debug, Serialize)]
pub struct ContainerSummary {
    /// The container; `None` sums up the processes of the host and those whose container is not known.
    pub container: Option<ContainerFacts>,
    /// Its processes that had a part.
    pub processes: u64,
    /// Transitions of their sockets.
    pub total: u64,
    /// Their sockets at the end of the window.
    pub live: u64,
    /// Of these, lingering in CLOSE_WAIT.
    pub close_wait: u64,
    /// Sockets of theirs that went into TIME_WAIT in the window.
    pub time_wait: u64,
}
