//! Connections that end with FINs: who sends the first, and what becomes of the other side.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    thread::sleep,
    time::Duration,
};

use serde_json::json;
use tcp_trace_testkit::{
    Conn, ConnOptions, Flags, ListenOptions, World,
    peer::PATIENCE,
    sock::{self, TcpState},
    world::{PEER, SERVER},
};

use super::{Expected, Scenario, Scene, timed};

/// How long a state is held whose time is checked.
const DWELL: Duration = Duration::from_millis(300);

pub(super) const SCENARIOS: &[Scenario] = &[
    ("the kernel's client closes first", client_first),
    ("the kernel's server closes first", server_first),
    ("the kernel's client closes last", client_last),
    ("the kernel's server closes last", server_last),
    ("both close at once", simultaneous_close),
    ("both open at once", simultaneous_open),
    ("IPv6", ipv6),
];

pub(super) const HALVES: &[Scenario] = &[
    ("shutdown, then close in FIN_WAIT2", close_in_fin_wait2),
    ("shutdown and the peer's FIN, the descriptor still open", outlived_by_its_descriptor),
    ("the peer never closes", orphaned),
    ("the peer never closes, and the orphan stays a socket for 2 s", orphaned_for_long),
];

/// Waits until the kernel has the connection in this state, or no more.
pub(super) fn settle(world: &World, conn: &Conn, state: Option<TcpState>) {
    sock::wait_state(&world.ns, conn.remote(), conn.local(), state, PATIENCE).unwrap();
}

pub(super) fn scene(world: &World, obituaries: Vec<Expected>) -> Scene {
    Scene { ns: world.ns.clone(), obituaries }
}

/// The kernel has closed: its FIN is answered with one FIN that also acknowledges it.
fn answer_fin(world: &World, conn: &mut Conn) {
    conn.expect(Flags::FIN, PATIENCE).unwrap();
    conn.send_fin().unwrap();
    conn.expect_all_acked(PATIENCE).unwrap();
    settle(world, conn, Some(TcpState::TimeWait));
}

fn client_first() -> Scene {
    let world = World::new().unwrap();
    let ((mut conn, mut kernel), opened) = timed(|| world.connected().unwrap());
    kernel.write_all(b"hello").unwrap();
    conn.expect(Flags::PSH, PATIENCE).unwrap();
    conn.send_data(b"hello yourself").unwrap();
    conn.expect_all_acked(PATIENCE).unwrap();
    kernel.read_exact(&mut [0; 14]).unwrap();
    sleep(DWELL);
    let ((), closed) = timed(|| drop(kernel));
    let ((), ended) = timed(|| answer_fin(&world, &mut conn));
    let fields = json!({
        "role": "client", "closer": "active", "ending": "time_wait",
        "bytes_sent": 5, "bytes_received": 14, "retransmits": 0, "unread_bytes": [0, null]
    });
    let expected = Expected::of(conn.remote(), conn.local(), fields)
        .states(&["SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2"])
        .time("/states/ESTABLISHED", opened.until(closed))
        .time("/connect_ns", 0..=opened.1 - opened.0)
        .time("/duration_ns", opened.until(ended));
    scene(&world, vec![expected])
}

fn server_first() -> Scene {
    let world = World::new().unwrap();
    let (mut conn, kernel) = world.served().unwrap();
    drop(kernel);
    answer_fin(&world, &mut conn);
    let fields = json!({"role": "server", "closer": "active", "ending": "time_wait"});
    let expected = Expected::of(SERVER, PEER, fields)
        .states(&["ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2"])
        .time("/half_open_ns", half_open());
    scene(&world, vec![expected])
}

/// Of a peer that acknowledges at once.
fn half_open() -> std::ops::RangeInclusive<u64> {
    1..=super::SLACK_NS
}

/// The peer closes, the kernel's end after a while.
fn closed_last(world: &World, mut conn: Conn, kernel: TcpStream, role: &str) -> Expected {
    let (_, fin) = timed(|| conn.close_first(PATIENCE).unwrap());
    sleep(DWELL);
    let ((), closed) = timed(|| drop(kernel));
    sleep(DWELL);
    let (_, ended) = timed(|| conn.finish_close(PATIENCE).unwrap());
    settle(world, &conn, None);
    let fields = json!({"role": role, "closer": "passive", "ending": "closed"});
    Expected::of(conn.remote(), conn.local(), fields)
        .time("/states/CLOSE_WAIT", fin.until(closed))
        .time("/states/LAST_ACK", closed.until(ended))
}

