//! What happens to a transition: count, judge, reserve, fill, submit. Loss is counted where it happens.

use core::arch::asm;

use aya_ebpf::{
    bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::bpf_ktime_get_ns,
    maps::ring_buf::RingBufEntry,
};
use tcp_trace_common::{
    counters::{self, Counters, TRANSITIONS},
    event::{RequestChange, SocketUse, StateChange, kind},
    filter::{Subject, Verdict},
    nesting::Token,
    state,
};

use crate::{
    kernel::{Common, Task},
    maps::{COUNTERS, EVENTS, FILTER, TAKEN, global, requests},
};

/// [`counters::slot`] with bounds that every verifier sees. Those of 5.10 and 6.1 lose sight of what an OR of two
/// bounded values is bounded by; so it is bounded once more, behind the back of a compiler that knows better.
/// (The instruction must be one: an empty place would have two lines of source, which these verifiers refuse.)
#[inline(always)]
fn slot(old: u8, new: u8) -> usize {
    let mut slot = counters::slot(old, new);
    // SAFETY: an AND of a register with a constant.
    unsafe { asm!("{0} &= 255", inout(reg) slot, options(pure, nomem, nostack)) };
    slot & (TRANSITIONS - 1)
}

/// `set_state` takes on a transition; `false` if it is not to do anything yet.
#[inline(always)]
pub(crate) fn take(skaddr: u64, old: u8, new: u8) -> bool {
    let Some(taken) = TAKEN.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's value; a nested program leaves it as the protocol of `nesting` says.
    unsafe { (*taken).take(Token { skaddr, slot: slot(old, new) as u64 }) }
}

/// Whether `set_state_nested` has to take a transition on.
#[inline(always)]
pub(crate) fn is_missed(skaddr: u64, old: u8, new: u8) -> bool {
    let Some(taken) = TAKEN.get_ptr_mut(0) else { return false };
    // SAFETY: as in `take`.
    unsafe { (*taken).is_missed(Token { skaddr, slot: slot(old, new) as u64 }) }
}

/// Counts a transition that `set_state` was skipped at.
#[inline(always)]
pub(crate) fn count_rescued() {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: a per-CPU map value.
        bump(unsafe { &raw mut (*counters).rescued });
    }
}

/// Whether `bit` of `nesting::live` is set.
#[inline(always)]
pub(crate) fn is_on(bit: u64) -> bool {
    // SAFETY: this CPU's value, of which user space writes this field alone, and once.
    TAKEN.get_ptr(0).is_some_and(|taken| unsafe { (*taken).live } & bit != 0)
}

/// Whether the filter wants a record that is not a transition.
#[inline(always)]
pub(crate) fn wanted(subject: &Subject<'_>) -> bool {
    // SAFETY: `FILTER` is a read-only map value by the time this runs.
    let filter = unsafe { &*core::hint::black_box(&raw const FILTER) };
    filter.judge(subject) != Verdict::Reject
}

/// Room for a record that is not a transition; without it, it is counted.
#[inline(always)]
fn reserve_side<T: 'static>() -> Option<RingBufEntry<T>> {
    let entry = EVENTS.reserve::<T>(0);
    if entry.is_none()
        && let Some(counters) = COUNTERS.get_ptr_mut(0)
    {
        // SAFETY: a per-CPU map value.
        bump(unsafe { &raw mut (*counters).side_lost });
    }
    entry
}

/// Emits that the current task uses a socket; `false` if a kernel thread does.
#[inline(always)]
pub(crate) fn socket_use(how: u16, sk: Common, cookie: u64) -> bool {
    let current = Task::current();
    if current.is_kernel_thread() {
        return false;
    }
    let leader = current.group_leader();
    let Some(mut entry) = reserve_side::<SocketUse>() else { return true };
    let event = entry.as_mut_ptr();
    // SAFETY: `event` points to a reserved record of this type; the stores below fill every byte of it.
    unsafe {
        (*event).kind = kind::SOCKET_USE;
        (*event).how = how;
        (*event).flags = 0;
        (*event).time_ns = bpf_ktime_get_ns();
        (*event).cookie = cookie;
        (*event).skaddr = sk.address();
        (*event).process_start_ns = leader.start_ns();
        (*event).tgid = current.tgid();
        (*event).tid = current.tid();
        (&raw mut (*event).comm).cast::<[u64; 2]>().write(leader.comm());
    }
    // The reader comes by itself in a few milliseconds, and earlier when transitions fill the buffer.
    entry.submit(BPF_RB_NO_WAKEUP.into());
    true
}

