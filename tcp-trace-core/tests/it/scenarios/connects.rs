//! Attempts to connect, and what became of them.

use crate::check::{check, check_report};

#[test]
fn every_end_of_an_attempt_is_counted_apart() {
    let ends = [
        ("refused", "SYN_SENT>CLOSE", "err=111"),
        ("timed out", "SYN_SENT>CLOSE", "err=110"),
        ("unreachable net", "SYN_SENT>CLOSE", "err=101"),
        ("unreachable host", "SYN_SENT>CLOSE", "err=113"),
        ("reset", "SYN_SENT>CLOSE", "err=104"),
        ("given up by the program", "SYN_SENT>CLOSE", "err=0 task=100:client"),
        ("any other error", "SYN_SENT>CLOSE", "err=1"),
        ("answered", "SYN_SENT>EST", ""),
    ];
    let mut input = String::new();
    for (ck, (_, end, facts)) in ends.iter().enumerate() {
        let tuple = format!("ck={} 10.0.0.1:{}>10.0.0.2:80", ck + 1, 4000 + ck);
        input += &format!("+0ms CLOSE>SYN_SENT {tuple} task=100:client\n+3000ms {end} {tuple} {facts}\n");
    }
    check_report(
        &(input + "report connect"),
        "connect 10.0.0.2:80: 1 [3000.000] refused=1 timed_out=1 unreachable=2 reset=1 aborted=1 failed=1",
    );
}

#[test]
fn a_refused_attempt_has_its_time_and_its_owner() {
    check(
        "
        +0ms    CLOSE>SYN_SENT ck=1 127.0.0.1:0>127.0.0.1:81    task=100:client
        +0.02ms SYN_SENT>CLOSE ck=1 127.0.0.1:4000>127.0.0.1:81 task=100:client err=111
        report live connect",
        "
        +0.000 CLOSE>SYN_SENT -     127.0.0.1:0>127.0.0.1:81    100/client/connect
        +0.020 SYN_SENT>CLOSE 0.020 127.0.0.1:4000>127.0.0.1:81 100/client/task
        live:
        connect 127.0.0.1:81: 0 refused=1",
    );
}

#[test]
fn a_connection_that_ends_later_is_no_failed_attempt() {
    check_report(
        "
        +0ms CLOSE>SYN_SENT ck=1 10.0.0.1:0>10.0.0.2:80    task=100:client
        +1ms SYN_SENT>EST   ck=1 10.0.0.1:4000>10.0.0.2:80
        +2ms EST>CLOSE      ck=1 10.0.0.1:4000>10.0.0.2:80 err=104
        report connect",
        "connect 10.0.0.2:80: 1 [1.000]",
    );
}

#[test]
fn destinations_are_listed_by_number_of_attempts() {
    let mut input = String::new();
    for (ck, peer) in [(1, "10.0.0.9:80"), (2, "[2001:db8::1]:443"), (3, "[2001:db8::1]:443")] {
        let local = if peer.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        input += &format!("+0ms CLOSE>SYN_SENT ck={ck} {local}>{peer} task=1:c\n");
        input += &format!("+{ck}ms SYN_SENT>EST ck={ck} {local}>{peer}\n");
    }
    check_report(
        &(input + "report connect"),
        "
        connect [2001:db8::1]:443: 2 [2.000..3.000]
        connect 10.0.0.9:80: 1 [1.000]",
    );
}
