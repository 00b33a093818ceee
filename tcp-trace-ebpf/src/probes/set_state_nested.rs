//! `inet_sock_set_state` once more, attached after `set_state`: takes on the transitions at which the kernel
//! skipped that one, because a softirq came while it was running. `tcp_trace_common::nesting` says how the two
//! agree. All that this costs an undisturbed transition is a look into a per-CPU value.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use super::set_state::record;
use crate::{
    emit::{self, Cpu},
    kernel::TcpSock,
};

#[btf_tracepoint(function = "inet_sock_set_state")]
fn set_state_nested(ctx: BtfTracePointContext) -> i32 {
    let sk: *const u8 = ctx.arg(0);
    let old: u32 = ctx.arg(1);
    let new: u32 = ctx.arg(2);
    let live = emit::live();
    if live != 0
        && let Some(cpu) = Cpu::this()
        && cpu.is_missed(sk as u64, old as u8, new as u8)
        && let Some(tcp) = TcpSock::from_sock(sk)
    {
        // First: nothing comes back from what may follow.
        cpu.count_rescued();
        record(&ctx, cpu, live, tcp, old as u8, new as u8);
    }
    0
}
