//! Processes that cannot connect.

use std::fmt::Write as _;

use crate::check::check_report;

/// Attempts that end after `wait` ms with `error`: one every ten ms, of processes `pids`, to `peer`.
fn attempts(pids: impl Iterator<Item = u64>, peer: &str, wait: u64, error: u16) -> String {
    let mut input = String::new();
    for (number, pid) in (0..).zip(pids) {
        let (at, ck) = (10 + number * 10, 1000 + number);
        let (end, port) = (at + wait, 30_000 + number);
        let task = format!("task={pid}:client");
        let _ = writeln!(input, "+{at}ms CLOSE>SYN_SENT ck={ck} 10.0.0.1:0>{peer} ns=1 {task}");
        let _ =
            writeln!(input, "+{end}ms SYN_SENT>CLOSE ck={ck} 10.0.0.1:{port}>{peer} ns=1 err={error} {task}");
    }
    input
}

fn of(pid: u64, count: usize) -> impl Iterator<Item = u64> {
    std::iter::repeat_n(pid, count)
}

/// One that is answered.
const ANSWERED: &str = "
    +5000ms CLOSE>SYN_SENT ck=7 10.0.0.1:0>10.0.0.9:5432     ns=1 task=100:client
    +5001ms SYN_SENT>EST   ck=7 10.0.0.1:4000>10.0.0.9:5432  ns=1
";

#[test]
fn a_service_that_is_not_there_is_named_with_who_wants_it_and_since_when() {
    check_report(
        &format!("{}{ANSWERED}end +6000ms\nreport findings", attempts(of(100, 3), "10.0.0.9:5432", 1, 111)),
        "
        warning connect_failures client (100) → 10.0.0.9:5432 since +11.000: 3 of 4 attempts of client (100) to connect to 10.0.0.9:5432 failed; the host answered and refused (ECONNREFUSED): nothing listens there, or a firewall says so.
          → Start the service or correct the address; on that host `ss -ltnp 'sport = :5432'` shows who listens.
          [ECONNREFUSED: 3 attempts] [answered: 1 attempts]",
    );
}

#[test]
fn two_failures_are_none_yet_and_threshold_and_share_are_settings() {
    let two = attempts(of(100, 2), "10.0.0.9:5432", 1, 111);
    check_report(&format!("{two}end +6000ms\nreport findings"), "findings: none");
    let set = "session connect_failures.min_failures=2 connect_failures.min_share=0.7";
    check_report(&format!("{set}\n{two}{ANSWERED}end +6000ms\nreport findings"), "findings: none");
    check_report(
        &format!("{set}\n{two}end +6000ms\nreport findings"),
        "
        warning connect_failures client (100) → 10.0.0.9:5432 since +11.000: 2 of 2 attempts of client (100) to connect to 10.0.0.9:5432 failed; the host answered and refused (ECONNREFUSED): nothing listens there, or a firewall says so.
          → Start the service or correct the address; on that host `ss -ltnp 'sport = :5432'` shows who listens.
          [ECONNREFUSED: 2 attempts] [answered: 0 attempts]",
    );
}

#[test]
fn programs_that_are_started_for_each_attempt_are_taken_together() {
    check_report(
        &format!("{}end +6000ms\nreport findings", attempts(100..104, "10.0.0.9:80", 1, 113)),
        "
        warning connect_failures destination 10.0.0.9:80 since +11.000: 4 of 4 attempts of 4 processes (client) to connect to 10.0.0.9:80 failed; there is no way there (EHOSTUNREACH, ENETUNREACH): no route, no neighbour, or a router says so.
          → Look at the route and the neighbour: `ip route get 10.0.0.9`, `ip neigh show 10.0.0.9`.
          [EHOSTUNREACH, ENETUNREACH: 4 attempts] [answered: 0 attempts]",
    );
}

#[test]
fn giving_up_at_once_is_a_race_and_giving_up_late_is_a_failure() {
    let race = attempts(of(100, 5), "10.0.0.9:80", 900, 0);
    check_report(
        &format!("{race}end +6000ms\nreport findings connect"),
        "findings: none\nconnect 10.0.0.9:80: 0 aborted=5",
    );
    let late = attempts(of(100, 3), "10.0.0.9:80", 3000, 0);
    check_report(
        &format!("{late}end +6000ms\nreport findings"),
        "
        warning connect_failures client (100) → 10.0.0.9:80 since +3010.000: 3 of 3 attempts of client (100) to connect to 10.0.0.9:80 failed; no answer came, and the program gave up: the host is down, or packets are dropped on the way.
          → Find where they end: `ping -c 3 10.0.0.9`, then `traceroute -T -p 80 10.0.0.9` from this host.
          [given up after 1 s or more: 3 attempts] [answered: 0 attempts]",
    );
}

#[test]
fn a_hundred_without_an_answer_are_critical() {
    let input = attempts(of(100, 100), "10.0.0.9:80", 7000, 110);
    check_report(
        &format!("{input}end +9000ms\nreport findings"),
        "
        critical connect_failures client (100) → 10.0.0.9:80 since +7010.000: 100 of 100 attempts of client (100) to connect to 10.0.0.9:80 failed; nobody answered the SYNs (ETIMEDOUT): the host is down, or packets are dropped on the way.
          → Find where they end: `ping -c 3 10.0.0.9`, then `traceroute -T -p 80 10.0.0.9` from this host.
          [ETIMEDOUT: 100 attempts] [answered: 0 attempts]",
    );
}
