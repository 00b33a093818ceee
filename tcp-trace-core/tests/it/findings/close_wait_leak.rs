//! Sockets that their peer has closed and their process has not.

use std::fmt::Write as _;

use crate::check::check_report;

/// `count` connections of a server that the peers closed, one every `every` ms from `first` on, and that stay so. Cookies
/// and ports go on from `from`.
pub(super) fn leaked(from: u64, count: u64, first: u64, every: u64) -> String {
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
pub(super) fn closes(from: u64, count: u64, at: u64) -> String {
    (from..from + count)
        .map(|ck| {
            let tuple = format!("ck={ck} 10.0.0.1:80>10.0.0.2:{} ns=1", 4000 + ck);
            format!("+{at}ms CLOSE_WAIT>LAST_ACK {tuple} done task=200:leaky start=5\n+{at}ms LAST_ACK>CLOSE {tuple} done\n")
        })
        .collect()
}

pub(super) const LISTENS: &str = "+0ms CLOSE>LISTEN ck=1 0.0.0.0:80>0.0.0.0:0 ns=1 task=200:leaky start=5\n";

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
