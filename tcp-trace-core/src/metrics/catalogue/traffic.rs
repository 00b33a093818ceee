//! Metrics of the host's TCP.

use super::{
    super::Kind::{Counter, Gauge, Histogram},
    Metric,
    Question::{Activity, CloseWait, Findings, HalfOpen, Lives, Ports},
    label::{
        COMM, CONTAINER, ENDING, ERROR, HISTOGRAM, ID, IDENTITY, LISTENER, NAMESPACE, NEW, OLD, OUTCOME,
        PEER_PORT, POD, PORT, SEVERITY, SOURCE, STATE, UNIT,
    },
};

/// Transitions by kind.
pub(crate) static TRANSITIONS: Metric = Metric::new(
    Counter,
    ("tcp_trace_transitions", "tcp.state.transitions"),
    "{transition}",
    &[OLD, NEW],
    Activity,
    "State transitions of TCP sockets; exact also where the stream lost some.",
);

/// Live sockets by state.
pub(crate) static SOCKETS: Metric = Metric::new(
    Gauge,
    ("tcp_trace_sockets", "system.network.connection.count"),
    "{connection}",
    &[STATE],
    Activity,
    "Sockets now in each state; half-open requests are syn_received, those that the kernel put away are in fin_wait_2 or time_wait.",
);

/// Time in state.
pub(crate) static STATE_DURATION: Metric = Metric::new(
    Histogram,
    ("tcp_trace_state_duration_seconds", "tcp.state.duration"),
    "s",
    &[STATE],
    Activity,
    "Time from entering a state to leaving it.",
);

/// Time half-open.
pub(crate) static HALF_OPEN_DURATION: Metric = Metric::new(
    Histogram,
    ("tcp_trace_half_open_duration_seconds", "tcp.half_open.duration"),
    "s",
    &[],
    HalfOpen,
    "Time from the SYN to the final ACK of completed passive handshakes.",
);

/// Connect time.
pub(crate) static CONNECT_DURATION: Metric = Metric::new(
    Histogram,
    ("tcp_trace_connect_duration_seconds", "tcp.connect.duration"),
    "s",
    &[],
    Lives,
    "Time from the SYN to ESTABLISHED of answered attempts to connect.",
);

/// Of the durations, those that are only known to a power of two.
pub(crate) static COARSE_DURATIONS: Metric = Metric::new(
    Counter,
    ("tcp_trace_coarse_durations", "tcp_trace.durations.coarse"),
    "{duration}",
    &[HISTOGRAM],
    Activity,
    "Durations that were aggregated in the kernel: each is known to a power of two, and counts in its histogram as the middle.",
);

/// Passive handshakes.
pub(crate) static HANDSHAKES: Metric = Metric::new(
    Counter,
    ("tcp_trace_handshakes", "tcp.handshakes"),
    "{handshake}",
    &[OUTCOME],
    HalfOpen,
    "Passive handshakes: completed, untimed, cookie, expired, reset, or dead of one of these two.",
);

/// The same by listener.
pub(crate) static LISTENER_HANDSHAKES: Metric = Metric::new(
    Counter,
    ("tcp_trace_listener_handshakes", "tcp.listener.handshakes"),
    "{handshake}",
    &[OUTCOME, PORT, COMM, CONTAINER, POD, NAMESPACE, UNIT],
    HalfOpen,
    "Passive handshakes by outcome and listener.",
);

/// Half-open requests by listener.
pub(crate) static HALF_OPEN_REQUESTS: Metric = Metric::new(
    Gauge,
    ("tcp_trace_half_open_requests", "tcp.half_open.live"),
    "{request}",
    &LISTENER,
    HalfOpen,
    "Requests that are half-open now, by listener.",
);

/// Those that have waited for a second or more.
pub(crate) static HALF_OPEN_OVERDUE: Metric = Metric::new(
    Gauge,
    ("tcp_trace_half_open_overdue_requests", "tcp.half_open.overdue"),
    "{request}",
    &LISTENER,
    HalfOpen,
    "Requests that have been half-open for a second or more, by listener.",
);

