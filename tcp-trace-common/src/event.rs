//! The records that the kernel programs write into the ring buffer.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The first field of every record in the ring buffer: which struct follows.
pub mod kind {
    /// A [`super::StateChange`].
    pub const STATE_CHANGE: u16 = 1;
}

/// Bits of [`StateChange::flags`].
pub mod flags {
    /// The socket's own fields were read: `netns`, `cgroup_id`, `sk_err` and [`DONE`] say something.
    /// Absent when the program was attached as a perf tracepoint.
    pub const HAS_SOCK: u32 = 1 << 0;
    /// The current task is the socket's user: `sk_lock.owned` was 1, or the transition is one that the
    /// kernel only ever makes inside the caller's own system call. `tgid`, `tid` and `comm` are set only
    /// then; the task that merely happened to be on the CPU never leaves the kernel.
    pub const TASK: u32 = 1 << 1;
    /// `SOCK_DONE` of `sk_flags`: the peer's FIN was seen (`enum sock_flags`, `include/net/sock.h`).
    pub const DONE: u32 = 1 << 2;
    /// `srtt_us` and `total_retrans` were read.
    pub const HAS_TCP: u32 = 1 << 3;
    /// `total_rto` and `total_rto_time_ms` were read (first kernel: 6.7).
    pub const HAS_RTO: u32 = 1 << 4;
    /// `request_ns` is when the request was queued.
    pub const HAS_REQUEST: u32 = 1 << 5;
    /// The request was a TCP Fast Open one: `request_ns` is when its SYN came.
    pub const FAST_OPEN: u32 = 1 << 6;
    /// `comm` is a thread's name and not its process's: the group leader could not be read.
    pub const THREAD_COMM: u32 = 1 << 7;
}

/// One call of the tracepoint `sock:inet_sock_set_state` for a TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct StateChange {
    /// [`kind::STATE_CHANGE`].
    pub kind: u16,
    /// State left, as the kernel numbers it (`crate::state`).
    pub old: u8,
    /// State entered.
    pub new: u8,
    /// Bits of [`flags`].
    pub flags: u32,
    /// `bpf_ktime_get_ns()`: CLOCK_MONOTONIC, in nanoseconds.
    pub time_ns: u64,
    /// Socket cookie; 0 where the attach kind cannot give it. For `LISTEN → SYN_RECV` up to 6.12 it is the
    /// *listener's* (`inet_csk_clone_lock` fires the event before the child gets its own).
    pub cookie: u64,
    /// Address of the `struct sock`. Shown, and the key only where there is no cookie: it is reused.
    pub skaddr: u64,
    /// Id of the socket's cgroup (its creator's), 0 when unknown.
    pub cgroup_id: u64,
    /// Start of the task's process (`group_leader->start_boottime`), nanoseconds since boot; 0 unknown.
    pub process_start_ns: u64,
    /// When the half-open request was queued, CLOCK_MONOTONIC ns; see [`flags::HAS_REQUEST`].
    pub request_ns: u64,
    /// Local address, as in [`crate::address`].
    pub local_addr: [u8; 16],
    /// Peer address, as in [`crate::address`].
    pub peer_addr: [u8; 16],
    /// Local port in host order, 0 when not chosen yet.
    pub local_port: u16,
    /// Peer port in host order, 0 when there is none (yet, or any more).
    pub peer_port: u16,
    /// The socket's own family, `AF_INET` or `AF_INET6`; a dual-stack socket keeps `AF_INET6`.
    pub family: u16,
    /// `sk_err`, an errno, 0 when none is set.
    pub sk_err: u16,
    /// Inode number of the socket's network namespace, as `readlink /proc/PID/ns/net` shows it; 0 unknown.
    pub netns: u32,
    /// Process id as users know it (the kernel's tgid).
    pub tgid: u32,
    /// Thread id (the kernel's pid).
    pub tid: u32,
    /// Smoothed round-trip time in microseconds (`srtt_us >> 3`).
    pub srtt_us: u32,
    /// `tcp_sock.total_retrans`.
    pub total_retrans: u32,
    /// `tcp_sock.total_rto_time`, milliseconds.
    pub total_rto_time_ms: u32,
    /// Name of the process (or thread, see [`flags::THREAD_COMM`]), NUL-padded, any bytes.
    pub comm: [u8; 16],
    /// `tcp_sock.total_rto`.
    pub total_rto: u16,
    /// Always 0.
    pub reserved: [u16; 3],
}
