//! Aggregation: while it is on, a transition is counted in a row of its owner and kind, with the power of two of its
//! time in state, and only what live tables need is sent.
//!
//! Dearer than it looks: two more maps. What it saves is the ring buffer and everything behind that.

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_ktime_get_ns};
use tcp_trace_common::{
    aggregate::{AggregateKey, NO_PORT, NO_TIME, ODD, bucket, mode, what},
    event::flags,
    state,
};

use crate::{
    emit::{Transition, bump},
    kernel::{Task, TcpSock},
    maps::{AGGREGATES, MODE, SINCE, Since},
};

/// `ECONNABORTED`: somebody destroyed the socket, and the current task need not be its user (`tcp_abort`,
/// `net/ipv4/tcp.c`).
const ECONNABORTED: u16 = 103;

/// What `set_state` knows of a transition.
#[derive(Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) tcp: TcpSock,
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

/// Counts a transition in its row, and remembers when its socket entered the new state.
#[inline(always)]
pub(crate) fn count(transition: Transition, facts: &Facts) {
    let Facts { tcp, old, new, id, .. } = *facts;
    // SAFETY: takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    // A child is born before it is anybody's; up to 6.12 with its listener's cookie.
    let child = old == state::LISTEN && new == state::SYN_RECV;
    let noted = if child { None } else { SINCE.get_ptr_mut(id) };
    let mut process = if child { Process::UNKNOWN } else { user(tcp) };
    let mut time = None;
    // One with a file was not accepted: both sides opened it at the same time.
    let mut passive = child || (old == state::SYN_RECV && !facts.has_file);
    let aborted = new == state::CLOSE && tcp.error() == ECONNABORTED;
    if aborted {
        process = Process::UNKNOWN;
    }
    if let Some(noted) = noted {
        // SAFETY: the socket's own entry, which nobody takes away before the socket's end: this is in its lock.
        let Since { at_ns, process_start_ns, tgid, state, passive: came_in } = unsafe { *noted };
        if u32::from(old) == state && old != new {
            time = Some(now.wrapping_sub(at_ns));
        }
        passive |= came_in != 0;
        if process.tgid == 0 || (old == state::LISTEN && tgid != 0) {
            process = Process { tgid, start_ns: process_start_ns };
        }
    }
    add(transition, facts, process, passive, measure(facts, passive, now, time));
    if new == state::CLOSE {
        // Only a miss is an error here.
        let _ = SINCE.remove(id);
    } else if !child {
        note(noted, facts, process, passive, now);
    }
}

/// A task uses a socket that it has not opened: it is the owner, unless one is known.
#[inline(always)]
pub(crate) fn note_user(id: u64, tgid: u32, start_ns: u64) {
    if is_on()
        && let Some(noted) = SINCE.get_ptr_mut(id)
    {
        // SAFETY: as in `count`; the task has the socket, so that it does not end now.
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

#[inline(always)]
fn note(noted: Option<*mut Since>, facts: &Facts, process: Process, passive: bool, now: u64) {
    let since = Since {
        at_ns: now,
        process_start_ns: process.start_ns,
        tgid: process.tgid,
        state: facts.new.into(),
        passive: passive.into(),
    };
    match noted {
        // SAFETY: as in `count`.
        Some(noted) => unsafe {
            if facts.old != facts.new {
                (*noted).at_ns = now;
            }
            (*noted).process_start_ns = process.start_ns;
            (*noted).tgid = process.tgid;
            (*noted).state = since.state;
            (*noted).passive = since.passive;
        },
        // Without room the time of the next transition is unknown, and said to be.
        None => {
            let _ = SINCE.insert(facts.id, since, 0);
        }
    }
}

/// What is told of the time, and the time itself.
#[inline(always)]
fn measure(facts: &Facts, passive: bool, now: u64, time: Option<u64>) -> (u8, u8) {
    let Facts { old, new, .. } = *facts;
    if old == state::SYN_RECV && new != state::SYN_RECV && (passive || facts.flags & flags::HAS_REQUEST != 0)
    {
        return handshake(facts, now);
    }
    let kind = if new == state::CLOSE && (old == state::FIN_WAIT2 || old == state::CLOSING) {
        afterlife(facts)
    } else {
        what::TIME
    };
    match time {
        Some(ns) if old != state::CLOSE => (kind, bucket(ns)),
        _ => (kind, NO_TIME),
    }
}

/// How long the connection was half-open: as `tracker/handshake.rs` of user space measures it.
#[inline(always)]
fn handshake(facts: &Facts, now: u64) -> (u8, u8) {
    if facts.flags & flags::HAS_REQUEST != 0 {
        let kind = if facts.flags & flags::FAST_OPEN != 0 {
            what::FAST_OPEN
        } else if facts.flags & flags::REQUEST_BY_FENTRY != 0 {
            what::FENTRY
        } else {
            what::SOCK_OPS
        };
        return (kind, bucket(now.wrapping_sub(facts.request_ns)));
    }
    let (srtt_us, retransmits) = (facts.tcp.srtt_us(), facts.tcp.total_retrans());
    if retransmits != 0 {
        (what::UNMEASURED, NO_TIME)
    } else if srtt_us == 0 {
        (what::COOKIE, NO_TIME)
    } else {
        (what::SRTT, bucket(u64::from(srtt_us) * 1_000))
    }
}

/// What becomes of a socket that closed first: as `tracker/connection.rs` of user space concludes it.
#[inline(always)]
fn afterlife(facts: &Facts) -> u8 {
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
    if reset && user(tcp).tgid != 0 {
        what::TIME
    } else if done {
        what::TIME_WAIT
    } else {
        what::ORPHAN
    }
}

/// Adds 1 to the row.
#[inline(always)]
fn add(transition: Transition, facts: &Facts, process: Process, passive: bool, (kind, bucket): (u8, u8)) {
    let Facts { tcp, old, new, .. } = *facts;
    let failed = old == state::SYN_SENT && new == state::CLOSE;
    // Of one that somebody has accepted and nobody has used, the listener's process is a guess too many at its end.
    let inferred = passive && process.tgid == 0 && !(new == state::CLOSE && facts.has_file);
    let key = AggregateKey {
        process_start_ns: process.start_ns,
        cgroup_id: facts.cgroup_id,
        tgid: process.tgid,
        netns: facts.netns,
        listener_port: if inferred { facts.local_port } else { 0 },
        error: match tcp.error() {
            0 if failed && facts.local_port == 0 => NO_PORT,
            error if failed => error,
            _ => 0,
        },
        old,
        new,
        bucket,
        what: if word() & mode::EPOCH != 0 { kind | ODD } else { kind },
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
