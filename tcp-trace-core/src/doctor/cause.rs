//! Why something was refused.
//!
//! The kernel says no with one of two numbers, whatever the reason. A reason is named here only if it holds: a
//! capability only if it is not held and the refusal is of the kind that its lack leads to.

use super::{
    capability::Capability,
    facts::{Attempt, Facts, HookKind},
};

/// `EPERM`, `EACCES` of `include/uapi/asm-generic/errno-base.h`.
pub const EPERM: i32 = 1;
/// See [`EPERM`].
pub const EACCES: i32 = 13;

/// Why something is not to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Capabilities are not held.
    Capabilities(Vec<Capability>),
    /// They are, but only in a user namespace of its own.
    UserNamespace,
    /// A seccomp filter keeps bpf(2) from the kernel.
    Seccomp,
    /// Locked memory is limited, which kernels before 5.11 charge maps to.
    Memlock,
    /// The kernel is locked down.
    Lockdown(Option<String>),
    /// The kernel has no BTF, or other than expected.
    Btf(String),
    /// No cgroup2 hierarchy is to be had.
    Cgroup(String),
    /// tracefs is not to be had.
    Tracefs(String),
    /// This build has no kernel programs.
    Build,
    /// What the kernel said.
    Kernel(String),
    /// What was seen, without what led to it.
    Unknown(String),
}

impl Cause {
    /// A short stable word.
    #[must_use]
    pub fn id(&self) -> &'static str {
        match self {
            Self::Capabilities(_) => "capabilities",
            Self::UserNamespace => "user_namespace",
            Self::Seccomp => "seccomp",
            Self::Memlock => "memlock",
            Self::Lockdown(_) => "lockdown",
            Self::Btf(_) => "btf",
            Self::Cgroup(_) => "cgroup",
            Self::Tracefs(_) => "tracefs",
            Self::Build => "build",
            Self::Kernel(_) => "kernel",
            Self::Unknown(_) => "unknown",
        }
    }

    /// A sentence without its full stop.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::Capabilities(missing) => format!("this process lacks {}", names(missing)),
            Self::UserNamespace => {
                "this process has its capabilities in a user namespace of its own, where they do not count"
                    .into()
            }
            Self::Seccomp => "a seccomp filter keeps bpf(2) from the kernel".into(),
            Self::Memlock => {
                "RLIMIT_MEMLOCK is too low, which kernels before 5.11 charge maps to, and without \
                 CAP_SYS_RESOURCE it cannot be raised"
                    .into()
            }
            Self::Lockdown(Some(mode)) => format!("the kernel is locked down (lockdown={mode})"),
            Self::Lockdown(None) => {
                "the kernel permits no programs on its functions (locked down, or its text is read-only)"
                    .into()
            }
            Self::Build => "this tcp-trace was built without its kernel programs".into(),
            Self::Btf(text)
            | Self::Cgroup(text)
            | Self::Tracefs(text)
            | Self::Kernel(text)
            | Self::Unknown(text) => text.clone(),
        }
    }
}

/// `CAP_A and CAP_B`.
pub(super) fn names(capabilities: &[Capability]) -> String {
    let names: Vec<_> = capabilities.iter().map(|capability| capability.name()).collect();
    match names.as_slice() {
        [others @ .., last] if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => names.concat(),
    }
}

/// Why a hook is not to be had; `None` if it is.
#[must_use]
pub fn cause(facts: &Facts, kind: HookKind, attempt: &Attempt) -> Option<Cause> {
    let (errno, reason) = match attempt {
        Attempt::Works => return None,
        Attempt::Refused { errno, reason } => (*errno, reason),
        Attempt::NotTried(reason) => (None, reason),
    };
    if !facts.has_object {
        return Some(Cause::Build);
    }
    if kind == HookKind::SockOps && (facts.cgroup.cgroup2.is_none() || !facts.cgroup.is_root) {
        return Some(Cause::Cgroup(no_cgroup(facts)));
    }
    let typed = !matches!(kind, HookKind::Tracepoint);
    if typed && let Attempt::Refused { reason, .. } | Attempt::NotTried(reason) = &facts.btf.attempt {
        return Some(Cause::Btf(reason.clone()));
    }
    if matches!(errno, Some(EPERM | EACCES)) || matches!(attempt, Attempt::NotTried(_)) {
        let found = refused(facts, needs(facts, kind), true);
        if found.is_some() {
            return found;
        }
        if kind.is_on_function() && errno == Some(EPERM) {
            let known = facts.lockdown.as_ref().ok().filter(|mode| *mode != "none");
            return Some(Cause::Lockdown(known.cloned()));
        }
    }
    if kind == HookKind::Tracepoint && !facts.tracefs.attempt.works() {
        return tracefs(facts);
    }
    Some(Cause::Kernel(reason.clone()))
}

/// What every kernel asks of whoever loads and attaches this. CAP_SYS_ADMIN loads programs on cgroups as well.
fn needs(facts: &Facts, kind: HookKind) -> &'static [Capability] {
    match kind {
        // Its pointer arithmetic is refused to who may not read kernel memory (`adjust_ptr_min_max_vals`,
        // `kernel/bpf/verifier.c`).
        HookKind::SockOps if !facts.privileges.effective.has(Capability::SysAdmin) => {
            &[Capability::Bpf, Capability::Perfmon, Capability::NetAdmin]
        }
        _ => &[Capability::Bpf, Capability::Perfmon],
    }
}

/// Why the kernel says "not permitted" to somebody who needs these; `None` if all that is known of is in order.
pub(super) fn refused(facts: &Facts, needs: &[Capability], maps: bool) -> Option<Cause> {
    let rights = &facts.privileges;
    let missing: Vec<_> = needs.iter().copied().filter(|one| !rights.effective.allow(*one)).collect();
    if !missing.is_empty() {
        return Some(Cause::Capabilities(missing));
    }
    if !rights.first_user_namespace {
        return Some(Cause::UserNamespace);
    }
    if !maps {
        return None;
    }
    if !rights.bpf_reaches_kernel && rights.seccomp {
        return Some(Cause::Seccomp);
    }
    // `bpf_map_charge_init`, `kernel/bpf/syscall.c`, up to 5.10: EPERM above the limit.
    let charged = facts.kernel.is_some_and(|version| version < (5, 11)) && rights.memlock.is_some();
    (charged && !rights.effective.has(Capability::SysResource)).then_some(Cause::Memlock)
}

/// Why the record of the tracepoint cannot be looked at; `None` if it can.
pub(super) fn tracefs(facts: &Facts) -> Option<Cause> {
    let Attempt::Refused { errno, reason } = &facts.tracefs.attempt else { return None };
    let needs: &[Capability] = match (errno, &facts.tracefs.mounted) {
        (Some(EPERM | EACCES), Some(_)) => &[Capability::DacReadSearch],
        (Some(EPERM | EACCES), None) => &[Capability::SysAdmin],
        _ => return Some(Cause::Tracefs(reason.clone())),
    };
    Some(refused(facts, needs, false).unwrap_or_else(|| Cause::Tracefs(reason.clone())))
}

/// What is wrong with the cgroup2 mount.
fn no_cgroup(facts: &Facts) -> String {
    match &facts.cgroup.cgroup2 {
        None => "no cgroup2 hierarchy is mounted".to_owned(),
        Some(path) => format!("{path} is not the root of the cgroup2 hierarchy but a container's part of it"),
    }
}
