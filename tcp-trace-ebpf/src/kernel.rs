//! The only file that dereferences kernel pointers.
//!
//! In a `tp_btf` program the argument is a BTF-typed pointer: plain loads through it, and through pointers
//! loaded from it, are checked by the verifier against the kernel's own types and cost one instruction; a
//! fault reads as 0 (`PROBE_MEM`). The offsets are constants to the verifier (see `maps.rs`), so each load
//! is verified against the member it names.

use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_get_socket_cookie, bpf_skc_to_tcp_sock};
use tcp_trace_common::{address, config::MISSING};

use crate::maps::global;

/// A `struct tcp_sock *` that the verifier knows as such.
#[derive(Clone, Copy)]
pub(crate) struct TcpSock(*const u8);

/// A `struct task_struct *` that the verifier knows as such.
#[derive(Clone, Copy)]
pub(crate) struct Task(*const u8);

/// Loads a `T` at a constant offset of a BTF-typed pointer.
///
/// # Safety
///
/// `base` must be BTF-typed and `offset` that of a member of `T`'s size; the verifier refuses the program
/// otherwise.
#[inline(always)]
unsafe fn load<T: Copy>(base: *const u8, offset: u32) -> T {
    // SAFETY: the caller's contract, enforced by the verifier at load.
    unsafe { base.add(offset as usize).cast::<T>().read_volatile() }
}

macro_rules! member {
    ($pointer:expr, $member:ident: $type:ty) => {{
        let offset = global!(OFFSETS.$member);
        // SAFETY: `$pointer` is BTF-typed and the offset was looked up for exactly this member, with its
        // size checked against `$type` (`bpf/layout.rs` of the user half).
        unsafe { load::<$type>($pointer, offset) }
    }};
}

impl TcpSock {
    /// `sk` as a `tcp_sock`, or `None` if it is not one: SCTP, DCCP and MPTCP sockets fire the same
    /// tracepoint. `bpf_skc_to_tcp_sock` (`net/core/filter.c`, 5.9) checks `sk_protocol` and full-sockness.
    #[inline(always)]
    pub(crate) fn from_sock(sk: *const u8) -> Option<Self> {
        // SAFETY: `sk` is the tracepoint's BTF-typed `struct sock *`.
        let tcp = unsafe { bpf_skc_to_tcp_sock(sk.cast_mut().cast()) };
        (!tcp.is_null()).then_some(Self(tcp.cast()))
    }

    /// The kernel address, to be shown.
    #[inline(always)]
    pub(crate) fn address(self) -> u64 {
        self.0 as u64
    }

    /// The socket cookie; made on first use, kept for the socket's life (`net/core/sock_diag.c`; usable in
    /// `tp_btf` since 5.12).
    #[inline(always)]
    pub(crate) fn cookie(self) -> u64 {
        // SAFETY: `self` is a BTF-typed socket pointer.
        unsafe { bpf_get_socket_cookie(self.0.cast_mut().cast()) }
    }

    /// `skc_family`.
    #[inline(always)]
    pub(crate) fn family(self) -> u16 {
        member!(self.0, skc_family: u16)
    }

    /// Local and peer address, IPv4 as v4-mapped, each as its two halves in memory order.
    #[inline(always)]
    pub(crate) fn addresses(self, family: u16) -> ([u64; 2], [u64; 2]) {
        if family == address::AF_INET6 {
            (in6(self.0, global!(OFFSETS.skc_v6_rcv_saddr)), in6(self.0, global!(OFFSETS.skc_v6_daddr)))
        } else {
            (mapped(member!(self.0, skc_rcv_saddr: u32)), mapped(member!(self.0, skc_daddr: u32)))
        }
    }

    /// Local port, host order. `inet_sport` rather than `skc_num`, which is 0 at every `… → CLOSE` of an
    /// unbound or accepted socket (`inet_put_port`, `net/ipv4/inet_hashtables.c`).
    #[inline(always)]
    pub(crate) fn local_port(self) -> u16 {
        u16::from_be(member!(self.0, inet_sport: u16))
    }

    /// Peer port, host order.
    #[inline(always)]
    pub(crate) fn peer_port(self) -> u16 {
        u16::from_be(member!(self.0, skc_dport: u16))
    }

    /// Inode number of the network namespace.
    #[inline(always)]
    pub(crate) fn netns(self) -> u32 {
        let net = member!(self.0, skc_net: *const u8);
        member!(net, net_inum: u32)
    }

