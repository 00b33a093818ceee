//! What could not be had, in words.

use tcp_trace_core::session::Degradation;

/// Transitions can be sent, not aggregated.
pub(crate) fn no_aggregation(reason: &str, remedy: &str) -> Degradation {
    Degradation {
        feature: "aggregation".into(),
        reason: format!(
            "{reason}; so transitions are lost, and counted as lost, when the stream cannot keep up"
        ),
        remedy: Some(remedy.into()),
    }
}

/// The main hook is a perf tracepoint.
pub(super) fn no_tp_btf(reason: &str) -> Degradation {
    Degradation {
        feature: "tp_btf".into(),
        reason: format!(
            "{reason}; so owners are known only of sockets seen at connect() or listen(), and cookies, \
             namespaces, cgroups, socket errors and TIME_WAIT are not known; and the kernel skips the program \
             while another one is at work on that CPU, which it counts since 6.7 only"
        ),
        remedy: Some("a kernel of 5.9 or later with CONFIG_DEBUG_INFO_BTF".into()),
    }
}

/// Requests are not watched from their SYN on.
pub(super) fn no_half_open(reason: &str) -> Degradation {
    Degradation {
        feature: "half_open".into(),
        reason: format!(
            "{reason}; so half-open durations come from the kernel's own round-trip sample, and are unknown \
             where the SYN-ACK was retransmitted"
        ),
        remedy: Some(
            "a mounted cgroup2 hierarchy (mount -t cgroup2 none /sys/fs/cgroup) and CAP_NET_ADMIN".into(),
        ),
    }
}

/// Sockets have no cookie unless somebody asks, and nobody does.
pub(super) fn no_cookies(reason: &str) -> Degradation {
    Degradation {
        feature: "cookies".into(),
        reason: format!(
            "{reason}; so a socket is known by its address until its handshake is over, and what is listed at the \
             start may be counted twice"
        ),
        remedy: Some("a mounted cgroup2 hierarchy and CAP_NET_ADMIN, or a kernel of 5.12 or later".into()),
    }
}

/// Descriptors cannot be listed by the kernel.
pub(super) fn no_holders(reason: &str) -> Degradation {
    Degradation {
        feature: "holders".into(),
        reason: format!("{reason}; so who holds a socket is looked up in /proc, which takes longer"),
        remedy: Some("a kernel of 5.8 or later with CONFIG_DEBUG_INFO_BTF".into()),
    }
}

/// Processes are known by one number here and by another to the kernel's programs.
pub(super) fn no_processes() -> Degradation {
    Degradation {
        feature: "processes".into(),
        reason: "this is a pid namespace of its own; so only its processes can be looked at, under numbers other than \
                 the kernel programs report, and sockets that existed before have owners among these only"
            .into(),
        remedy: Some("the host's pid namespace (podman or docker: --pid=host; Kubernetes: hostPID)".into()),
    }
}