/// Emits what happened to a half-open request. One that is over leaves the map; without room for the record it stays
/// there, where user space will miss it among the live ones.
#[inline(always)]
pub(crate) fn request_change(change: &RequestChange, is_over: bool) {
    if global!(SETTINGS.filtering) != 0 {
        let subject = Subject {
            old: state::NEW_SYN_RECV,
            new: state::NEW_SYN_RECV,
            local_port: change.local_port,
            peer_port: change.peer_port,
            family: change.family,
            netns: change.netns,
            // Not known of a request: user space decides.
            cgroup_id: 0,
            local_addr: &change.local_addr,
            peer_addr: &change.peer_addr,
            pid: 0,
        };
        if !wanted(&subject) {
            return;
        }
    }
    let Some(mut entry) = reserve_side::<RequestChange>() else { return };
    entry.write(*change);
    entry.submit(BPF_RB_NO_WAKEUP.into());
    if is_over && change.cookie != 0 {
        // It is not in if sock_ops was not attached yet when it began.
        let _ = requests(change.cookie).and_then(|bucket| bucket.take(change.cookie));
    }
}

/// A transition between its first counter and its last.
#[derive(Clone, Copy)]
pub(crate) struct Transition {
    counters: *mut Counters,
    slot: usize,
}

impl Transition {
    /// Counts a transition as seen.
    #[inline(always)]
    pub(crate) fn seen(old: u8, new: u8) -> Option<Self> {
        let counters = COUNTERS.get_ptr_mut(0)?;
        let slot = slot(old, new);
        // SAFETY: a per-CPU map value, and `slot` is below the matrix' length.
        bump(unsafe { &raw mut (*counters).seen[slot] });
        Some(Self { counters, slot })
    }

    /// Whether the filter wants it, or cannot know yet. One that it does not want is counted.
    #[inline(always)]
    pub(crate) fn wanted(self, subject: &Subject<'_>) -> bool {
        if wanted(subject) {
            return true;
        }
        // SAFETY: as in `seen`.
        bump(unsafe { &raw mut (*self.counters).filtered[self.slot] });
        false
    }

    /// Room for the event; without it the transition is counted as lost.
    #[inline(always)]
    pub(crate) fn reserve(self) -> Option<RingBufEntry<StateChange>> {
        let entry = EVENTS.reserve::<StateChange>(0);
        if entry.is_none() {
            // SAFETY: as in `seen`.
            bump(unsafe { &raw mut (*self.counters).lost[self.slot] });
        }
        entry
    }

    /// Hands the event over; the reader is woken now and then, not each time.
    #[inline(always)]
    pub(crate) fn submit(self, entry: RingBufEntry<StateChange>) {
        // SAFETY: as in `seen`.
        let emitted = unsafe { &raw mut (*self.counters).emitted };
        bump(emitted);
        // SAFETY: as above; a stale value only moves a wake-up by one record.
        let wake = unsafe { emitted.read_volatile() } & global!(SETTINGS.wake_mask) == 0;
        entry.submit(if wake { BPF_RB_FORCE_WAKEUP.into() } else { BPF_RB_NO_WAKEUP.into() });
    }
}

/// Adds 1 in one instruction, although the value is this CPU's own: up to 6.1 a softirq may run the same
/// program in the middle of this one, and a load-add-store would lose a count then. `core` has no
/// read-modify-write atomics for this target.
#[inline(always)]
fn bump(counter: *mut u64) {
    // SAFETY: the callers pass pointers to aligned per-CPU map values, which only programs write.
    unsafe { asm!("lock *(u64 *)({} + 0) += {}", in(reg) counter, in(reg) 1_u64, options(nostack)) };
}
