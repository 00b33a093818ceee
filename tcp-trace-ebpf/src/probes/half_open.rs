//! `sock_ops` on the cgroup2 root (first kernel 4.13): when each half-open request begins.
//!
//! The tracepoint cannot know: `LISTEN → SYN_RECV → ESTABLISHED` fires back to back when the final ACK comes.
//! But when a SYN is queued the kernel asks sock_ops programs for the SYN-ACK's timeout, with the request
//! as the socket (`tcp_timeout_init` in `tcp_conn_request`, `net/ipv4/tcp_input.c`), and the child inherits
//! the request's cookie. No callback flag is needed, so nothing is paid per packet.

use aya_ebpf::{
    bindings::{BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_TIMEOUT_INIT},
    helpers::{bpf_get_socket_cookie, bpf_ktime_get_ns},
    macros::sock_ops,
    programs::SockOpsContext,
};

use crate::maps::{REQUESTS, Request};

/// `TCPHDR_SYN` and `TCPHDR_ACK` (`include/net/tcp.h`).
const TCP_FLAG_SYN: u32 = 0x02;
const TCP_FLAG_ACK: u32 = 0x10;

#[sock_ops]
fn half_open(ctx: SockOpsContext) -> u32 {
    // SAFETY: `ops` is the context; these are plain context loads.
    let (op, full) = unsafe { ((*ctx.ops).op, (*ctx.ops).is_fullsock) };
    if op == BPF_SOCK_OPS_TIMEOUT_INIT && full == 0 {
        remember(&ctx, 0);
    } else if op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB {
        // SAFETY: as above. The packet is a bare SYN only for Fast Open, whose child exists at once and was
        // never a queued request (`tcp_fastopen_create_child`, `net/ipv4/tcp_fastopen.c`); a simultaneous open
        // ends with a SYN-ACK or an ACK.
        let tcp_flags = unsafe { (*ctx.ops).skb_tcp_flags };
        if tcp_flags & (TCP_FLAG_SYN | TCP_FLAG_ACK) == TCP_FLAG_SYN {
            remember(&ctx, 1);
        }
    }
    // 1 lets the kernel go on; `reply` stays as it is, so nothing of the connection is changed.
    1
}

#[inline(always)]
fn remember(ctx: &SockOpsContext, fast_open: u64) {
    // SAFETY: the helper takes the sock_ops context.
    let (cookie, queued_ns) = unsafe { (bpf_get_socket_cookie(ctx.ops.cast()), bpf_ktime_get_ns()) };
    // Insertion into an LRU map fails only when another CPU holds the last free node for the moment; the
    // handshake's duration is unknown then, and reported so.
    let _ = REQUESTS.insert(cookie, Request { cookie, queued_ns, fast_open }, 0);
}
