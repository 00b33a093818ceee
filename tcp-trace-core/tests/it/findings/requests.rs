//! A flood, a slow program and a lossy network: each is found as what it is, and healthy traffic as nothing.

use std::fmt::Write as _;

use crate::check::check_report;

const LISTENER: &str = "+0ms CLOSE>LISTEN ck=1 0.0.0.0:80>0.0.0.0:0 ns=1 task=100:server\n";

/// A survey that lists `count` requests from as many addresses, a queue, and what the kernel has counted.
fn survey(at: u64, count: u64, age: &str, accept: &str, facts: &str) -> String {
    let mut input = format!("survey +{at}ms\nrow LISTEN ck=1 ns=1 inode=5 {accept} 0.0.0.0:80>0.0.0.0:0\n");
    for number in 0..count {
        let (host, ck) = (format!("198.18.{}.{}", number / 200, 1 + number % 200), 1000 + number);
        let _ = writeln!(input, "row NEW_SYN_RECV ck={ck} ns=1 timer=on {age} 10.0.0.1:80>{host}:4000");
    }
    let _ = writeln!(input, "facts ns=1 retries=5 {facts}\nsurveyed +{}ms report ns=1", at + 1);
    input
}

/// `count` connections that come in, each with these words about its handshake.
fn connections(count: u64, words: &str) -> String {
    let mut input = String::new();
    for number in 0..count {
        let tuple = format!("ck={} 10.0.0.1:80>10.0.0.2:{} ns=1", 5000 + number, 10_000 + number);
        let at = 10 + number;
        let _ = writeln!(input, "+{at}ms LISTEN>SYN_RECV {tuple}\n+{at}ms SYN_RECV>EST {tuple} {words}");
    }
    input
}

const OLD: &str = "expires=1500 tries=1";
const YOUNG: &str = "expires=600 tries=0";
const ROOM: &str = "rq=0 sq=256";

/// All that the namespace has counted before.
fn started() -> String {
    format!("session half_open\n{LISTENER}{}", survey(1, 0, OLD, ROOM, ""))
}

#[test]
fn a_flood_is_requests_that_nobody_completes() {
    let flood = survey(5000, 200, OLD, ROOM, "cookies=1");
    check_report(
        &format!("{}{flood}{}end +6000ms\nreport findings", started(), connections(20, "req=1")),
        "
        warning syn_flood listener 0.0.0.0:80 of server (100) since -: 200 of 220 requests to the listener 0.0.0.0:80 of server (100) were not completed by their clients, from about 201 addresses, hardly one of them twice, as forged ones are; SYN cookies are on, so that others still get in.
          → Limit SYNs to port 80 before this host (provider, load balancer, `synproxy`), and let `sysctl net.ipv4.tcp_syncookies` stay 1: forged addresses cannot be blocked one by one.
          [completed: 20 handshakes] [half-open: 200 requests] [half-open for 1 s or more: 200 requests] [completes: 0.091 share] [SYN queue: 200 of 256] [sources: 201 addresses] [most from: 198.18.0.0/24 (200 requests)] [net.ipv4.tcp_syncookies: 1]",
    );
}

/// Who asks most is somebody's best customer.
#[test]
fn a_flood_is_put_down_to_who_does_not_complete() {
    let flood = survey(5000, 400, OLD, ROOM, "cookies=1");
    check_report(
        &format!("{}{flood}{}end +6000ms\nreport findings", started(), connections(250, "req=1")),
        "
        warning syn_flood listener 0.0.0.0:80 of server (100) since -: 400 of 650 requests to the listener 0.0.0.0:80 of server (100) were not completed by their clients, from about 401 addresses, hardly one of them twice, as forged ones are; SYN cookies are on, so that others still get in.
          → Limit SYNs to port 80 before this host (provider, load balancer, `synproxy`), and let `sysctl net.ipv4.tcp_syncookies` stay 1: forged addresses cannot be blocked one by one.
          [completed: 250 handshakes] [half-open: 400 requests] [half-open for 1 s or more: 400 requests] [completes: 0.385 share] [SYN queue: 400 of 256] [sources: 401 addresses] [most from: 198.18.0.0/24 (200 requests)] [net.ipv4.tcp_syncookies: 1]",
    );
}