    /// Id of the cgroup that created the socket, 0 where it cannot be read.
    #[inline(always)]
    pub(crate) fn cgroup_id(self) -> u64 {
        if global!(OFFSETS.sk_cgroup) == MISSING {
            return 0;
        }
        let cgroup = member!(self.0, sk_cgroup: *const u8);
        let kn = member!(cgroup, cgroup_kn: *const u8);
        member!(kn, kn_id: u64)
    }

    /// Whether a task holds the socket's lock: then the current task is that user, because softirqs only
    /// ever take the spinlock (`lock_sock_nested`, `net/core/sock.c`).
    #[inline(always)]
    pub(crate) fn owned(self) -> bool {
        member!(self.0, sk_lock_owned: u32) != 0
    }

    /// `sk_err`.
    #[inline(always)]
    pub(crate) fn error(self) -> u16 {
        member!(self.0, sk_err: u32) as u16
    }

    /// Bit `SOCK_DONE` of `sk_flags` (`enum sock_flags`, `include/net/sock.h`).
    #[inline(always)]
    pub(crate) fn done(self) -> bool {
        const SOCK_DONE: u64 = 1 << 1;
        member!(self.0, sk_flags: u64) & SOCK_DONE != 0
    }

    /// Smoothed round-trip time, microseconds.
    #[inline(always)]
    pub(crate) fn srtt_us(self) -> u32 {
        member!(self.0, srtt_us: u32) >> 3
    }

    /// Retransmissions in this connection's life, those of its SYN-ACK included.
    #[inline(always)]
    pub(crate) fn total_retrans(self) -> u32 {
        member!(self.0, total_retrans: u32)
    }

    /// Retransmission timeouts: how many and how many milliseconds; `None` before 6.7.
    #[inline(always)]
    pub(crate) fn total_rto(self) -> Option<(u16, u32)> {
        if global!(OFFSETS.total_rto) == MISSING || global!(OFFSETS.total_rto_time) == MISSING {
            return None;
        }
        Some((member!(self.0, total_rto: u16), member!(self.0, total_rto_time: u32)))
    }
}

impl Task {
    /// The current task (`bpf_get_current_task_btf`, 5.11).
    #[inline(always)]
    pub(crate) fn current() -> Self {
        // SAFETY: takes nothing, returns the BTF-typed current task.
        Self(unsafe { bpf_get_current_task_btf() }.cast())
    }

    /// Bit `PF_KTHREAD` of `flags` (`include/linux/sched.h`).
    #[inline(always)]
    pub(crate) fn is_kernel_thread(self) -> bool {
        const PF_KTHREAD: u32 = 0x0020_0000;
        member!(self.0, task_flags: u32) & PF_KTHREAD != 0
    }

    /// Thread id.
    #[inline(always)]
    pub(crate) fn tid(self) -> u32 {
        member!(self.0, task_pid: u32)
    }

    /// Process id.
    #[inline(always)]
    pub(crate) fn tgid(self) -> u32 {
        member!(self.0, task_tgid: u32)
    }

    /// The process's first thread, whose name and start are the process's.
    #[inline(always)]
    pub(crate) fn group_leader(self) -> Self {
        Self(member!(self.0, task_group_leader: *const u8))
    }

    /// Start, nanoseconds since boot.
    #[inline(always)]
    pub(crate) fn start_ns(self) -> u64 {
        member!(self.0, task_start: u64)
    }

    /// Name, as its two halves in memory order.
    #[inline(always)]
    pub(crate) fn comm(self) -> [u64; 2] {
        let offset = global!(OFFSETS.task_comm);
        // SAFETY: `comm` is `char[16]`, which the verifier lets be read in aligned words.
        unsafe { [load(self.0, offset), load(self.0, offset + 8)] }
    }
}

/// A `struct in6_addr` in its two halves.
#[inline(always)]
fn in6(base: *const u8, offset: u32) -> [u64; 2] {
    // SAFETY: as in `member!`; the offset is that of a 16-byte `in6_addr`.
    unsafe { [load(base, offset), load(base, offset + 8)] }
}

/// Two words in memory order as sixteen bytes.
#[inline(always)]
pub(crate) fn bytes(halves: [u64; 2]) -> [u8; 16] {
    // SAFETY: same size, any bit pattern is valid.
    unsafe { core::mem::transmute(halves) }
}

/// An IPv4 address (network order, as in memory) in v4-mapped form.
#[inline(always)]
pub(crate) fn mapped(v4: u32) -> [u64; 2] {
    [0, u64::from(u32::from_ne_bytes([0, 0, 0xff, 0xff])) | (u64::from(v4) << 32)]
}