fn client_last() -> Scene {
    let world = World::new().unwrap();
    let (conn, kernel) = world.connected().unwrap();
    let expected = closed_last(&world, conn, kernel, "client");
    scene(&world, vec![expected.states(&["SYN_SENT", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK"])])
}

fn server_last() -> Scene {
    let world = World::new().unwrap();
    let (conn, kernel) = world.served().unwrap();
    let expected = closed_last(&world, conn, kernel, "server");
    scene(&world, vec![expected.states(&["ESTABLISHED", "CLOSE_WAIT", "LAST_ACK"])])
}

fn simultaneous_close() -> Scene {
    let world = World::new().unwrap();
    let (mut conn, kernel) = world.served().unwrap();
    drop(kernel);
    let (_, crossed) = timed(|| conn.close_simultaneously(PATIENCE).unwrap());
    sleep(DWELL);
    let (_, ended) = timed(|| conn.ack_received().unwrap());
    settle(&world, &conn, Some(TcpState::TimeWait));
    let fields = json!({"role": "server", "closer": "simultaneous", "ending": "time_wait"});
    let expected = Expected::of(SERVER, PEER, fields)
        .states(&["ESTABLISHED", "FIN_WAIT1", "CLOSING"])
        .time("/states/CLOSING", crossed.until(ended));
    scene(&world, vec![expected])
}

fn simultaneous_open() -> Scene {
    let world = World::new().unwrap();
    let listener = world.peer.listen(PEER);
    let client = world.ns.spawn("connect", || TcpStream::connect(PEER)).unwrap();
    let mut conn = listener.next_syn(ConnOptions::default(), PATIENCE).unwrap();
    let (_, crossed) = timed(|| conn.send_syn().unwrap());
    conn.expect_syn_ack(PATIENCE).unwrap();
    sleep(DWELL);
    let (_, opened) = timed(|| conn.send_ack().unwrap());
    let kernel = client.join().unwrap().unwrap();
    conn.close_first(PATIENCE).unwrap();
    drop(kernel);
    conn.finish_close(PATIENCE).unwrap();
    settle(&world, &conn, None);
    let fields = json!({"role": "client", "closer": "passive", "ending": "closed"});
    let expected = Expected::of(conn.remote(), PEER, fields)
        .states(&["SYN_SENT", "SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK"])
        .time("/states/SYN_RECV", crossed.until(opened));
    scene(&world, vec![expected])
}

fn ipv6() -> Scene {
    let world = World::new().unwrap();
    let [server, peer] = ["[2001:db8::1]:7001", "[2001:db8::7]:4000"].map(|text| text.parse().unwrap());
    let listener = world.ns.run(|| sock::listen(server, &ListenOptions::default())).unwrap();
    let mut conn = world.peer.connect_from(peer, server, ConnOptions::default());
    conn.handshake().unwrap();
    drop(listener.accept().unwrap());
    answer_fin(&world, &mut conn);
    let fields = json!({"role": "server", "closer": "active", "ending": "time_wait"});
    scene(&world, vec![Expected::of(server, peer, fields)])
}

/// The close in FIN_WAIT2 is a self transition, which begins no new stay.
fn close_in_fin_wait2() -> Scene {
    let world = World::new().unwrap();
    let (mut conn, kernel) = world.connected().unwrap();
    kernel.shutdown(Shutdown::Write).unwrap();
    let (_, entered) = timed(|| conn.ack_fin_only(PATIENCE).unwrap());
    sleep(DWELL);
    let ((), closed) = timed(|| drop(kernel));
    settle(&world, &conn, Some(TcpState::FinWait2));
    let fields = json!({"role": "client", "closer": "active", "ending": "orphaned"});
    let expected = Expected::of(conn.remote(), PEER, fields)
        .states(&["SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2"])
        .time("/states/FIN_WAIT2", entered.until(closed));
    scene(&world, vec![expected])
}

/// The connection is over with the peer's FIN, whatever the program still holds.
fn outlived_by_its_descriptor() -> Scene {
    let world = World::new().unwrap();
    let (mut conn, kernel) = world.connected().unwrap();
    kernel.shutdown(Shutdown::Write).unwrap();
    let (_, entered) = timed(|| conn.ack_fin_only(PATIENCE).unwrap());
    sleep(DWELL);
    let (_, ended) = timed(|| conn.close_first(PATIENCE).unwrap());
    settle(&world, &conn, Some(TcpState::TimeWait));
    sleep(DWELL);
    drop(kernel);
    let fields = json!({"role": "client", "closer": "active", "ending": "time_wait"});
    let expected = Expected::of(conn.remote(), PEER, fields)
        .states(&["SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2"])
        .time("/states/FIN_WAIT2", entered.until(ended));
    scene(&world, vec![expected])
}

fn orphaned() -> Scene {
    let world = World::new().unwrap();
    let (mut conn, kernel) = world.served().unwrap();
    drop(kernel);
    conn.ack_fin_only(PATIENCE).unwrap();
    settle(&world, &conn, Some(TcpState::FinWait2));
    let fields = json!({"role": "server", "closer": "active", "ending": "orphaned"});
    scene(&world, vec![Expected::of(SERVER, PEER, fields).states(&["ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2"])])
}

/// With `tcp_fin_timeout` above 60 s a socket waits for what is above, and a minisock only for the rest.
fn orphaned_for_long() -> Scene {
    let world = World::new().unwrap();
    world.ns.sysctl("net.ipv4.tcp_fin_timeout", 62).unwrap();
    let (mut conn, kernel) = world.served().unwrap();
    drop(kernel);
    let (_, entered) = timed(|| conn.ack_fin_only(PATIENCE).unwrap());
    let ((), ended) = timed(|| sleep(Duration::from_millis(2_500)));
    settle(&world, &conn, Some(TcpState::FinWait2));
    let fields = json!({"role": "server", "closer": "active", "ending": "orphaned"});
    let least = Duration::from_millis(1_900).as_nanos() as u64;
    let expected =
        Expected::of(SERVER, PEER, fields).time("/states/FIN_WAIT2", least..=*entered.until(ended).end());
    scene(&world, vec![expected])
}
