//! What a busy host sends: whole lives of connections over loopback, many at a time, in the bytes of the wire.

use tcp_trace_common::{
    address::AF_INET,
    event::{RequestChange, SocketUse, StateChange, flags, kind as event_kind, request_change, socket_use},
    packed::{Head, PackedChange, Parts, Rest, User},
    state,
};
use tcp_trace_core::{
    record::{Record, kind},
    session::{Attach, Host, Session},
    time::{ClockAnchor, Timestamp},
};
use zerocopy::{FromZeros as _, Immutable, IntoBytes};

/// CLOCK_MONOTONIC at the start of the session, nanoseconds.
const START: u64 = 1_000_000_000_000;
/// Cookie of the first listener; those of connections begin far above.
const LISTENERS: u64 = 1;
/// Listeners, each with a process and a port of its own.
const SERVERS: u64 = 16;
/// Processes that connect.
const CLIENTS: u64 = 64;
/// Transitions of the two ends of one connection until it is open, and until it is closed.
const OPENING: usize = 5;
const LIFE: usize = 11;

/// Records of the ring buffer, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Load {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Nanoseconds since [`START`].
    clock: u64,
    /// Connections made so far.
    made: u64,
}

/// One connection, whose two ends are sockets of this host.
#[derive(Clone, Copy, Debug)]
struct Pair {
    number: u64,
    /// How many of its steps were taken.
    step: usize,
}

impl Load {
    /// `connections` whole lives, `open` of them at a time.
    pub(crate) fn lives(connections: u64, open: usize) -> Self {
        let mut load = Self::default();
        load.listen();
        let mut pairs: Vec<Pair> = Vec::new();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        while load.made < connections || !pairs.is_empty() {
            if pairs.len() < open && load.made < connections {
                pairs.push(load.begin());
            }
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let index = (random >> 33) as usize % pairs.len();
            load.step(&mut pairs[index]);
            if pairs[index].step == LIFE {
                pairs.swap_remove(index);
            }
        }
        load
    }

    /// Connections that are opened and not closed: two sockets each.
    pub(crate) fn open(sockets: u64) -> Self {
        let mut load = Self::default();
        load.listen();
        while load.made < sockets / 2 {
            let mut pair = load.begin();
            while pair.step < OPENING + 1 {
                load.step(&mut pair);
            }
        }
        load
    }

