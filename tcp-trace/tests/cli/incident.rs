//! Half a minute on a host that has a bit of every trouble; committed as `tests/data/incident.tctrace`.

use tcp_trace_common::{
    event::{RequestChange, flags, request_change},
    state::{CLOSE, CLOSE_WAIT, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LAST_ACK, LISTEN, SYN_RECV, SYN_SENT},
};
use tcp_trace_core::{
    filter::FilterSpec,
    session::{Degradation, Session},
};

use crate::{
    found,
    tape::{MS, NETNS, Process, SECOND, Socket, Tape, client_life, request_of, session},
};

pub(crate) const NGINX: Process = Process { pid: 812, comm: b"nginx" };
/// Forked by it; accepts on its listener.
pub(crate) const WORKER: Process = Process { pid: 813, comm: b"nginx" };
pub(crate) const SHOP: Process = Process { pid: 2301, comm: b"java" };
/// In a container, and there before the start.
pub(crate) const ORDERS: Process = Process { pid: 1490, comm: b"orders-api" };
const CURL: Process = Process { pid: 41_877, comm: b"curl" };
const BATCH: Process = Process { pid: 3120, comm: b"nightly-import" };
/// A name that means harm: to a terminal, to CSV, to JSON, to whoever reads from left to right.
pub(crate) const EVIL: Process = Process { pid: 6666, comm: b"a\"b,\n\x1b[31m\xff\\" };

const ECONNABORTED: u16 = 103;
const ECONNRESET: u16 = 104;
const ETIMEDOUT: u16 = 110;
const ECONNREFUSED: u16 = 111;

/// The recording.
pub(crate) fn recording() -> Vec<u8> {
    let mut tape = Tape::new(recorded());
    tape.wait(2 * MS);
    found::at_start(&mut tape);
    tape.wait(SECOND - 5 * MS);
    listen(&mut tape, NGINX, 100, "0.0.0.0:443");
    listen(&mut tape, SHOP, 101, "0.0.0.0:8080");
    listen(&mut tape, NGINX, 102, "[::]:443");
    tape.read_counters();
    loopback(&mut tape);
    refused(&mut tape);
    tape.wait(SECOND);
    leak(&mut tape);
    tape.read_counters();
    half_open(&mut tape);
    prefork(&mut tape);
    slow_to_accept(&mut tape);
    unknown_owner(&mut tape);
    orphan(&mut tape);
    client_life(&mut tape, CURL, 400, "[2001:db8::10]:53122", "[2001:db8:0:1::53]:443", 60 * MS);
    client_life(&mut tape, EVIL, 401, "10.0.0.4:50001", "198.51.100.66:6667", 900 * MS);
    tape.read_counters();
    timed_out(&mut tape);
    abrupt(&mut tape);
    tape.wait(5 * SECOND);
    tape.filter(CLOSE, SYN_SENT, 20);
    tape.filter(SYN_SENT, ESTABLISHED, 20);
    tape.lose(ESTABLISHED, CLOSE_WAIT, 3);
    tape.miss(1);
    tape.read_counters();
    tape.wait(3 * SECOND);
    found::meanwhile(&mut tape);
    tape.wait(2 * SECOND);
    found::at_end(&mut tape);
    tape.end()
}

/// A kernel that allows all programs but one.
fn recorded() -> Session {
    Session {
        programs: ["accepted", "request_timer", "syn_ack_retransmit", "time_wait"].map(Into::into).into(),
        filter: FilterSpec { netns: Some(NETNS), ..FilterSpec::default() },
        degradations: vec![Degradation {
            feature: "request_dropped".into(),
            reason:
                "the kernel has no function inet_csk_reqsk_queue_drop; so half-open requests that were reset \
                     are told from those that expired by their age only"
                    .into(),
            remedy: Some(
                "a kernel of 5.5 or later for x86-64, 6.4 for arm64, with CONFIG_FUNCTION_TRACER".into(),
            ),
        }],
        ..session()
    }
}

fn listen(tape: &mut Tape, process: Process, cookie: u64, local: &str) {
    let peer = if local.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let mut socket = Socket::new(cookie, CLOSE, local, peer);
    tape.enter(&mut socket, LISTEN, Some(process));
}