#[test]
fn without_cookies_everybody_suffers_and_the_advice_is_to_turn_them_on() {
    let flood = survey(5000, 120, OLD, "rq=0 sq=128", "cookies=0 full_drops=880");
    check_report(
        &format!("{}{flood}end +6000ms\nreport findings", started()),
        "
        critical syn_flood listener 0.0.0.0:80 of server (100) since -: 1000 of 1000 requests to the listener 0.0.0.0:80 of server (100) were not completed by their clients, from about 120 addresses, hardly one of them twice, as forged ones are; SYN cookies are off, and SYNs of everybody are dropped.
          → Turn SYN cookies on in its network namespace: `sysctl -w net.ipv4.tcp_syncookies=1`.
          [completed: 0 handshakes] [half-open: 120 requests] [half-open for 1 s or more: 120 requests] [beyond a full queue: 880 SYNs] [completes: 0 share] [SYN queue: 120 of 128] [sources: 120 addresses] [most from: 198.18.0.0/24 (120 requests)] [net.ipv4.tcp_syncookies: 0]",
    );
}

#[test]
fn many_syns_are_no_flood_as_long_as_they_are_completed_or_only_just_came() {
    // Three times as many have completed.
    let pending = survey(5000, 200, OLD, ROOM, "");
    check_report(
        &format!("{}{pending}{}end +6000ms\nreport findings", started(), connections(600, "req=1")),
        "findings: none",
    );
    // A burst that the survey saw arrive.
    let burst = survey(5000, 200, YOUNG, ROOM, "");
    check_report(&format!("{}{burst}end +6000ms\nreport findings", started()), "findings: none");
    // Cookies that were answered.
    let cookies = survey(5000, 120, YOUNG, "rq=0 sq=128", "full_cookies=900 received=890");
    check_report(&format!("{}{cookies}end +6000ms\nreport findings", started()), "findings: none");
}

#[test]
fn a_flood_that_leaves_no_request_is_put_down_to_its_namespace() {
    let flood = survey(5000, 0, OLD, ROOM, "cookies=2 full_cookies=500 received=3 passive=3");
    check_report(
        &format!("{}{flood}end +6000ms\nreport findings", started()),
        "
        warning syn_flood network namespace 1 since -: 497 SYNs beyond full queues came to nothing in this namespace; of which listener the kernel does not tell.
          → See which port they are for: `tcpdump -nn -c 100 'tcp[tcpflags] == tcp-syn'`.
          [beyond a full queue: 497 SYNs] [cookies answered: 3 cookies] [net.ipv4.tcp_syncookies: 2]",
    );
}

#[test]
fn a_program_that_does_not_accept_is_no_flood() {
    // The clients' final ACKs are dropped at the full queue, so that their requests look silent.
    let slow = survey(5000, 200, OLD, "rq=129 sq=128", "overflows=300");
    let answered =
        "request retransmit +2000ms ck=1000 10.0.0.1:80>198.18.0.1:4000 ns=1 queue=129/128 acked\n";
    check_report(
        &format!("{}{answered}{slow}end +6000ms\nreport findings", started()),
        "
        warning accept_queue_overflow listener 0.0.0.0:80 of server (100) since -: server (100) accepts too slowly: 129 connections wait to be accepted (backlog 128), and 300 times one was turned away at a full queue.
          → Find what keeps its accept loop (`cat /proc/100/task/*/wchan`, a profiler), or give it more workers; a longer backlog in listen() and `sysctl -w net.core.somaxconn=4096` only buy time.
          [accept queue: 129 of 128] [ListenOverflows: 300 times] [completed: 0 handshakes] [half-open: 200 requests]",
    );
    // A queue that is full and turns nobody away is a busy moment.
    let busy = survey(5000, 0, OLD, "rq=129 sq=128", "");
    check_report(&format!("{}{busy}end +6000ms\nreport findings", started()), "findings: none");
}

#[test]
fn handshakes_that_complete_after_a_retransmission_are_loss() {
    let calm = survey(5000, 0, OLD, ROOM, "");
    let handshakes = connections(6, "req=1300 retrans=1");
    check_report(
        &format!("{}{handshakes}{calm}end +6000ms\nreport findings", started()),
        "
        warning handshake_loss listener 0.0.0.0:80 of server (100) since -: 6 of 6 handshakes with the listener 0.0.0.0:80 of server (100) completed only after the SYN-ACK was sent again: it or its answer was lost on the way, or the clients are slow.
          → Look for loss on the way to them: `mtr -rwc 100 10.0.0.0` (their network), and `ip -s link`, `nstat -az TcpRetransSegs` on this host.
          [SYN-ACK sent again: 6 handshakes] [slowest: 1300.000] [completed: 6 handshakes] [half-open: 0 requests] [completes: 1 share] [SYN queue: 0 of 256] [sources: 1 addresses] [most from: 10.0.0.0/24 (6 requests)]",
    );
    // One in a hundred is life.
    let few =
        connections(5, "req=1300 retrans=1") + &connections(500, "req=1").replace("10.0.0.2:", "10.0.0.3:");
    check_report(&format!("{}{few}{calm}end +6000ms\nreport findings", started()), "findings: none");
}
