//! Aggregation: while it is on, a transition is counted in a row of its owner and kind, with the power of two of its
//! time in state, and only what live tables need is sent.
//!
//! Dearer than it looks: two more maps. What it saves is the ring buffer and everything behind that.

use aya_ebpf::bindings::BPF_NOEXIST;
use tcp_trace_common::{
    aggregate::{AggregateKey, HELD, NO_PORT, ODD, bucket, class, what},
    event::flags,
    nesting::live,
    state,
};

use crate::{
    emit::{self, Transition, bump},
    kernel::TcpSock,
    maps::{AGGREGATES, CLASSES, SINCE, Since},
};

/// `ECONNABORTED`: somebody destroyed the socket, and the current task need not be its user (`tcp_abort`,
/// `net/ipv4/tcp.c`).
const ECONNABORTED: u16 = 103;

/// What `set_state` knows of a transition.
#[derive(Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) tcp: TcpSock,
    /// Bits of [`live`].
    pub(crate) live: u64,
    /// What kind of transition it is: bits of [`class`].
    pub(crate) class: u64,
    pub(crate) old: u8,
    pub(crate) new: u8,
    /// Its cookie, or where it has none its address, which no cookie is ever as large as.
    pub(crate) id: u64,
    /// When.
    pub(crate) now: u64,
    /// The current task's, if it is the socket's user.
    pub(crate) process: Process,
    pub(crate) netns: u32,
    pub(crate) cgroup_id: u64,
    pub(crate) local_port: u16,
    pub(crate) request_ns: u64,
    /// Bits of [`flags`].
    pub(crate) flags: u32,
}

/// A process; all 0 where it is not known.
#[derive(Clone, Copy)]
pub(crate) struct Process {
    pub(crate) tgid: u32,
    pub(crate) start_ns: u64,
}

impl Facts {
    /// Whether the transition has this bit of [`class`].
    #[inline(always)]
    fn is(&self, bit: u64) -> bool {
        // The verifier is not to remember the answer: it would walk the rest once for each set of answers.
        emit::forget(self.class & bit, self.now) != 0
    }

