//! OpenTelemetry's names: those of its semantic conventions, and ours (`tcp.`, `tcp_trace.`) where it has none.
//!
//! `docs/otlp.md` has all of them, and a test sees to it.

/// The version of the semantic conventions whose names are used.
pub(super) const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.42.0";

/// The scope of everything that is sent.
pub(super) const SCOPE: &str = "tcp-trace";

pub(super) const SERVICE_NAME: &str = "service.name";
pub(super) const SERVICE_NAMESPACE: &str = "service.namespace";
pub(super) const SERVICE_INSTANCE: &str = "service.instance.id";
pub(super) const SERVICE_VERSION: &str = "service.version";
pub(super) const HOST_NAME: &str = "host.name";
pub(super) const OS_TYPE: &str = "os.type";
pub(super) const CLUSTER: &str = "k8s.cluster.name";
pub(super) const NODE: &str = "k8s.node.name";

pub(super) const CONTAINER_ID: &str = "container.id";
pub(super) const CONTAINER_NAME: &str = "container.name";
pub(super) const CONTAINER_RUNTIME: &str = "container.runtime.name";
pub(super) const IMAGE_NAME: &str = "container.image.name";
pub(super) const IMAGE_TAGS: &str = "container.image.tags";
pub(super) const NAMESPACE: &str = "k8s.namespace.name";
pub(super) const POD_NAME: &str = "k8s.pod.name";
pub(super) const POD_UID: &str = "k8s.pod.uid";
pub(super) const K8S_CONTAINER: &str = "k8s.container.name";
pub(super) const SYSTEMD_UNIT: &str = "systemd.unit.name";

pub(super) const TRANSPORT: &str = "network.transport";
pub(super) const NETWORK_TYPE: &str = "network.type";
pub(super) const LOCAL: (&str, &str) = ("network.local.address", "network.local.port");
pub(super) const PEER: (&str, &str) = ("network.peer.address", "network.peer.port");
pub(super) const CLIENT: (&str, &str) = ("client.address", "client.port");
pub(super) const SERVER: (&str, &str) = ("server.address", "server.port");
pub(super) const STATE: &str = "network.connection.state";
pub(super) const OLD_STATE: &str = "tcp.connection.state.previous";
pub(super) const IN_STATE: &str = "tcp.state.duration";
pub(super) const COOKIE: &str = "tcp.socket.cookie";
pub(super) const NETNS: &str = "tcp.network_namespace.id";
pub(super) const NETNS_NAME: &str = "tcp.network_namespace.name";
pub(super) const CGROUP_ID: &str = "tcp.cgroup.id";
pub(super) const ERROR: &str = "error.type";

pub(super) const PID: &str = "process.pid";
pub(super) const COMM: &str = "process.executable.name";
pub(super) const EXE: &str = "process.executable.path";
pub(super) const USER: &str = "process.user.name";
pub(super) const CGROUP: &str = "process.linux.cgroup";
pub(super) const STARTED: &str = "process.creation.time";
pub(super) const OWNER_SOURCE: &str = "tcp.owner.source";

/// A phrase as the last part of an attribute's name: `oldest, at least` is `oldest_at_least`.
pub(super) fn key(phrase: &str) -> String {
    let mut key = String::with_capacity(phrase.len());
    for c in phrase.chars() {
        if c.is_ascii_alphanumeric() {
            key.push(c.to_ascii_lowercase());
        } else if !key.ends_with('_') {
            key.push('_');
        }
    }
    key.trim_matches('_').to_owned()
}
