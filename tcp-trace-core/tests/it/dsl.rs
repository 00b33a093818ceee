//! The language of scenarios: one line per event, read into the bytes that the kernel program would write.
//!
//! ```text
//! +0.000ms CLOSE>SYN_SENT ck=7 sk=a0 127.0.0.1:0>127.0.0.1:80 task=100/101:client ns=1
//! ```
//!
//! `+0.000ms` counts from the session's start. `ck` is the cookie, `sk` the address, `task` is there when the
//! socket was owned (process/thread:name). Further words: `cg` cgroup, `err` sk_err, `done` SOCK_DONE,
//! `srtt=250.3` in ms, `retrans`, `rto=count/ms`, `req=<ms before>` the request's age, `tfo` a Fast Open one,
//! `fentry` one seen by fentry, `nofile` a socket without a file, `linger0` SO_LINGER with 0,
//! `v6` a socket of AF_INET6 that speaks IPv4, `thread` a task of which only the thread's name is known,
//! `start` when its process began. `EST` is short for ESTABLISHED.

use std::net::SocketAddr;

use tcp_trace_common::{
    address::{AF_INET, AF_INET6},
    aggregate::{AggregateRow, HELD, NO_TIME, bucket, what},
    event::{RequestChange, SocketUse, StateChange, flags, kind, request_change, socket_use},
};
use tcp_trace_core::{endpoint::Endpoint, mode::ModeChange, state::TcpState};
use zerocopy::FromZeros;

/// CLOCK_MONOTONIC at the start of every session, in nanoseconds.
pub(crate) const BASE: u64 = 1_000_000_000_000;

/// The first word of `line`, and the rest.
pub(crate) fn word(line: &str) -> (&str, &str) {
    let line = line.trim_start();
    line.split_once(char::is_whitespace).map_or((line, ""), |(word, rest)| (word, rest.trim()))
}

/// `+1.5ms` → nanoseconds of CLOCK_MONOTONIC.
pub(crate) fn time(text: &str) -> u64 {
    let text = text.strip_prefix('+').and_then(|text| text.strip_suffix("ms"));
    BASE + nanoseconds(text.unwrap_or_else(|| panic!("a time is like +1.5ms")))
}

/// Milliseconds with up to six decimals → nanoseconds, without rounding.
pub(crate) fn nanoseconds(ms: &str) -> u64 {
    let (whole, part) = ms.split_once('.').unwrap_or((ms, ""));
    whole.parse::<u64>().unwrap() * 1_000_000 + format!("{part:0<6}").parse::<u64>().unwrap()
}

/// `EST>CLOSE_WAIT`.
pub(crate) fn transition(text: &str) -> (u8, u8) {
    let (old, new) = text.split_once('>').unwrap_or_else(|| panic!("`{text}` is not a transition"));
    let number = |name: &str| match name {
        "EST" => TcpState::Established.number(),
        name => name.parse::<TcpState>().unwrap_or_else(|error| panic!("{error}")).number(),
    };
    (number(old), number(new))
}

/// One event. `bare` leaves out what a perf tracepoint cannot know.
pub(crate) fn event(line: &str, bare: bool) -> StateChange {
    let (at, rest) = word(line);
    let (states, rest) = word(rest);
    let mut event = StateChange::new_zeroed();
    event.kind = kind::STATE_CHANGE;
    event.time_ns = time(at);
    (event.old, event.new) = transition(states);
    event.flags = if bare { 0 } else { flags::HAS_SOCK | flags::HAS_TCP };
    for attribute in rest.split_whitespace() {
        match attribute.split_once('=') {
            Some((name, value)) => value_of(&mut event, name, value),
            None => flag(&mut event, attribute),
        }
    }
    event
}

