//! The only folder that dereferences kernel pointers.
//!
//! In a `tp_btf`, fentry or fexit program the arguments are BTF-typed pointers: plain loads through them, and through
//! pointers loaded from them, are checked by the verifier against the kernel's own types and cost one instruction; a
//! fault reads as 0 (`PROBE_MEM`). The loader writes the offsets into the instructions, so each load is verified against
//! the member it names. What is reached by other ways (a container of a member, the current task
//! before 5.11) is read by [`peek`], which a fault does not hurt either.

mod common;
mod request;
mod task;
mod tcp;

use core::arch::asm;

use aya_ebpf::helpers::bpf_probe_read_kernel;

pub(crate) use common::Common;
pub(crate) use request::HalfOpen;
pub(crate) use task::Task;
pub(crate) use tcp::TcpSock;

/// What one instruction can load.
pub(crate) trait Loadable: Copy {
    /// Loads through a BTF-typed pointer. `AT` is a placeholder of [`config`](tcp_trace_common::config::placeholder), or lies
    /// in the field of one. In assembly, so that the placeholder stays in the instruction.
    ///
    /// # Safety
    ///
    /// `base` must be BTF-typed, and the field a member of this size; the verifier refuses the program otherwise.
    unsafe fn load<const AT: i16>(base: *const u8) -> Self;
}

macro_rules! loadable {
    ($($type:ty: $width:literal),*) => {$(
        impl Loadable for $type {
            #[inline(always)]
            unsafe fn load<const AT: i16>(base: *const u8) -> Self {
                let value: u64;
                // SAFETY: the caller's contract, enforced by the verifier at load.
                unsafe {
                    asm!(
                        concat!("{value} = *(", $width, " *)({base} + {at})"),
                        value = lateout(reg) value,
                        base = in(reg) base,
                        at = const AT,
                        options(readonly, nostack, preserves_flags)
                    );
                }
                value as Self
            }
        }
    )*};
}

loadable!(u16: "u16", u32: "u32", u64: "u64", *const u8: "u64");

/// Reads a `T` at any kernel address; what cannot be read is the default, that is 0.
#[inline(always)]
pub(crate) fn peek<T: Copy + Default>(address: u64, offset: u32) -> T {
    // SAFETY: the helper checks the address; every caller's `T` is an integer or an array of them.
    unsafe { bpf_probe_read_kernel((address + u64::from(offset)) as *const T) }.unwrap_or_default()
}

/// The placeholder of a member's offset.
macro_rules! placeholder {
    ($member:ident) => {
        tcp_trace_common::config::placeholder::of(core::mem::offset_of!(
            tcp_trace_common::config::Offsets,
            $member
        ))
    };
}
pub(crate) use placeholder;

/// Loads a member of a BTF-typed pointer.
macro_rules! member {
    ($pointer:expr, $member:ident: $type:ty) => {
        // SAFETY: `$pointer` is BTF-typed and the offset is looked up for exactly this member, with its size checked
        // against `$type` (`bpf/layout.rs` of the user half).
        unsafe {
            <$type as $crate::kernel::Loadable>::load::<{ $crate::kernel::placeholder!($member) }>($pointer)
        }
    };
}
pub(crate) use member;

/// Reads a member of a struct at any kernel address.
macro_rules! peek_member {
    ($address:expr, $member:ident: $type:ty) => {
        $crate::kernel::peek::<$type>($address, $crate::maps::global!(OFFSETS.$member))
    };
}
pub(crate) use peek_member;

/// Two words in memory order as sixteen bytes.
#[inline(always)]
pub(crate) fn bytes(halves: [u64; 2]) -> [u8; 16] {
    // SAFETY: same size, any bit pattern is valid.
    unsafe { core::mem::transmute(halves) }
}
