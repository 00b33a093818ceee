//! Aggregation: while it is on, a transition is counted in a row of its owner and kind, with the power of two of its
//! time in state, and only what live tables need is sent.
//!
//! Dearer than it looks: two more maps. What it saves is the ring buffer and everything behind that.

use core::arch::asm;

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_ktime_get_ns};
use tcp_trace_common::{
    aggregate::{AggregateKey, HELD, NO_PORT, ODD, bucket, class, mode, what},
    event::flags,
    state,
};

use crate::{
    emit::{Transition, bump},
    kernel::{Task, TcpSock},
    maps::{AGGREGATES, CLASSES, MODE, SINCE, Since},
};

/// `ECONNABORTED`: somebody destroyed the socket, and the current task need not be its user (`tcp_abort`,
/// `net/ipv4/tcp.c`).
const ECONNABORTED: u16 = 103;

/// What `set_state` knows of a transition.
#[derive(Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) tcp: TcpSock,
    /// What kind of transition it is: bits of [`class`].
    pub(crate) class: u64,
    pub(crate) old: u8,
    pub(crate) new: u8,
    /// Its cookie, or where it has none its address, which no cookie is ever as large as.
    pub(crate) id: u64,
    pub(crate) netns: u32,
    pub(crate) cgroup_id: u64,
    pub(crate) local_port: u16,
    pub(crate) has_file: bool,
    pub(crate) request_ns: u64,
    /// Bits of [`flags`] on the request and on what the kernel made of the socket.
    pub(crate) flags: u32,
}

/// A process; all 0 where it is not known.
#[derive(Clone, Copy)]
struct Process {
    tgid: u32,
    start_ns: u64,
}

/// What is remembered of a socket, and what is known of its user now.
#[derive(Clone, Copy)]
struct Known {
    process: Process,
    /// 1 if it came in on a listener.
    passive: u64,
    /// Time in the state that it leaves, or [`NEVER`].
    elapsed: u64,
}

/// A time whose bucket is [`tcp_trace_common::aggregate::NO_TIME`].
const NEVER: u64 = u64::MAX;

impl Process {
    const UNKNOWN: Self = Self { tgid: 0, start_ns: 0 };
}

/// The mode word.
#[inline(always)]
fn word() -> u64 {
    // SAFETY: an aligned word that user space writes as a whole.
    unsafe { (&raw const MODE).read_volatile() }
}

/// Whether transitions are aggregated now.
#[inline(always)]
pub(crate) fn is_on() -> bool {
    word() & mode::AGGREGATE != 0
}

/// Bits of [`class`] of a transition. From a table, because each comparison of a state would double the ways through
/// the program that the verifier has to walk: it remembers what it has learnt of the state at every later one.
#[inline(always)]
pub(crate) fn class_of(transition: Transition) -> u64 {
    // SAFETY: a slot is below the table's length.
    u64::from(unsafe { (&raw const CLASSES).cast::<u8>().add(transition.slot()).read_volatile() })
}

/// Counts a transition in its row, and remembers when its socket entered the new state.
#[inline(always)]
pub(crate) fn count(transition: Transition, facts: &Facts) {
    // SAFETY: takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    let known = remember(facts, now);
    let (kind, ns) = measure(facts, &known, now);
    add(transition, facts, &known, kind, ns);
}

/// A task uses a socket that it has not opened: it is the owner, unless one is known.
#[inline(always)]
pub(crate) fn note_user(id: u64, tgid: u32, start_ns: u64) {
    if is_on()
        && let Some(noted) = SINCE.get_ptr_mut(id)
    {
        // SAFETY: as in `remember`; the task has the socket, so that it does not end now.
        unsafe {
            if (*noted).tgid == 0 {
                (*noted).process_start_ns = start_ns;
                (*noted).tgid = tgid;
            }
        }
    }
}

/// The current task, if it is the socket's user.
#[inline(always)]
fn user(tcp: TcpSock) -> Process {
    if !tcp.owned() {
        return Process::UNKNOWN;
    }
    let current = Task::current();
    if current.is_kernel_thread() {
        return Process::UNKNOWN;
    }
    Process { tgid: current.tgid(), start_ns: current.group_leader().start_ns() }
}

