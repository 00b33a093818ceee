//! Labels, in both spellings.

/// What series of a metric differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Prometheus' name.
    pub name: &'static str,
    /// OpenTelemetry's name of the attribute.
    pub otel: &'static str,
    /// What its values are.
    pub meaning: &'static str,
}

const fn label(name: &'static str, otel: &'static str, meaning: &'static str) -> Label {
    Label { name, otel, meaning }
}

pub(super) const OLD: Label = label("old", "tcp.connection.state.previous", "state left");
pub(super) const NEW: Label = label("new", "network.connection.state", "state entered");
pub(super) const STATE: Label = label("state", "network.connection.state", "state");
pub(super) const COMM: Label =
    label("comm", "process.executable.name", "name of the process that owns the socket");
pub(super) const CONTAINER: Label = label(
    "container",
    "container.name",
    "name of its container; in Kubernetes as the pod's specification has it",
);
pub(super) const POD: Label = label("pod", "k8s.pod.name", "its pod; only with `identities = \"pod\"`");
pub(super) const NAMESPACE: Label = label("namespace", "k8s.namespace.name", "namespace of its pod");
pub(super) const UNIT: Label =
    label("unit", "systemd.unit.name", "its systemd service, of a process that is in no container");
pub(super) const PORT: Label = label("port", "network.local.port", "port of the listener");
pub(super) const PEER_PORT: Label = label("peer_port", "network.peer.port", "port of the destination");
pub(super) const OUTCOME: Label = label("outcome", "tcp_trace.outcome", "what became of it");
pub(super) const ERROR: Label = label(
    "error",
    "error.type",
    "`refused`, `timed_out`, `unreachable`, `reset`, `aborted` by the program itself, or `failed` otherwise",
);
pub(super) const HISTOGRAM: Label =
    label("histogram", "tcp_trace.histogram", "`state`, `half_open` or `connect`");
pub(super) const SOURCE: Label = label(
    "source",
    "tcp_trace.source",
    "`kernel` where the kernel told it, `inferred` from how the socket closed",
);
pub(super) const ENDING: Label = label("ending", "tcp.connection.ending", "as `ending` of `stream --closed`");
pub(super) const ID: Label = label("id", "tcp_trace.finding.id", "the rule");
pub(super) const SEVERITY: Label =
    label("severity", "tcp_trace.finding.severity", "`info`, `warning`, `critical`");
pub(super) const BALANCED: Label =
    label("balanced", "tcp_trace.balanced", "whether the kernel's counters agreed with what arrived");
pub(super) const MODE: Label = label("mode", "tcp_trace.mode", "`stream`, `aggregate`, `count`");
pub(super) const TABLE: Label = label("table", "tcp_trace.table", "as in `limits` of the report");
pub(super) const FEATURE: Label =
    label("feature", "tcp_trace.feature", "as in `source.degradations` of the report");
pub(super) const METRIC: Label = label("metric", "tcp_trace.metric", "the metric whose series they were");
pub(super) const SINK: Label = label("sink", "tcp_trace.sink", "name of the sink in the configuration");
pub(super) const VERSION: Label = label("version", "service.version", "version of the program");
pub(super) const REVISION: Label =
    label("revision", "vcs.ref.head.revision", "commit that it was built from");

/// Whose a socket is.
pub(super) const IDENTITY: [Label; 5] = [COMM, CONTAINER, POD, NAMESPACE, UNIT];
/// Where connections come in, and whose it is.
pub(super) const LISTENER: [Label; 6] = [PORT, COMM, CONTAINER, POD, NAMESPACE, UNIT];

const ALL: [Label; 25] = [
    OLD, NEW, STATE, COMM, CONTAINER, POD, NAMESPACE, UNIT, PORT, PEER_PORT, OUTCOME, ERROR, HISTOGRAM,
    SOURCE, ENDING, ID, SEVERITY, BALANCED, MODE, TABLE, FEATURE, METRIC, SINK, VERSION, REVISION,
];

/// OpenTelemetry's name for one of Prometheus' labels; `None` if the catalogue has no such label.
#[must_use]
pub fn otel_label(name: &str) -> Option<&'static str> {
    ALL.iter().find(|label| label.name == name).map(|label| label.otel)
}
