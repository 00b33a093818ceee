//! The kernel half of tcp-trace: one program per hook, one file each, in `probes`.
//!
//! Reading order: `probes/set_state.rs` (the main hook), `probes/half_open.rs`, `emit.rs` (what happens to a
//! transition), `aggregate.rs` (what happens instead when there are too many), `kernel.rs` (the only file that touches kernel memory), `maps.rs`.
#![no_std]
#![no_main]
// `emit::bump` is one instruction of inline assembly; the target is always built with unstable features on.
#![feature(asm_experimental_arch)]
#![expect(clippy::needless_pass_by_value, reason = "aya's macros hand programs their context by value")]

mod aggregate;
mod dump;
mod emit;
mod kernel;
mod maps;
mod probes;

/// The verifier refuses a program that could reach this; it exists because `no_std` asks for it.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers `bpf_get_socket_cookie` and `bpf_skc_to_tcp_sock` are GPL-only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