    /// How many records.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The records, as the decoder takes them.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, end)| Record { kind: kind::EVENT, bytes: &self.bytes[start..*end] })
    }

    fn listen(&mut self) {
        for server in 0..SERVERS {
            let mut event = self.event(state::CLOSE, state::LISTEN, LISTENERS + server);
            event.local_port = port(server);
            self.task(&mut event, 1_000 + server, b"server");
            self.push_packed(&event);
        }
    }

    fn begin(&mut self) -> Pair {
        self.made += 1;
        Pair { number: self.made, step: 0 }
    }

    /// The next thing that happens to one of the two ends.
    fn step(&mut self, pair: &mut Pair) {
        let Pair { number, step } = *pair;
        let (client, server) = (1_000 + 2 * number, 1_001 + 2 * number);
        pair.step += 1;
        let (cookie, old, new) = match step {
            0 => (client, state::CLOSE, state::SYN_SENT),
            1 => (server, state::LISTEN, state::SYN_RECV),
            2 => (server, state::SYN_RECV, state::ESTABLISHED),
            3 => (client, state::SYN_SENT, state::ESTABLISHED),
            4 => return self.accept(server, number),
            5 => return self.retransmit(server, number),
            6 => (client, state::ESTABLISHED, state::FIN_WAIT1),
            7 => (server, state::ESTABLISHED, state::CLOSE_WAIT),
            8 => (client, state::FIN_WAIT1, state::FIN_WAIT2),
            9 => (server, state::CLOSE_WAIT, state::LAST_ACK),
            _ => {
                self.transition(number, client, state::FIN_WAIT2, state::CLOSE);
                (server, state::LAST_ACK, state::CLOSE)
            }
        };
        self.transition(number, cookie, old, new);
    }

    fn transition(&mut self, number: u64, cookie: u64, old: u8, new: u8) {
        let mut event = self.event(old, new, cookie);
        let (near, far) = (ephemeral(number), port(number % SERVERS));
        let is_client = cookie.is_multiple_of(2);
        (event.local_port, event.peer_port) = if is_client { (near, far) } else { (far, near) };
        event.local_addr = loopback(if is_client { number } else { 0 });
        event.peer_addr = loopback(if is_client { 0 } else { number });
        match (old, new) {
            (state::CLOSE, _) | (state::ESTABLISHED, state::FIN_WAIT1) => {
                self.task(&mut event, 2_000 + number % CLIENTS, b"client");
            }
            (state::CLOSE_WAIT, _) => self.task(&mut event, 1_000 + number % SERVERS, b"server"),
            (state::SYN_RECV, _) => {
                event.flags |= flags::HAS_REQUEST;
                event.request_ns = event.time_ns - 41_000 - number % 1_000;
            }
            (_, state::CLOSE) => {
                // Its program has closed it before.
                event.flags |= flags::HAS_BYTES | flags::DONE | flags::NO_FILE;
                (event.bytes_received, event.bytes_acked) = (18_231, 412);
            }
            _ => {}
        }
        self.push_packed(&event);
    }

    fn accept(&mut self, cookie: u64, number: u64) {
        let task = 1_000 + number % SERVERS;
        let mut used = SocketUse::new_zeroed();
        (used.kind, used.how, used.cookie) = (event_kind::SOCKET_USE, socket_use::ACCEPT, cookie);
        used.time_ns = self.tick();
        (used.tgid, used.tid) = (task as u32, task as u32);
        used.process_start_ns = task * 10_000_000;
        used.comm[..6].copy_from_slice(b"server");
        self.push(&used);
    }

    /// One SYN-ACK in 64 is sent twice: of another connection's request, which stays half-open.
    fn retransmit(&mut self, cookie: u64, number: u64) {
        if !number.is_multiple_of(64) {
            return;
        }
        let mut change = RequestChange::new_zeroed();
        (change.kind, change.what) = (event_kind::REQUEST_CHANGE, request_change::RETRANSMIT);
        (change.cookie, change.time_ns, change.netns) = (cookie | 1 << 48, self.tick(), 4_026_531_840);
        (change.local_addr, change.local_port) = (loopback(0), port(number % SERVERS));
        (change.peer_addr, change.peer_port) = (loopback(number), ephemeral(number));
        (change.sent_ns, change.family) = (change.time_ns - 1_000_000_000, AF_INET);
        (change.accept_queue, change.accept_limit) = (1, 128);
        self.push(&change);
    }

    fn event(&mut self, old: u8, new: u8, cookie: u64) -> StateChange {
        let mut event = StateChange::new_zeroed();
        (event.kind, event.old, event.new) = (event_kind::STATE_CHANGE, old, new);
        event.flags = flags::HAS_SOCK | flags::HAS_TCP;
        event.time_ns = self.tick();
        (event.cookie, event.skaddr) = (cookie, 0xffff_8881_0000_0000 + cookie * 2_304);
        (event.family, event.netns, event.cgroup_id) = (AF_INET, 4_026_531_840, 1 + cookie % 32);
        (event.local_addr, event.peer_addr) = (loopback(0), loopback(0));
        event.srtt_us = 50;
        event
    }

    fn task(&mut self, event: &mut StateChange, task: u64, comm: &[u8; 6]) {
        event.flags |= flags::TASK;
        (event.tgid, event.tid) = (task as u32, task as u32);
        event.process_start_ns = task * 10_000_000;
        event.comm[..6].copy_from_slice(comm);
    }

    fn tick(&mut self) -> u64 {
        self.clock += 3_517;
        START + self.clock
    }

    /// As long as it has to be, which is how the main programs write it.
    fn push_packed(&mut self, event: &StateChange) {
        let rest = if event.flags & (flags::HAS_REQUEST | flags::HAS_BYTES) != 0 { flags::REST } else { 0 };
        let ipv4 = |address: [u8; 16]| {
            let [.., a, b, c, d] = address;
            u32::from_ne_bytes([a, b, c, d])
        };
        let head = Head {
            kind: event_kind::PACKED_CHANGE,
            old: event.old,
            new: event.new,
            flags: event.flags | rest,
            time_ns: event.time_ns,
            cookie: event.cookie,
            skaddr: event.skaddr,
            cgroup_low: event.cgroup_id as u32,
            netns: event.netns,
            local_v4: ipv4(event.local_addr),
            peer_v4: ipv4(event.peer_addr),
            local_port: event.local_port,
            peer_port: event.peer_port,
            srtt_us: event.srtt_us,
        };
        let user = User {
            process_start_ns: event.process_start_ns,
            tgid: event.tgid,
            tid: event.tid,
            comm: zerocopy::transmute!(event.comm),
        };
        let StateChange { request_ns, bytes_received, bytes_acked, .. } = *event;
        let rest = Rest { request_ns, bytes_received, bytes_acked, ..Rest::default() };
        let change = PackedChange { head, user, rest, ..PackedChange::default() };
        let length = Parts::of(head.flags).length();
        self.bytes.extend_from_slice(&change.as_bytes()[..length]);
        self.ends.push(self.bytes.len());
    }

    fn push(&mut self, record: &(impl IntoBytes + Immutable)) {
        self.bytes.extend_from_slice(record.as_bytes());
        self.ends.push(self.bytes.len());
    }
}

/// 127.0.0.1 and, so that more connections fit than there are ports, its neighbours.
fn loopback(number: u64) -> [u8; 16] {
    let [.., high, low] = (1 + number / 28_000).to_be_bytes();
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, high, low]
}

fn port(server: u64) -> u16 {
    8_080 + server as u16
}

fn ephemeral(number: u64) -> u16 {
    32_768 + (number % 28_000) as u16
}

/// A session that knows everything and lacks nothing.
pub(crate) fn session() -> Session {
    Session {
        program: "0.0.0".into(),
        pid: Some(1),
        host: Host { name: "bench".into(), kernel: "6.18.0".into(), boot_id: None },
        anchor: ClockAnchor { monotonic_ns: START, boottime_ns: START, unix_ns: 1_700_000_000_000_000_000 },
        started: Timestamp(START),
        attach: Attach::TpBtf,
        half_open: true,
        programs: ["accepted", "half_open", "last_close", "time_wait"].map(str::to_owned).into(),
        filter: tcp_trace_core::filter::FilterSpec::default(),
        buffer_bytes: 16 << 20,
        degradations: Vec::new(),
    }
}
