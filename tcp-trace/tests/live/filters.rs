//! Filters, in the kernel and where the kernel cannot know.

use serde_json::Value;
use tcp_trace_testkit::{Helper, NetNs};

use crate::{
    Test,
    tracer::{PATIENCE, Tracer, assert_sums, step, text},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("a_peer_port_keeps_the_first_event", a_peer_port_keeps_the_first_event),
    ("a_local_port_that_is_chosen_later", a_local_port_that_is_chosen_later),
    ("a_process_keeps_its_softirq_events", a_process_keeps_its_softirq_events),
    ("another_namespace_is_filtered_in_the_kernel", another_namespace_is_filtered_in_the_kernel),
    ("the_tracepoint_refuses_what_it_cannot_filter", the_tracepoint_refuses_what_it_cannot_filter),
];

/// Two servers, at 7001 and 7002, and a client of each; returns the clients' pids and local ports.
fn two_connections(ns: &NetNs) -> [(u32, u16); 2] {
    let mut servers = Vec::new();
    [7001, 7002].map(|port| {
        let mut server = Helper::spawn(ns, "server", &[&format!("listen=127.0.0.1:{port}")]).unwrap();
        server.expect("listening", PATIENCE).unwrap();
        let mut client = Helper::spawn(ns, "client", &[&format!("connect=127.0.0.1:{port}")]).unwrap();
        let local = client.expect("connected", PATIENCE).unwrap();
        let local: std::net::SocketAddr = local.value("local").unwrap();
        client.send("close").unwrap();
        server.expect("closed", PATIENCE).unwrap();
        let pid = client.pid();
        client.finish().unwrap();
        servers.push(server);
        (pid, local.port())
    })
}

const CLIENT: [&str; 5] = [
    "CLOSE>SYN_SENT",
    "SYN_SENT>ESTABLISHED",
    "ESTABLISHED>FIN_WAIT1",
    "FIN_WAIT1>FIN_WAIT2",
    "FIN_WAIT2>CLOSE",
];

fn steps(lines: &[Value]) -> Vec<String> {
    lines.iter().map(step).collect()
}

fn a_peer_port_keeps_the_first_event() {
    let ns = NetNs::new().unwrap();
    let tracer = Tracer::start(&["stream", "--json", "-D", "7002,7003", "--netns", &ns.inum().to_string()]);
    let [_, (pid, _)] = two_connections(&ns);
    let lines = tracer.lines();
    assert_eq!(steps(&lines), CLIENT);
    assert!(lines.iter().all(|line| line["process"]["pid"] == pid), "{lines:#?}");
}

fn a_local_port_that_is_chosen_later() {
    let ns = NetNs::new().unwrap();
    ns.sysctl("net.ipv4.ip_local_port_range", "40000 40001").unwrap();
    let netns = ns.inum().to_string();
    let tracer = Tracer::start(&["stream", "--json", "-L", "40000", "--netns", &netns]);
    let clients = two_connections(&ns);
    let lines = tracer.lines();
    let expected = clients.iter().filter(|(_, port)| *port == 40_000).count();
    assert!(expected > 0, "one of two connections has one of two ports: {clients:?}");
    // `CLOSE > SYN_SENT` comes before the port is chosen, and is held back until it is.
    assert_eq!(steps(&lines), CLIENT.repeat(expected));
}

fn a_process_keeps_its_softirq_events() {
    let ns = NetNs::new().unwrap();
    let mut server = Helper::spawn(&ns, "server", &["listen=127.0.0.1:7001"]).unwrap();
    server.expect("listening", PATIENCE).unwrap();
    // The server listens since before the start: its children's owner shows only when it closes them.
    let pid = server.pid().to_string();
    let tracer = Tracer::start(&["stream", "--json", "-p", &pid]);
    let mut client = Helper::spawn(&ns, "client", &["connect=127.0.0.1:7001"]).unwrap();
    client.expect("ready", PATIENCE).unwrap();
    client.send("close").unwrap();
    server.expect("closed", PATIENCE).unwrap();
    let lines = tracer.lines();
    assert_eq!(
        steps(&lines),
        [
            "LISTEN>SYN_RECV",
            "SYN_RECV>ESTABLISHED",
            "ESTABLISHED>CLOSE_WAIT",
            "CLOSE_WAIT>LAST_ACK",
            "LAST_ACK>CLOSE"
        ]
    );
}

fn another_namespace_is_filtered_in_the_kernel() {
    let (ours, other) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    let tracer = Tracer::start(&["report", "--json", "--netns", &ours.inum().to_string()]);
    two_connections(&other);
    let report = tracer.report();
    let loss = &report["loss"];
    assert_eq!(loss["delivered"], 0, "{loss}");
    assert!(loss["filtered"].as_u64().unwrap() >= 22, "{loss}");
    assert_sums(loss);
    assert_eq!(report["transitions"].as_array().unwrap().len(), 0);
}

fn the_tracepoint_refuses_what_it_cannot_filter() {
    let output = Tracer::run(&["stream", "--attach", "tracepoint", "--netns", "4026531840"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("--netns and --cgroup need tp_btf"), "{}", text(&output.stderr));
}
