//! What the programs of tcp-trace are measured against: the least that a program on the same hook can do.
//!
//! All three are `tp_btf` programs on `inet_sock_set_state` (`include/trace/events/sock.h`; `tp_btf` since 5.5, the
//! ring buffer since 5.8), made by the compiler and with the settings that make tcp-trace's own.
#![no_std]
#![no_main]
#![expect(clippy::needless_pass_by_value, reason = "aya's macros hand programs their context by value")]

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::bpf_ktime_get_ns,
    macros::{btf_tracepoint, map},
    maps::{PerCpuArray, RingBuf},
    programs::BtfTracePointContext,
};

/// What `leanest` says of a transition: 24 bytes.
#[repr(C)]
struct Record {
    time_ns: u64,
    skaddr: u64,
    old: u32,
    new: u32,
}

/// User space sets the size that tcp-trace's own buffer has.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

#[map]
static COUNT: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Nothing: what the kernel takes to call a program, and to measure how long it runs.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn empty(_ctx: BtfTracePointContext) -> i32 {
    0
}

/// One counter.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn counter(_ctx: BtfTracePointContext) -> i32 {
    if let Some(count) = COUNT.get_ptr_mut(0) {
        // SAFETY: this CPU's value.
        unsafe { count.write(count.read().wrapping_add(1)) };
    }
    0
}

/// The leanest stream: when, which socket, from which state to which.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn leanest(ctx: BtfTracePointContext) -> i32 {
    let skaddr: u64 = ctx.arg(0);
    let old: u32 = ctx.arg(1);
    let new: u32 = ctx.arg(2);
    if let Some(mut entry) = EVENTS.reserve::<Record>(0) {
        // SAFETY: the helper takes nothing and returns a number.
        let time_ns = unsafe { bpf_ktime_get_ns() };
        entry.write(Record { time_ns, skaddr, old, new });
        entry.submit(BPF_RB_NO_WAKEUP.into());
    }
    0
}

/// The verifier refuses a program that could reach this; it exists because `no_std` asks for it.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
