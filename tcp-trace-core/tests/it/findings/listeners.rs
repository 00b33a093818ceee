//! Listeners that are too small, and that come and go.

use std::fmt::Write as _;

use crate::check::check_report;

/// `count` connections in ten seconds, all accepted at once, of a listener with this queue and these drops.
fn busy(count: u64, queue: &str, drops: u64, overflows: u64) -> String {
    let mut input = "
        survey +0ms
        facts ns=1
        facts listener ck=9 drops=7
        surveyed +0ms all holders ns=1
        +0ms CLOSE>LISTEN ck=1 10.0.0.1:80>0.0.0.0:0 ns=1 task=200:server start=5\n"
        .to_owned();
    for number in 0..count {
        let (ck, at) = (10 + number, 10 + number * 10_000 / count);
        let tuple = format!("ck={ck} 10.0.0.1:80>10.0.0.2:{} ns=1", 4_000 + number);
        let _ = writeln!(input, "+{at}ms LISTEN>SYN_RECV {tuple}\n+{at}ms SYN_RECV>EST {tuple} srtt=1");
    }
    let _ = write!(
        input,
        "survey +10020ms
        row LISTEN ck=1 ns=1 inode=11 {queue} 10.0.0.1:80>0.0.0.0:0
        facts ns=1 overflows={overflows}
        facts listener ck=1 drops={drops}
        surveyed +10021ms report holders ns=1
        end +10100ms
        report findings"
    );
    input
}

#[test]
fn a_queue_that_is_full_within_a_second_of_what_comes_is_too_small() {
    check_report(&busy(500, "rq=0 sq=4", 60, 60), "
        warning listener_backlog listener 10.0.0.1:80 of server (200) since -: The backlog of 4 at 10.0.0.1:80 is too small for bursts of 50 connections a second on average: server (200) accepts fast enough, but 60 SYNs and final ACKs found the queue full, and each costs its client a second or more.
          → Give listen() at 10.0.0.1:80 a backlog of 128; many servers have a setting for it (nginx: `listen … backlog=128`).
          [turned away: 60 SYNs and ACKs] [of these for want of room, at most: 60 SYNs and ACKs] [backlog: 4 connections] [came in: 500 connections] [rate: 49.505 connections/s] [net.core.somaxconn: 4096 connections]");
}

#[test]
fn a_slow_program_s_and_drops_for_other_reasons_are_not() {
    check_report(&busy(20, "rq=0 sq=16", 60, 60), "findings: none");
    check_report(&busy(500, "rq=0 sq=4", 60, 0), "findings: none");
    check_report(&busy(500, "rq=0 sq=4", 9, 60), "findings: none");
}

/// A listener from `at` on for a second, with `queued` connections that nobody accepts.
fn listens(at: u64, ck: u64, pid: u64, queued: u64) -> String {
    let end = at + 1_000;
    let listener = format!("ck={ck} 10.0.0.1:80>0.0.0.0:0 ns=1 task={pid}:server start={at}");
    let mut input = format!("+{at}ms CLOSE>LISTEN {listener}\n");
    let queue: Vec<_> =
        (1..=queued).map(|n| format!("ck={} 10.0.0.1:80>10.0.0.2:{} ns=1", ck + n, 4_000 + ck + n)).collect();
    for tuple in &queue {
        let _ = writeln!(input, "+{at}ms LISTEN>SYN_RECV {tuple}\n+{at}ms SYN_RECV>EST {tuple} srtt=1");
    }
    let _ = writeln!(input, "+{end}ms LISTEN>CLOSE {listener}");
    for tuple in &queue {
        let _ = writeln!(input, "+{end}ms EST>CLOSE {tuple} err=0 nofile");
    }
    input
}

const STILL: &str = "+5000ms CLOSE>LISTEN ck=900 10.0.0.1:80>0.0.0.0:0 ns=1 task=209:server start=5000\n";

#[test]
fn a_listener_that_goes_with_connections_queued_cuts_them_off() {
    check_report(&format!("{}end +6000ms\nreport findings", listens(100, 10, 200, 3)), "
        warning listener_gone listener 10.0.0.1:80 of server (200) since +1100.000: server (200) closed its listener at 10.0.0.1:80 while 3 connections waited to be accepted, and were reset; nobody listens there now.
          → If it was to stop, take it out of the load balancer first and accept what waits; if not, start it again and see why it ended: `journalctl -e`, `ss -ltn 'sport = :80'`.
          [closed: 1 listeners] [opened: 1 listeners] [reset unaccepted: 3 connections] [peers: 10.0.0.2 (3 of 3)]");
}

#[test]
fn one_that_goes_with_none_has_ended() {
    check_report(&format!("{}end +6000ms\nreport findings", listens(100, 10, 200, 0)), "findings: none");
}

#[test]
fn a_restart_that_cuts_off_who_waits_is_told_and_another_is_not() {
    check_report(&format!("{}{STILL}end +6000ms\nreport findings", listens(100, 10, 200, 2)), "
        warning listener_restarted listener 10.0.0.1:80 of server (209) since -: The listener at 10.0.0.1:80 was closed and opened again once, now by server (209), and 2 connections that waited to be accepted were reset.
          → Restart without closing the listener: let systemd hold it (a `.socket` unit with `ListenStream=10.0.0.1:80`), or hand it over, and accept what waits before the old one is closed.
          [closed: 1 listeners] [opened: 2 listeners] [reset unaccepted: 2 connections] [longest without a listener: 3900.000] [peers: 10.0.0.2 (2 of 2)]");
    check_report(
        &format!("{}{STILL}end +6000ms\nreport findings", listens(100, 10, 200, 0)),
        "findings: none",
    );
}

#[test]
fn three_restarts_are_too_many() {
    let input = [listens(100, 10, 200, 0), listens(1_500, 20, 201, 0), listens(3_000, 30, 202, 0)].concat();
    check_report(&format!("{input}{STILL}end +6000ms\nreport findings"), "
        warning listener_restarted listener 10.0.0.1:80 of server (209) since -: The listener at 10.0.0.1:80 was closed and opened again 3 times, now by server (209).
          → See why it ends: `journalctl -e _PID=209` or its own log; what connects to 10.0.0.1:80 meanwhile is refused.
          [closed: 3 listeners] [opened: 4 listeners] [reset unaccepted: 0 connections] [longest without a listener: 1000.000]");
}

#[test]
fn one_of_several_listeners_that_goes_is_no_restart() {
    let other = "+0ms CLOSE>LISTEN ck=800 10.0.0.1:80>0.0.0.0:0 ns=1 task=208:server start=1\n";
    check_report(
        &format!("{other}{}{STILL}end +6000ms\nreport findings", listens(100, 10, 200, 0)),
        "findings: none",
    );
}
