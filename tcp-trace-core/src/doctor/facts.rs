//! What was found out about a host, and what was tried there.

use super::capability::Capabilities;
use crate::session::Host;

/// What somebody found out.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The host.
    pub host: Host,
    /// Major and minor version of the kernel, where it tells.
    pub kernel: Option<(u32, u32)>,
    /// The path of the program.
    pub program: String,
    /// Whether this build has kernel programs at all.
    pub has_object: bool,
    /// The rights of this process.
    pub privileges: Privileges,
    /// `none`, `integrity`, `confidentiality`; or why that is not known.
    pub lockdown: Result<String, String>,
    /// `kernel.perf_event_paranoid`.
    pub perf_event_paranoid: Option<i64>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<i64>,
    /// Types of the running kernel.
    pub btf: BtfFacts,
    /// tracefs and the record of the tracepoint.
    pub tracefs: Tracefs,
    /// Whether a ring buffer can be made.
    pub ring_buffer: Attempt,
    /// The cgroup hierarchies.
    pub cgroup: CgroupFacts,
    /// Container runtimes that have left something on this host.
    pub runtimes: Vec<String>,
    /// The container that this process runs in, as the runtime names itself.
    pub container: Option<String>,
    /// Whether systemd runs this host, and can start something.
    pub systemd: bool,
    /// Each hook, tried.
    pub hooks: Vec<Trial>,
    /// The list of sockets.
    pub sock_diag: Attempt,
    /// Destroying a socket, tried on one of its own.
    pub destroy: Attempt,
    /// Network namespaces that were found, and what could not be visited.
    pub namespaces: (usize, Vec<String>),
    /// What stands in the way of knowing all holders of sockets.
    pub holders: Vec<String>,
}

/// The rights of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Privileges {
    /// Effective user id.
    pub uid: u32,
    /// Effective capabilities.
    pub effective: Capabilities,
    /// Those that it can have at all.
    pub bounding: Capabilities,
    /// Whether its capabilities count on this host, and not only in a user namespace of its own.
    pub first_user_namespace: bool,
    /// Whether it sees the processes of the whole host.
    pub first_pid_namespace: bool,
    /// Whether a seccomp filter is in force.
    pub seccomp: bool,
    /// Whether bpf(2) answers a question without sense as the kernel would.
    pub bpf_reaches_kernel: bool,
    /// `RLIMIT_MEMLOCK` in bytes; `None`: unlimited.
    pub memlock: Option<u64>,
    /// Which version of Landlock's interface the kernel has.
    pub landlock: Option<u32>,
    /// Whether filters of system calls are to be had.
    pub filters: bool,
}

/// Types of the running kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BtfFacts {
    /// Whether they are there, and the tracepoint in them is the expected one.
    pub attempt: Attempt,
    /// Size of the file.
    pub bytes: Option<u64>,
    /// Members that the programs read, and where they are; `None` where this kernel has none such.
    pub members: Vec<(String, Option<u32>)>,
}

/// tracefs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracefs {
    /// Where it is mounted; `None` where it is not, and was mounted for the trial only.
    pub mounted: Option<String>,
    /// Whether the record is laid out as the program reads it.
    pub attempt: Attempt,
    /// The record.
    pub fields: Vec<Field>,
}

/// A field of the tracepoint's record.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Field {
    /// Name.
    pub name: String,
    /// Bytes before it.
    pub offset: u32,
    /// Bytes of it.
    pub size: u32,
}

/// How the cgroup hierarchies are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupMode {
    /// The second version only.
    Unified,
    /// Both.
    Hybrid,
    /// The first version only.
    Legacy,
    /// None.
    None,
}

/// The cgroup hierarchies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupFacts {
    /// How they are mounted.
    pub mode: CgroupMode,
    /// Where the second version is.
    pub cgroup2: Option<String>,
    /// Whether that is the root of the whole hierarchy.
    pub is_root: bool,
}

/// What a trial came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It works.
    Works,
    /// It does not.
    Refused {
        /// The kernel's error number, where it gave one.
        errno: Option<i32>,
        /// What it said.
        reason: String,
    },
    /// Something that it needs was not there to try it with.
    NotTried(String),
}

impl Attempt {
    /// Whether it works.
    #[must_use]
    pub fn works(&self) -> bool {
        *self == Self::Works
    }
}

/// How a program hangs on the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HookKind {
    /// BTF-typed raw tracepoint.
    TpBtf,
    /// Perf tracepoint.
    Tracepoint,
    /// Program on a cgroup that sees handshakes.
    SockOps,
    /// Beginning of a kernel function.
    Fentry,
    /// End of a kernel function.
    Fexit,
    /// Iterator.
    Iter,
}

impl HookKind {
    /// The name that the kernel's documentation uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TpBtf => "tp_btf",
            Self::Tracepoint => "tracepoint",
            Self::SockOps => "sock_ops",
            Self::Fentry => "fentry",
            Self::Fexit => "fexit",
            Self::Iter => "iter",
        }
    }

    /// Whether it hangs on a function of the kernel, which a locked-down kernel refuses.
    #[must_use]
    pub fn is_on_function(self) -> bool {
        matches!(self, Self::Fentry | Self::Fexit)
    }
}

/// A program that was loaded, attached and detached, or could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The program.
    pub name: String,
    /// How it hangs on the kernel.
    pub kind: HookKind,
    /// What it hangs on.
    pub target: String,
    /// What it came to.
    pub attempt: Attempt,
    /// What is not known without it; `None` of a main program.
    pub loss: Option<String>,
}
