//! Recordings as a test writes them: what a kernel would have emitted, event by event.

use std::net::{IpAddr, SocketAddr};

use tcp_trace::{recording::Writer, source::Batch};
use tcp_trace_common::{
    address::{AF_INET, AF_INET6},
    aggregate::AggregateRow,
    counters::{Counters, slot},
    event::{self, RequestChange, SocketUse, StateChange, flags, socket_use},
    state,
};
use tcp_trace_core::{
    filter::FilterSpec,
    record::{CounterReading, encode_counters, kind},
    session::{Attach, Host, Session},
    time::{ClockAnchor, Timestamp},
};
use zerocopy::{FromZeros as _, IntoBytes as _};

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const MS: u64 = 1_000_000;
pub(crate) const US: u64 = 1_000;

/// The kernel's clock when the tracer was attached.
pub(crate) const STARTED: u64 = 5_000 * SECOND;
/// The namespace that every socket of these recordings is in.
pub(crate) const NETNS: u32 = 4_026_531_840;

/// A run that had everything that it asked for, on a host that never was.
pub(crate) fn session() -> Session {
    Session {
        program: "0.1.0".into(),
        pid: None,
        host: Host {
            name: "shop-1".into(),
            kernel: "6.12.57".into(),
            boot_id: Some("7d0c1f3a-52f6-4f0e-9a51-0d6a2f1f5b11".into()),
        },
        anchor: ClockAnchor {
            monotonic_ns: STARTED,
            boottime_ns: STARTED + 30 * SECOND,
            unix_ns: 1_768_446_000 * SECOND, // 2026-01-15 03:00:00 UTC
        },
        started: Timestamp(STARTED),
        attach: Attach::TpBtf,
        half_open: true,
        programs: Vec::new(),
        filter: FilterSpec::default(),
        buffer_bytes: 16 << 20,
        degradations: Vec::new(),
    }
}

/// A process that makes system calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) comm: &'static [u8],
}

/// A socket with its events to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Socket {
    /// The next event, but for its time, states and task.
    pub(crate) wire: StateChange,
}

impl Socket {
    /// A socket with a cookie; its address is made from that.
    pub(crate) fn new(cookie: u64, state: u8, local: &str, peer: &str) -> Self {
        let (local, peer) = (parse(local), parse(peer));
        let mut wire = StateChange::new_zeroed();
        wire.kind = event::kind::STATE_CHANGE;
        wire.new = state;
        wire.flags = flags::HAS_SOCK | flags::HAS_TCP | flags::HAS_RTO;
        wire.cookie = cookie;
        wire.skaddr = 0xffff_8881_0400_0000 + cookie * 0x8c0;
        wire.cgroup_id = 1;
        wire.family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
        wire.netns = NETNS;
        let mut socket = Self { wire };
        socket.tuple(local, peer);
        socket
    }

    /// The tuple, once the kernel has chosen or learned it.
    pub(crate) fn becomes(&mut self, local: &str, peer: &str) {
        self.tuple(parse(local), parse(peer));
    }

    /// What it has transferred by its end, as the kernel counts: the SYN of a client and both FINs are bytes too.
    pub(crate) fn transferred(&mut self, acked: u64, received: u64) {
        (self.wire.bytes_acked, self.wire.bytes_received) = (acked, received);
    }

    /// A child of a listener: its SYN came `half_open` nanoseconds before `now`.
    pub(crate) fn requested(mut self, now: u64, half_open: u64) -> Self {
        self.wire.flags |= flags::HAS_REQUEST;
        self.wire.request_ns = now - half_open;
        self.wire.srtt_us = 200;
        self
    }

    fn tuple(&mut self, local: SocketAddr, peer: SocketAddr) {
        let bytes = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        self.wire.local_addr = bytes(local.ip());
        self.wire.local_port = local.port();
        self.wire.peer_addr = bytes(peer.ip());
        self.wire.peer_port = peer.port();
    }
}

pub(crate) fn parse(end: &str) -> SocketAddr {
    end.parse().unwrap_or_else(|error| panic!("{end}: {error}"))
}

/// A recording being made.
#[derive(Debug)]
pub(crate) struct Tape {
    pub(crate) session: Session,
    /// The kernel's clock.
    pub(crate) now: u64,
    counters: Box<Counters>,
    missed: u64,
    batch: Batch,
    done: Vec<Batch>,
}

impl Tape {
    pub(crate) fn new(session: Session) -> Self {
        let counters = Box::new(Counters::ZERO);
        Self { session, now: STARTED, counters, missed: 0, batch: Batch::default(), done: Vec::new() }
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, nanoseconds: u64) {
        self.now += nanoseconds;
    }

    /// The socket enters `new`, inside a system call of `task`, or in a softirq.
    pub(crate) fn enter(&mut self, socket: &mut Socket, new: u8, task: Option<Process>) {
        let wire = &mut socket.wire;
        (wire.old, wire.new, wire.time_ns) = (wire.new, new, self.now);
        wire.flags &= !flags::TASK;
        (wire.tgid, wire.tid, wire.comm, wire.process_start_ns) = (0, 0, [0; 16], 0);
        if let Some(Process { pid, comm }) = task {
            wire.flags |= flags::TASK;
            (wire.tgid, wire.tid) = (pid, pid);
            wire.process_start_ns = start(pid);
            wire.comm[..comm.len()].copy_from_slice(comm);
        }
        if new == state::CLOSE && wire.old != state::LISTEN {
            wire.flags |= flags::HAS_BYTES;
            if self.session.programs.iter().any(|name| name == "time_wait") {
                wire.flags |= time_wait(wire);
            }
        }
        self.counters.seen[slot(wire.old, wire.new)] += 1;
        self.batch.push(kind::EVENT, wire.as_bytes());
        // What one system call reads is not in the next event any more.
        socket.wire.flags &= !flags::HAS_REQUEST;
        self.wait(10 * US);
    }