/// Looks up what is remembered of the socket, and remembers what comes next.
#[inline(always)]
fn remember(facts: &Facts, now: u64) -> Known {
    let Facts { tcp, class, old, new, id, .. } = *facts;
    // A child is born before it is anybody's; up to 6.12 with its listener's cookie.
    if class & class::CHILD != 0 {
        return Known { process: Process::UNKNOWN, passive: 1, elapsed: NEVER };
    }
    let mut process = user(tcp);
    // One with a file was not accepted: both sides opened it at the same time.
    let mut passive = u64::from(class & class::HANDSHAKE != 0 && !facts.has_file);
    if class & class::END != 0 && tcp.error() == ECONNABORTED {
        process = Process::UNKNOWN;
    }
    let mut elapsed = NEVER;
    if let Some(noted) = SINCE.get_ptr_mut(id) {
        // SAFETY: the socket's own entry, which nobody takes away before the socket's end, and this is in its lock.
        unsafe {
            if (*noted).state == u32::from(old) && class & class::TIMED != 0 {
                elapsed = now.wrapping_sub((*noted).at_ns);
            }
            passive |= (*noted).passive;
            // Whoever closes another's listener is not its owner (`ss -K`).
            if process.tgid == 0 || (class & class::LISTENER != 0 && (*noted).tgid != 0) {
                process = Process { tgid: (*noted).tgid, start_ns: (*noted).process_start_ns };
            }
            if old != new {
                (*noted).at_ns = now;
            }
            (*noted).state = new.into();
            (*noted).passive = passive;
            (*noted).process_start_ns = process.start_ns;
            (*noted).tgid = process.tgid;
        }
        if class & class::END != 0 {
            // Only a miss is an error here.
            let _ = SINCE.remove(id);
        }
    } else if class & class::END == 0 {
        let Process { tgid, start_ns } = process;
        let since = Since { at_ns: now, process_start_ns: start_ns, tgid, state: new.into(), passive };
        // Without room the time of the next transition is unknown, and said to be.
        let _ = SINCE.insert(id, since, 0);
    }
    Known { process, passive, elapsed }
}

/// What is told of the time, and the time itself.
#[inline(always)]
fn measure(facts: &Facts, known: &Known, now: u64) -> (u8, u64) {
    if facts.class & class::HANDSHAKE != 0 && (known.passive != 0 || facts.flags & flags::HAS_REQUEST != 0) {
        return handshake(facts, now);
    }
    let kind = if facts.class & class::LAST != 0 { afterlife(facts, known.process) } else { what::TIME };
    (kind, known.elapsed)
}

/// How long the connection was half-open: as `tracker/handshake.rs` of user space measures it.
#[inline(always)]
fn handshake(facts: &Facts, now: u64) -> (u8, u64) {
    if facts.flags & flags::HAS_REQUEST != 0 {
        let kind = if facts.flags & flags::FAST_OPEN != 0 {
            what::FAST_OPEN
        } else if facts.flags & flags::REQUEST_BY_FENTRY != 0 {
            what::FENTRY
        } else {
            what::SOCK_OPS
        };
        return (kind, now.wrapping_sub(facts.request_ns));
    }
    let (srtt_us, retransmits) = (facts.tcp.srtt_us(), facts.tcp.total_retrans());
    if retransmits != 0 {
        (what::UNMEASURED, NEVER)
    } else if srtt_us == 0 {
        (what::COOKIE, NEVER)
    } else {
        (what::SRTT, u64::from(srtt_us) * 1_000)
    }
}

/// What becomes of a socket that closed first: as `tracker/connection.rs` of user space concludes it.
#[inline(always)]
fn afterlife(facts: &Facts, process: Process) -> u8 {
    const SOCK_DONE: u64 = 1 << 1;
    let Facts { tcp, old, .. } = *facts;
    if tcp.error() != 0 {
        return what::TIME;
    }
    if facts.flags & flags::TIME_WAIT_KNOWN != 0 {
        return if facts.flags & flags::TIME_WAIT != 0 {
            what::TIME_WAIT
        } else if facts.flags & flags::TIME_WAIT_ORPHAN != 0 {
            what::ORPHAN
        } else {
            what::TIME
        };
    }
    let done = tcp.flags() & SOCK_DONE != 0;
    let (unread, linger_zero) = (tcp.unread(), facts.flags & flags::LINGER_ZERO != 0);
    let reset = if old == state::FIN_WAIT2 {
        !done && (linger_zero || unread > 0)
    } else {
        linger_zero || unread > 1
    };
    if reset && tcp.owned() && process.tgid != 0 {
        what::TIME
    } else if done {
        what::TIME_WAIT
    } else {
        what::ORPHAN
    }
}

/// Adds 1 to the row.
#[inline(always)]
fn add(transition: Transition, facts: &Facts, known: &Known, kind: u8, ns: u64) {
    let Facts { tcp, class, old, new, .. } = *facts;
    let mut passive = known.passive;
    // The compiler must not know that it is 0 or 1: it would make a branch of the product below.
    // SAFETY: an AND of a register with a constant.
    unsafe { asm!("{0} &= 1", inout(reg) passive, options(pure, nomem, nostack)) };
    let mut error = 0;
    if class & class::FAILED != 0 {
        error = tcp.error();
        if error == 0 && facts.local_port == 0 {
            error = NO_PORT;
        }
    }
    let odd = if word() & mode::EPOCH != 0 { ODD } else { 0 };
    let held = if class & class::END != 0 && facts.has_file { HELD } else { 0 };
    let key = AggregateKey {
        process_start_ns: known.process.start_ns,
        cgroup_id: facts.cgroup_id,
        tgid: known.process.tgid,
        netns: facts.netns,
        listener_port: (u64::from(facts.local_port) * passive) as u16,
        error,
        old,
        new,
        bucket: bucket(ns),
        what: kind | odd | held,
    };
    let row = AGGREGATES.get_ptr_mut(key).or_else(|| {
        // The count is added below: another CPU may be as quick, and neither's must be overwritten.
        let _ = AGGREGATES.insert(key, 0, BPF_NOEXIST.into());
        AGGREGATES.get_ptr_mut(key)
    });
    match row {
        Some(count) => bump(count),
        None => transition.unaggregated(),
    }
}
