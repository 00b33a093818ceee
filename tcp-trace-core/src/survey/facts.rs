//! Facts: processes, containers, namespaces. Texts in them are data from an adversary.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::process::ProcessId;

/// Facts found together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Processes.
    pub processes: Vec<ProcessFacts>,
    /// Containers of cgroups, by cgroup id: of the sockets that those cgroups created.
    pub cgroups: Vec<(u64, String, Option<ContainerFacts>)>,
    /// Network namespaces.
    pub namespaces: Vec<NamespaceFacts>,
    /// Listeners. Recordings that were made before there were any have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<ListenerFacts>,
}

/// A listener, beyond what is known of every socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerFacts {
    /// Its cookie.
    pub cookie: NonZeroU64,
    /// SYNs and final ACKs that it has turned away since it was made (`sk_drops`, which `tcp_listendrop` in
    /// `include/net/tcp.h` counts), modulo 2³².
    pub drops: u32,
}

/// A process as `/proc` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFacts {
    /// Which process.
    pub id: ProcessId,
    /// Its name.
    pub comm: String,
    /// Its executable, as `readlink /proc/PID/exe` shows it; `None` where that is not permitted.
    pub exe: Option<String>,
    /// Its command line, cut off by the source at some length; empty for a kernel thread.
    pub cmdline: Vec<String>,
    /// Effective user id.
    pub uid: u32,
    /// That user's name, as this host's user database has it.
    pub user: Option<String>,
    /// Soft limit of open files (RLIMIT_NOFILE); `None` is unlimited or not permitted.
    pub nofile: Option<u64>,
    /// How many descriptors it has; `None` where that is not permitted.
    pub fds: Option<u64>,
    /// Network namespace, by inode number.
    pub netns: Option<u32>,
    /// Its cgroup: the path in the v2 hierarchy, or where that is the root, that of a v1 hierarchy which says more.
    pub cgroup: Option<String>,
    /// Its container; `None` for a process of the host.
    pub container: Option<ContainerFacts>,
}

/// A container, as its cgroup path and its runtime's own files tell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerFacts {
    /// Its id, whole; of a systemd unit the unit's name.
    pub id: String,
    /// Its name; `None` where the runtime's files cannot be read.
    pub name: Option<String>,
    /// Who runs it.
    pub runtime: Runtime,
    /// Its image.
    pub image: Option<String>,
    /// Kubernetes: uid of its pod.
    pub pod_uid: Option<String>,
    /// Kubernetes: name of its pod.
    pub pod: Option<String>,
    /// Kubernetes: namespace of its pod.
    pub namespace: Option<String>,
    /// Kubernetes: class of service of its pod.
    pub qos: Option<ServiceClass>,
}

/// A container runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// Docker.
    Docker,
    /// containerd, with or without Kubernetes.
    Containerd,
    /// CRI-O.
    #[serde(rename = "cri-o")]
    CriO,
    /// podman.
    Podman,
    /// LXC, LXD, Incus.
    Lxc,
    /// A systemd unit or scope: not a container, and shown where there is none.
    Systemd,
    /// Kubernetes, by a runtime that the path does not name.
    Kubernetes,
}

/// Kubernetes' quality-of-service class of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceClass {
    /// Requests equal limits.
    Guaranteed,
    /// Requests below limits.
    Burstable,
    /// No requests.
    BestEffort,
}

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceFacts {
    /// Inode number.
    pub inum: u32,
    /// Its name, if `ip netns` knows it.
    pub name: Option<String>,
    /// `net.ipv4.ip_local_port_range`, both ends included.
    pub port_range: Option<(u16, u16)>,
    /// `net.ipv4.tcp_syncookies`: 0 off, 1 when a queue is full, 2 always.
    pub syncookies: Option<u8>,
    /// `net.ipv4.tcp_synack_retries`.
    pub synack_retries: Option<u8>,
    /// `net.core.somaxconn`; `None` in recordings of earlier versions.
    #[serde(default)]
    pub somaxconn: Option<u64>,
    /// `net.ipv4.tcp_tw_reuse`: 0 off, 1 for all, 2 on loopback only; `None` in recordings of earlier versions.
    #[serde(default)]
    pub time_wait_reuse: Option<u8>,
    /// What the kernel counts there; `None` where it cannot be read.
    pub counters: Option<SocketCounters>,
}

/// Counters of `/proc/net/netstat` (TcpExt) and `/proc/net/snmp` (Tcp) since the namespace was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketCounters {
    /// Final ACKs (and SYNs) turned away because an accept queue was full.
    pub listen_overflows: u64,
    /// SYNs turned away at a listener for any reason.
    pub listen_drops: u64,
    /// SYN-ACKs that carried a cookie.
    pub syncookies_sent: u64,
    /// Cookies that came back and were good.
    pub syncookies_received: u64,
    /// Cookies that came back and were not.
    pub syncookies_failed: u64,
    /// Full SYN queues answered with cookies.
    pub request_queue_full_cookies: u64,
    /// Full SYN queues at which the SYN was dropped.
    pub request_queue_full_drops: u64,
    /// Requests that a reset ended.
    pub embryonic_resets: u64,
    /// Sockets that should have entered TIME_WAIT and could not: `tcp_max_tw_buckets`, or memory.
    pub time_wait_overflows: u64,
    /// Connections opened passively.
    pub passive_opens: u64,
    /// Connections opened actively.
    pub active_opens: u64,
    /// Attempts that failed.
    pub attempt_fails: u64,
}
