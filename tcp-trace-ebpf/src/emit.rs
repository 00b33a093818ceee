//! What happens to a transition: count, judge, reserve, fill, submit. Loss is counted where it happens.

use core::arch::asm;

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_ktime_get_ns, bpf_ringbuf_query},
    maps::ring_buf::RingBufEntry,
};
use tcp_trace_common::{
    counters::{self, NAMESPACES, PerCpu, TRANSITIONS},
    event::{RequestChange, SocketUse, kind},
    filter::{Subject, Verdict},
    nesting::Token,
    state,
};

use crate::{
    aggregate,
    kernel::{Common, Task},
    maps::{CPUS, FILTER, LIVE, Ring, global, ring, take_request},
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

/// Bits of `nesting::live`; 0 until the main programs may begin.
#[inline(always)]
pub(crate) fn live() -> u64 {
    // Volatile is not needed: one look serves a whole run.
    LIVE.get(0).copied().unwrap_or(0)
}

/// What belongs to the CPU that this runs on. A nested program leaves it as the protocol of `nesting` says.
#[derive(Clone, Copy)]
pub(crate) struct Cpu(*mut PerCpu);

impl Cpu {
    /// This one.
    #[inline(always)]
    pub(crate) fn this() -> Option<Self> {
        CPUS.get_ptr_mut(0).map(Self)
    }

    /// `set_state` takes on a transition.
    #[inline(always)]
    pub(crate) fn take(self, skaddr: u64, old: u8, new: u8) {
        // SAFETY: this CPU's value.
        unsafe { (*self.0).taken.take(Token { skaddr, slot: slot(old, new) as u64 }) }
    }

    /// Whether `set_state_nested` has to take a transition on.
    #[inline(always)]
    pub(crate) fn is_missed(self, skaddr: u64, old: u8, new: u8) -> bool {
        // SAFETY: as above.
        unsafe { (*self.0).taken.is_missed(Token { skaddr, slot: slot(old, new) as u64 }) }
    }

    /// Inode number of a socket's network namespace.
    #[inline(always)]
    pub(crate) fn netns(self, sk: Common) -> u32 {
        let cookie = sk.net_cookie();
        if cookie == 0 {
            return sk.netns();
        }
        // SAFETY: as above, and the index is below the array's length.
        let place = unsafe { &raw mut (*self.0).namespaces[cookie as usize & (NAMESPACES - 1)] };
        // SAFETY: as above. Volatile, so that number and cookie are read, and written, in one instruction: a softirq may
        // come between any two.
        if let Some(known) = counters::recall(unsafe { place.read_volatile() }, cookie) {
            return known;
        }
        let netns = sk.netns();
        if netns != 0 {
            // SAFETY: as above.
            unsafe { place.write_volatile(counters::remember(cookie, netns)) };
        }
        netns
    }

    /// Counts a transition that `set_state` was skipped at.
    #[inline(always)]
    pub(crate) fn count_rescued(self) {
        // SAFETY: as above.
        bump(unsafe { &raw mut (*self.0).counters.rescued });
    }

    /// Counts a transition as seen.
    #[inline(always)]
    pub(crate) fn see(self, old: u8, new: u8) -> Transition {
        let slot = slot(old, new);
        // SAFETY: as above, and `slot` is below the matrix' length.
        bump(unsafe { &raw mut (*self.0).counters.seen[slot] });
        Transition { cpu: self, slot }
    }
}

/// Whether the filter wants a record that is not a transition.
#[inline(always)]
pub(crate) fn wanted(subject: &Subject<'_>) -> bool {
    judge(subject) != Verdict::Reject
}

#[inline(always)]
fn judge(subject: &Subject<'_>) -> Verdict {
    // SAFETY: `FILTER` is a read-only map value by the time this runs.
    let filter = unsafe { &*core::hint::black_box(&raw const FILTER) };
    filter.judge(subject)
}

/// Room for a record that is not a transition; without it, it is counted.
#[inline(always)]
fn reserve_side<T: 'static>() -> Option<RingBufEntry<T>> {
    let entry = ring().and_then(|ring| ring.reserve_untyped::<T>(0));
    if entry.is_none()
        && let Some(Cpu(cpu)) = Cpu::this()
    {
        // SAFETY: this CPU's value.
        bump(unsafe { &raw mut (*cpu).counters.side_lost });
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
    aggregate::note_user(if cookie == 0 { sk.address() } else { cookie }, current.tgid(), leader.start_ns());
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
        let _ = take_request(change.cookie);
    }
}

