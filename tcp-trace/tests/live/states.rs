//! Sequences of states beyond the ordinary, each made by a peer that does exactly what it takes.

use serde_json::Value;
use tcp_trace_testkit::{World, sock};

use crate::{
    Test,
    tracer::{PATIENCE, Tracer, assert_whole, count, step},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("simultaneous_close", simultaneous_close),
    ("an_orphan_in_fin_wait2_is_not_time_wait", an_orphan_in_fin_wait2_is_not_time_wait),
    ("a_reset_in_close_wait", a_reset_in_close_wait),
    ("a_reconnected_socket_is_a_new_connection", a_reconnected_socket_is_a_new_connection),
    ("closing_with_unread_data", closing_with_unread_data),
];

fn tracer(world: &World, command: &str) -> Tracer {
    Tracer::start(&[command, "--json", "--netns", &world.ns.inum().to_string()])
}

/// The steps of the kernel's socket, in order.
fn steps(lines: &[Value]) -> Vec<String> {
    lines.iter().map(step).collect()
}

fn simultaneous_close() {
    let world = World::new().unwrap();
    let tracer = tracer(&world, "report");
    let (mut peer, kernel) = world.connected().unwrap();
    drop(kernel);
    peer.close_simultaneously(PATIENCE).unwrap();
    peer.ack_received().unwrap();
    let report = tracer.report();
    assert_whole(&report);
    assert_eq!(count(&report, "FIN_WAIT1", "CLOSING"), 1, "{}", report["transitions"]);
    assert_eq!(count(&report, "CLOSING", "CLOSE"), 1);
    assert_eq!(report["time_wait"]["entered"], 1, "{}", report["time_wait"]);
}

fn an_orphan_in_fin_wait2_is_not_time_wait() {
    let world = World::new().unwrap();
    let tracer = tracer(&world, "report");
    let (mut peer, kernel) = world.connected().unwrap();
    drop(kernel);
    peer.ack_fin_only(PATIENCE).unwrap();
    let report = tracer.report();
    assert_whole(&report);
    assert_eq!(count(&report, "FIN_WAIT2", "CLOSE"), 1);
    assert_eq!(report["time_wait"]["entered"], 0, "the peer has not closed");
    assert_eq!(report["time_wait"]["orphaned"], 1);
}

fn a_reset_in_close_wait() {
    let world = World::new().unwrap();
    let tracer = tracer(&world, "stream");
    let (mut peer, _kernel) = world.connected().unwrap();
    peer.send_fin().unwrap();
    peer.expect_all_acked(PATIENCE).unwrap();
    peer.send_rst().unwrap();
    let lines = tracer.lines();
    assert_eq!(
        steps(&lines),
        ["CLOSE>SYN_SENT", "SYN_SENT>ESTABLISHED", "ESTABLISHED>CLOSE_WAIT", "CLOSE_WAIT>CLOSE"]
    );
    // The last two ran in whatever task was on the CPU; the owner is still the one that connected.
    for line in &lines {
        assert_eq!(line["process"]["pid"], std::process::id(), "{line}");
    }
}

fn a_reconnected_socket_is_a_new_connection() {
    let world = World::new().unwrap();
    let tracer = tracer(&world, "stream");
    let (mut peer, kernel) = world.connected().unwrap();
    sock::disconnect(&kernel).unwrap();
    peer.recv(PATIENCE).unwrap();
    let again = std::net::SocketAddr::new(tcp_trace_testkit::world::PEER.ip(), 4001);
    let listener = world.peer.listen(again);
    let reconnecting = world.ns.clone().spawn("reconnect", move || {
        let address = rustix::net::SocketAddrV4::new([198, 18, 7, 1].into(), 4001);
        rustix::net::connect(&kernel, &address).map(|()| kernel)
    });
    listener.accept(tcp_trace_testkit::ConnOptions::default(), PATIENCE).unwrap();
    let _kernel = reconnecting.unwrap().join().unwrap().unwrap();
    let lines = tracer.lines();
    assert_eq!(
        steps(&lines),
        [
            "CLOSE>SYN_SENT",
            "SYN_SENT>ESTABLISHED",
            "ESTABLISHED>CLOSE",
            "CLOSE>SYN_SENT",
            "SYN_SENT>ESTABLISHED"
        ]
    );
    assert_eq!(lines[0]["cookie"], lines[4]["cookie"], "one socket");
    assert!(lines[3]["duration_ns"].is_null(), "the second connection begins anew");
    assert_eq!((&lines[2]["peer"]["port"], &lines[4]["peer"]["port"]), (&4000.into(), &4001.into()));
}

fn closing_with_unread_data() {
    let world = World::new().unwrap();
    let tracer = tracer(&world, "stream");
    let (mut peer, kernel) = world.connected().unwrap();
    peer.send_data(b"never read").unwrap();
    peer.expect_all_acked(PATIENCE).unwrap();
    drop(kernel);
    let lines = tracer.lines();
    assert_eq!(steps(&lines), ["CLOSE>SYN_SENT", "SYN_SENT>ESTABLISHED", "ESTABLISHED>CLOSE"]);
    assert_eq!(lines[2]["process"]["owner_source"], "task");
}
