//! `fexit/inet_accept` once more, for `--stacks`: where a program calls `accept()`. See `accepted`.

use aya_ebpf::{EbpfContext as _, macros::fexit, programs::FExitContext};
use tcp_trace_common::stack::how;

use crate::{
    dump,
    kernel::{TcpSock, member},
};

#[fexit(function = "inet_accept")]
fn stack_accepted(ctx: FExitContext) -> i32 {
    let newsock: *const u8 = ctx.arg(1);
    let sk = member!(newsock, socket_sk: *const u8);
    if !sk.is_null()
        && let Some(tcp) = TcpSock::from_sock(sk)
    {
        dump::emit(ctx.as_ptr(), how::ACCEPT, tcp);
    }
    0
}