/// A transition between its first counter and its last.
#[derive(Clone, Copy)]
pub(crate) struct Transition {
    cpu: Cpu,
    slot: usize,
}

impl Transition {
    /// Whether the filter wants it. One that it does not want is counted.
    #[inline(always)]
    pub(crate) fn judge(self, subject: &Subject<'_>) -> Verdict {
        let verdict = judge(subject);
        if verdict == Verdict::Reject {
            // SAFETY: as in `Cpu::see`.
            bump(unsafe { &raw mut (*self.cpu.0).counters.filtered[self.slot] });
        }
        verdict
    }

    /// Its place in the matrices.
    #[inline(always)]
    pub(crate) fn slot(self) -> usize {
        self.slot
    }

    /// There was no room for its row.
    #[inline(always)]
    pub(crate) fn unaggregated(self) {
        // SAFETY: as in `Cpu::see`.
        bump(unsafe { &raw mut (*self.cpu.0).counters.unaggregated[self.slot] });
    }

    /// Hands the event over; without room for it the transition is counted as lost, or, if a row has it, the record.
    #[inline(always)]
    pub(crate) fn output<T: 'static>(self, event: T, aggregated: bool) {
        if let Some(ring) = ring()
            && let Some(mut entry) = ring.reserve_untyped::<T>(0)
        {
            entry.write(event);
            entry.submit(self.wake_flags(ring));
            return;
        }
        match aggregated {
            // SAFETY: as in `Cpu::see`.
            true => bump(unsafe { &raw mut (*self.cpu.0).counters.side_lost }),
            // SAFETY: as in `Cpu::see`.
            false => bump(unsafe { &raw mut (*self.cpu.0).counters.lost[self.slot] }),
        }
    }

    /// Whether the reader is to be woken: when much waits for it, and that is looked at now and then only.
    #[inline(always)]
    fn wake_flags(self, ring: &'static Ring) -> u64 {
        // SAFETY: as in `Cpu::see`. Not in one instruction: a count that an interrupt takes away only moves the next look.
        let written = unsafe {
            let counter = &raw mut (*self.cpu.0).counters.written;
            let written = counter.read_volatile() + 1;
            counter.write_volatile(written);
            written
        };
        let look = written & global!(SETTINGS.wake_mask) == 0;
        if look && waiting(ring) >= global!(SETTINGS.wake_bytes) {
            BPF_RB_FORCE_WAKEUP.into()
        } else {
            BPF_RB_NO_WAKEUP.into()
        }
    }
}

/// Bytes in the ring buffer that the reader has not taken yet.
#[inline(always)]
fn waiting(ring: &'static Ring) -> u64 {
    // SAFETY: the address of a map is the map itself to the kernel.
    unsafe { bpf_ringbuf_query((&raw const *ring).cast_mut().cast(), BPF_RB_AVAIL_DATA.into()) }
}

/// The same value, of which the verifier knows nothing any more. It walks each way through a program by itself as long as
/// a later branch depends on what the ways have set before; a value that it does not know lets it join them again.
/// `unknown` is any value that it does not know, such as the time.
#[inline(always)]
pub(crate) fn forget(value: u64, unknown: u64) -> u64 {
    let (mut value, mut zero) = (value, unknown);
    // SAFETY: the difference of two registers that hold the same, and a sum.
    unsafe {
        asm!("{0} -= {1}", inout(reg) zero, in(reg) unknown, options(pure, nomem, nostack));
        asm!("{0} += {1}", inout(reg) value, in(reg) zero, options(pure, nomem, nostack));
    }
    value
}

/// Adds 1 in one instruction, although the value is this CPU's own: up to 6.1 a softirq may run the same
/// program in the middle of this one, and a load-add-store would lose a count then. `core` has no
/// read-modify-write atomics for this target.
#[inline(always)]
pub(crate) fn bump(counter: *mut u64) {
    // SAFETY: the callers pass pointers to aligned per-CPU map values, which only programs write.
    unsafe { asm!("lock *(u64 *)({} + 0) += {}", in(reg) counter, in(reg) 1_u64, options(nostack)) };
}
