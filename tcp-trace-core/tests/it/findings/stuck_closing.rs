//! Connections that their peers do not let end.

use std::fmt::Write as _;

use crate::check::check_report;

/// `count` clients that close at 1 s, and a survey at 40 s that lists them in FIN_WAIT1 with these words.
fn fin_wait1(count: u64, row: &str) -> String {
    let mut events = String::new();
    let mut rows = "survey +40000ms\n".to_owned();
    for number in 0..count {
        let tuple = format!("ck={} 10.0.0.1:{}>10.0.0.9:80 ns=1", 10 + number, 4000 + number);
        let task = "task=100:client start=10";
        let _ = writeln!(events, "+0ms CLOSE>SYN_SENT {tuple} {task}\n+1ms SYN_SENT>EST {tuple}");
        let _ = writeln!(events, "+1000ms EST>FIN_WAIT1 {tuple} {task}");
        let _ = writeln!(rows, "row FIN_WAIT1 {row} {tuple}");
    }
    format!("{events}{rows}surveyed +40010ms report holders ns=1\nend +41000ms\nreport findings")
}

#[test]
fn ten_peers_that_do_not_acknowledge_are_a_warning_with_since_and_whose_they_were() {
    check_report(&fin_wait1(10, "sq=1"), "
        warning stuck_closing client (100) since +1000.000: 10 connections that client (100) has closed are stuck in FIN_WAIT1: the peers do not acknowledge its FIN; they are gone, or cut off.
          → See whether the peers answer: `ping -c 3 10.0.0.9`; to give up sooner, set TCP_USER_TIMEOUT on such sockets, or `sysctl -w net.ipv4.tcp_orphan_retries=3`.
          [in FIN_WAIT1: 10 sockets] [oldest: 40000.000] [held by nobody: 10 sockets] [peers: 10.0.0.9 (10 of 10)]");
}

#[test]
fn nine_are_none_yet_and_both_numbers_are_settings() {
    check_report(&fin_wait1(9, "sq=1"), "findings: none");
    let set = "session stuck_closing.after_s=60 stuck_closing.min_sockets=1";
    check_report(&format!("{set}\n{}", fin_wait1(10, "sq=1")), "findings: none");
}

#[test]
fn a_closed_window_says_that_the_peer_does_not_read() {
    check_report(&fin_wait1(10, "sq=5000 timer=probe"), "
        warning stuck_closing client (100) since +1000.000: 10 connections that client (100) has closed are stuck in FIN_WAIT1: the peers do not read what was sent before its FIN (their receive window is closed).
          → Find out why the program on 10.0.0.9 does not read; here, set TCP_USER_TIMEOUT on such sockets, or give up sooner with `sysctl -w net.ipv4.tcp_orphan_retries=3`.
          [in FIN_WAIT1: 10 sockets] [oldest: 40000.000] [held by nobody: 10 sockets] [peers: 10.0.0.9 (10 of 10)]");
}

#[test]
fn a_hundred_peers_that_never_close_are_an_information() {
    let mut events = String::new();
    let mut rows = "survey +40000ms\n".to_owned();
    for number in 0..100 {
        let tuple = format!("ck={} 10.0.0.1:{}>10.0.0.9:80 ns=1", 10 + number, 4000 + number);
        let task = "task=100:client start=10";
        let _ = writeln!(events, "+0ms CLOSE>SYN_SENT {tuple} {task}\n+1ms SYN_SENT>EST {tuple}");
        let _ = writeln!(events, "+1000ms EST>FIN_WAIT1 {tuple} {task}\n+1001ms FIN_WAIT1>FIN_WAIT2 {tuple}");
        let _ = writeln!(events, "+1001ms FIN_WAIT2>CLOSE {tuple} err=0");
        let _ = writeln!(rows, "row FIN_WAIT2 timer=tw expires=21000 {tuple}");
    }
    let input = format!("{events}{rows}surveyed +40010ms report holders ns=1\nend +41000ms\nreport findings");
    check_report(&input, "
        info stuck_closing client (100) since +1001.000: 100 connections that client (100) has closed are stuck in FIN_WAIT2: the peers have acknowledged its FIN and do not close their own side.
          → Ask the peers: on 10.0.0.9, `ss -tnp state close-wait` shows the program that does not close; here the kernel gives those that nobody holds up after `sysctl net.ipv4.tcp_fin_timeout` seconds.
          [in FIN_WAIT2: 100 sockets] [oldest: 39999.000] [held by nobody: 100 sockets] [peers: 10.0.0.9 (100 of 100)]");
}
