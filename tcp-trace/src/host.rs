//! Facts of this host: its name, its kernel, its clocks, what this process may do.

use std::{ffi::CStr, fs, os::unix::fs::MetadataExt as _};

use rustix::time::{ClockId, clock_gettime};
use tcp_trace_core::{
    doctor::{Capabilities, Feature},
    session::Host,
    time::{ClockAnchor, Timestamp},
};

/// This host.
#[must_use]
pub fn host() -> Host {
    let uname = rustix::system::uname();
    let text = |field: &CStr| field.to_string_lossy().into_owned();
    Host {
        name: text(uname.nodename()),
        kernel: text(uname.release()),
        boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned()),
    }
}

/// Major and minor version of the running kernel, `None` if `uname -r` starts in some other way.
#[must_use]
pub fn kernel_version() -> Option<(u32, u32)> {
    let release = host().kernel;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|word| word.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// CLOCK_MONOTONIC, as `bpf_ktime_get_ns()` reads it.
#[must_use]
pub fn monotonic() -> Timestamp {
    Timestamp(nanoseconds(ClockId::Monotonic))
}

/// The same moment on three clocks. The two clocks that count from boot are read on both sides of the wall
/// clock, and the closest of a few tries is taken, so that a preemption in between does not shift it.
#[must_use]
pub fn clock_anchor() -> ClockAnchor {
    let read = || {
        let before = nanoseconds(ClockId::Monotonic);
        let unix_ns = nanoseconds(ClockId::Realtime);
        let boottime_ns = nanoseconds(ClockId::Boottime);
        let after = nanoseconds(ClockId::Monotonic);
        (after - before, ClockAnchor { monotonic_ns: before + (after - before) / 2, boottime_ns, unix_ns })
    };
    let first = read();
    (0..4).map(|_| read()).fold(first, |best, next| if next.0 < best.0 { next } else { best }).1
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let (seconds, rest) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    seconds * 1_000_000_000 + rest
}

/// Whether the processes of the whole host are visible, under the numbers that the kernel's programs see: this process
/// is in the first of the pid namespaces.
#[must_use]
pub fn sees_all_processes() -> bool {
    // `PROC_PID_INIT_INO`, `include/linux/proc_ns.h`: since Linux 3.8.
    const FIRST: u64 = 0xeffffffc;
    fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() == FIRST)
}

/// Whether this process is in the first of the user namespaces: what it may, it may of this host.
#[must_use]
pub fn is_in_first_user_namespace() -> bool {
    // `PROC_USER_INIT_INO`, `include/linux/proc_ns.h`: since Linux 3.8.
    const FIRST: u64 = 0xeffffffd;
    // Without user namespaces there is no such file, and only one.
    fs::metadata("/proc/self/ns/user").map_or(true, |namespace| namespace.ino() == FIRST)
}

/// Whether this process is in another than the first namespace of some kind that the kernel has a first one of, as the
/// processes of every container are.
#[must_use]
pub fn has_namespace_of_its_own() -> bool {
    // `PROC_IPC_INIT_INO` and those after it, `include/linux/proc_ns.h`.
    let first = [("ipc", 0xefffffff), ("uts", 0xeffffffe), ("pid", 0xeffffffc), ("cgroup", 0xeffffffb)];
    let is_another = |(name, first): (&str, u64)| {
        fs::metadata(format!("/proc/self/ns/{name}")).is_ok_and(|namespace| namespace.ino() != first)
    };
    first.into_iter().any(is_another) || !is_in_first_user_namespace()
}

/// The capabilities that this thread can use.
#[must_use]
pub fn capabilities() -> Capabilities {
    // Asked of the kernel and not of /proc, which shows those of the first thread.
    let sets = rustix::thread::capabilities(None);
    Capabilities(sets.map_or(0, |sets| sets.effective.bits()))
}

/// Whether the descriptors of every process may be read: listing them needs the one capability (or the one that permits
/// still more), reading what they are the other.
#[must_use]
pub fn may_read_descriptors() -> bool {
    Feature::Holders.missing(capabilities()).is_empty()
}

/// Whether other network namespaces may be entered.
#[must_use]
pub fn may_enter_namespaces() -> bool {
    Feature::Namespaces.missing(capabilities()).is_empty()
}
