//! Lingering CLOSE_WAIT: whose sockets they are, since when, from whom.

use std::{collections::HashMap, net::SocketAddr, thread, time::Duration};

use serde_json::Value;
use tcp_trace_testkit::{Helper, NetNs};

use crate::{
    Test,
    tracer::{PATIENCE, Tracer, assert_whole},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("a_leak_is_listed_under_its_process", a_leak_is_listed_under_its_process),
    ("what_does_not_linger_yet_is_only_live", what_does_not_linger_yet_is_only_live),
];

const LEAK: u64 = 37;

fn endpoint(value: &Value) -> SocketAddr {
    let address = value["address"].as_str().unwrap().parse().unwrap();
    SocketAddr::new(address, u16::try_from(value["port"].as_u64().unwrap()).unwrap())
}

/// A server that keeps what its client closes: 40 connections, 37 of them closed by the client.
fn leak(ns: &NetNs) -> (Helper, Helper, HashMap<SocketAddr, u64>) {
    let listen = "listen=127.0.0.1:7001";
    let mut server = Helper::spawn(ns, "leaky-server", &[listen, "comm=leaky"]).unwrap();
    server.expect("listening", PATIENCE).unwrap();
    let mut client = Helper::spawn(ns, "client", &["connect=127.0.0.1:7001", "count=40"]).unwrap();
    client.expect("ready", PATIENCE).unwrap();
    client.send(&format!("close count={LEAK}")).unwrap();
    let closed = (0..LEAK).map(|_| client.expect("closed", PATIENCE).unwrap());
    let closed = closed.map(|line| (line.value("local").unwrap(), line.value("at_ns").unwrap())).collect();
    for _ in 0..LEAK {
        server.expect("eof", PATIENCE).unwrap();
    }
    (server, client, closed)
}

fn a_leak_is_listed_under_its_process() {
    let ns = NetNs::new().unwrap();
    let tracer = Tracer::start(&[
        "report",
        "--json",
        "--close-wait-after",
        "500ms",
        "--netns",
        &ns.inum().to_string(),
    ]);
    let (server, _client, closed) = leak(&ns);
    thread::sleep(Duration::from_secs(1));
    let report = tracer.report();
    let end = report["window"]["end"].as_str().unwrap().to_owned();
    assert_whole(&report);
    let close_wait = &report["close_wait"];
    assert_eq!((&close_wait["live"], &close_wait["lingering"]), (&LEAK.into(), &LEAK.into()), "{close_wait}");
    let processes = close_wait["processes"].as_array().unwrap();
    assert_eq!(processes.len(), 1, "only the leaking process: {close_wait}");
    let process = &processes[0];
    assert_eq!(process["process"]["pid"], server.pid());
    assert_eq!(process["process"]["comm"], "leaky");
    assert_eq!(process["count"], LEAK);
    assert_eq!(process["listeners"][0]["port"], 7001);
    assert_eq!(
        (&process["peers"][0]["address"], &process["peers"][0]["count"]),
        (&"127.0.0.1".into(), &LEAK.into())
    );
    let sockets = process["sockets"].as_array().unwrap();
    assert_eq!(sockets.len() as u64, LEAK);
    // The report's window ends at a wall-clock time; its ages are compared with each other and the truth.
    let end_ns = monotonic_of(&end);
    for socket in sockets {
        let since = closed[&endpoint(&socket["peer"])];
        let age = socket["age_ns"].as_u64().unwrap();
        let truth = end_ns - since;
        assert!(age.abs_diff(truth) < 50_000_000, "{age} ns, in truth {truth}");
        assert_eq!(socket["age_exact"], true);
    }
}

fn what_does_not_linger_yet_is_only_live() {
    let ns = NetNs::new().unwrap();
    let tracer = Tracer::start(&["report", "--json", "--netns", &ns.inum().to_string()]);
    let (_server, _client, _closed) = leak(&ns);
    let report = tracer.report();
    let close_wait = &report["close_wait"];
    assert_eq!((&close_wait["live"], &close_wait["lingering"]), (&LEAK.into(), &0.into()), "{close_wait}");
    assert_eq!(report["states"]["ESTABLISHED"]["live"], 2 * (40 - LEAK));
    assert_eq!(report["states"]["FIN_WAIT2"]["live"], 0, "the closed ends are time-wait sockets by now");
    assert_eq!(report["states"]["CLOSE_WAIT"]["live"], LEAK);
}

/// CLOCK_MONOTONIC of an RFC 3339 time, by this process's own look at both clocks.
fn monotonic_of(time: &str) -> u64 {
    let anchor = tcp_trace::host::clock_anchor();
    let unix: jiff::Timestamp = time.parse().unwrap();
    let unix = u64::try_from(unix.as_nanosecond()).unwrap();
    anchor.monotonic_ns + unix - anchor.unix_ns
}
