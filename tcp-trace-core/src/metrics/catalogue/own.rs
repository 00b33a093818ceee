//! Metrics of tcp-trace itself.

use super::{
    super::Kind::{Counter, Gauge, Info},
    Metric,
    Question::Own,
    label,
    label::{BALANCED, FEATURE, METRIC, OUTCOME, REVISION, SINK, TABLE, VERSION},
};

/// Transitions seen.
pub(crate) static SEEN: Metric = Metric::new(
    Counter,
    ("tcp_trace_seen_events", "tcp_trace.events.seen"),
    "{event}",
    &[],
    Own,
    "Transitions that the kernel's programs were called for.",
);

/// What became of them.
pub(crate) static EVENTS: Metric = Metric::new(
    Counter,
    ("tcp_trace_events", "tcp_trace.events"),
    "{event}",
    &[OUTCOME],
    Own,
    "Transitions by what became of them: delivered, filtered, lost, aggregated; together they are those seen.",
);

/// Of the lost, those whose kind is not known.
pub(crate) static MISSED: Metric = Metric::new(
    Counter,
    ("tcp_trace_missed_events", "tcp_trace.events.missed"),
    "{event}",
    &[],
    Own,
    "Of the lost, those whose kind is not known either: they are not in tcp_trace_transitions_total.",
);

/// Of the aggregated, those without an owner.
pub(crate) static UNATTRIBUTED: Metric = Metric::new(
    Counter,
    ("tcp_trace_unattributed_events", "tcp_trace.events.unattributed"),
    "{event}",
    &[],
    Own,
    "Of the aggregated, those of which only the kind was counted, for want of room.",
);

/// Without history.
pub(crate) static UNTRACKED: Metric = Metric::new(
    Counter,
    ("tcp_trace_untracked_events", "tcp_trace.events.untracked"),
    "{event}",
    &[],
    Own,
    "Transitions of connections that a full table had no room for: counted, without any history.",
);

/// Records of other kinds that were lost.
pub(crate) static SIDE_LOST: Metric = Metric::new(
    Counter,
    ("tcp_trace_lost_side_events", "tcp_trace.side_events.lost"),
    "{event}",
    &[],
    Own,
    "Lost records that are no transitions: who accepted a socket, what became of a half-open request.",
);

/// Connections repaired.
pub(crate) static REPAIRED: Metric = Metric::new(
    Counter,
    ("tcp_trace_repaired_connections", "tcp_trace.connections.repaired"),
    "{connection}",
    &[],
    Own,
    "Connections that a survey put right after a loss.",
);

/// Windows.
pub(crate) static WINDOWS: Metric = Metric::new(
    Counter,
    ("tcp_trace_windows", "tcp_trace.windows"),
    "{window}",
    &[BALANCED],
    Own,
    "Reports made, by whether every transition was accounted for.",
);

/// Time in each mode.
pub(crate) static MODE: Metric = Metric::new(
    Counter,
    ("tcp_trace_mode_seconds", "tcp_trace.mode.time"),
    "s",
    &[label::MODE],
    Own,
    "Time in which transitions were streamed, aggregated in the kernel, or only counted.",
);

/// How full the tables are.
pub(crate) static TABLE_USED: Metric = Metric::new(
    Gauge,
    ("tcp_trace_table_used_ratio", "tcp_trace.table.utilization"),
    "1",
    &[TABLE],
    Own,
    "How full a bounded table is.",
);

/// What they had no room for.
pub(crate) static TABLE_DROPPED: Metric = Metric::new(
    Counter,
    ("tcp_trace_table_dropped_entries", "tcp_trace.table.dropped"),
    "{entry}",
    &[TABLE],
    Own,
    "What a bounded table had no room for, or gave up to make room.",
);

/// What the run does without.
pub(crate) static DEGRADATIONS: Metric = Metric::new(
    Gauge,
    ("tcp_trace_degradations", "tcp_trace.degradations"),
    "{degradation}",
    &[FEATURE],
    Own,
    "What this run does without; the log says why, and how to get it.",
);

/// Series taken away.
pub(crate) static RETIRED: Metric = Metric::new(
    Counter,
    ("tcp_trace_retired_series", "tcp_trace.series.retired"),
    "{series}",
    &[METRIC],
    Own,
    "Label sets of a bounded counter that were taken away, because they were idle or others had more to tell.",
);

/// When the last report was made.
pub(crate) static REPORT_TIME: Metric = Metric::new(
    Gauge,
    ("tcp_trace_report_timestamp_seconds", "tcp_trace.report.timestamp"),
    "s",
    &[],
    Own,
    "When the last report ended, which all numbers of the host's TCP are of.",
);

/// Documents that wait.
pub(crate) static SINK_QUEUE: Metric = Metric::new(
    Gauge,
    ("tcp_trace_sink_queue_documents", "tcp_trace.sink.queue.length"),
    "{document}",
    &[SINK],
    Own,
    "Documents that wait to be sent.",
);

/// How many may.
pub(crate) static SINK_QUEUE_LIMIT: Metric = Metric::new(
    Gauge,
    ("tcp_trace_sink_queue_limit_documents", "tcp_trace.sink.queue.limit"),
    "{document}",
    &[SINK],
    Own,
    "Documents that may wait to be sent.",
);

/// What became of documents.
pub(crate) static SINK_DOCUMENTS: Metric = Metric::new(
    Counter,
    ("tcp_trace_sink_documents", "tcp_trace.sink.documents"),
    "{document}",
    &[SINK, OUTCOME],
    Own,
    "Documents by what became of them: sent, dropped (queue full), limited (rate), refused by the other side.",
);

/// Attempts that failed.
pub(crate) static SINK_FAILURES: Metric = Metric::new(
    Counter,
    ("tcp_trace_sink_failures", "tcp_trace.sink.failures"),
    "{failure}",
    &[SINK],
    Own,
    "Attempts to send that failed; what they held is offered again.",
);

/// Reloads.
pub(crate) static RELOADS: Metric = Metric::new(
    Counter,
    ("tcp_trace_reloads", "tcp_trace.reloads"),
    "{reload}",
    &[OUTCOME],
    Own,
    "Reloads of the configuration: applied, or refused and the old one kept.",
);

/// CPU time.
pub(crate) static CPU: Metric = Metric::new(
    Counter,
    ("process_cpu_seconds", "process.cpu.time"),
    "s",
    &[],
    Own,
    "CPU time of tcp-trace itself, user and system; what its programs take in the kernel is not in it.",
);

/// Memory.
pub(crate) static MEMORY: Metric = Metric::new(
    Gauge,
    ("process_resident_memory_bytes", "process.memory.usage"),
    "By",
    &[],
    Own,
    "Resident memory of tcp-trace itself.",
);

/// Start.
pub(crate) static START_TIME: Metric = Metric::new(
    Gauge,
    ("process_start_time_seconds", "process.start_time"),
    "s",
    &[],
    Own,
    "When tcp-trace was started, in seconds since 1970.",
);

/// Build.
pub(crate) static BUILD: Metric = Metric::new(
    Info,
    ("tcp_trace_build_info", "tcp_trace.build"),
    "1",
    &[VERSION, REVISION],
    Own,
    "Which tcp-trace this is; always 1.",
);
