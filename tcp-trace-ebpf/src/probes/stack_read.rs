//! `tcp_rcv_space_adjust` once more, for `--stacks`: where a program reads from an accepted connection first. The stand-in
//! for `stack_accepted`, with the limits of `first_read`.

use aya_ebpf::{EbpfContext as _, macros::btf_tracepoint, programs::BtfTracePointContext};
use tcp_trace_common::stack::how;

use crate::{
    dump,
    kernel::{Common, TcpSock},
    maps::{UNCLAIMED, sockets},
};

#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
fn stack_read(ctx: BtfTracePointContext) -> i32 {
    let sk: *const u8 = ctx.arg(0);
    let cookie = Common::of(sk).standing_cookie();
    if let Some(bucket) = sockets(&UNCLAIMED, cookie)
        && bucket.has(cookie)
        && let Some(tcp) = TcpSock::from_sock(sk)
        && tcp.owned()
        && bucket.take(cookie)
    {
        dump::emit(ctx.as_ptr(), how::READ, tcp);
    }
    0
}
