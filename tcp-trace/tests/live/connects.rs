//! How attempts to connect end.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;
use tcp_trace_testkit::{ConnOptions, World, world::PEER};

use crate::{
    Test,
    tracer::{PATIENCE, Tracer, assert_whole},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("refusals_and_time_outs_are_told_apart", refusals_and_time_outs_are_told_apart),
    ("connect_time_is_syn_to_established", connect_time_is_syn_to_established),
    ("an_attempt_that_is_given_up_is_aborted", an_attempt_that_is_given_up_is_aborted),
];

fn row(report: &Value, to: SocketAddr) -> &Value {
    let rows = report["connect"].as_array().unwrap();
    let is_it =
        |row: &&Value| row["peer"]["address"] == to.ip().to_string() && row["peer"]["port"] == to.port();
    rows.iter().find(is_it).unwrap_or_else(|| panic!("no row for {to}: {rows:?}"))
}

fn refusals_and_time_outs_are_told_apart() {
    let world = World::new().unwrap();
    world.ns.sysctl("net.ipv4.tcp_syn_retries", 1).unwrap();
    let tracer = Tracer::start(&["report", "--json", "--netns", &world.ns.inum().to_string()]);
    let nobody: SocketAddr = "127.0.0.1:9".parse().unwrap();
    world.ns.run(|| TcpStream::connect(nobody).unwrap_err());
    let blackhole: SocketAddr = "198.18.9.9:9".parse().unwrap();
    world.ns.run(|| TcpStream::connect(blackhole).unwrap_err());
    let report = tracer.report();
    assert_whole(&report);
    assert_eq!(row(&report, nobody)["refused"], 1);
    assert_eq!(row(&report, nobody)["completed"]["count"], 0);
    assert_eq!(row(&report, blackhole)["timed_out"], 1);
}

fn connect_time_is_syn_to_established() {
    let world = World::new().unwrap();
    let tracer = Tracer::start(&["report", "--json", "--netns", &world.ns.inum().to_string()]);
    let listener = world.peer.listen(PEER);
    let client = world.ns.clone().spawn("client", || TcpStream::connect(PEER)).unwrap();
    let mut conn = listener.next_syn(ConnOptions::default(), PATIENCE).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    conn.send_syn_ack().unwrap();
    let _client = client.join().unwrap().unwrap();
    let report = tracer.report();
    assert_whole(&report);
    let completed = &row(&report, PEER)["completed"];
    assert_eq!(completed["count"], 1);
    let took = completed["max_ns"].as_u64().unwrap();
    assert!((200_000_000..300_000_000).contains(&took), "{took}");
}

fn an_attempt_that_is_given_up_is_aborted() {
    let world = World::new().unwrap();
    let tracer = Tracer::start(&["report", "--json", "--netns", &world.ns.inum().to_string()]);
    let blackhole: SocketAddr = "198.18.9.9:9".parse().unwrap();
    let error =
        world.ns.run(|| TcpStream::connect_timeout(&blackhole, Duration::from_millis(100)).unwrap_err());
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "the program's own patience ended");
    let report = tracer.report();
    assert_whole(&report);
    assert_eq!(row(&report, blackhole)["aborted"], 1, "{}", report["connect"]);
    assert_eq!(row(&report, blackhole)["timed_out"], 0, "the kernel had not given up");
}
