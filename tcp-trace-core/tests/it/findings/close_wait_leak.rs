//! Sockets that their peer has closed and their process has not.

use std::fmt::Write as _;

use crate::check::check_report;

/// `count` connections of a server that the peers closed, one every `every` ms from `first` on, and that stay so. Cookies
/// and ports go on from `from`.
pub(crate) fn leaked(from: u64, count: u64, first: u64, every: u64) -> String {
    let mut input = String::new();
    for number in 0..count {
        let (at, ck, port) = (first + number * every, from + number, 4000 + from + number);
        let tuple = format!("ck={ck} 10.0.0.1:80>10.0.0.2:{port} ns=1");
        let _ = writeln!(input, "+{at}ms LISTEN>SYN_RECV {tuple}\n+{at}ms SYN_RECV>EST {tuple} srtt=1");
        let _ = writeln!(input, "+{at}ms EST>CLOSE_WAIT {tuple} done");
    }
    input
}

/// `count` of them are closed, from the one of `from` on.
pub(crate) fn closes(from: u64, count: u64, at: u64) -> String {
    (from..from + count)
        .map(|ck| {
            let tuple = format!("ck={ck} 10.0.0.1:80>10.0.0.2:{} ns=1", 4000 + ck);
            format!("+{at}ms CLOSE_WAIT>LAST_ACK {tuple} done task=200:leaky start=5\n+{at}ms LAST_ACK>CLOSE {tuple} done\n")
        })
        .collect()
}

pub(crate) const LISTENS: &str = "+0ms CLOSE>LISTEN ck=1 0.0.0.0:80>0.0.0.0:0 ns=1 task=200:leaky start=5\n";

#[test]
fn ten_that_linger_are_a_leak_with_its_growth() {
    let input = format!("{LISTENS}{}", leaked(10, 10, 1000, 1000));
    check_report(
        &format!("{input}end +30000ms\nreport findings"),
        "
        warning close_wait_leak leaky (200) since +1000.000: 10 connections of leaky (200) are in CLOSE_WAIT: the peers closed them, and the program has not closed its end.
          → In the program: call close() wherever read() returns 0, error paths included; `tcp-trace snapshot --state close_wait --sockets -p 200` lists them.
          [lingering: 10 sockets] [oldest: 29000.000] [growth: 20 sockets/min] [growth over: 1 reports] [listener: 0.0.0.0:80 (10 of 10)] [peers: 10.0.0.2 (10 of 10)]",
    );
}

/// Twelve of a kind each as a survey shows them, of a process with few descriptors left.
fn surveyed(first: &str, others: &str, fds: &str) -> String {
    let mut input = "survey +1ms\n".to_owned();
    for number in 0..12 {
        let kind = if number < 4 { first } else { others };
        let (ck, inode) = (10 + number, 500 + number);
        let _ = writeln!(
            input,
            "row CLOSE_WAIT ck={ck} ns=1 inode={inode} {kind} lastack=400000 10.0.0.1:80>10.0.0.2:{}",
            4000 + number
        );
        let _ = writeln!(input, "holder inode={inode} pid=200 fd={}", 10 + number);
    }
    format!(
        "{input}facts 200:leaky start=5 {fds}\nsurveyed +2ms all holders ns=1\nend +1000ms\nreport findings"
    )
}

#[test]
fn the_kind_of_most_says_whose_mistake_it_is_and_used_up_descriptors_are_critical() {
    check_report(
        &surveyed("rq=1", "rq=0", "fds=990 nofile=1024"),
        "
        critical close_wait_leak leaky (200) since -399999.000: 12 connections of leaky (200) are in CLOSE_WAIT: the peers closed them, and the program has read 8 of them to the end without calling close().
          → In the program: call close() wherever read() returns 0, error paths included; `tcp-trace snapshot --state close_wait --sockets -p 200` lists them.
          [lingering: 12 sockets] [oldest: 400999.000] [growth: 0 sockets/min] [growth over: 1 reports] [descriptors: 990 descriptors] [RLIMIT_NOFILE: 1024 descriptors] [close() forgotten: 8 sockets] [not read since: 4 sockets] [peers: 10.0.0.2 (12 of 12)]",
    );
}

#[test]
fn a_few_that_are_not_old_are_none_and_old_ones_worth_knowing() {
    let three = leaked(10, 3, 1000, 1000);
    check_report(&format!("{LISTENS}{three}end +60000ms\nreport findings"), "findings: none");
    check_report(
        &format!("{LISTENS}{three}end +400000ms\nreport findings"),
        "
        info close_wait_leak leaky (200) since +1000.000: 3 connections of leaky (200) are in CLOSE_WAIT: the peers closed them, and the program has not closed its end.
          → In the program: call close() wherever read() returns 0, error paths included; `tcp-trace snapshot --state close_wait --sockets -p 200` lists them.
          [lingering: 3 sockets] [oldest: 399000.000] [growth: 0.45 sockets/min] [growth over: 1 reports] [listener: 0.0.0.0:80 (3 of 3)] [peers: 10.0.0.2 (3 of 3)]",
    );
}

#[test]
fn the_time_until_the_descriptors_run_out_follows_from_the_growth_over_all_reports() {
    let facts = "facts 200:leaky start=5 fds=100 nofile=1024\n";
    let input = format!(
        "{LISTENS}{facts}{}end +30000ms\nreport findings\n{}end +60000ms\nreport findings",
        leaked(10, 20, 1000, 500),
        leaked(30, 10, 31_000, 500),
    );
    let reports = crate::check::reports(&input);
    let growth = |report: &tcp_trace_core::report::Report| {
        let finding = &report.findings.as_deref().unwrap()[0];
        let value =
            |name: &str| finding.evidence.iter().find(|row| row.name == name).map(|row| row.value.clone());
        (finding.severity.name(), value("growth"), value("growth over"), value("no descriptors left in"))
    };
    // 924 are left, at 40 a minute, then at 30 a minute: thirty in two reports.
    assert_eq!(
        growth(&reports[0]),
        ("critical", Some(40.0.into()), Some(1.into()), Some(1_386_000_000_000.into()))
    );
    assert_eq!(
        growth(&reports[1]),
        ("critical", Some(30.0.into()), Some(2.into()), Some(1_848_000_000_000.into()))
    );
}

#[test]
fn it_says_where_the_program_opened_them() {
    let input = format!("session half_open programs=stack_state\n{LISTENS}{}", leaked(10, 10, 1000, 1000));
    let stacks: String =
        (10..18).map(|ck| format!(" {ck}/accepted/+500ms/handle\u{1b}[2J,worker,run,main")).collect();
    check_report(
        &format!("{input}stacks +20000ms{stacks}\nend +30000ms\nreport findings"),
        "
        warning close_wait_leak leaky (200) since +1000.000: 10 connections of leaky (200) are in CLOSE_WAIT: the peers closed them, and the program has not closed its end; 8 of 10 were accepted at handle\\u{1b}[2J ← worker ← run ← ….
          → In the program: call close() wherever read() returns 0, error paths included; `tcp-trace snapshot --state close_wait --sockets -p 200` lists them.
          [lingering: 10 sockets] [oldest: 29000.000] [growth: 20 sockets/min] [growth over: 1 reports] [listener: 0.0.0.0:80 (10 of 10)] [peers: 10.0.0.2 (10 of 10)]",
    );
}
