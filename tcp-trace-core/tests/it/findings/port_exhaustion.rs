//! Local ports that run out.

use std::fmt::Write as _;

use crate::check::check_report;

/// A client that has closed `count` connections first, and a survey that finds their ports waiting: a fifth of them since
/// less than ten seconds.
fn closed(count: u64, peer: &str, facts: &str) -> String {
    let mut input = String::new();
    let mut rows = String::new();
    for number in 0..count {
        let (ck, local) = (100 + number, format!("10.0.0.1:{}", 40_000 + number));
        let tuple = format!("ck={ck} {local}>{peer} ns=1");
        let _ = writeln!(input, "+1ms CLOSE>SYN_SENT ck={ck} 10.0.0.1:0>{peer} ns=1 task=100:client");
        let _ = writeln!(input, "+2ms SYN_SENT>EST {tuple}\n+3ms EST>FIN_WAIT1 {tuple} task=100:client");
        let _ = writeln!(input, "+4ms FIN_WAIT1>FIN_WAIT2 {tuple}\n+4ms FIN_WAIT2>CLOSE {tuple} done err=0");
        let expires = if number % 5 == 0 { 55_000 } else { 30_000 };
        let _ = writeln!(rows, "row TIME_WAIT ck={ck} ns=1 timer=tw expires={expires} {local}>{peer}");
    }
    format!(
        "{input}survey +5000ms\n{rows}facts ns=1 range=40000-40999 {facts}\nsurveyed +5001ms report ns=1\n"
    )
}

#[test]
fn half_of_the_ports_are_a_warning_and_more_than_there_are_in_a_minute_critical() {
    check_report(
        &format!("{}end +6000ms\nreport findings", closed(500, "10.0.0.9:80", "reuse=2")),
        "
        warning port_exhaustion ports of 10.0.0.1 → 10.0.0.9:80 since -: 500 of the 1000 local ports from 10.0.0.1 to 10.0.0.9:80 are taken, 500 of them by sockets in TIME_WAIT, since client (100) closes its connections first.
          → Let client (100) keep connections open: HTTP keep-alive or a pool (nginx: `keepalive 32;` in the upstream, `proxy_http_version 1.1;`); until then: `sysctl -w net.ipv4.ip_local_port_range='1024 65535'` and `sysctl -w net.ipv4.tcp_tw_reuse=1`.
          [taken: 0.5 share] [TIME_WAIT: 500 ports] [live: 0 ports] [ip_local_port_range: 1000 ports] [growth: 600 ports/min] [heading for: 600 ports]",
    );
    check_report(
        &format!("{}end +6000ms\nreport findings", closed(850, "10.0.0.9:80", "reuse=2")),
        "
        critical port_exhaustion ports of 10.0.0.1 → 10.0.0.9:80 since -: 850 of the 1000 local ports from 10.0.0.1 to 10.0.0.9:80 are taken, 850 of them by sockets in TIME_WAIT, since client (100) closes its connections first.
          → Let client (100) keep connections open: HTTP keep-alive or a pool (nginx: `keepalive 32;` in the upstream, `proxy_http_version 1.1;`); until then: `sysctl -w net.ipv4.ip_local_port_range='1024 65535'` and `sysctl -w net.ipv4.tcp_tw_reuse=1`.
          [taken: 0.85 share] [TIME_WAIT: 850 ports] [live: 0 ports] [ip_local_port_range: 1000 ports] [growth: 1020 ports/min] [heading for: 1020 ports] [none left in: 8823.529]",
    );
}

#[test]
fn ports_that_the_kernel_uses_again_are_no_trouble_and_few_are_none() {
    for (count, facts) in [(950, "reuse=1"), (499, "reuse=0")] {
        let input = format!("{}end +6000ms\nreport findings", closed(count, "10.0.0.9:80", facts));
        check_report(&input, "findings: none");
    }
}

