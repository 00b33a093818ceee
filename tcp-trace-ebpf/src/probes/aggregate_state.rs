//! `inet_sock_set_state` while transitions are aggregated: counts each in its row, and sends only what live tables need.
//!
//! Attached to nothing: `set_state` and `set_state_nested` jump here. A program of its own because it is as long as both of
//! them together: its verification would keep every run waiting, and most never need it.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tcp_trace_common::{aggregate::class, event::flags, filter::Verdict, packed::PackedChange};

use super::set_state::{Shown, judge, look, note_held, note_unclaimed, pack, send};
use crate::{
    aggregate::{self, Facts, Process},
    emit::{self, Cpu, Transition},
    kernel::TcpSock,
    maps::{NOWHERE, global},
};

#[btf_tracepoint(function = "inet_sock_set_state")]
fn aggregate_state(ctx: BtfTracePointContext) -> i32 {
    let sk: *const u8 = ctx.arg(0);
    let old: u32 = ctx.arg(1);
    let new: u32 = ctx.arg(2);
    // Once more: the generation of rows may have turned.
    let live = emit::live();
    if live == 0 {
        keep_off_the_cpus_stack(&ctx);
    }
    if let Some(tcp) = TcpSock::from_sock(sk)
        && let Some(cpu) = Cpu::this()
    {
        record(cpu, live, tcp, old as u8, new as u8);
    }
    0
}

/// Jumps nowhere, and is never called: the jump has to stand in the program.
///
/// Since 6.13 the x86-64 kernel gives a tracing program with 64 bytes of stack or more one stack for each CPU, because it never
/// runs such a program inside itself (`bpf_enable_priv_stack`, `kernel/bpf/verifier.c`). It sees to that where it calls a
/// program, not where one jumps to another: a softirq would come here from `set_state_nested` while `set_state` had
/// already jumped here, and write over the same stack. Programs that contain a jump themselves are left out
/// (`check_max_stack_depth`).
#[inline(always)]
fn keep_off_the_cpus_stack(ctx: &BtfTracePointContext) {
    // SAFETY: no program is there, so that nothing is jumped to.
    unsafe { NOWHERE.tail_call(ctx, 0) };
}

#[inline(always)]
fn record(cpu: Cpu, live: u64, tcp: TcpSock, old: u8, new: u8) {
    let transition = cpu.see(old, new);
    let shown = look(cpu, live, tcp, old, new);
    let Shown { old, new, cookie, .. } = shown;
    let mut verdict = Verdict::Accept;
    if global!(SETTINGS.filtering) != 0 {
        verdict = judge(transition, &shown);
        if verdict == Verdict::Reject {
            return;
        }
    }
    let has_file = emit::forget(tcp.has_file().into(), cookie) != 0;
    let anew = |state: u8| emit::forget(state.into(), cookie) as u8;
    note_unclaimed(live, cookie, anew(old), anew(new), has_file);
    // What the filter cannot judge yet is sent as ever: a row could not be taken back. The verifier is to walk the rest once,
    // not once for each verdict.
    let aggregated = || emit::forget((verdict == Verdict::Accept).into(), cookie) != 0;
    if !aggregated() {
        note_held(live, cookie, anew(new), has_file, tcp);
    }
    let file = if has_file { 0 } else { flags::NO_FILE };
    let packed = pack(&shown, file | if aggregated() { flags::AGGREGATED } else { 0 });
    let class = aggregate::class_of(transition);
    if !aggregated() || emit::forget(class & class::SHOWN, cookie) != 0 {
        send(transition, packed, aggregated());
    }
    if aggregated() {
        count(transition, live, class, &shown, &packed);
    }
}

/// Puts a transition into its row.
#[inline(always)]
fn count(transition: Transition, live: u64, class: u64, shown: &Shown, packed: &PackedChange) {
    let Shown { tcp, old, new, cookie, netns, cgroup_id, local_port, request_ns, .. } = *shown;
    let PackedChange { head, user, .. } = packed;
    let facts = Facts {
        tcp,
        live,
        class,
        old,
        new,
        id: if cookie == 0 { tcp.common().address() } else { cookie },
        now: head.time_ns,
        process: Process { tgid: user.tgid, start_ns: user.process_start_ns },
        netns,
        cgroup_id,
        local_port,
        request_ns,
        flags: head.flags,
    };
    aggregate::count(transition, &facts);
}
