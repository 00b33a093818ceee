//! `struct tcp_sock`.

use aya_ebpf::helpers::generated::bpf_skc_to_tcp_sock;
use tcp_trace_common::{config::MISSING, state};

use super::{Common, member, peek_member};
use crate::maps::global;

/// A `struct tcp_sock *` that the verifier knows as such.
#[derive(Clone, Copy)]
pub(crate) struct TcpSock {
    tcp: *const u8,
    /// The same as the `struct sock *` that the program was given. What stands in that part is loaded through this
    /// pointer: the verifier trusts arguments (since 6.2), and such a load is a single instruction; what a helper has
    /// returned may fault, and a load through it is seven.
    sk: *const u8,
}

impl TcpSock {
    /// `sk` as a `tcp_sock`, or `None` if it is not one: SCTP, DCCP and MPTCP sockets fire the same
    /// tracepoint. `bpf_skc_to_tcp_sock` (`net/core/filter.c`, 5.9) checks `sk_protocol` and full-sockness.
    #[inline(always)]
    pub(crate) fn from_sock(sk: *const u8) -> Option<Self> {
        // SAFETY: `sk` is a program's BTF-typed `struct sock *`.
        let tcp = unsafe { bpf_skc_to_tcp_sock(sk.cast_mut().cast()) };
        (!tcp.is_null()).then_some(Self { tcp: tcp.cast(), sk })
    }

    /// What it has in common with other sockets.
    #[inline(always)]
    pub(crate) fn common(self) -> Common {
        Common::of(self.sk)
    }

    /// Local port, host order. `inet_sport` rather than `skc_num`, because it outlives the port at `… → CLOSE`; and
    /// for just that reason not at `CLOSE → SYN_SENT`, where it may be that of an earlier, refused `connect()`.
    #[inline(always)]
    pub(crate) fn local_port(self, old: u8, new: u8) -> u16 {
        if old == state::CLOSE && new == state::SYN_SENT {
            return self.common().held_port();
        }
        u16::from_be(member!(self.tcp, inet_sport: u16))
    }

    /// Id of the cgroup that created the socket, 0 where it cannot be read.
    #[inline(always)]
    pub(crate) fn cgroup_id(self) -> u64 {
        if global!(OFFSETS.sk_cgroup) != MISSING {
            let cgroup = member!(self.sk, sk_cgroup: *const u8);
            let kn = member!(cgroup, cgroup_kn: *const u8);
            return member!(kn, kn_id: u64);
        }
        if global!(OFFSETS.sk_cgroup_word) == MISSING {
            return 0;
        }
        // Bit 0 says that there is no pointer but data of cgroup v1, bit 1 that it is not counted
        // (`struct sock_cgroup_data`, `include/linux/cgroup-defs.h`, up to 5.14).
        let word: u64 = peek_member!(self.sk as u64, sk_cgroup_word: u64);
        if word == 0 || word & 1 != 0 {
            return 0;
        }
        let kn: u64 = peek_member!(word & !3, cgroup_kn: u64);
        peek_member!(kn, kn_id: u64)
    }

    /// Whether a task holds the socket's lock: then the current task is that user, because softirqs only
    /// ever take the spinlock (`lock_sock_nested`, `net/core/sock.c`).
    #[inline(always)]
    pub(crate) fn owned(self) -> bool {
        member!(self.sk, sk_lock_owned: u32) != 0
    }

    /// Whether there is a file, or was until its last holder closed it: `sk_socket` is set by `accept()` or
    /// `socket()` and cleared by `sock_orphan()`.
    #[inline(always)]
    pub(crate) fn has_file(self) -> bool {
        !member!(self.sk, sk_socket: *const u8).is_null()
    }

    /// `sk_err`.
    #[inline(always)]
    pub(crate) fn error(self) -> u16 {
        member!(self.sk, sk_err: u32) as u16
    }

    /// `sk_flags` (`enum sock_flags`, `include/net/sock.h`).
    #[inline(always)]
    pub(crate) fn flags(self) -> u64 {
        member!(self.sk, sk_flags: u64)
    }

    /// `sk_lingertime`, which counts while [`Self::flags`] has `SOCK_LINGER`.
    #[inline(always)]
    pub(crate) fn linger_time(self) -> u64 {
        member!(self.sk, sk_lingertime: u64)
    }

    /// Smoothed round-trip time, microseconds.
    #[inline(always)]
    pub(crate) fn srtt_us(self) -> u32 {
        member!(self.tcp, srtt_us: u32) >> 3
    }

    /// Retransmissions in this connection's life, those of its SYN-ACK included.
    #[inline(always)]
    pub(crate) fn total_retrans(self) -> u32 {
        member!(self.tcp, total_retrans: u32)
    }

    /// Retransmission timeouts: how many and how many milliseconds; `None` before 6.7.
    #[inline(always)]
    pub(crate) fn total_rto(self) -> Option<(u16, u32)> {
        if global!(OFFSETS.total_rto) == MISSING || global!(OFFSETS.total_rto_time) == MISSING {
            return None;
        }
        Some((member!(self.tcp, total_rto: u16), member!(self.tcp, total_rto_time: u32)))
    }

    /// Bytes that were received and not read, the FIN counting as one.
    #[inline(always)]
    pub(crate) fn unread(self) -> u32 {
        member!(self.tcp, rcv_nxt: u32).wrapping_sub(member!(self.tcp, copied_seq: u32))
    }

    /// Bytes received, and bytes sent and acknowledged.
    #[inline(always)]
    pub(crate) fn bytes(self) -> (u64, u64) {
        (member!(self.tcp, bytes_received: u64), member!(self.tcp, bytes_acked: u64))
    }
}
