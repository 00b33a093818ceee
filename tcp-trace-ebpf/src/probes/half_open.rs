//! `sock_ops` on the cgroup2 root (first kernel 4.13): when each half-open request begins.
//!
//! The tracepoint cannot know: `LISTEN → SYN_RECV → ESTABLISHED` fires back to back when the final ACK comes.
//! But when a SYN is queued the kernel asks sock_ops programs for the SYN-ACK's timeout, with the request
//! as the socket (`tcp_timeout_init` in `tcp_conn_request`, `net/ipv4/tcp_input.c`), and the child inherits
//! the request's cookie. No callback flag is needed, so nothing is paid per packet.

use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_TCP_CONNECT_CB,
        BPF_SOCK_OPS_TCP_LISTEN_CB, BPF_SOCK_OPS_TIMEOUT_INIT,
    },
    helpers::{bpf_get_socket_cookie, bpf_ktime_get_ns},
    macros::sock_ops,
    programs::SockOpsContext,
};

use tcp_trace_common::{
    address::{self, mapped},
    request::{Details, Request, source},
};

use crate::maps::{global, put_request};

/// `TCPHDR_SYN` and `TCPHDR_ACK` (`include/net/tcp.h`).
const TCP_FLAG_SYN: u32 = 0x02;
const TCP_FLAG_ACK: u32 = 0x10;

#[sock_ops]
fn half_open(ctx: SockOpsContext) -> u32 {
    // SAFETY: `ops` is the context; these are plain context loads.
    let (op, full) = unsafe { ((*ctx.ops).op, (*ctx.ops).is_fullsock) };
    if op == BPF_SOCK_OPS_TIMEOUT_INIT && full == 0 {
        remember_socket(&ctx, source::SOCK_OPS);
    } else if op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB {
        // SAFETY: as above. The packet is a bare SYN only for Fast Open, whose child exists at once and was
        // never a queued request (`tcp_fastopen_create_child`, `net/ipv4/tcp_fastopen.c`); a simultaneous open
        // ends with a SYN-ACK or an ACK.
        let tcp_flags = unsafe { (*ctx.ops).skb_tcp_flags };
        if tcp_flags & (TCP_FLAG_SYN | TCP_FLAG_ACK) == TCP_FLAG_SYN {
            remember_socket(&ctx, source::FAST_OPEN);
        }
    }
    if global!(SETTINGS.cookie_helper) == 0 && wants_cookie(op) {
        // SAFETY: the helper takes the sock_ops context. Whoever asks first gives the socket its cookie, which
        // `set_state` then reads.
        unsafe { bpf_get_socket_cookie(ctx.ops.cast()) };
    }
    // 1 lets the kernel go on; `reply` stays as it is, so nothing of the connection is changed.
    1
}

/// Whether this is a socket's first call here.
#[inline(always)]
fn wants_cookie(op: u32) -> bool {
    op == BPF_SOCK_OPS_TCP_CONNECT_CB
        || op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB
        || op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB
        || op == BPF_SOCK_OPS_TCP_LISTEN_CB
}

#[inline(always)]
fn remember_socket(ctx: &SockOpsContext, source: u16) {
    let ops = ctx.ops;
    // SAFETY: the helper takes the sock_ops context; the rest are plain context loads.
    unsafe {
        let cookie = bpf_get_socket_cookie(ops.cast());
        let family = (*ops).family as u16;
        let (local_addr, peer_addr) = if family == address::AF_INET6 {
            (join(&raw const (*ops).local_ip6), join(&raw const (*ops).remote_ip6))
        } else {
            (mapped((*ops).local_ip4), mapped((*ops).remote_ip4))
        };
        // The peer's port is in network order, in the upper half; the local one is a number.
        let peer_port = u32::from_be((*ops).remote_port) as u16;
        let local_port = (*ops).local_port as u16;
        remember(cookie, Details { local_addr, peer_addr, local_port, peer_port, family, source });
    }
}

/// Notes that a request begins now.
#[inline(always)]
pub(super) fn remember(cookie: u64, details: Details) {
    // SAFETY: takes nothing.
    put_request(&Request { cookie, queued_ns: unsafe { bpf_ktime_get_ns() }, details });
}

/// An IPv6 address, loaded in words: the verifier allows no wider load from this context.
#[inline(always)]
unsafe fn join(words: *const [u32; 4]) -> [u64; 2] {
    let words: *const u32 = words.cast();
    // SAFETY: the caller's pointer into the context. Volatile, so that the loads are not joined to wider ones.
    let [a, b, c, d] = unsafe { [0, 1, 2, 3].map(|index| words.add(index).read_volatile()) };
    [u64::from(a) | u64::from(b) << 32, u64::from(c) | u64::from(d) << 32]
}
