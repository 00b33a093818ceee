//! What takes which capabilities (capabilities(7)), and what is not known without them: the one place that says so.
//!
//! The doctor and the errors quote it, the program keeps of its rights what it says, and a test holds the table of
//! `docs/privileges.md` against it.

use super::capability::{Capabilities, Capability};

/// Something that takes capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Kernel programs that see transitions.
    Trace,
    /// Programs on the root of the cgroup2 hierarchy.
    HalfOpen,
    /// What other users' processes are, beyond their names.
    Programs,
    /// Their descriptors, where the kernel does not list them itself.
    Holders,
    /// Files that only their owner may read.
    Files,
    /// The tracepoint's record, where the kernel has no BTF.
    Tracefs,
    /// The sockets of other network namespaces.
    Namespaces,
    /// The programs of other processes, as they are mapped.
    Mappings,
    /// Destroying sockets.
    Kill,
    /// Maps, on kernels before 5.11.
    Memory,
}

impl Feature {
    /// All of them, the most needed first.
    pub const ALL: [Self; 10] = [
        Self::Trace,
        Self::HalfOpen,
        Self::Programs,
        Self::Holders,
        Self::Files,
        Self::Tracefs,
        Self::Namespaces,
        Self::Mappings,
        Self::Kill,
        Self::Memory,
    ];

    /// What the long-running form is given by default: everything but what is almost all of root.
    pub const USUAL: [Self; 4] = [Self::Trace, Self::HalfOpen, Self::Holders, Self::Files];

    /// What it takes. Either of two that are named together is as good as none.
    #[must_use]
    pub fn capabilities(self) -> &'static [Capability] {
        match self {
            Self::Trace => &[Capability::Bpf, Capability::Perfmon],
            // Its pointer arithmetic is refused to who may not read kernel memory (`adjust_ptr_min_max_vals`,
            // `kernel/bpf/verifier.c`).
            Self::HalfOpen => &[Capability::Bpf, Capability::Perfmon, Capability::NetAdmin],
            Self::Programs => &[Capability::SysPtrace],
            Self::Holders => &[Capability::SysPtrace, Capability::DacReadSearch],
            Self::Files | Self::Tracefs => &[Capability::DacReadSearch],
            Self::Namespaces | Self::Mappings => &[Capability::SysAdmin],
            Self::Kill => &[Capability::NetAdmin],
            Self::Memory => &[Capability::SysResource],
        }
    }

    /// What it is.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::Trace => "kernel programs that trace: the main job",
            Self::HalfOpen => "true half-open times: programs on the root of the cgroup2 hierarchy",
            Self::Programs => {
                "the programs of other users' processes, the network namespaces that they live in, and their functions (`--stacks`)"
            }
            Self::Holders => {
                "who holds other users' sockets, in `snapshot` and `kill`, and in everything where the kernel has no BTF or is older than 5.8"
            }
            Self::Files => "the names of containers, from runtimes' files that only root may read",
            Self::Tracefs => "the perf tracepoint on kernels without BTF, for who is not root",
            Self::Namespaces => "sockets of other network namespaces, from before the start and in queues",
            Self::Mappings => "`--stacks` in programs whose file was replaced or removed",
            Self::Kill => "`tcp-trace kill`",
            Self::Memory => "locked memory for maps before Linux 5.11",
        }
    }

    /// What is lost without it.
    #[must_use]
    pub fn lost(self) -> &'static str {
        match self {
            Self::Trace => "nothing can be traced: exit code 3",
            Self::HalfOpen => {
                "half-open times are the kernel's own samples, and each says so; who comes and goes unanswered is \
                 counted by surveys only"
            }
            Self::Programs => {
                "`exe` is not known; a network namespace that only such processes live in is not found, and the report says \
                 so; functions have addresses and no names"
            }
            Self::Holders => {
                "such owners are unknown (`not_permitted`), and, before Linux 6.2, how many descriptors are left to them. \
                 Either alone is as good as none"
            }
            Self::Files => "containers have ids and no names",
            Self::Tracefs => "such a kernel cannot be traced",
            Self::Namespaces => {
                "they are not listed, and the report says how many namespaces it could not enter"
            }
            Self::Mappings => "functions in such files have addresses and no names",
            Self::Kill => "no socket can be destroyed: exit code 3",
            Self::Memory => "the limit (`ulimit -l`) has to be set by whoever starts it",
        }
    }

    /// Those of its capabilities that are not held, and for which nothing stands in.
    #[must_use]
    pub fn missing(self, held: Capabilities) -> Vec<Capability> {
        // Who may read all memory and load all programs loads those on cgroups, too.
        if self == Self::HalfOpen && held.has(Capability::SysAdmin) {
            return Vec::new();
        }
        self.capabilities().iter().copied().filter(|one| !held.allow(*one)).collect()
    }
}

