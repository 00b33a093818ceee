//! Rights that a process is started with: less than root's, or a few of them as another user.

use std::io;

use tcp_trace::host;

pub(crate) fn errno_of(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes capabilities out of what the program gets when root starts it.
pub(crate) fn without(capabilities: &[libc::c_ulong]) -> io::Result<()> {
    for capability in capabilities {
        // SAFETY: no address in it.
        errno_of(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, *capability, 0, 0, 0) })?;
    }
    Ok(())
}

pub(crate) const DAC_OVERRIDE: libc::c_ulong = 1;
pub(crate) const DAC_READ_SEARCH: libc::c_ulong = 2;
pub(crate) const NET_ADMIN: libc::c_ulong = 12;
pub(crate) const SYS_PTRACE: libc::c_ulong = 19;
pub(crate) const SYS_ADMIN: libc::c_ulong = 21;
pub(crate) const SYS_RESOURCE: libc::c_ulong = 24;
pub(crate) const PERFMON: libc::c_ulong = 38;
pub(crate) const BPF: libc::c_ulong = 39;

const NOBODY: libc::uid_t = 65_534;

pub(crate) fn become_nobody() -> io::Result<()> {
    // SAFETY: no address is read, as the list of groups is empty.
    errno_of(unsafe { libc::setgroups(0, std::ptr::null()) })?;
    // SAFETY: no address in it.
    errno_of(unsafe { libc::setresgid(NOBODY, NOBODY, NOBODY) })?;
    // SAFETY: no address in it.
    errno_of(unsafe { libc::setresuid(NOBODY, NOBODY, NOBODY) })
}

/// `struct __user_cap_header_struct` and `__user_cap_data_struct` (`include/uapi/linux/capability.h`, version 3).
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// Ordinary, but for these capabilities, which exec keeps.
pub(crate) fn nobody_with(capabilities: u64) -> io::Result<()> {
    // SAFETY: no address in it.
    errno_of(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) })?;
    become_nobody()?;
    let header = CapabilityHeader { version: 0x2008_0522, pid: 0 };
    let (low, high) = (capabilities as u32, (capabilities >> 32) as u32);
    let data = [[low; 3], [high; 3]];
    // SAFETY: both are of the kernel's layout, and live through the call.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    errno_of(libc::c_int::try_from(set).unwrap_or(-1))?;
    for number in (0..64).filter(|number| capabilities & 1 << number != 0) {
        // SAFETY: no address in it.
        let raised = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0) };
        errno_of(raised)?;
    }
    Ok(())
}

/// What the unit of systemd gives; and, where maps are charged to locked memory, what raises its limit.
pub(crate) fn usual() -> u64 {
    let bits =
        [BPF, PERFMON, NET_ADMIN, SYS_PTRACE, DAC_READ_SEARCH].iter().fold(0, |bits, one| bits | 1 << one);
    let old = host::kernel_version().is_some_and(|version| version < (5, 11));
    if old { bits | 1 << SYS_RESOURCE } else { bits }
}