fn flag(event: &mut StateChange, word: &str) {
    match word {
        "done" => event.flags |= flags::DONE,
        "tfo" => event.flags |= flags::FAST_OPEN,
        "fentry" => event.flags |= flags::REQUEST_BY_FENTRY,
        "nofile" => event.flags |= flags::NO_FILE,
        "linger0" => event.flags |= flags::LINGER_ZERO,
        "thread" => event.flags |= flags::THREAD_COMM,
        "v6" => event.family = AF_INET6,
        tuple => ends(event, tuple),
    }
}

/// `127.0.0.1:4000>[::1]:80`.
fn ends(event: &mut StateChange, tuple: &str) {
    let (local, peer) = tuple.split_once('>').unwrap_or_else(|| panic!("what is `{tuple}`?"));
    let end = |text: &str| {
        let end: SocketAddr = text.parse().unwrap();
        Endpoint { address: end.ip(), port: end.port() }
    };
    let (local, peer) = (end(local), end(peer));
    (event.local_addr, event.local_port) = (local.wire_address(), local.port);
    (event.peer_addr, event.peer_port) = (peer.wire_address(), peer.port);
    if event.family == 0 {
        event.family = if local.address.is_ipv4() { AF_INET } else { AF_INET6 };
    }
}

fn value_of(event: &mut StateChange, name: &str, value: &str) {
    match name {
        "ck" => event.cookie = value.parse().unwrap(),
        "sk" => event.skaddr = u64::from_str_radix(value, 16).unwrap(),
        "ns" => event.netns = value.parse().unwrap(),
        "cg" => event.cgroup_id = value.parse().unwrap(),
        "err" => event.sk_err = value.parse().unwrap(),
        "srtt" => event.srtt_us = u32::try_from(nanoseconds(value) / 1_000).unwrap(),
        "retrans" => event.total_retrans = value.parse().unwrap(),
        "start" => event.process_start_ns = nanoseconds(value),
        "req" => {
            event.flags |= flags::HAS_REQUEST;
            event.request_ns = event.time_ns - nanoseconds(value);
        }
        "rto" => {
            let (count, ms) = value.split_once('/').unwrap();
            event.flags |= flags::HAS_RTO;
            (event.total_rto, event.total_rto_time_ms) = (count.parse().unwrap(), ms.parse().unwrap());
        }
        "task" => task(event, value),
        // received/acked/unread
        "bytes" => {
            let numbers: Vec<u64> = value.split('/').map(|number| number.parse().unwrap()).collect();
            let [received, acked, unread] = numbers[..] else { panic!("bytes=received/acked/unread") };
            event.flags |= flags::HAS_BYTES;
            (event.bytes_received, event.bytes_acked) = (received, acked);
            event.unread = u32::try_from(unread).unwrap();
        }
        // `time_wait`, `orphan` or `none`: what the kernel made of it, for certain.
        "left" => {
            event.flags |= flags::TIME_WAIT_KNOWN;
            event.flags |= match value {
                "time_wait" => flags::TIME_WAIT,
                "orphan" => flags::TIME_WAIT_ORPHAN,
                _ => 0,
            };
        }
        unknown => panic!("what is `{unknown}`?"),
    }
}

/// `100:name` or `100/101:name`.
fn task(event: &mut StateChange, text: &str) {
    let (ids, comm) = text.split_once(':').unwrap();
    let (process, thread) = ids.split_once('/').unwrap_or((ids, ids));
    event.flags |= flags::TASK;
    (event.tgid, event.tid) = (process.parse().unwrap(), thread.parse().unwrap());
    event.comm[..comm.len()].copy_from_slice(comm.as_bytes());
}

/// `accept +1ms ck=7 task=100:name`.
pub(crate) fn socket_use(line: &str) -> SocketUse {
    let (how, rest) = word(line);
    let (at, rest) = word(rest);
    // The attributes are those of an event.
    let event = event(&format!("{at} CLOSE>CLOSE {rest}"), false);
    SocketUse {
        kind: kind::SOCKET_USE,
        how: match how {
            "accept" => socket_use::ACCEPT,
            "read" => socket_use::READ,
            _ => socket_use::CLOSE,
        },
        flags: 0,
        time_ns: event.time_ns,
        cookie: event.cookie,
        skaddr: event.skaddr,
        process_start_ns: event.process_start_ns,
        tgid: event.tgid,
        tid: event.tid,
        comm: event.comm,
    }
}

