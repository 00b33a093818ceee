//! Facts of this host: its name, its kernel, its clocks, what this process may do.

use std::{ffi::CStr, fs, os::unix::fs::MetadataExt as _, sync::OnceLock};

use rustix::time::{ClockId, clock_gettime};
use tcp_trace_core::{
    doctor::{Capabilities, Feature},
    session::Host,
    time::{ClockAnchor, Timestamp},
};

/// What to say where a thread is refused: a cgroup has a limit of tasks (`pids.max`; systemd: TasksMax), as a rule.
pub(crate) const NO_THREAD: &str = "starting a thread (is there a limit of tasks, pids.max?)";

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
    Timestamp(without(nanoseconds(ClockId::Monotonic), offsets().monotonic_ns))
}

/// A time since boot that this process was told (`/proc/PID/stat`), as the kernel itself keeps it.
#[must_use]
pub fn boottime_of_kernel(told_ns: u64) -> u64 {
    without(told_ns, offsets().boottime_ns)
}

/// How far the clocks that this process is shown are ahead of the kernel's own, by which its programs go: 0 but in a
/// time namespace (`time_namespaces(7)`, Linux 5.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Offsets {
    monotonic_ns: i64,
    boottime_ns: i64,
}

fn offsets() -> Offsets {
    static OFFSETS: OnceLock<Offsets> = OnceLock::new();
    *OFFSETS.get_or_init(|| {
        // The file is about the namespace of this process's children, which need not be its own.
        let inode = |link: &str| fs::metadata(link).map(|namespace| namespace.ino()).ok();
        let own = inode("/proc/self/ns/time");
        if own.is_none() || own != inode("/proc/self/ns/time_for_children") {
            return Offsets::default();
        }
        parse_offsets(&fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default())
    })
}

/// Lines of a clock's name, seconds, and nanoseconds that are added to them.
fn parse_offsets(text: &str) -> Offsets {
    let of = |clock: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(clock))?;
        let mut numbers = line.split_ascii_whitespace().map(|word| word.parse::<i64>().ok());
        let (seconds, rest) = (numbers.next()??, numbers.next()??);
        seconds.checked_mul(1_000_000_000)?.checked_add(rest)
    };
    Offsets {
        monotonic_ns: of("monotonic ").unwrap_or_default(),
        boottime_ns: of("boottime ").unwrap_or_default(),
    }
}

fn without(time_ns: u64, offset_ns: i64) -> u64 {
    time_ns.saturating_add_signed(offset_ns.saturating_neg())
}

/// The same moment on three clocks. The two clocks that count from boot are read on both sides of the wall
/// clock, and the closest of a few tries is taken, so that a preemption in between does not shift it.
#[must_use]
pub fn clock_anchor() -> ClockAnchor {
    let read = || {
        let before = monotonic().0;
        let unix_ns = nanoseconds(ClockId::Realtime);
        let boottime_ns = boottime_of_kernel(nanoseconds(ClockId::Boottime));
        let after = monotonic().0;
        (after - before, ClockAnchor { monotonic_ns: before + (after - before) / 2, boottime_ns, unix_ns })
    };
    let first = read();
    (0..4).map(|_| read()).fold(first, |best, next| if next.0 < best.0 { next } else { best }).1
}

/// What has become of the clocks between two anchors, for people: a clock that was set, or a host that slept. Nothing
/// else moves them apart: whatever slews the wall's clock slews CLOCK_MONOTONIC too.
#[must_use]
pub fn clock_news(then: &ClockAnchor, now: &ClockAnchor) -> Vec<String> {
    let ahead = |of: fn(&ClockAnchor) -> u64| {
        let since = |anchor: &ClockAnchor| i128::from(of(anchor)) - i128::from(anchor.monotonic_ns);
        since(now) - since(then)
    };
    let slept = ahead(|anchor| anchor.boottime_ns);
    let set = ahead(|anchor| anchor.unix_ns) - slept;
    let seconds = |ns: i128| ns.unsigned_abs() as f64 / 1e9;
    let mut news = Vec::new();
    if slept.unsigned_abs() > NOISE_NS {
        news.push(format!(
            "this host has slept for {:.1} s since the run began: durations do not count that time, and the times that are \
             shown after it are too early by as much",
            seconds(slept)
        ));
    }
    if set.unsigned_abs() > NOISE_NS {
        let (way, effect) = if set > 0 { ("forward", "too early") } else { ("back", "too late") };
        news.push(format!(
            "the clock of this host was set {way} by {:.1} s since the run began: the times that are shown are those of the \
             clock before, now {effect} by as much",
            seconds(set)
        ));
    }
    news
}

/// By how much two readings of the clocks may differ that nobody has set.
const NOISE_NS: u128 = 100_000_000;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_a_time_namespace_are_read() {
        let text = "monotonic      -7200         0\nboottime      604800 500000000\n";
        let offsets = parse_offsets(text);
        assert_eq!(offsets, Offsets { monotonic_ns: -7_200_000_000_000, boottime_ns: 604_800_500_000_000 });
        assert_eq!(without(1_000, -7), 1_007);
        assert_eq!((without(1_000, 7), without(1, 7)), (993, 0));
        for other in ["", "monotonic", "monotonic x 0", "monotonic 9223372036854775807 0"] {
            assert_eq!(parse_offsets(other), Offsets::default(), "{other}");
        }
    }

    #[test]
    fn a_clock_that_was_set_and_a_host_that_slept_are_told_apart() {
        let then = ClockAnchor { monotonic_ns: 1_000, boottime_ns: 5_000, unix_ns: 9_000 };
        let after = |mono: u64, slept: u64, set: i64| ClockAnchor {
            monotonic_ns: then.monotonic_ns + mono,
            boottime_ns: then.boottime_ns + mono + slept,
            unix_ns: (then.unix_ns + mono + slept).saturating_add_signed(set),
        };
        const S: u64 = 1_000_000_000;
        assert_eq!(clock_news(&then, &after(60 * S, 0, 0)), [""; 0]);
        assert_eq!(clock_news(&then, &after(60 * S, 1_000, 50_000_000)), [""; 0]);
        let news = clock_news(&then, &after(60 * S, 3600 * S, 0));
        assert!(news.len() == 1 && news[0].starts_with("this host has slept for 3600.0 s"), "{news:?}");
        let news = clock_news(&then, &after(60 * S, 0, -5_000_000_000));
        assert!(
            news.len() == 1 && news[0].contains("set back by 5.0 s") && news[0].contains("too late"),
            "{news:?}"
        );
        assert_eq!(clock_news(&then, &after(60 * S, S, 2_000_000_000)).len(), 2);
    }
}
