//! Connections that are cut off instead of closed.

use std::fmt::Write as _;

use crate::check::check_report;

/// Connections of a server that end like this: `each` in every second of `seconds`. The words come last.
fn served(first: u64, each: u64, seconds: u64, end: &str) -> String {
    let mut input = String::new();
    for number in 0..each * seconds {
        let (ck, at) = (first + number, 1_000 + number / each * 1_000 + number % each);
        let tuple = format!("ck={ck} 10.0.0.1:80>10.0.0.{}:{} ns=1", 2 + number % 3, 4_000 + ck);
        let _ = writeln!(input, "+{at}ms LISTEN>SYN_RECV {tuple}\n+{at}ms SYN_RECV>EST {tuple} srtt=1");
        let _ = writeln!(input, "use accept +{at}ms ck={ck} task=200:server start=5");
        for transition in end.split('|') {
            let (states, words) = transition.trim().split_once(' ').unwrap();
            let _ = writeln!(input, "+{at}ms {states} {tuple} {words}");
        }
    }
    input
}

const LISTENS: &str = "+0ms CLOSE>LISTEN ck=1 0.0.0.0:80>0.0.0.0:0 ns=1 task=200:server start=5\n";
const RESET: &str = "EST>CLOSE err=104";
const OWN: &str = "task=200:server start=5";

fn report(events: &str) -> String {
    format!("{LISTENS}{events}end +9000ms\nreport findings")
}

#[test]
fn resets_second_after_second_are_a_storm_with_side_state_and_listener() {
    check_report(&report(&served(10, 30, 4, RESET)), "
        warning reset_storm server (200) since -: Of server (200), the peers reset 120 of 120 connections in ESTABLISHED: they gave up connections that were in use (a crash, a time-out, a proxy or firewall in between).
          → Look at the peers' logs and time-outs, and those of what stands in between; `tcp-trace stream --closed -p 200` lists each with its peer.
          [reset: 120 connections] [ended in all: 120 connections] [seconds with any: 4 s] [rate in these: 1800 connections/min] [listener: 0.0.0.0:80 (120 of 120)] [peers: 10.0.0.2 (40 of 120, 3 in all)] [by the peer in: ESTABLISHED (120)]");
}

#[test]
fn a_client_that_dies_with_all_its_connections_is_none() {
    check_report(&report(&served(10, 500, 1, RESET)), "findings: none");
}

#[test]
fn a_few_among_many_are_none() {
    let orderly = format!("EST>CLOSE_WAIT done|CLOSE_WAIT>LAST_ACK done {OWN}|LAST_ACK>CLOSE done err=0");
    let both = format!("{}{}", served(10, 30, 4, RESET), served(1_000, 200, 4, &orderly));
    check_report(&report(&both), "findings: none");
}

#[test]
fn data_for_what_is_closed_is_reset_by_this_side() {
    let late = format!("EST>FIN_WAIT1 {OWN}|FIN_WAIT1>FIN_WAIT2 err=0|FIN_WAIT2>CLOSE err=0 left=none");
    check_report(&report(&served(10, 30, 4, &late)), "
        warning reset_storm server (200) since -: Of server (200), the kernel here reset 120 of 120 connections in FIN_WAIT2: data came for connections that the program had closed already.
          → Let the program read to the end before close(): shutdown(SHUT_WR), read() until 0, then close(); `tcp-trace stream --closed -p 200` lists each with its peer.
          [reset: 120 connections] [ended in all: 120 connections] [seconds with any: 4 s] [rate in these: 1800 connections/min] [listener: 0.0.0.0:80 (120 of 120)] [peers: 10.0.0.2 (40 of 120, 3 in all)] [by this host in: FIN_WAIT2 (120)]");
}

#[test]
fn linger_zero_counts_where_data_has_gone() {
    let linger = format!("EST>CLOSE linger0 err=0 bytes=100/200/0 {OWN}");
    check_report(&report(&served(10, 30, 4, &linger)), "
        warning linger_zero_close server (200) since -: server (200) has closed 120 of 120 connections with SO_LINGER on and a time of 0: the kernel sends a reset instead of a FIN, and throws away what has not arrived.
          → Take the setsockopt(SO_LINGER, {1, 0}) out, or do shutdown(SHUT_WR) and read() until 0 before close(); `strace -f -e trace=setsockopt,close -p 200` shows where it is.
          [closed with linger 0: 120 connections] [ended in all: 120 connections] [seconds with any: 4 s] [rate in these: 1800 connections/min] [listener: 0.0.0.0:80 (120 of 120)] [peers: 10.0.0.2 (40 of 120, 3 in all)]");
    let checked = format!("EST>CLOSE linger0 err=0 bytes=0/0/0 {OWN}");
    check_report(&report(&served(10, 30, 4, &checked)), "findings: none");
}

#[test]
fn unread_data_resets() {
    let unread = format!("EST>CLOSE err=0 bytes=100/200/50 {OWN}");
    check_report(&report(&served(10, 30, 4, &unread)), "
        warning abort_unread_data server (200) since -: server (200) has closed 120 of 120 connections with data in them that it had not read: the kernel sends a reset, which may cost the peer the answer before it.
          → Let the program read() until 0 (with a time-out) before close(), also after an error; `tcp-trace stream --closed -p 200 --json` tells `unread_bytes` of each.
          [closed with unread data: 120 connections] [ended in all: 120 connections] [seconds with any: 4 s] [rate in these: 1800 connections/min] [listener: 0.0.0.0:80 (120 of 120)] [peers: 10.0.0.2 (40 of 120, 3 in all)]");
}

#[test]
fn where_the_other_end_is_seen_to_do_it_the_resets_are_not_told() {
    let mut clients = String::new();
    for number in 0..120 {
        let (ck, at) = (1_000 + number, 1_000 + number / 30 * 1_000 + number % 30);
        let tuple = format!("ck={ck} 10.0.0.2:{}>10.0.0.1:80 ns=1", 4_010 + number);
        let task = "task=100:client start=10";
        let _ = writeln!(clients, "+{at}ms CLOSE>SYN_SENT {tuple} {task}\n+{at}ms SYN_SENT>EST {tuple}");
        let _ = writeln!(clients, "+{at}ms EST>CLOSE {tuple} linger0 err=0 bytes=9/9/0 {task}");
    }
    check_report(&report(&format!("{}{clients}", served(10, 30, 4, RESET))), "
        warning linger_zero_close client (100) since -: client (100) has closed 120 of 120 connections with SO_LINGER on and a time of 0: the kernel sends a reset instead of a FIN, and throws away what has not arrived.
          → Take the setsockopt(SO_LINGER, {1, 0}) out, or do shutdown(SHUT_WR) and read() until 0 before close(); `strace -f -e trace=setsockopt,close -p 100` shows where it is.
          [closed with linger 0: 120 connections] [ended in all: 120 connections] [seconds with any: 4 s] [rate in these: 1800 connections/min] [peers: 10.0.0.1:80 (120 of 120)]");
}
