//! `inet_sock_set_state` for `--mode count`: adds 1 to the count of the transition's kind, and that is all.
//!
//! Alone on the hook, without `set_state_nested`: where the kernel skips a program that is running already (6.2), it tells
//! how often (`recursion_misses`), and so short a program is hardly ever interrupted.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{emit::Cpu, kernel::member};

/// `IPPROTO_TCP`; SCTP, DCCP and MPTCP sockets fire the same tracepoint.
const IPPROTO_TCP: u16 = 6;

#[btf_tracepoint(function = "inet_sock_set_state")]
fn count_state(ctx: BtfTracePointContext) -> i32 {
    let sk: *const u8 = ctx.arg(0);
    let old: u32 = ctx.arg(1);
    let new: u32 = ctx.arg(2);
    if member!(sk, sk_protocol: u16) == IPPROTO_TCP
        && let Some(cpu) = Cpu::this()
    {
        cpu.see(old as u8, new as u8);
    }
    0
}
