//! The perf tracepoint `sock:inet_sock_set_state`: the fallback for kernels without BTF or `tp_btf`.
//!
//! Only what the record itself holds is known. Its layout has not moved since 5.6, where `protocol` became
//! 16 bits wide; user space compares it with the running kernel's format file before it attaches.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::tracepoint,
    programs::TracePointContext,
};
use tcp_trace_common::{
    address::{self, mapped},
    event::{StateChange, flags, kind},
    filter::{Subject, Verdict},
    state,
};
use zerocopy::FromZeros;

use crate::{emit::Cpu, kernel::bytes, maps::global};

/// `IPPROTO_TCP`; 132 (SCTP) and 262 (MPTCP) fire the same tracepoint.
const IPPROTO_TCP: u16 = 6;

/// The tracepoint's record (`/sys/kernel/tracing/events/sock/inet_sock_set_state/format`).
#[repr(C)]
struct Record {
    common: u64,
    skaddr: u64,
    oldstate: u32,
    newstate: u32,
    sport: u16,
    dport: u16,
    family: u16,
    protocol: u16,
    saddr: u32,
    daddr: u32,
    saddr_v6: [u32; 4],
    daddr_v6: [u32; 4],
}

#[tracepoint(category = "sock", name = "inet_sock_set_state")]
fn set_state_tracepoint(ctx: TracePointContext) -> u32 {
    // Direct context loads: each is one instruction, where `ctx.read_at` would call a helper.
    let record: *const Record = ctx.as_ptr().cast();
    // SAFETY: the context of this program is the tracepoint's record, whose layout was checked.
    if unsafe { (*record).protocol } == IPPROTO_TCP {
        let _ = emit(record);
    }
    0
}

#[inline(always)]
fn emit(record: *const Record) -> Option<()> {
    // SAFETY: as in the caller; the verifier checks each load against the record's size.
    let (old, new, family) =
        unsafe { ((*record).oldstate as u8, (*record).newstate as u8, (*record).family) };
    let transition = Cpu::this()?.see(old, new);
    // SAFETY: as above.
    let (sport, peer_port) = unsafe { ((*record).sport, (*record).dport) };
    // At `CLOSE → SYN_SENT` it may be that of an earlier, refused `connect()`: the socket keeps it for show.
    let local_port = if old == state::CLOSE && new == state::SYN_SENT { 0 } else { sport };
    let (local_addr, peer_addr) = addresses(record, family);
    if global!(SETTINGS.filtering) != 0 {
        let (local_addr, peer_addr) = (bytes(local_addr), bytes(peer_addr));
        let subject = Subject {
            old,
            new,
            local_port,
            peer_port,
            family,
            netns: 0,
            cgroup_id: 0,
            local_addr: &local_addr,
            peer_addr: &peer_addr,
            pid: 0,
        };
        if transition.judge(&subject) == Verdict::Reject {
            return None;
        }
    }
    let mut event: StateChange = FromZeros::new_zeroed();
    event.kind = kind::STATE_CHANGE;
    event.old = old;
    event.new = new;
    // SAFETY: takes nothing.
    event.time_ns = unsafe { bpf_ktime_get_ns() };
    // SAFETY: as above.
    event.skaddr = unsafe { (*record).skaddr };
    event.local_addr = bytes(local_addr);
    event.peer_addr = bytes(peer_addr);
    event.local_port = local_port;
    event.peer_port = peer_port;
    event.family = family;
    if born_in_own_call(old, new) {
        let pid_tgid = bpf_get_current_pid_tgid();
        (event.tgid, event.tid) = ((pid_tgid >> 32) as u32, pid_tgid as u32);
        event.flags = flags::TASK | if event.tgid == event.tid { 0 } else { flags::THREAD_COMM };
        if let Ok(comm) = bpf_get_current_comm() {
            event.comm = comm;
        }
    }
    transition.output(event, false);
    Some(())
}

/// `connect()` and `listen()` make these two transitions themselves; of every other one it cannot be told
/// here whose task is current.
#[inline(always)]
fn born_in_own_call(old: u8, new: u8) -> bool {
    old == state::CLOSE && (new == state::SYN_SENT || new == state::LISTEN)
}

#[inline(always)]
fn addresses(record: *const Record, family: u16) -> ([u64; 2], [u64; 2]) {
    // SAFETY: as in `emit`.
    unsafe {
        if family == address::AF_INET6 {
            (join(&raw const (*record).saddr_v6), join(&raw const (*record).daddr_v6))
        } else {
            (mapped((*record).saddr), mapped((*record).daddr))
        }
    }
}

/// 16 bytes that lie at a multiple of 4, loaded in words: the context may not be read unaligned.
#[inline(always)]
unsafe fn join(words: *const [u32; 4]) -> [u64; 2] {
    // SAFETY: the caller's pointer into the record.
    let [a, b, c, d] = unsafe { words.read_volatile() };
    [u64::from(a) | u64::from(b) << 32, u64::from(c) | u64::from(d) << 32]
}
