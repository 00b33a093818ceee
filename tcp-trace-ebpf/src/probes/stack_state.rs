//! `inet_sock_set_state` once more, for `--stacks`: where a program calls `connect()`. Where the kernel allows no fexit it
//! also remembers the connections that will be accepted, for `stack_read`.

use aya_ebpf::{EbpfContext as _, macros::btf_tracepoint, programs::BtfTracePointContext};
use tcp_trace_common::{stack::how, state};

use crate::{
    dump,
    kernel::TcpSock,
    maps::{UNCLAIMED, global, sockets},
};

#[btf_tracepoint(function = "inet_sock_set_state")]
fn stack_state(ctx: BtfTracePointContext) -> i32 {
    let sk: *const u8 = ctx.arg(0);
    let old: u32 = ctx.arg(1);
    let new: u32 = ctx.arg(2);
    let (old, new) = (old as u8, new as u8);
    let connects = old == state::CLOSE && new == state::SYN_SENT;
    let will_be_accepted = old == state::SYN_RECV && new == state::ESTABLISHED;
    if !connects && (!will_be_accepted || global!(STACKS.reads) == 0) {
        return 0;
    }
    let Some(tcp) = TcpSock::from_sock(sk) else { return 0 };
    if will_be_accepted {
        let cookie = tcp.common().cookie();
        // One with a file was opened by both sides at the same time.
        if !tcp.has_file()
            && let Some(bucket) = sockets(&UNCLAIMED, cookie)
        {
            bucket.put(cookie);
        }
    } else if tcp.owned() {
        dump::emit(ctx.as_ptr(), how::CONNECT, tcp);
    }
    0
}