/// `CAP_A and CAP_B`.
#[must_use]
pub fn names(capabilities: &[Capability]) -> String {
    let names: Vec<_> = capabilities.iter().map(|capability| capability.name()).collect();
    match names.as_slice() {
        [others @ .., last] if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => names.concat(),
    }
}

/// The capabilities of these, each once, as setcap(8) wants them: `cap_a,cap_b`.
#[must_use]
pub fn for_setcap(features: &[Feature]) -> String {
    let wanted = |one: &Capability| features.iter().any(|feature| feature.capabilities().contains(one));
    let names = Capability::ALL.into_iter().filter(wanted).map(|one| one.name().to_ascii_lowercase());
    names.collect::<Vec<_>>().join(",")
}

impl Capabilities {
    /// Of these, what is still needed for some features: what they take, or what stands in for it.
    #[must_use]
    pub fn kept_for(self, features: &[Feature]) -> Self {
        let needed = features.iter().flat_map(|feature| feature.capabilities());
        Self(needed.fold(0, |kept, one| kept | self.kept(*one).0))
    }

    /// Of these, this one, or else what stands in for it.
    #[must_use]
    pub fn kept(self, one: Capability) -> Self {
        Self(if self.has(one) { 1 << one.number() } else { self.0 & one.stand_in() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(capabilities: &[Capability]) -> Capabilities {
        Capabilities(capabilities.iter().fold(0, |bits, one| bits | 1 << one.number()))
    }

    #[test]
    fn nothing_is_kept_that_was_not_held_or_is_not_needed() {
        let root = Capabilities(u64::MAX);
        let survey = [Feature::Holders, Feature::Namespaces];
        let kept = [Capability::SysPtrace, Capability::DacReadSearch, Capability::SysAdmin];
        assert_eq!(root.kept_for(&survey), held(&kept));
        assert_eq!(held(&[Capability::Bpf, Capability::SysPtrace]).kept_for(&survey), held(&kept[..1]));
        assert_eq!(Capabilities(0).kept_for(&Feature::ALL), Capabilities(0));
        assert_eq!(root.kept_for(&[]), Capabilities(0));
    }

    #[test]
    fn what_stands_in_is_kept_only_where_it_has_to() {
        let (admin, read) = (held(&[Capability::SysAdmin]), Capabilities(1 << 1));
        assert_eq!(admin.kept_for(&[Feature::Trace]), admin);
        assert_eq!(read.kept_for(&[Feature::Files]), read);
        let both = Capabilities(admin.0 | held(Feature::Trace.capabilities()).0);
        assert_eq!(both.kept_for(&[Feature::Trace]), held(Feature::Trace.capabilities()));
    }

    #[test]
    fn what_is_missing_is_what_nothing_stands_in_for() {
        assert_eq!(Feature::HalfOpen.missing(held(&[Capability::SysAdmin])), []);
        assert_eq!(
            Feature::HalfOpen.missing(held(&[Capability::Bpf])),
            [Capability::Perfmon, Capability::NetAdmin]
        );
        assert_eq!(Feature::Trace.missing(held(&[Capability::SysAdmin])), []);
        assert_eq!(names(Feature::Holders.capabilities()), "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH");
        assert_eq!(
            for_setcap(&Feature::USUAL),
            "cap_bpf,cap_perfmon,cap_net_admin,cap_sys_ptrace,cap_dac_read_search"
        );
    }
}