    /// `accept()` returns the socket to `task`.
    pub(crate) fn accept(&mut self, socket: &Socket, task: Process) {
        let mut used = SocketUse::new_zeroed();
        (used.kind, used.how) = (event::kind::SOCKET_USE, socket_use::ACCEPT);
        (used.time_ns, used.cookie, used.skaddr) = (self.now, socket.wire.cookie, socket.wire.skaddr);
        (used.tgid, used.tid, used.process_start_ns) = (task.pid, task.pid, start(task.pid));
        used.comm[..task.comm.len()].copy_from_slice(task.comm);
        self.batch.push(kind::EVENT, used.as_bytes());
        self.wait(10 * US);
    }

    /// Something happens to a half-open request.
    pub(crate) fn request(&mut self, change: &RequestChange) {
        let change = RequestChange { kind: event::kind::REQUEST_CHANGE, time_ns: self.now, ..*change };
        self.batch.push(kind::EVENT, change.as_bytes());
        self.wait(10 * US);
    }

    /// The ring buffer had no room for so many transitions.
    pub(crate) fn lose(&mut self, old: u8, new: u8, count: u64) {
        self.counters.seen[slot(old, new)] += count;
        self.counters.lost[slot(old, new)] += count;
    }

    /// The kernel counted so many transitions instead of sending them.
    pub(crate) fn aggregate(&mut self, row: &AggregateRow) {
        self.counters.seen[slot(row.key.old, row.key.new)] += row.count;
        self.push(kind::AGGREGATES, row.as_bytes());
    }

    /// The session's filter turned so many transitions away.
    pub(crate) fn filter(&mut self, old: u8, new: u8, count: u64) {
        self.counters.seen[slot(old, new)] += count;
        self.counters.filtered[slot(old, new)] += count;
    }

    /// The kernel skipped the program so many times.
    pub(crate) fn miss(&mut self, count: u64) {
        self.missed += count;
    }

    /// A transition that arrived was never counted: what must not happen.
    pub(crate) fn uncount(&mut self, old: u8, new: u8) {
        self.counters.seen[slot(old, new)] -= 1;
    }

    /// A record of any kind.
    pub(crate) fn push(&mut self, kind: u16, payload: &[u8]) {
        self.batch.push(kind, payload);
    }

    /// The counters are read, which ends a block.
    pub(crate) fn read_counters(&mut self) {
        self.push_counters();
        self.block();
    }

    fn push_counters(&mut self) {
        let counters = self.counters.clone();
        let reading = CounterReading { time: Timestamp(self.now), missed: self.missed, counters };
        self.push(kind::COUNTERS, &encode_counters(&reading));
    }

    /// Ends a block, as the recorder does when what came is written.
    pub(crate) fn block(&mut self) {
        self.done.push(std::mem::take(&mut self.batch));
    }

    /// The bytes of the recording, ended in order.
    pub(crate) fn end(mut self) -> Vec<u8> {
        let time = self.now.to_le_bytes();
        self.push_counters();
        self.push(kind::END, &time);
        self.stop()
    }

    /// The bytes of the recording as they are, without an end mark.
    pub(crate) fn stop(mut self) -> Vec<u8> {
        if !self.batch.is_empty() {
            self.block();
        }
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, &self.session).expect("memory does not fail");
        for batch in &self.done {
            writer.batch(batch).expect("memory does not fail");
        }
        bytes
    }
}

/// When a process of this host started, since boot.
pub(crate) fn start(pid: u32) -> u64 {
    u64::from(pid) * 100 * MS
}

/// What `tcp_time_wait()` makes of a socket that enters CLOSE.
fn time_wait(wire: &StateChange) -> u32 {
    let closed_first = matches!(wire.old, state::FIN_WAIT2 | state::CLOSING) && wire.sk_err == 0;
    flags::TIME_WAIT_KNOWN
        | match (closed_first, wire.flags & flags::DONE != 0) {
            (true, true) => flags::TIME_WAIT,
            (true, false) => flags::TIME_WAIT_ORPHAN,
            (false, _) => 0,
        }
}

/// A request on a listener of this host.
pub(crate) fn request_of(cookie: u64, what: u16, local: &str, peer: &str) -> RequestChange {
    let ends = Socket::new(cookie, state::SYN_RECV, local, peer).wire;
    let mut change = RequestChange::new_zeroed();
    (change.what, change.cookie, change.netns, change.family) = (what, cookie, NETNS, ends.family);
    (change.local_addr, change.local_port) = (ends.local_addr, ends.local_port);
    (change.peer_addr, change.peer_port) = (ends.peer_addr, ends.peer_port);
    change
}

/// A connection that a client opens and closes first, seen from the client alone.
pub(crate) fn client_life(tape: &mut Tape, client: Process, cookie: u64, local: &str, peer: &str, open: u64) {
    let unbound = if local.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let mut socket = Socket::new(cookie, state::CLOSE, unbound, peer);
    tape.enter(&mut socket, state::SYN_SENT, Some(client));
    socket.becomes(local, peer);
    tape.wait(2 * MS);
    tape.enter(&mut socket, state::ESTABLISHED, None);
    tape.wait(open);
    tape.enter(&mut socket, state::FIN_WAIT1, Some(client));
    tape.wait(MS);
    tape.enter(&mut socket, state::FIN_WAIT2, None);
    socket.wire.flags |= flags::DONE;
    tape.enter(&mut socket, state::CLOSE, None);
}
