//! `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`
//! (`include/trace/events/sock.h`, first kernel 4.16), attached as `tp_btf` (5.5; with the helpers used
//! here 5.9, or 5.12 for cookies that are there from the first transition on).
//!
//! `set_state_nested.rs` is this program once more, for the transitions at which the kernel skips this one.

use aya_ebpf::{
    helpers::bpf_ktime_get_ns, macros::btf_tracepoint, maps::Array, programs::BtfTracePointContext,
};
use aya_log_ebpf::debug;
use tcp_trace_common::{
    cookies,
    event::{StateChange, flags, kind},
    filter::Subject,
    nesting::live,
    request::source,
    state,
};

use crate::{
    emit::{self, Transition},
    kernel::{Task, TcpSock, bytes},
    maps::{HELD, TIME_WAITS, TimeWait, UNCLAIMED, global, requests, sockets},
};

#[btf_tracepoint(function = "inet_sock_set_state")]
fn set_state(ctx: BtfTracePointContext) -> i32 {
    let sk: *const u8 = ctx.arg(0);
    let old: u32 = ctx.arg(1);
    let new: u32 = ctx.arg(2);
    if let Some(tcp) = TcpSock::from_sock(sk)
        && emit::take(sk as u64, old as u8, new as u8)
    {
        record(&ctx, tcp, old as u8, new as u8);
    }
    0
}

/// Counts and emits a transition.
#[inline(always)]
pub(super) fn record(ctx: &BtfTracePointContext, tcp: TcpSock, old: u8, new: u8) -> Option<()> {
    let transition = Transition::seen(old, new)?;
    let sk = tcp.common();
    let family = sk.family();
    let (local_addr, peer_addr) = sk.addresses(family);
    let (local_port, peer_port) = (tcp.local_port(old, new), sk.peer_port());
    let (netns, cgroup_id) = (sk.netns(), tcp.cgroup_id());
    let cookie = sk.cookie();
    // Before the filter and the buffer can fail, so that no entry outlives what it is for.
    let (request_ns, request_flags) = take_request(cookie, old, new);
    let time_wait = take_time_wait(sk.address(), cookie, old, new);
    debug!(ctx, "set_state {} -> {} ports {} {}", old, new, local_port, peer_port);
    if global!(SETTINGS.filtering) != 0 {
        let (local_addr, peer_addr) = (bytes(local_addr), bytes(peer_addr));
        let subject = Subject {
            old,
            new,
            local_port,
            peer_port,
            family,
            netns,
            cgroup_id,
            local_addr: &local_addr,
            peer_addr: &peer_addr,
            // The owner is not known here for certain, whoever runs now; user space decides.
            pid: 0,
        };
        if !transition.wanted(&subject) {
            return None;
        }
    }
    let has_file = tcp.has_file();
    note_unclaimed(cookie, old, new, has_file);
    note_held(cookie, new, has_file, tcp);
    let mut entry = transition.reserve()?;
    let event = entry.as_mut_ptr();
    // SAFETY: `event` points to a reserved record of this type; the stores below fill every byte of it.
    unsafe {
        (*event).kind = kind::STATE_CHANGE;
        (*event).old = old;
        (*event).new = new;
        (*event).time_ns = bpf_ktime_get_ns();
        (*event).cookie = cookie;
        (*event).skaddr = sk.address();
        (*event).cgroup_id = cgroup_id;
        (&raw mut (*event).local_addr).cast::<[u64; 2]>().write(local_addr);
        (&raw mut (*event).peer_addr).cast::<[u64; 2]>().write(peer_addr);
        (*event).local_port = local_port;
        (*event).peer_port = peer_port;
        (*event).family = family;
        (*event).netns = netns;
        (*event).reserved = 0;
        (*event).request_ns = request_ns;
        (*event).flags = flags::HAS_SOCK
            | if has_file { 0 } else { flags::NO_FILE }
            | socket_flags(tcp)
            | time_wait
            | tcp_fields(event, tcp)
            | byte_counts(event, tcp, old, new)
            | request_flags
            | task(event, tcp);
    }
    transition.submit(entry);
    Some(())
}

/// Fills how the connection fares.
#[inline(always)]
unsafe fn tcp_fields(event: *mut StateChange, tcp: TcpSock) -> u32 {
    let (has_rto, (total_rto, total_rto_time_ms)) = match tcp.total_rto() {
        Some(values) => (flags::HAS_RTO, values),
        None => (0, (0, 0)),
    };
    // SAFETY: the caller's reserved record.
    unsafe {
        (*event).sk_err = tcp.error();
        (*event).srtt_us = tcp.srtt_us();
        (*event).total_retrans = tcp.total_retrans();
        (*event).total_rto = total_rto;
        (*event).total_rto_time_ms = total_rto_time_ms;
    }
    flags::HAS_TCP | has_rto
}

