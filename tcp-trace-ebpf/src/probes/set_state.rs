//! `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`
//! (`include/trace/events/sock.h`, first kernel 4.16), attached as `tp_btf` (5.5; with the helpers used
//! here 5.12).
//!
//! `set_state_nested.rs` is this program once more, for the transitions at which the kernel skips this one.

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::debug;
use tcp_trace_common::{
    event::{StateChange, flags, kind},
    filter::Subject,
    state,
};

use crate::{
    emit::{self, Transition},
    kernel::{Task, TcpSock, bytes},
    maps::{REQUESTS, Request, global},
};

#[btf_tracepoint(function = "inet_sock_set_state")]
fn set_state(ctx: BtfTracePointContext) -> i32 {
    let sk: *const u8 = ctx.arg(0);
    let old: u32 = ctx.arg(1);
    let new: u32 = ctx.arg(2);
    if let Some(tcp) = TcpSock::from_sock(sk)
        && emit::take(tcp.address(), old as u8, new as u8)
    {
        record(&ctx, tcp, old as u8, new as u8);
    }
    0
}

/// Counts and emits a transition.
#[inline(always)]
pub(super) fn record(ctx: &BtfTracePointContext, tcp: TcpSock, old: u8, new: u8) -> Option<()> {
    let transition = Transition::seen(old, new)?;
    let family = tcp.family();
    let (local_addr, peer_addr) = tcp.addresses(family);
    let (local_port, peer_port) = (tcp.local_port(), tcp.peer_port());
    let (netns, cgroup_id) = (tcp.netns(), tcp.cgroup_id());
    let cookie = tcp.cookie();
    // Before the filter and the buffer can fail, so that no request outlives its handshake.
    let request = take_request(cookie, old, new);
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
    let mut entry = transition.reserve()?;
    let event = entry.as_mut_ptr();
    // SAFETY: `event` points to a reserved record of this type; the stores below fill every byte of it.
    unsafe {
        (*event).kind = kind::STATE_CHANGE;
        (*event).old = old;
        (*event).new = new;
        (*event).time_ns = bpf_ktime_get_ns();
        (*event).cookie = cookie;
        (*event).skaddr = tcp.address();
        (*event).cgroup_id = cgroup_id;
        (&raw mut (*event).local_addr).cast::<[u64; 2]>().write(local_addr);
        (&raw mut (*event).peer_addr).cast::<[u64; 2]>().write(peer_addr);
        (*event).local_port = local_port;
        (*event).peer_port = peer_port;
        (*event).family = family;
        (*event).sk_err = tcp.error();
        (*event).netns = netns;
        (*event).srtt_us = tcp.srtt_us();
        (*event).total_retrans = tcp.total_retrans();
        (*event).reserved = [0; 3];
        (*event).flags = flags::HAS_SOCK
            | flags::HAS_TCP
            | if tcp.done() { flags::DONE } else { 0 }
            | rto(event, tcp)
            | fill_request(event, request)
            | task(event, tcp);
    }
    transition.submit(entry);
    Some(())
}

/// Fills the retransmission timeouts.
#[inline(always)]
unsafe fn rto(event: *mut StateChange, tcp: TcpSock) -> u32 {
    let (found, (total_rto, total_rto_time_ms)) = match tcp.total_rto() {
        Some(values) => (flags::HAS_RTO, values),
        None => (0, (0, 0)),
    };
    // SAFETY: the caller's reserved record.
    unsafe {
        (*event).total_rto = total_rto;
        (*event).total_rto_time_ms = total_rto_time_ms;
    }
    found
}

/// The request that a passive handshake began with, at its end.
#[inline(always)]
fn take_request(cookie: u64, old: u8, new: u8) -> Option<Request> {
    if global!(SETTINGS.half_open) == 0 || old != state::SYN_RECV || new == state::SYN_RECV {
        return None;
    }
    // SAFETY: the entry is copied at once, and the copy's own key tells whether it is still this socket's.
    let request = unsafe { REQUESTS.get(cookie) }.copied()?;
    if request.cookie != cookie {
        return None;
    }
    // Only a miss is an error here, and a miss is what is wanted.
    let _ = REQUESTS.remove(cookie);
    Some(request)
}

/// Fills when the request was queued.
#[inline(always)]
unsafe fn fill_request(event: *mut StateChange, request: Option<Request>) -> u32 {
    let (queued_ns, found) = match request {
        Some(Request { queued_ns, fast_open: 0, .. }) => (queued_ns, flags::HAS_REQUEST),
        Some(Request { queued_ns, .. }) => (queued_ns, flags::HAS_REQUEST | flags::FAST_OPEN),
        None => (0, 0),
    };
    // SAFETY: the caller's reserved record.
    unsafe { (*event).request_ns = queued_ns };
    found
}

/// Fills the task, if it is the socket's user.
#[inline(always)]
unsafe fn task(event: *mut StateChange, tcp: TcpSock) -> u32 {
    let current = Task::current();
    // A kernel thread holds the lock for somebody else: MPTCP, NFS.
    let owned = tcp.owned() && !current.is_kernel_thread();
    let (mut tgid, mut tid, mut start, mut comm) = (0, 0, 0, [0; 2]);
    if owned {
        let leader = current.group_leader();
        (tgid, tid) = (current.tgid(), current.tid());
        (start, comm) = (leader.start_ns(), leader.comm());
    }
    // SAFETY: the caller's reserved record.
    unsafe {
        (*event).tgid = tgid;
        (*event).tid = tid;
        (*event).process_start_ns = start;
        (&raw mut (*event).comm).cast::<[u64; 2]>().write_unaligned(comm);
    }
    if owned { flags::TASK } else { 0 }
}
