//! `CLOCK_MONOTONIC`, the clock `bpf_ktime_get_ns()` reads, and sleeping on it precisely.

use std::marker::PhantomData;
use std::time::Duration;

use rustix::thread::{ClockId as SleepClock, clock_nanosleep_absolute};
use rustix::time::{ClockId, Timespec, clock_gettime};

const NS_PER_SEC: u64 = 1_000_000_000;

/// The last stretch before a deadline is spun, not slept: a sleeping thread is woken tens to
/// hundreds of microseconds late.
pub(crate) const SPIN_NS: u64 = 1_000_000;

/// Nanoseconds of `CLOCK_MONOTONIC`: comparable with `bpf_ktime_get_ns()` of the same machine.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * NS_PER_SEC + now.tv_nsec.unsigned_abs()
}

/// `duration` in nanoseconds, saturating after 584 years.
#[must_use]
pub fn as_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Returns at `deadline_ns` (of [`monotonic_ns`]), usually within a few microseconds: sleeps until
/// 1 ms before it and spins the rest. Returns at once when the deadline has passed.
pub fn sleep_until(deadline_ns: u64) {
    let wake = deadline_ns.saturating_sub(SPIN_NS);
    while monotonic_ns() < wake {
        let at = Timespec {
            tv_sec: i64::try_from(wake / NS_PER_SEC).unwrap_or(i64::MAX),
            tv_nsec: (wake % NS_PER_SEC).cast_signed(),
        };
        // A signal may end the sleep early: the loop looks at the clock again.
        let _ = clock_nanosleep_absolute(SleepClock::Monotonic, &at);
    }
    while monotonic_ns() < deadline_ns {
        std::hint::spin_loop();
    }
}

/// Puts the calling thread before all ordinary ones (`SCHED_FIFO`, lowest priority) until dropped: on a busy
/// machine it is otherwise woken, or put aside while spinning, some ms late. Without the right to do so (it
/// needs `CAP_SYS_NICE`), or when the thread is real-time already, it changes nothing.
#[derive(Debug)]
pub(crate) struct Urgent {
    changed: bool,
    /// The policy is that of the thread that made this.
    _not_send: PhantomData<*const ()>,
}

pub(crate) fn urgent() -> Urgent {
    // SAFETY: takes a thread id (0: this thread) and no pointer.
    let ordinary =
        unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) } == libc::c_long::from(libc::SCHED_OTHER);
    // Threads and processes it starts meanwhile are ordinary again.
    let changed = ordinary && set_policy(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, 1);
    Urgent { changed, _not_send: PhantomData }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        if self.changed {
            set_policy(libc::SCHED_OTHER, 0);
        }
    }
}

/// By system call: musl's wrapper always fails.
fn set_policy(policy: libc::c_int, priority: libc::c_int) -> bool {
    // `struct sched_param` of the kernel has this one field.
    let parameter: libc::c_int = priority;
    // SAFETY: the pointer is to a live `sched_param`; 0 is the calling thread.
    unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameter) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urgency_ends() {
        // SAFETY: takes no pointer.
        let policy = || unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
        let before = policy();
        drop(urgent());
        assert_eq!(policy(), before);
    }

    #[test]
    fn sleeping_is_never_short() {
        let deadline = monotonic_ns() + 3_000_000;
        sleep_until(deadline);
        assert!(monotonic_ns() >= deadline);
    }
}