/// Accept queues.
pub(crate) static ACCEPT_QUEUE: Metric = Metric::new(
    Gauge,
    ("tcp_trace_accept_queue_connections", "tcp.listener.accept_queue.length"),
    "{connection}",
    &LISTENER,
    HalfOpen,
    "Connections that wait to be accepted, by listener; a listener with nothing to tell is left out.",
);

/// What they have room for.
pub(crate) static ACCEPT_QUEUE_LIMIT: Metric = Metric::new(
    Gauge,
    ("tcp_trace_accept_queue_limit_connections", "tcp.listener.accept_queue.limit"),
    "{connection}",
    &LISTENER,
    HalfOpen,
    "Room in the accept queue: the backlog of listen(), cut to somaxconn.",
);

/// What listeners turned away.
pub(crate) static LISTENER_DROPS: Metric = Metric::new(
    Counter,
    ("tcp_trace_listener_dropped_segments", "tcp.listener.drops"),
    "{segment}",
    &LISTENER,
    HalfOpen,
    "SYNs and final ACKs that listeners turned away, because a queue was full as a rule.",
);

/// Lingering CLOSE_WAIT.
pub(crate) static CLOSE_WAIT_LINGERING: Metric = Metric::new(
    Gauge,
    ("tcp_trace_close_wait_lingering_sockets", "tcp.close_wait.lingering"),
    "{connection}",
    &IDENTITY,
    CloseWait,
    "Sockets that their peer has closed and their program has not, for longer than close_wait_after.",
);

/// The age of the oldest.
pub(crate) static CLOSE_WAIT_OLDEST: Metric = Metric::new(
    Gauge,
    ("tcp_trace_close_wait_oldest_seconds", "tcp.close_wait.oldest_age"),
    "s",
    &IDENTITY,
    CloseWait,
    "Age of the oldest lingering CLOSE_WAIT socket; a lower bound for one that was there before the tracing began.",
);

/// TIME_WAIT by destination.
pub(crate) static TIME_WAIT: Metric = Metric::new(
    Gauge,
    ("tcp_trace_time_wait_sockets", "tcp.time_wait.live"),
    "{connection}",
    &[PEER_PORT],
    Ports,
    "Sockets in TIME_WAIT by port of the destination; destinations that take few local ports are in other.",
);

/// How much of the port range is taken.
pub(crate) static LOCAL_PORTS: Metric = Metric::new(
    Gauge,
    ("tcp_trace_local_ports_used_ratio", "tcp.local_ports.utilization"),
    "1",
    &[PEER_PORT],
    Ports,
    "Largest share of ip_local_port_range that TIME_WAIT and live connections take between one local address and one destination.",
);

/// Who closes first.
pub(crate) static TIME_WAIT_ENTERED: Metric = Metric::new(
    Counter,
    ("tcp_trace_time_wait_entered_sockets", "tcp.time_wait.entered"),
    "{connection}",
    &[COMM, CONTAINER, POD, NAMESPACE, UNIT, SOURCE],
    Ports,
    "Sockets that went into TIME_WAIT, by the process that closed first.",
);

/// Failed attempts to connect.
pub(crate) static CONNECT_FAILURES: Metric = Metric::new(
    Counter,
    ("tcp_trace_connect_failures", "tcp.connect.failures"),
    "{failure}",
    &[ERROR, PEER_PORT],
    Lives,
    "Attempts to connect that failed, by reason and port of the destination.",
);

/// Connections that ended.
pub(crate) static ENDED: Metric = Metric::new(
    Counter,
    ("tcp_trace_ended_connections", "tcp.connection.ended"),
    "{connection}",
    &[ENDING],
    Lives,
    "Connections and attempts that ended, by how they ended.",
);

/// Open findings.
pub(crate) static FINDINGS: Metric = Metric::new(
    Gauge,
    ("tcp_trace_findings", "tcp_trace.findings"),
    "{finding}",
    &[ID, SEVERITY],
    Findings,
    "Findings that are open now.",
);