/// `retransmit +1ms ck=7 10.0.0.1:80>10.0.0.2:4000 ns=1 queue=5/4 sent=<ms before> timeouts=1 acked`.
pub(crate) fn request_change(line: &str) -> RequestChange {
    let (what, rest) = word(line);
    let (at, rest) = word(rest);
    let mut change = RequestChange::new_zeroed();
    change.kind = kind::REQUEST_CHANGE;
    change.what = match what {
        "retransmit" => request_change::RETRANSMIT,
        "expired" => request_change::EXPIRED,
        "dropped" => request_change::DROPPED,
        unknown => panic!("what is `{unknown}`?"),
    };
    let mut words = Vec::new();
    for attribute in rest.split_whitespace() {
        match attribute.split_once('=') {
            None if attribute == "acked" => change.acked = 1,
            Some(("sent", ms)) => change.sent_ns = time(at) - nanoseconds(ms),
            Some(("timeouts", count)) => change.timeouts = count.parse().unwrap(),
            Some(("queue", queue)) => {
                let (length, limit) = queue.split_once('/').unwrap();
                (change.accept_queue, change.accept_limit) =
                    (length.parse().unwrap(), limit.parse().unwrap());
            }
            _ => words.push(attribute),
        }
    }
    let event = event(&format!("{at} CLOSE>CLOSE {}", words.join(" ")), false);
    (change.time_ns, change.cookie, change.netns) = (event.time_ns, event.cookie, event.netns);
    (change.local_addr, change.local_port) = (event.local_addr, event.local_port);
    (change.peer_addr, change.peer_port) = (event.peer_addr, event.peer_port);
    change.family = event.family;
    change
}

/// `+1ms aggregate lost`.
pub(crate) fn mode(line: &str) -> ModeChange {
    let (at, rest) = word(line);
    let (mode, reason) = word(rest);
    let json = format!("{{\"time\":{},\"mode\":\"{mode}\",\"reason\":\"{reason}\"}}", time(at));
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// `5 EST>FIN_WAIT1 pid=100 start=1 ns=1 cg=2 port=80 err=111 time=1.5 srtt|sock_ops|cookie|time_wait|orphan|held`.
pub(crate) fn aggregate(line: &str) -> AggregateRow {
    let (count, rest) = word(line);
    let (states, rest) = word(rest);
    let mut row = AggregateRow::new_zeroed();
    row.count = count.parse().unwrap();
    let key = &mut row.key;
    (key.old, key.new) = transition(states);
    key.bucket = NO_TIME;
    for attribute in rest.split_whitespace() {
        match attribute.split_once('=') {
            Some(("pid", pid)) => key.tgid = pid.parse().unwrap(),
            Some(("start", ms)) => key.process_start_ns = nanoseconds(ms),
            Some(("ns", netns)) => key.netns = netns.parse().unwrap(),
            Some(("cg", id)) => key.cgroup_id = id.parse().unwrap(),
            Some(("port", port)) => key.listener_port = port.parse().unwrap(),
            Some(("err", errno)) => key.error = errno.parse().unwrap(),
            Some(("time", ms)) => key.bucket = bucket(nanoseconds(ms)),
            _ => {
                key.what |= match attribute {
                    "sock_ops" => what::SOCK_OPS,
                    "srtt" => what::SRTT,
                    "cookie" => what::COOKIE,
                    "unmeasured" => what::UNMEASURED,
                    "time_wait" => what::TIME_WAIT,
                    "orphan" => what::ORPHAN,
                    "held" => HELD,
                    unknown => panic!("what is `{unknown}`?"),
                }
            }
        }
    }
    row
}
