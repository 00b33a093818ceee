//! `tcp_destroy_sock(struct sock *sk)` (`include/trace/events/tcp.h`, first kernel 4.16) as `tp_btf`: who closes a socket
//! whose connection has ended before. A reset or a timeout comes in a softirq, which knows no owner; but the socket
//! stays until its last holder closes it, and that is done in the holder's own call (`__tcp_close`, `net/ipv4/tcp.c`).

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tcp_trace_common::event::socket_use;

use crate::{
    emit,
    kernel::TcpSock,
    maps::{HELD, sockets},
};

#[btf_tracepoint(function = "tcp_destroy_sock")]
fn last_close(ctx: BtfTracePointContext) -> i32 {
    let sk: *const u8 = ctx.arg(0);
    // Most sockets are destroyed in a softirq, after their last segment.
    if let Some(tcp) = TcpSock::from_sock(sk)
        && tcp.owned()
    {
        tell(tcp);
    }
    0
}

#[inline(always)]
fn tell(tcp: TcpSock) -> Option<()> {
    let sk = tcp.common();
    let cookie = sk.standing_cookie();
    if sockets(&HELD, cookie)?.take(cookie) {
        emit::socket_use(socket_use::CLOSE, sk, cookie);
    }
    Some(())
}