/// Both ends of a connection: the client closes first.
fn loopback(tape: &mut Tape) {
    let (client_end, server_end) = ("127.0.0.1:40514", "127.0.0.1:8080");
    let mut client = Socket::new(200, CLOSE, "127.0.0.1:0", server_end);
    tape.enter(&mut client, SYN_SENT, Some(CURL));
    client.becomes(client_end, server_end);
    tape.enter(&mut client, ESTABLISHED, Some(CURL));
    let mut server = accepted(tape, 201, server_end, client_end, 42_000);
    tape.wait(137 * MS);
    tape.enter(&mut client, FIN_WAIT1, Some(CURL));
    tape.enter(&mut server, CLOSE_WAIT, None);
    tape.enter(&mut client, FIN_WAIT2, None);
    tape.wait(MS);
    tape.enter(&mut server, LAST_ACK, Some(SHOP));
    client.wire.flags |= flags::DONE;
    client.transferred(1 + 412 + 1, 18_231 + 1);
    server.transferred(18_231 + 1, 412 + 1);
    tape.enter(&mut client, CLOSE, None);
    tape.enter(&mut server, CLOSE, None);
}

/// A child of a listener, up to ESTABLISHED.
fn accepted(tape: &mut Tape, cookie: u64, local: &str, peer: &str, half_open: u64) -> Socket {
    let mut child = Socket::new(cookie, LISTEN, local, peer);
    tape.enter(&mut child, SYN_RECV, None);
    child = child.requested(tape.now, half_open);
    tape.enter(&mut child, ESTABLISHED, None);
    child
}

/// Nobody listens there.
fn refused(tape: &mut Tape) {
    for attempt in 0..3 {
        let mut socket = Socket::new(210 + attempt, CLOSE, "0.0.0.0:0", "10.0.3.9:5432");
        tape.enter(&mut socket, SYN_SENT, Some(BATCH));
        socket.becomes(&format!("10.0.0.4:{}", 39_000 + attempt), "10.0.3.9:5432");
        socket.wire.sk_err = ECONNREFUSED;
        tape.enter(&mut socket, CLOSE, None);
        tape.wait(500 * MS);
    }
}

/// Seven connections from three peers, whose FIN the program never answers.
fn leak(tape: &mut Tape) {
    let peers = ["10.1.0.11", "10.1.0.12", "10.1.0.11", "10.1.0.13", "10.1.0.11", "10.1.0.12", "10.1.0.11"];
    for (number, peer) in (0..).zip(peers) {
        let peer = format!("{peer}:{}", 52_000 + number);
        let mut server = accepted(tape, 220 + number, "10.0.0.4:8080", &peer, 900_000);
        if number == 0 {
            // The program wrote to this one, so that it is known for certain whose it is.
            tape.enter(&mut server, CLOSE_WAIT, Some(SHOP));
        } else {
            tape.enter(&mut server, CLOSE_WAIT, None);
        }
        tape.wait(250 * MS);
    }
}

/// Handshakes that took long: a slow client, a lost SYN-ACK, a SYN cookie.
fn half_open(tape: &mut Tape) {
    for (number, half_open) in (0..).zip([48 * MS, 51 * MS, 55 * MS, 3300 * MS]) {
        let peer = format!("203.0.113.{}:61000", 7 + number);
        let mut child = accepted(tape, 240 + number, "10.0.0.4:443", &peer, half_open);
        if half_open > SECOND {
            child.wire.total_retrans = 2;
        }
        tape.wait(20 * MS);
        tape.enter(&mut child, FIN_WAIT1, Some(NGINX));
        tape.enter(&mut child, FIN_WAIT2, None);
        child.wire.flags |= flags::DONE;
        tape.enter(&mut child, CLOSE, None);
    }
    let mut by_cookie = Socket::new(250, LISTEN, "10.0.0.4:443", "203.0.113.99:61000");
    tape.enter(&mut by_cookie, SYN_RECV, None);
    tape.enter(&mut by_cookie, ESTABLISHED, None);
}

/// A worker accepts what came in on the listener of the process that forked it; the client closes first.
fn prefork(tape: &mut Tape) {
    let mut child = accepted(tape, 245, "10.0.0.4:443", "203.0.113.20:61000", 31 * MS);
    tape.accept(&child, WORKER);
    tape.wait(80 * MS);
    tape.enter(&mut child, CLOSE_WAIT, None);
    tape.wait(2 * MS);
    tape.enter(&mut child, LAST_ACK, Some(WORKER));
    child.transferred(3_000 + 1, 500 + 1);
    tape.enter(&mut child, CLOSE, None);
}

