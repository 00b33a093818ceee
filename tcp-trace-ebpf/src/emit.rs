//! What happens to a transition: count, judge, reserve, fill, submit. Loss is counted where it happens.

use core::arch::asm;

use aya_ebpf::{
    bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    maps::ring_buf::RingBufEntry,
};
use tcp_trace_common::{
    counters::{Counters, slot},
    event::StateChange,
    filter::{Subject, Verdict},
    nesting::Token,
};

use crate::maps::{COUNTERS, EVENTS, FILTER, TAKEN, global};

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
        // SAFETY: `FILTER` is a read-only map value by the time this runs.
        let filter = unsafe { &*core::hint::black_box(&raw const FILTER) };
        if filter.judge(subject) != Verdict::Reject {
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
