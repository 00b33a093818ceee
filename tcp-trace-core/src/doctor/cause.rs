//! Why something was refused.
//!
//! The kernel says no with one of two numbers, whatever the reason. A reason is named here only if it holds: a
//! capability only if it is not held and the refusal is of the kind that its lack leads to.

use super::{
    capability::Capability,
    facts::{Attempt, Facts, HookKind},
    needs::{Feature, names},
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
        let found = refused(facts, feature(kind), true);
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

/// What loads and attaches this.
fn feature(kind: HookKind) -> Feature {
    if kind == HookKind::SockOps { Feature::HalfOpen } else { Feature::Trace }
}

/// Why the kernel says "not permitted" to somebody who wants this; `None` if all that is known of is in order.
pub(super) fn refused(facts: &Facts, feature: Feature, maps: bool) -> Option<Cause> {
    let rights = &facts.privileges;
    let missing = feature.missing(rights.effective);
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
    (charged && !Feature::Memory.missing(rights.effective).is_empty()).then_some(Cause::Memlock)
}

/// Why the record of the tracepoint cannot be looked at; `None` if it can.
pub(super) fn tracefs(facts: &Facts) -> Option<Cause> {
    let Attempt::Refused { errno, reason } = &facts.tracefs.attempt else { return None };
    let feature = match (errno, &facts.tracefs.mounted) {
        (Some(EPERM | EACCES), Some(_)) => Feature::Tracefs,
        // A mount for the look takes what entering namespaces takes.
        (Some(EPERM | EACCES), None) => Feature::Namespaces,
        _ => return Some(Cause::Tracefs(reason.clone())),
    };
    Some(refused(facts, feature, false).unwrap_or_else(|| Cause::Tracefs(reason.clone())))
}

/// What is wrong with the cgroup2 mount.
fn no_cgroup(facts: &Facts) -> String {
    match &facts.cgroup.cgroup2 {
        None => "no cgroup2 hierarchy is mounted".to_owned(),
        Some(path) => format!("{path} is not the root of the cgroup2 hierarchy but a container's part of it"),
    }
}