/// The server's side of it: every peer has a port of its own.
#[test]
fn a_server_that_closes_first_takes_no_ports_of_its_own() {
    let rows: String = (0..950)
        .map(|n| {
            format!(
                "row TIME_WAIT ck={} ns=1 timer=tw expires=55000 10.0.0.1:80>10.0.0.2:{}\n",
                9 + n,
                40_000 + n
            )
        })
        .collect();
    check_report(
        &format!(
            "survey +1ms\n{rows}facts ns=1 range=40000-40999 reuse=0\nsurveyed +2ms report ns=1\nend +6ms\nreport findings"
        ),
        "findings: none",
    );
}

#[test]
fn live_connections_take_ports_too() {
    let mut input = String::new();
    for n in 0..600 {
        let tuple = format!("ck={} 10.0.0.1:{}>10.0.0.9:80 ns=1", 9 + n, 40_000 + n);
        let _ =
            writeln!(input, "+1ms CLOSE>SYN_SENT ck={} 10.0.0.1:0>10.0.0.9:80 ns=1 task=100:client", 9 + n);
        let _ = writeln!(input, "+2ms SYN_SENT>EST {tuple}");
    }
    check_report(
        &format!("{input}survey +3ms\nfacts ns=1 range=40000-40999 reuse=1\nsurveyed +4ms report ns=1\nend +6ms\nreport findings"),
        "
        warning port_exhaustion ports of 10.0.0.1 → 10.0.0.9:80 since -: 600 of the 1000 local ports from 10.0.0.1 to 10.0.0.9:80 are taken, 600 of them by live connections.
          → Give the client a pool with a limit, or more addresses to connect to; until then: `sysctl -w net.ipv4.ip_local_port_range='1024 65535'`.
          [taken: 0.6 share] [TIME_WAIT: 0 ports] [live: 600 ports] [ip_local_port_range: 1000 ports] [growth: 0 ports/min] [heading for: 600 ports]",
    );
}

#[test]
fn an_attempt_that_finds_no_port_is_critical_whatever_is_known_of_the_others() {
    let none = "
        +7ms CLOSE>SYN_SENT ck=7 10.0.0.1:0>10.0.0.9:80 ns=1 task=100:client
        +7ms SYN_SENT>CLOSE ck=7 10.0.0.1:0>10.0.0.9:80 ns=1 task=100:client err=0";
    check_report(
        &format!("{none}\nend +6000ms\nreport findings"),
        "
        critical port_exhaustion client (100) → 10.0.0.9:80 since +7.000: 1 attempts of client (100) to connect to 10.0.0.9:80 found no free local port (EADDRNOTAVAIL).
          → Let client (100) keep connections open (keep-alive, a pool) or close those that it does not need; until then: `sysctl -w net.ipv4.ip_local_port_range='1024 65535'`.
          [EADDRNOTAVAIL: 1 attempts]",
    );
    check_report(
        &format!("{none}\n{}end +6000ms\nreport findings", closed(1000, "10.0.0.9:80", "reuse=1")),
        "
        critical port_exhaustion ports of 10.0.0.1 → 10.0.0.9:80 since -: 1000 of the 1000 local ports from 10.0.0.1 to 10.0.0.9:80 are taken, 1000 of them by sockets in TIME_WAIT, since client (100) closes its connections first; 1 attempts found none and failed (EADDRNOTAVAIL).
          → Let client (100) keep connections open: HTTP keep-alive or a pool (nginx: `keepalive 32;` in the upstream, `proxy_http_version 1.1;`); until then: `sysctl -w net.ipv4.ip_local_port_range='1024 65535'`.
          [taken: 1 share] [TIME_WAIT: 1000 ports] [live: 0 ports] [ip_local_port_range: 1000 ports] [growth: 1200 ports/min] [heading for: 1200 ports] [none left in: 0.000] [EADDRNOTAVAIL: 1 attempts]",
    );
}
