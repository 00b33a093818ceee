//! The only folder that dereferences kernel pointers.
//!
//! In a `tp_btf`, fentry or fexit program the arguments are BTF-typed pointers: plain loads through them, and through
//! pointers loaded from them, are checked by the verifier against the kernel's own types and cost one instruction; a
//! fault reads as 0 (`PROBE_MEM`). The offsets are constants to the verifier (see `maps.rs`), so each load is
//! verified against the member it names. What is reached by other ways (a container of a member, the current task
//! before 5.11) is read by [`peek`], which a fault does not hurt either.

mod common;
mod request;
mod task;
mod tcp;

use aya_ebpf::helpers::bpf_probe_read_kernel;

pub(crate) use common::Common;
pub(crate) use request::HalfOpen;
pub(crate) use task::Task;
pub(crate) use tcp::TcpSock;

/// Loads a `T` at a constant offset of a BTF-typed pointer.
///
/// # Safety
///
/// `base` must be BTF-typed and `offset` that of a member of `T`'s size; the verifier refuses the program
/// otherwise.
#[inline(always)]
pub(crate) unsafe fn load<T: Copy>(base: *const u8, offset: u32) -> T {
    // SAFETY: the caller's contract, enforced by the verifier at load.
    unsafe { base.add(offset as usize).cast::<T>().read_volatile() }
}

/// Reads a `T` at any kernel address; what cannot be read is the default, that is 0.
#[inline(always)]
pub(crate) fn peek<T: Copy + Default>(address: u64, offset: u32) -> T {
    // SAFETY: the helper checks the address; every caller's `T` is an integer or an array of them.
    unsafe { bpf_probe_read_kernel((address + u64::from(offset)) as *const T) }.unwrap_or_default()
}

/// Loads a member of a BTF-typed pointer.
macro_rules! member {
    ($pointer:expr, $member:ident: $type:ty) => {{
        let offset = $crate::maps::global!(OFFSETS.$member);
        // SAFETY: `$pointer` is BTF-typed and the offset was looked up for exactly this member, with its
        // size checked against `$type` (`bpf/layout.rs` of the user half).
        unsafe { $crate::kernel::load::<$type>($pointer, offset) }
    }};
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
