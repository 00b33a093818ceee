//! Half-open durations against a hand-made peer that knows the truth.

use std::time::Duration;

use serde_json::Value;
use tcp_trace_testkit::{ConnOptions, ListenOptions, World, clock, peer::HandshakePlan, world::SERVER};

use crate::{
    Test,
    tracer::{PATIENCE, Tracer, assert_whole},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("a_delayed_ack_is_the_half_open_time", a_delayed_ack_is_the_half_open_time),
    ("retransmitted_syn_acks_do_not_disturb_it", retransmitted_syn_acks_do_not_disturb_it),
    ("a_repeated_syn_does_not_disturb_it", a_repeated_syn_does_not_disturb_it),
    ("a_syn_cookie_has_no_duration", a_syn_cookie_has_no_duration),
    ("a_deferred_accept_is_half_open_until_data_comes", a_deferred_accept_is_half_open_until_data_comes),
    ("fast_open_is_half_open_from_its_syn", fast_open_is_half_open_from_its_syn),
    ("the_tracepoint_calls_it_unknown", the_tracepoint_calls_it_unknown),
];

const TOLERANCE_NS: u64 = 5_000_000;

fn timestamps() -> ConnOptions {
    ConnOptions { timestamps: true, ..ConnOptions::default() }
}

fn tracer(world: &World) -> Tracer {
    Tracer::start(&["report", "--json", "--netns", &world.ns.inum().to_string()])
}

/// The one listener of a report that completed `handshakes` of known duration.
fn listener(report: &Value, handshakes: u64) -> &Value {
    assert_whole(report);
    let listeners = report["half_open"]["listeners"].as_array().unwrap();
    assert_eq!(listeners.len(), 1, "{listeners:?}");
    assert_eq!(listeners[0]["local"]["address"], SERVER.ip().to_string());
    assert_eq!(listeners[0]["local"]["port"], SERVER.port());
    assert_eq!(listeners[0]["process"]["pid"], std::process::id());
    assert_eq!(listeners[0]["completed"]["count"], handshakes, "{}", listeners[0]);
    &listeners[0]
}

/// Lets the peer answer as planned; the reported duration is the true one.
fn compare(plan: &HandshakePlan, options: ConnOptions) {
    let world = World::new().unwrap();
    let tracer = tracer(&world);
    let server = world.listen(&ListenOptions::default()).unwrap();
    let handshake = world.client(options).handshake_with(plan).unwrap();
    let _accepted = server.accept().unwrap();
    let report = tracer.report();
    let reported = listener(&report, 1)["completed"]["max_ns"].as_u64().unwrap();
    let (least, most) = handshake.half_open_bounds_ns();
    assert!(
        (least.saturating_sub(TOLERANCE_NS)..=most + TOLERANCE_NS).contains(&reported),
        "{reported} ns reported, in truth {least}..{most}; {handshake:?}"
    );
    assert_eq!(report["half_open"]["sources"]["sock_ops"], 1);
    assert_eq!(
        report["states"]["SYN_RECV"]["duration"]["max_ns"], reported,
        "the child's own time is no half-open time"
    );
}

fn after(milliseconds: u64) -> HandshakePlan {
    HandshakePlan { ack_after: Duration::from_millis(milliseconds), ..HandshakePlan::default() }
}

fn a_delayed_ack_is_the_half_open_time() {
    compare(&after(0), ConnOptions::default());
    compare(&after(300), ConnOptions::default());
    compare(&after(300), timestamps());
}

fn retransmitted_syn_acks_do_not_disturb_it() {
    compare(&after(3_300), ConnOptions::default());
    compare(&after(3_300), timestamps());
}

fn a_repeated_syn_does_not_disturb_it() {
    let plan = HandshakePlan { repeat_syn_after: Some(Duration::from_millis(700)), ..after(900) };
    compare(&plan, timestamps());
}

fn a_syn_cookie_has_no_duration() {
    let world = World::new().unwrap();
    // 2: every handshake by cookie, whether the queue is full or not.
    world.ns.sysctl("net.ipv4.tcp_syncookies", 2).unwrap();
    let tracer = tracer(&world);
    let server = world.listen(&ListenOptions::default()).unwrap();
    world.client(ConnOptions::default()).handshake_with_delay(Duration::from_millis(100)).unwrap();
    let _accepted = server.accept().unwrap();
    let report = tracer.report();
    let listener = listener(&report, 0);
    assert_eq!(listener["cookies"], 1, "{listener}");
    assert!(listener["completed"]["max_ns"].is_null());
}

/// TCP_DEFER_ACCEPT: the kernel drops a final ACK without data, and the request waits for some.
fn a_deferred_accept_is_half_open_until_data_comes() {
    let world = World::new().unwrap();
    let tracer = tracer(&world);
    let server = world.listen(&ListenOptions { defer_accept: Some(5), ..ListenOptions::default() }).unwrap();
    let mut client = world.client(ConnOptions::default());
    let handshake = client.handshake().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let sent = client.send_data(b"at last").unwrap();
    let _accepted = server.accept().unwrap();
    let accepted = clock::monotonic_ns();
    let report = tracer.report();
    let reported = listener(&report, 1)["completed"]["max_ns"].as_u64().unwrap();
    let (least, most) = (sent - handshake.syn_ack_ns, accepted - handshake.syn_sent_ns);
    assert!(
        (least.saturating_sub(TOLERANCE_NS)..=most + TOLERANCE_NS).contains(&reported),
        "{reported} ns reported, in truth {least}..{most}"
    );
}

fn fast_open_is_half_open_from_its_syn() {
    let world = World::new().unwrap();
    world.ns.sysctl("net.ipv4.tcp_fastopen", 2 | 0x200).unwrap(); // Servers may, and ask for no cookie.
    let tracer = tracer(&world);
    let server = world.listen(&ListenOptions { fastopen: Some(16), ..ListenOptions::default() }).unwrap();
    let mut client = world.client(ConnOptions::default());
    let sent = client.send_syn_with_data(b"early").unwrap();
    let (_accepted, _) = server.accept().unwrap();
    client.expect_syn_ack(PATIENCE).unwrap();
    std::thread::sleep(Duration::from_millis(250));
    let acknowledged = client.send_ack().unwrap();
    let report = tracer.report();
    let reported = listener(&report, 1)["completed"]["max_ns"].as_u64().unwrap();
    assert_eq!(report["half_open"]["sources"]["fast_open"], 1, "{}", report["half_open"]);
    assert!(
        reported.abs_diff(acknowledged - sent) < TOLERANCE_NS,
        "{reported}, in truth {}",
        acknowledged - sent
    );
}

fn the_tracepoint_calls_it_unknown() {
    let world = World::new().unwrap();
    let pid = std::process::id().to_string();
    let tracer = Tracer::start(&["report", "--json", "--attach", "tracepoint", "-p", &pid]);
    let server = world.listen(&ListenOptions::default()).unwrap();
    world.client(ConnOptions::default()).handshake_with_delay(Duration::from_millis(100)).unwrap();
    let _accepted = server.accept().unwrap();
    let report = tracer.report();
    let listener = listener(&report, 0);
    assert_eq!(listener["unknown"], 1, "{listener}");
    assert!(listener["cookies"].is_null(), "it cannot be told");
    assert_eq!(report["states"]["SYN_RECV"]["duration"]["count"], 0);
}
