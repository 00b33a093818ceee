//! The lines of `stream`, with each owner right or not known.

use serde_json::Value;
use tcp_trace_testkit::{Helper, NetNs};

use crate::{
    Test,
    tracer::{PATIENCE, Tracer, step, text},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("the_twelve_lines_of_a_connection", the_twelve_lines_of_a_connection),
    ("the_tracepoint_knows_less_and_nothing_wrong", the_tracepoint_knows_less_and_nothing_wrong),
    ("an_idle_event_is_shown_soon", an_idle_event_is_shown_soon),
    ("a_dual_stack_server_speaks_ipv4", a_dual_stack_server_speaks_ipv4),
    ("debug_messages_of_the_programs_are_logged", debug_messages_of_the_programs_are_logged),
];

/// One connection between two processes, which the client closes first; then the server stops.
fn connection(ns: &NetNs, listen: &str, connect: &str) -> (u32, u32) {
    let mut server = Helper::spawn(ns, "server", &[listen]).unwrap();
    server.expect("listening", PATIENCE).unwrap();
    let mut client = Helper::spawn(ns, "client", &[connect]).unwrap();
    client.expect("ready", PATIENCE).unwrap();
    client.send("close").unwrap();
    server.expect("closed", PATIENCE).unwrap();
    let pids = (server.pid(), client.pid());
    client.finish().unwrap();
    server.finish().unwrap();
    pids
}

/// The lines of the socket whose local port is, or is not, the server's.
fn side<'a>(lines: &'a [Value], server: bool) -> Vec<&'a Value> {
    let is_server = |line: &&'a Value| (line["local"]["port"] == 7001) == server;
    lines.iter().filter(is_server).collect()
}

fn the_twelve_lines_of_a_connection() {
    let ns = NetNs::new().unwrap();
    let tracer = Tracer::start(&["stream", "--json", "--netns", &ns.inum().to_string()]);
    let (server, client) = connection(&ns, "listen=127.0.0.1:7001", "connect=127.0.0.1:7001");
    let lines = tracer.lines();
    assert_eq!(lines.len(), 12, "{lines:#?}");
    let steps = |server| side(&lines, server).into_iter().map(step).collect::<Vec<_>>();
    assert_eq!(
        steps(false),
        [
            "CLOSE>SYN_SENT",
            "SYN_SENT>ESTABLISHED",
            "ESTABLISHED>FIN_WAIT1",
            "FIN_WAIT1>FIN_WAIT2",
            "FIN_WAIT2>CLOSE"
        ]
    );
    assert_eq!(
        steps(true),
        [
            "CLOSE>LISTEN",
            "LISTEN>SYN_RECV",
            "SYN_RECV>ESTABLISHED",
            "ESTABLISHED>CLOSE_WAIT",
            "CLOSE_WAIT>LAST_ACK",
            "LAST_ACK>CLOSE",
            "LISTEN>CLOSE"
        ]
    );
    // On loopback the server's softirq runs inside the client's system calls, and the other way round.
    for (lines, pid, comm) in
        [(side(&lines, false), client, "client"), (side(&lines, true), server, "server")]
    {
        for line in lines {
            assert_eq!(
                (&line["process"]["pid"], &line["process"]["comm"]),
                (&pid.into(), &comm.into()),
                "{line}"
            );
        }
    }
    for line in &lines {
        let birth = matches!(line["old_state"].as_str().unwrap(), "CLOSE") || step(line) == "LISTEN>SYN_RECV";
        assert_eq!(line["duration_ns"].is_null(), birth, "{line}");
        assert_ne!(line["duration_ns"], 0, "{line}");
    }
}

fn the_tracepoint_knows_less_and_nothing_wrong() {
    let ns = NetNs::new().unwrap();
    let tracer = Tracer::start(&["stream", "--json", "--attach", "tracepoint"]);
    let (server, client) = connection(&ns, "listen=127.0.0.1:7001", "connect=127.0.0.1:7001");
    let lines = tracer.lines();
    let ours: Vec<_> =
        lines.iter().filter(|line| line["local"]["port"] == 7001 || line["peer"]["port"] == 7001).collect();
    assert_eq!(ours.len(), 12, "{ours:#?}");
    for line in ours {
        let pid = if line["local"]["port"] == 7001 { server } else { client };
        assert_eq!(line["process"]["pid"], pid, "{line}");
        assert!(line["cookie"].is_null() && line["netns"].is_null(), "{line}");
    }
}

/// One event, with nothing after it that could push it out.
fn an_idle_event_is_shown_soon() {
    let ns = NetNs::new().unwrap();
    let tracer = Tracer::start(&["stream", "--netns", &ns.inum().to_string()]);
    let _listener = ns.run(|| std::net::TcpListener::bind("127.0.0.1:7001").unwrap());
    let output = tracer.stop();
    assert!(text(&output.stdout).contains("CLOSE       -> LISTEN"), "{}", text(&output.stdout));
    // What a person sees begins with the columns that users of tcpstates know.
    assert!(text(&output.stdout).starts_with("SKADDR           PID     COMM       LADDR"));
}

fn a_dual_stack_server_speaks_ipv4() {
    let ns = NetNs::new().unwrap();
    let netns = ns.inum().to_string();
    let four = Tracer::start(&["stream", "--json", "-4", "--netns", &netns]);
    let six = Tracer::start(&["stream", "--json", "-6", "--netns", &netns]);
    connection(&ns, "listen=[::]:7001", "connect=127.0.0.1:7001");
    let (four, six) = (four.lines(), six.lines());
    let listener = ["CLOSE>LISTEN", "LISTEN>CLOSE"];
    assert_eq!(six.iter().map(step).collect::<Vec<_>>(), listener, "only the listener is IPv6");
    assert_eq!(four.len(), 10, "{four:#?}");
    for line in &four {
        assert_eq!(line["family"], "ipv4", "{line}");
        assert_eq!(line["local"]["address"], "127.0.0.1", "{line}");
    }
}

fn debug_messages_of_the_programs_are_logged() {
    let ns = NetNs::new().unwrap();
    let tracer = Tracer::start(&["-vv", "stream", "--netns", &ns.inum().to_string()]);
    let listener = ns.run(|| std::net::TcpListener::bind("127.0.0.1:7001").unwrap());
    drop(listener);
    let output = tracer.stop();
    assert!(text(&output.stderr).contains("set_state 7 -> 10"), "{}", text(&output.stderr));
}