/// What `sk_flags` tells.
#[inline(always)]
fn socket_flags(tcp: TcpSock) -> u32 {
    const SOCK_DONE: u64 = 1 << 1;
    const SOCK_LINGER: u64 = 1 << 4;
    let set = tcp.flags();
    let done = if set & SOCK_DONE != 0 { flags::DONE } else { 0 };
    let linger_zero = if set & SOCK_LINGER != 0 && tcp.linger_time() == 0 { flags::LINGER_ZERO } else { 0 };
    done | linger_zero
}

/// Fills what a connection has carried, at its end.
#[inline(always)]
unsafe fn byte_counts(event: *mut StateChange, tcp: TcpSock, old: u8, new: u8) -> u32 {
    let ends = new == state::CLOSE && old != state::LISTEN;
    let (unread, (received, acked)) = if ends { (tcp.unread(), tcp.bytes()) } else { (0, (0, 0)) };
    // SAFETY: the caller's reserved record.
    unsafe {
        (*event).unread = unread;
        (*event).bytes_received = received;
        (*event).bytes_acked = acked;
    }
    if ends { flags::HAS_BYTES } else { 0 }
}

/// What `time_wait` has noted of this very socket. Without a note nothing is known: the kernel may have skipped that
/// program, because it was running on that CPU already.
#[inline(always)]
fn take_time_wait(skaddr: u64, cookie: u64, old: u8, new: u8) -> u32 {
    let may_have = new == state::CLOSE && (old == state::FIN_WAIT2 || old == state::CLOSING);
    if !may_have || !emit::is_on(live::TIME_WAIT) {
        return 0;
    }
    // SAFETY: copied at once. Nothing else writes this socket's entry: it is between two lines of `tcp_time_wait`.
    let Some(TimeWait { cookie: noted, state: made }) = unsafe { TIME_WAITS.get(skaddr) }.copied() else {
        return 0;
    };
    // Only a miss is an error here.
    let _ = TIME_WAITS.remove(skaddr);
    if noted != cookie {
        return 0; // Of an earlier socket at this address, whose end was missed.
    }
    flags::TIME_WAIT_KNOWN
        | if made == u64::from(state::TIME_WAIT) {
            flags::TIME_WAIT
        } else if made == u64::from(state::FIN_WAIT2) {
            flags::TIME_WAIT_ORPHAN
        } else {
            0
        }
}

/// Remembers a new server connection, so that `first_read` will know it.
#[inline(always)]
fn note_unclaimed(cookie: u64, old: u8, new: u8, has_file: bool) {
    // One with a file is not to be accepted: it was opened by both sides at the same time.
    if old == state::SYN_RECV && new == state::ESTABLISHED && !has_file && emit::is_on(live::CLAIMS) {
        put(&UNCLAIMED, cookie);
    }
}

/// Remembers a socket that somebody will still have to close, so that `last_close` will tell who.
#[inline(always)]
fn note_held(cookie: u64, new: u8, has_file: bool, tcp: TcpSock) {
    if new == state::CLOSE && has_file && !tcp.owned() && emit::is_on(live::LAST_CLOSE) {
        put(&HELD, cookie);
    }
}

#[inline(always)]
fn put(set: &'static Array<cookies::Bucket>, cookie: u64) {
    if let Some(bucket) = sockets(set, cookie) {
        bucket.put(cookie);
    }
}

/// When the request that a passive handshake began with was queued, and the flags that say so; both 0 if that is not
/// known. (Not an `Option`: without a request its value would be left on the stack as it is, which the verifier of
/// 5.10 does not let be copied.)
#[inline(always)]
fn take_request(cookie: u64, old: u8, new: u8) -> (u64, u32) {
    if global!(SETTINGS.half_open) == 0 || old != state::SYN_RECV || new == state::SYN_RECV {
        return (0, 0);
    }
    let Some(request) = requests(cookie).and_then(|bucket| bucket.take(cookie)) else { return (0, 0) };
    let special = match request.details.source {
        source::FAST_OPEN => flags::FAST_OPEN,
        source::FENTRY => flags::REQUEST_BY_FENTRY,
        _ => 0,
    };
    (request.queued_ns, flags::HAS_REQUEST | special)
}

/// Fills the task, if it is the socket's user.
#[inline(always)]
unsafe fn task(event: *mut StateChange, tcp: TcpSock) -> u32 {
    let (mut tgid, mut tid, mut start, mut comm, mut found) = (0, 0, 0, [0; 2], 0);
    if tcp.owned() {
        let current = Task::current();
        // A kernel thread holds the lock for somebody else: MPTCP, NFS.
        if !current.is_kernel_thread() {
            let leader = current.group_leader();
            (tgid, tid) = (current.tgid(), current.tid());
            (start, comm) = (leader.start_ns(), leader.comm());
            found = flags::TASK;
        }
    }
    // SAFETY: the caller's reserved record.
    unsafe {
        (*event).tgid = tgid;
        (*event).tid = tid;
        (*event).process_start_ns = start;
        (&raw mut (*event).comm).cast::<[u64; 2]>().write_unaligned(comm);
    }
    found
}
