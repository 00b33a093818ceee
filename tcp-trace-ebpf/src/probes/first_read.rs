//! `tcp_rcv_space_adjust(struct sock *sk)` (`include/trace/events/tcp.h`, first kernel 4.17) as `tp_btf`: who reads from
//! an accepted connection first. The stand-in for `accepted` where the kernel allows no fexit: it sees io_uring too,
//! and never sees a connection from which no data is read.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tcp_trace_common::event::socket_use;

use crate::{
    emit,
    kernel::{Common, TcpSock},
    maps::{UNCLAIMED, sockets},
};

#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
fn first_read(ctx: BtfTracePointContext) -> i32 {
    let sk: *const u8 = ctx.arg(0);
    // `set_state` has asked for the cookie of whatever is in the map, so that most reads end here.
    let cookie = Common::of(sk).standing_cookie();
    if sockets(&UNCLAIMED, cookie).is_some_and(|bucket| bucket.has(cookie)) {
        claim(sk, cookie);
    }
    0
}

#[inline(always)]
fn claim(sk: *const u8, cookie: u64) -> Option<()> {
    let tcp = TcpSock::from_sock(sk)?;
    // Some read on behalf of others, in a softirq: kernel TLS, socket maps.
    if tcp.owned() && emit::socket_use(socket_use::READ, tcp.common(), cookie) {
        // It is not in any more if another thread was as quick.
        sockets(&UNCLAIMED, cookie)?.take(cookie);
    }
    Some(())
}
