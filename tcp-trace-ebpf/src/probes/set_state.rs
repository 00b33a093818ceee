//! `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`
//! (`include/trace/events/sock.h`, first kernel 4.16), attached as `tp_btf` (5.5; with the helpers used
//! here 5.9, or 5.12 for cookies that are there from the first transition on).
//!
//! `set_state_nested.rs` is this program once more, for the transitions at which the kernel skips this one;
//! `aggregate_state.rs` is what both go on with while transitions are aggregated.

use aya_ebpf::{
    helpers::bpf_ktime_get_ns, macros::btf_tracepoint, maps::Array, programs::BtfTracePointContext,
};
use aya_log_ebpf::debug;
use tcp_trace_common::{
    cookies,
    event::{flags, kind},
    filter::{Subject, Verdict},
    nesting::live,
    packed::{self, Addresses, Head, PackedChange, Parts, Rest, Then, User},
    request::source,
    state,
};

use crate::{
    emit::{self, Cpu, Transition},
    kernel::{Task, TcpSock, bytes},
    maps::{self, HELD, INSTEAD, TIME_WAITS, TimeWait, UNCLAIMED, global, sockets},
};

#[btf_tracepoint(function = "inet_sock_set_state")]
fn set_state(ctx: BtfTracePointContext) -> i32 {
    let sk: *const u8 = ctx.arg(0);
    let old: u32 = ctx.arg(1);
    let new: u32 = ctx.arg(2);
    let live = emit::live();
    if live != 0
        && let Some(tcp) = TcpSock::from_sock(sk)
        && let Some(cpu) = Cpu::this()
    {
        cpu.take(sk as u64, old as u8, new as u8);
        record(&ctx, cpu, live, tcp, old as u8, new as u8);
    }
    0
}

/// What a transition shows of its socket.
#[derive(Clone, Copy)]
pub(super) struct Shown {
    pub(super) tcp: TcpSock,
    pub(super) old: u8,
    pub(super) new: u8,
    pub(super) family: u16,
    pub(super) addresses: Addresses,
    pub(super) local_port: u16,
    pub(super) peer_port: u16,
    pub(super) netns: u32,
    pub(super) cgroup_id: u64,
    pub(super) cookie: u64,
    pub(super) request_ns: u64,
    /// Bits of [`flags`] on the request and on what the kernel made of the socket.
    pub(super) noted: u32,
    /// 0, of which the verifier does not know that (see [`emit::forget`]).
    pub(super) nothing: u64,
}

/// Counts a transition, and emits it; `live` has the bits of [`live`].
#[inline(always)]
pub(super) fn record(ctx: &BtfTracePointContext, cpu: Cpu, live: u64, tcp: TcpSock, old: u8, new: u8) {
    if live & live::AGGREGATE != 0 {
        // SAFETY: a program for the same hook. It does not come back, or else there is none.
        unsafe { INSTEAD.tail_call(ctx, 0) };
    }
    let transition = cpu.see(old, new);
    let shown = look(cpu, live, tcp, old, new);
    let Shown { old, new, local_port, peer_port, cookie, .. } = shown;
    debug!(ctx, "set_state {} -> {} ports {} {}", old, new, local_port, peer_port);
    if global!(SETTINGS.filtering) != 0 && judge(transition, &shown) == Verdict::Reject {
        return;
    }
    let has_file = emit::forget(tcp.has_file().into(), cookie) != 0;
    let anew = |state: u8| emit::forget(state.into(), cookie) as u8;
    note_unclaimed(live, cookie, anew(old), anew(new), has_file);
    note_held(live, cookie, anew(new), has_file, tcp);
    let packed = pack(&shown, if has_file { 0 } else { flags::NO_FILE });
    send(transition, packed, false);
}

/// Looks at the socket, and takes out what other programs have noted of it: before the filter and the buffer can fail, so
/// that no entry outlives what it is for.
#[inline(always)]
pub(super) fn look(cpu: Cpu, live: u64, tcp: TcpSock, old: u8, new: u8) -> Shown {
    let sk = tcp.common();
    let family = sk.family();
    let (local, peer) = sk.addresses(family);
    let (local_port, peer_port) = (tcp.local_port(old, new), sk.peer_port());
    let (netns, cgroup_id) = (cpu.netns(sk), tcp.cgroup_id());
    let cookie = sk.cookie();
    let nothing = emit::forget(0, cookie);
    let anew = |state: u8| emit::forget(state.into(), cookie) as u8;
    let (request_ns, request_flags) = take_request(nothing, cookie, anew(old), anew(new));
    let time_wait = take_time_wait(live, sk.address(), cookie, anew(old), anew(new));
    Shown {
        tcp,
        old: anew(old),
        new: anew(new),
        family,
        addresses: Addresses { local, peer },
        local_port,
        peer_port,
        netns,
        cgroup_id,
        cookie,
        request_ns,
        noted: request_flags | time_wait,
        nothing,
    }
}

/// Whether the filter wants it.
#[inline(always)]
pub(super) fn judge(transition: Transition, shown: &Shown) -> Verdict {
    let Shown { old, new, local_port, peer_port, family, netns, cgroup_id, addresses, .. } = *shown;
    let (local_addr, peer_addr) = (bytes(addresses.local), bytes(addresses.peer));
    transition.judge(&Subject {
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
    })
}

