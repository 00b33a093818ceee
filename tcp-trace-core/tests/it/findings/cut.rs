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
    check_report(&report(&served(10, 30, 4, RESET)), "?");
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
    check_report(&report(&served(10, 30, 4, &late)), "?");
}

#[test]
fn linger_zero_counts_where_data_has_gone() {
    let linger = format!("EST>CLOSE linger0 err=0 bytes=100/200/0 {OWN}");
    check_report(&report(&served(10, 30, 4, &linger)), "?");
    let checked = format!("EST>CLOSE linger0 err=0 bytes=0/0/0 {OWN}");
    check_report(&report(&served(10, 30, 4, &checked)), "findings: none");
}

#[test]
fn unread_data_resets() {
    let unread = format!("EST>CLOSE err=0 bytes=100/200/50 {OWN}");
    check_report(&report(&served(10, 30, 4, &unread)), "?");
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
    check_report(&report(&format!("{}{clients}", served(10, 30, 4, RESET))), "?");
}
