//! What to do about a cause.

use super::{
    capability::Capability,
    cause::Cause,
    document::Next,
    facts::{CgroupMode, Facts},
    needs::names,
};

/// The way to `gives`, which `cause` stands in.
pub(super) fn next(facts: &Facts, gives: &str, cause: &Cause) -> Next {
    let (command, how) = match cause {
        Cause::Capabilities(missing) => capabilities(facts, missing),
        Cause::UserNamespace => (None, Some(USER_NAMESPACE.to_owned())),
        Cause::Seccomp => (None, Some(SECCOMP.to_owned())),
        Cause::Memlock => (
            Some(as_root(facts, "prlimit --memlock=unlimited --pid $$")),
            Some("then again from this shell".into()),
        ),
        Cause::Lockdown(_) => (None, Some(LOCKDOWN.to_owned())),
        Cause::Btf(_) => (None, Some("a kernel of 5.9 or later with CONFIG_DEBUG_INFO_BTF=y".into())),
        Cause::Cgroup(_) => cgroup(facts),
        Cause::Tracefs(_) => (Some(as_root(facts, "mount -t tracefs tracefs /sys/kernel/tracing")), None),
        Cause::Build => (None, Some("a build without TCP_TRACE_EBPF=none".into())),
        Cause::Unknown(_) => (None, None),
        Cause::Kernel(_) => (None, Some("another kernel: 5.10 to 7.2 are tested".into())),
    };
    Next { gives: gives.to_owned(), reason: cause.sentence(), command, how }
}

const LOCKDOWN: &str = "a kernel that is not locked down: without Secure Boot, and without lockdown= on its \
                        command line (/proc/cmdline)";
const SECCOMP: &str = "to start the container with --security-opt seccomp=unconfined: its profile does not answer to \
                       CAP_BPF (older ones permit bpf(2) to CAP_SYS_ADMIN only); as a unit of systemd, without \
                       SystemCallFilter=";
const USER_NAMESPACE: &str = "to start it outside of the user namespace: as root of the host, in a container that is \
                              not rootless";

fn as_root(facts: &Facts, command: &str) -> String {
    if facts.privileges.uid == 0 { command.to_owned() } else { format!("sudo sh -c '{command}'") }
}

fn capabilities(facts: &Facts, missing: &[Capability]) -> (Option<String>, Option<String>) {
    let program = &facts.program;
    if facts.container.is_some() {
        let short = |one: &Capability| format!("--cap-add={}", one.name().trim_start_matches("CAP_"));
        let flags: Vec<_> = missing.iter().map(short).collect();
        let profile = if facts.privileges.seccomp {
            "; and with --security-opt seccomp=unconfined, if its profile refuses bpf(2) even then"
        } else {
            ""
        };
        let how = format!("to start the container with {}, or with --privileged{profile}", flags.join(" "));
        return (None, Some(how));
    }
    if facts.privileges.uid != 0 {
        return (Some(format!("sudo {program} report")), Some(setcap(program, missing)));
    }
    let taken: Vec<_> = missing.iter().copied().filter(|one| !facts.privileges.bounding.has(*one)).collect();
    let why = if taken.is_empty() {
        "this shell's root does not hold all capabilities".to_owned()
    } else {
        format!("root itself lacks {} here: whatever started this shell took it away", names(&taken))
    };
    if facts.systemd {
        return (Some(format!("systemd-run --pipe --wait {program} report")), Some(why));
    }
    (None, Some(format!("a shell that has it (CapBnd in /proc/self/status): {why}")))
}

fn setcap(program: &str, missing: &[Capability]) -> String {
    let list: Vec<_> = missing.iter().map(|one| one.name().to_ascii_lowercase()).collect();
    format!("or once and for all: sudo setcap {}+ep {program}", list.join(","))
}

fn cgroup(facts: &Facts) -> (Option<String>, Option<String>) {
    if facts.cgroup.cgroup2.is_some() {
        return (None, Some("to start the container with --cgroupns=host".into()));
    }
    if facts.container.is_some() {
        let how = "to start the container with --cgroupns=host and with the host's cgroup2 hierarchy, for example \
                   --volume=/sys/fs/cgroup:/sys/fs/cgroup";
        return (None, Some(how.into()));
    }
    let command = match facts.cgroup.mode {
        // Both have something else on /sys/fs/cgroup.
        CgroupMode::Legacy | CgroupMode::Hybrid => {
            "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified"
        }
        CgroupMode::Unified | CgroupMode::None => "mount -t cgroup2 none /sys/fs/cgroup",
    };
    (Some(as_root(facts, command)), None)
}