/// The transition as it is sent, at full length.
#[inline(always)]
pub(super) fn pack(shown: &Shown, bits: u32) -> PackedChange {
    let Shown { tcp, old, new, family, addresses, cookie, cgroup_id, request_ns, nothing, .. } = *shown;
    let (user, task) = user(tcp, nothing);
    let anew = |state: u8| emit::forget(state.into(), cookie) as u8;
    let (rest, rest_flags) = rest(tcp, nothing, anew(old), anew(new), request_ns, (cgroup_id >> 32) as u32);
    let bits = flags::HAS_SOCK
        | bits
        | socket_flags(tcp)
        | shown.noted
        | task
        | rest_flags
        | packed::address_flags(family, &addresses);
    let head = Head {
        kind: kind::PACKED_CHANGE,
        old,
        new,
        flags: emit::forget(bits.into(), cookie) as u32,
        // SAFETY: takes nothing.
        time_ns: unsafe { bpf_ktime_get_ns() },
        cookie,
        skaddr: tcp.common().address(),
        cgroup_low: cgroup_id as u32,
        netns: shown.netns,
        local_v4: packed::short(addresses.local),
        peer_v4: packed::short(addresses.peer),
        local_port: shown.local_port,
        peer_port: shown.peer_port,
        srtt_us: tcp.srtt_us(),
    };
    PackedChange { head, user, rest, addresses }
}

/// Emits a transition, without the parts that say nothing.
#[inline(always)]
pub(super) fn send(transition: Transition, packed: PackedChange, aggregated: bool) {
    let PackedChange { head, user, rest, addresses } = packed;
    // Each branch with a size of its own, because the verifier wants constants.
    match Parts::of(head.flags) {
        Parts::Head => transition.output(head, aggregated),
        Parts::User => transition.output(Then(head, user), aggregated),
        Parts::Rest => transition.output(Then(Then(head, user), rest), aggregated),
        Parts::All => transition.output(PackedChange { head, user, rest, addresses }, aggregated),
    }
}

/// How the connection fares and, at its end, what it has carried; and the flags that say so.
#[inline(always)]
fn rest(tcp: TcpSock, nothing: u64, old: u8, new: u8, request_ns: u64, cgroup_high: u32) -> (Rest, u32) {
    let ends = new == state::CLOSE && old != state::LISTEN;
    let (unread, (bytes_received, bytes_acked)) =
        if ends { (tcp.unread(), tcp.bytes()) } else { (nothing as u32, (nothing, nothing)) };
    let (sk_err, total_retrans) = (tcp.error(), tcp.total_retrans());
    let (has_rto, (total_rto, total_rto_time_ms)) = match tcp.total_rto() {
        Some(rto) => (flags::HAS_RTO, rto),
        None => (0, (0, 0)),
    };
    let trouble = total_retrans | u32::from(sk_err) | u32::from(total_rto) | total_rto_time_ms;
    let says_something = ends || request_ns != 0 || trouble | cgroup_high != 0;
    let bits = flags::HAS_TCP
        | has_rto
        | if ends { flags::HAS_BYTES } else { 0 }
        | if says_something { flags::REST } else { 0 };
    let rest = Rest {
        request_ns,
        bytes_received,
        bytes_acked,
        unread,
        total_retrans,
        total_rto_time_ms,
        total_rto,
        sk_err,
        cgroup_high,
        reserved: 0,
    };
    (rest, bits)
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

/// What `time_wait` has noted of this very socket. Without a note nothing is known: the kernel may have skipped that
/// program, because it was running on that CPU already.
#[inline(always)]
fn take_time_wait(live: u64, skaddr: u64, cookie: u64, old: u8, new: u8) -> u32 {
    let may_have = new == state::CLOSE && (old == state::FIN_WAIT2 || old == state::CLOSING);
    if !may_have || live & live::TIME_WAIT == 0 {
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
pub(super) fn note_unclaimed(live: u64, cookie: u64, old: u8, new: u8, has_file: bool) {
    // One with a file is not to be accepted: it was opened by both sides at the same time.
    if old == state::SYN_RECV && new == state::ESTABLISHED && !has_file && live & live::CLAIMS != 0 {
        put(&UNCLAIMED, cookie);
    }
}

/// Remembers a socket that somebody will still have to close, so that `last_close` will tell who.
#[inline(always)]
pub(super) fn note_held(live: u64, cookie: u64, new: u8, has_file: bool, tcp: TcpSock) {
    if new == state::CLOSE && has_file && !tcp.owned() && live & live::LAST_CLOSE != 0 {
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
/// known.
#[inline(always)]
fn take_request(nothing: u64, cookie: u64, old: u8, new: u8) -> (u64, u32) {
    if global!(SETTINGS.half_open) == 0 || old != state::SYN_RECV || new == state::SYN_RECV {
        return (nothing, 0);
    }
    let Some(request) = maps::take_request(cookie) else { return (nothing, 0) };
    let special = match request.details.source {
        source::FAST_OPEN => flags::FAST_OPEN,
        source::FENTRY => flags::REQUEST_BY_FENTRY,
        _ => 0,
    };
    (request.queued_ns, flags::HAS_REQUEST | special)
}

/// The current task, if it is the socket's user, and the flag that says so.
#[inline(always)]
fn user(tcp: TcpSock, nothing: u64) -> (User, u32) {
    let nobody = User {
        process_start_ns: nothing,
        tgid: nothing as u32,
        tid: nothing as u32,
        comm: [nothing, nothing],
    };
    if !tcp.owned() {
        return (nobody, 0);
    }
    let current = Task::current();
    // A kernel thread holds the lock for somebody else: MPTCP, NFS.
    if current.is_kernel_thread() {
        return (nobody, 0);
    }
    let leader = current.group_leader();
    let user = User {
        process_start_ns: leader.start_ns(),
        tgid: current.tgid(),
        tid: current.tid(),
        comm: leader.comm(),
    };
    (user, flags::TASK)
}
