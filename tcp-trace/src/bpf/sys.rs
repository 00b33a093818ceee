//! The calls of bpf(2) for which aya has none.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// Commands (`enum bpf_cmd`, `include/uapi/linux/bpf.h`).
pub(super) mod command {
    use std::ffi::c_int;

    pub(in crate::bpf) const MAP_CREATE: c_int = 0;
    pub(in crate::bpf) const MAP_DELETE_ELEM: c_int = 3;
    /// First kernel: 5.6.
    pub(in crate::bpf) const MAP_LOOKUP_BATCH: c_int = 24;
    /// First kernel: 5.7.
    pub(in crate::bpf) const LINK_CREATE: c_int = 28;
    /// First kernel: 5.8.
    pub(in crate::bpf) const ITER_CREATE: c_int = 33;
}

/// One call. `A` is the part of `union bpf_attr` that belongs to the command; what lies behind it is 0 to the kernel.
///
/// # Safety
///
/// Every address in `attr` must be that of memory of the size that the command reads or writes there.
pub(super) unsafe fn bpf<A>(command: libc::c_int, attr: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads and writes `attr` as far as the size says; for the rest, the caller's contract.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for a command that returns a descriptor.
///
/// # Safety
///
/// As [`bpf`], and the command must return a new descriptor.
pub(super) unsafe fn bpf_fd<A>(command: libc::c_int, attr: &mut A) -> io::Result<OwnedFd> {
    // SAFETY: the caller's contract.
    let fd = unsafe { bpf(command, attr)? };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: new and nobody else's; the kernel opens these with close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A descriptor's number, as `union bpf_attr` has it.
pub(super) fn number(fd: &impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd().cast_unsigned()
}
