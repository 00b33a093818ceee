//! Connections that only an heir holds.

use std::fmt::Write as _;

use crate::check::check_report;

/// Five connections that the parent has used, and two surveys: at 2 s and at 80 s, with these holders (`P` parent, `C`
/// child) and words.
fn inherited(before: &str, holders: [&str; 2], words: &str) -> String {
    let mut input = "+0ms CLOSE>LISTEN ck=1 0.0.0.0:80>0.0.0.0:0 ns=1 task=100:parent start=10\n".to_owned();
    let tuple = |n: u64| format!("ck={} 10.0.0.1:80>10.0.0.2:{} ns=1", 10 + n, 4_000 + n);
    for n in 0..5 {
        let tuple = tuple(n);
        let _ = writeln!(input, "+1ms LISTEN>SYN_RECV {tuple}\n+1ms SYN_RECV>EST {tuple} srtt=1");
        let _ = writeln!(input, "{}", before.replace("CK", &(10 + n).to_string()));
    }
    for (at, holders) in [2_000, 80_000].into_iter().zip(holders) {
        let _ = writeln!(input, "survey +{at}ms\nrow LISTEN ck=1 ns=1 inode=1 0.0.0.0:80>0.0.0.0:0");
        let _ = writeln!(input, "holder inode=1 pid=100 fd=3");
        for n in 0..5 {
            let _ = writeln!(input, "row ESTABLISHED inode={} {words} {}", 20 + n, tuple(n));
            for pid in holders.chars().map(|who| if who == 'P' { 100 } else { 101 }) {
                let _ = writeln!(input, "holder inode={} pid={pid} fd={}", 20 + n, 4 + n);
            }
        }
        let _ = writeln!(input, "facts 100:parent start=10\nfacts 101:child start=20");
        let _ = writeln!(input, "surveyed +{}ms report holders ns=1", at + 1);
    }
    format!("{input}end +80100ms\nreport findings")
}

/// The parent reads first.
const READ: &str = "use read +2ms ck=CK task=100:parent start=10";
/// Nothing for 79 s.
const IDLE: &str = "lastack=79000";

#[test]
fn what_only_the_child_holds_and_never_uses_is_a_leak() {
    check_report(&inherited(READ, ["C", "C"], IDLE), "
        warning fork_leak child (101) since +2000.000: child (101) holds 5 connections that it has inherited from parent (100) and never uses: parent (100) has closed its own descriptors of them, and the peers do not learn of it.
          → Let parent (100) open sockets with SOCK_CLOEXEC (socket(), accept4()), or close them in the child after fork(); `ls -l /proc/101/fd` shows them, and they go when child (101) ends.
          [held and never used: 5 sockets] [for, at least: 78100.000] [used by: parent (100)] [listener: 0.0.0.0:80 (5 of 5)] [peers: 10.0.0.2 (5 of 5)]");
}

#[test]
fn what_the_parent_holds_as_well_is_shared() {
    check_report(&inherited(READ, ["PC", "PC"], IDLE), "findings: none");
    check_report(&inherited(READ, ["C", "PC"], IDLE), "findings: none");
}

#[test]
fn a_child_that_serves_reads_first() {
    let child = "use read +2ms ck=CK task=101:child start=20";
    check_report(&inherited(child, ["C", "C"], IDLE), "findings: none");
    // Who accepted is no reader: where the kernel tells that, reads are not told.
    let accept = "use accept +2ms ck=CK task=100:parent start=10";
    let input = inherited(accept, ["C", "C"], IDLE);
    check_report(&format!("session programs=accepted\n{input}"), "findings: none");
}

#[test]
fn a_child_over_whose_connections_data_goes_uses_them() {
    check_report(&inherited(READ, ["C", "C"], "lastack=100"), "findings: none");
}

#[test]
fn it_takes_a_minute() {
    let input = inherited(READ, ["P", "C"], IDLE);
    check_report(&input, "findings: none");
}

#[test]
fn what_a_survey_has_not_listed_nobody_knows_of() {
    let input = inherited(READ, ["C", "C"], IDLE);
    let later = "survey +82000ms\nsurveyed +82001ms report holders ns=1\nend +82100ms\nreport findings";
    check_report(&input.replace("end +80100ms\nreport findings", later), "findings: none");
}
