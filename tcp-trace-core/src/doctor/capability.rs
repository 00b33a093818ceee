//! The capabilities that matter (capabilities(7)), and what each is for.

/// A capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// Maps and programs.
    Bpf,
    /// Programs that trace.
    Perfmon,
    /// Programs on cgroups; destroying sockets.
    NetAdmin,
    /// Other network namespaces, mounts.
    SysAdmin,
    /// Other users' processes.
    SysPtrace,
    /// Other users' files.
    DacReadSearch,
    /// Locked memory, on kernels before 5.11.
    SysResource,
}

impl Capability {
    /// All of them, the most needed first.
    pub const ALL: [Self; 7] = [
        Self::Bpf,
        Self::Perfmon,
        Self::NetAdmin,
        Self::SysPtrace,
        Self::DacReadSearch,
        Self::SysAdmin,
        Self::SysResource,
    ];

    /// Its number in `include/uapi/linux/capability.h`.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::DacReadSearch => 2,
            Self::NetAdmin => 12,
            Self::SysPtrace => 19,
            Self::SysAdmin => 21,
            Self::SysResource => 24,
            Self::Perfmon => 38,
            Self::Bpf => 39,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysResource => "CAP_SYS_RESOURCE",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }

    /// What permits the same, as bits: CAP_SYS_ADMIN stands in for those that were split off it (`bpf_capable()`,
    /// `perfmon_capable()`, `include/linux/capability.h`, since 5.8), CAP_DAC_OVERRIDE for the reading of files
    /// (`generic_permission`, `fs/namei.c`).
    pub(super) fn stand_in(self) -> u64 {
        const CAP_DAC_OVERRIDE: u64 = 1 << 1;
        match self {
            Self::Bpf | Self::Perfmon => 1 << Self::SysAdmin.number(),
            Self::DacReadSearch => CAP_DAC_OVERRIDE,
            _ => 0,
        }
    }

    /// What it is for.
    #[must_use]
    pub fn purpose(self) -> &'static str {
        match self {
            Self::Bpf => "kernel programs and maps: the main job",
            Self::Perfmon => "programs that trace: the main job",
            Self::NetAdmin => "half-open times (sock_ops); kill",
            Self::SysPtrace => "with the next: holders of others' sockets",
            Self::DacReadSearch => "the same; tracefs for who is not root",
            Self::SysAdmin => "sockets in other network namespaces",
            Self::SysResource => "memory for maps, before 5.11 only",
        }
    }
}

/// Capabilities that are held, as the kernel writes them in `/proc/PID/status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Whether this very one is held.
    #[must_use]
    pub fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability.number()) != 0
    }

    /// Whether what this one permits is permitted: by itself, or by what stands in for it.
    #[must_use]
    pub fn allow(self, capability: Capability) -> bool {
        self.0 & capability.stand_in() != 0 || self.has(capability)
    }
}