    /// Whether it has this bit of [`flags`].
    #[inline(always)]
    fn has(&self, bit: u32) -> bool {
        emit::forget((self.flags & bit).into(), self.now) != 0
    }
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

/// Bits of [`class`] of a transition. From a table, because each comparison of a state would double the ways through
/// the program that the verifier has to walk: it remembers what it has learnt of the state at every later one.
#[inline(always)]
pub(crate) fn class_of(transition: Transition) -> u64 {
    // SAFETY: a slot is below the table's length.
    u64::from(unsafe { (&raw const CLASSES).cast::<u16>().add(transition.slot()).read_volatile() })
}

/// Counts a transition in its row, and remembers when its socket entered the new state.
#[inline(always)]
pub(crate) fn count(transition: Transition, facts: &Facts) {
    let forget = |value| emit::forget(value, facts.now);
    let Known { process, passive, elapsed } = remember(facts);
    let process = Process { tgid: forget(process.tgid.into()) as u32, start_ns: forget(process.start_ns) };
    let known = Known { process, passive: forget(passive), elapsed: forget(elapsed) };
    let (kind, ns) = measure(facts, &known);
    add(transition, facts, &known, forget(kind.into()) as u8, forget(ns));
}

/// A task uses a socket that it has not opened: it is the owner, unless one is known.
#[inline(always)]
pub(crate) fn note_user(id: u64, tgid: u32, start_ns: u64) {
    if emit::live() & live::AGGREGATE != 0
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

/// Looks up what is remembered of the socket, and remembers what comes next.
#[inline(always)]
fn remember(facts: &Facts) -> Known {
    let Facts { tcp, old, new, id, now, .. } = *facts;
    // A child is born before it is anybody's; up to 6.12 with its listener's cookie.
    if facts.is(class::CHILD) {
        return Known { process: Process::UNKNOWN, passive: 1, elapsed: NEVER };
    }
    let mut process = facts.process;
    // One with a file was not accepted: both sides opened it at the same time.
    let mut passive = u64::from(facts.is(class::HANDSHAKE) && facts.has(flags::NO_FILE));
    if facts.is(class::END) && tcp.error() == ECONNABORTED {
        process = Process::UNKNOWN;
    }
    let mut elapsed = NEVER;
    if let Some(noted) = SINCE.get_ptr_mut(id) {
        // SAFETY: the socket's own entry, which nobody takes away before the socket's end, and this is in its lock.
        unsafe {
            if (*noted).state == u32::from(old) && facts.is(class::TIMED) {
                elapsed = now.wrapping_sub((*noted).at_ns);
            }
            passive |= (*noted).passive;
            // Whoever closes another's listener is not its owner (`ss -K`).
            if process.tgid == 0 || ((*noted).tgid != 0 && facts.is(class::LISTENER)) {
                process = Process { tgid: (*noted).tgid, start_ns: (*noted).process_start_ns };
            }
            if facts.is(class::MOVES) {
                (*noted).at_ns = now;
            }
            (*noted).state = new.into();
            (*noted).passive = passive;
            (*noted).process_start_ns = process.start_ns;
            (*noted).tgid = process.tgid;
        }
        if facts.is(class::END) {
            // Only a miss is an error here.
            let _ = SINCE.remove(id);
        }
    } else if !facts.is(class::END) {
        let Process { tgid, start_ns } = process;
        let since = Since { at_ns: now, process_start_ns: start_ns, tgid, state: new.into(), passive };
        // Without room the time of the next transition is unknown, and said to be.
        let _ = SINCE.insert(id, since, 0);
    }
    Known { process, passive, elapsed }
}

/// What is told of the time, and the time itself.
#[inline(always)]
fn measure(facts: &Facts, known: &Known) -> (u8, u64) {
    if facts.is(class::HANDSHAKE) && (known.passive != 0 || facts.has(flags::HAS_REQUEST)) {
        return handshake(facts);
    }
    let kind = if facts.is(class::LAST) { afterlife(facts) } else { what::TIME };
    (kind, known.elapsed)
}

/// How long the connection was half-open: as `tracker/handshake.rs` of user space measures it.
#[inline(always)]
fn handshake(facts: &Facts) -> (u8, u64) {
    if facts.has(flags::HAS_REQUEST) {
        let kind = if facts.has(flags::FAST_OPEN) {
            what::FAST_OPEN
        } else if facts.has(flags::REQUEST_BY_FENTRY) {
            what::FENTRY
        } else {
            what::SOCK_OPS
        };
        return (kind, facts.now.wrapping_sub(facts.request_ns));
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
fn afterlife(facts: &Facts) -> u8 {
    let Facts { tcp, .. } = *facts;
    if tcp.error() != 0 {
        return what::TIME;
    }
    if facts.has(flags::TIME_WAIT_KNOWN) {
        return if facts.has(flags::TIME_WAIT) {
            what::TIME_WAIT
        } else if facts.has(flags::TIME_WAIT_ORPHAN) {
            what::ORPHAN
        } else {
            what::TIME
        };
    }
    let done = facts.has(flags::DONE);
    let (unread, linger_zero) = (tcp.unread(), facts.has(flags::LINGER_ZERO));
    let reset = if facts.is(class::FIN_WAIT2) {
        !done && (linger_zero || unread > 0)
    } else {
        linger_zero || unread > 1
    };
    if reset && facts.process.tgid != 0 {
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
    let Facts { tcp, old, new, .. } = *facts;
    let mut error = 0;
    if facts.is(class::FAILED) {
        error = tcp.error();
        if error == 0 && facts.local_port == 0 {
            error = NO_PORT;
        }
    }
    let odd = ((facts.live & live::ODD_ROWS) * (u64::from(ODD) / live::ODD_ROWS)) as u8;
    let held = if facts.is(class::END) && !facts.has(flags::NO_FILE) { HELD } else { 0 };
    let key = AggregateKey {
        process_start_ns: known.process.start_ns,
        cgroup_id: facts.cgroup_id,
        tgid: known.process.tgid,
        netns: facts.netns,
        listener_port: (u64::from(facts.local_port) * known.passive) as u16,
        error: emit::forget(error.into(), facts.now) as u16,
        old,
        new,
        bucket: bucket(ns),
        what: emit::forget((kind | odd | held).into(), facts.now) as u8,
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