/// The client has answered, and its answer was turned away: the accept queue was full. Another never answers.
fn slow_to_accept(tape: &mut Tape) {
    let change = request_of(270, request_change::RETRANSMIT, "10.0.0.4:8080", "10.1.0.30:47000");
    let sent_ns = tape.now - SECOND;
    tape.request(&RequestChange {
        sent_ns,
        timeouts: 1,
        accept_queue: 129,
        accept_limit: 128,
        acked: 1,
        ..change
    });
    let change = request_of(280, request_change::RETRANSMIT, "10.0.0.4:443", "198.18.7.9:2000");
    tape.request(&RequestChange { sent_ns, timeouts: 1, accept_limit: 511, ..change });
    tape.wait(2 * SECOND);
    let mut child = Socket::new(270, LISTEN, "10.0.0.4:8080", "10.1.0.30:47000");
    tape.enter(&mut child, SYN_RECV, None);
    tape.enter(&mut child, ESTABLISHED, None);
    tape.wait(5 * MS);
    child.wire.flags |= flags::LINGER_ZERO;
    tape.enter(&mut child, CLOSE, Some(SHOP));
    tape.request(&request_of(280, request_change::EXPIRED, "10.0.0.4:443", "198.18.7.9:2000"));
}

/// A connection from before the start, which only softirqs touch.
fn unknown_owner(tape: &mut Tape) {
    let mut socket = Socket::new(7, ESTABLISHED, "10.0.0.4:34988", "10.0.3.2:6379");
    tape.enter(&mut socket, CLOSE_WAIT, None);
    tape.wait(5 * MS);
    tape.enter(&mut socket, LAST_ACK, None);
    tape.enter(&mut socket, CLOSE, None);
}

/// Another one from before the start, closed by its program; its peer has not closed yet.
fn orphan(tape: &mut Tape) {
    let mut socket = Socket::new(13, ESTABLISHED, "10.0.0.4:9000", "10.2.0.22:50500");
    tape.enter(&mut socket, FIN_WAIT1, Some(ORDERS));
    tape.enter(&mut socket, FIN_WAIT2, None);
    socket.transferred(77, 13);
    tape.enter(&mut socket, CLOSE, None);
}

/// Connections that end without a FIN.
fn abrupt(tape: &mut Tape) {
    let mut unread = accepted(tape, 300, "10.0.0.4:8080", "10.1.0.31:47001", 700_000);
    unread.transferred(0, 1_024);
    unread.wire.unread = 1_000;
    tape.enter(&mut unread, CLOSE, Some(SHOP));
    let mut reset = accepted(tape, 301, "10.0.0.4:8080", "10.1.0.31:47002", 700_000);
    reset.wire.sk_err = ECONNRESET;
    tape.enter(&mut reset, CLOSE, None);
    let mut killed = accepted(tape, 302, "10.0.0.4:8080", "10.1.0.31:47003", 700_000);
    killed.wire.sk_err = ECONNABORTED;
    tape.enter(&mut killed, CLOSE, Some(CURL));
    let mut given_up = Socket::new(303, CLOSE, "0.0.0.0:0", "192.0.2.2:9200");
    tape.enter(&mut given_up, SYN_SENT, Some(CURL));
    given_up.becomes("10.0.0.4:39020", "192.0.2.2:9200");
    tape.wait(300 * MS);
    tape.enter(&mut given_up, CLOSE, Some(CURL));
}

/// A peer that never answers; tried again and again by a kernel that was told to be quick about it.
fn timed_out(tape: &mut Tape) {
    let mut socket = Socket::new(260, CLOSE, "0.0.0.0:0", "192.0.2.1:9200");
    tape.enter(&mut socket, SYN_SENT, Some(BATCH));
    socket.becomes("10.0.0.4:39010", "192.0.2.1:9200");
    tape.wait(7 * SECOND);
    socket.wire.sk_err = ETIMEDOUT;
    tape.enter(&mut socket, CLOSE, None);
}
