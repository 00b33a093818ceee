//! Connections that end with a RST, whoever sends it, or with a timer.

use std::{
    io::Write as _,
    net::{Shutdown, SocketAddr, TcpStream},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tcp_trace_testkit::{
    Conn, ConnOptions, Flags, World,
    peer::PATIENCE,
    sock::{self, TcpState},
    world::PEER,
};

use super::{
    Expected, Scenario, Scene,
    closes::{scene, settle},
};

pub(super) const SCENARIOS: &[Scenario] = &[
    ("a reset in ESTABLISHED", in_established),
    ("a reset of an accepted connection", of_a_server),
    ("a reset in CLOSE_WAIT", in_close_wait),
    ("a reset in FIN_WAIT2", in_fin_wait2),
    ("a reset in LAST_ACK", in_last_ack),
    ("TCP_USER_TIMEOUT", user_timeout),
];

pub(super) const ABORTS: &[Scenario] = &[
    ("closed with unread data", unread),
    ("closed with unread data in CLOSE_WAIT", unread_in_close_wait),
    ("closed with SO_LINGER 0", linger_zero),
    ("closed with SO_LINGER 0 in CLOSE_WAIT", linger_zero_in_close_wait),
    ("disconnected, then connected again", reconnected),
];

/// Resets the connection; the kernel has it no more.
fn reset(world: &World, conn: &mut Conn) {
    conn.send_rst().unwrap();
    settle(world, conn, None);
}

/// One obituary of the kernel's client.
fn client(
    world: &World,
    conn: &Conn,
    closer: &Value,
    ending: &str,
    states: &'static [&'static str],
) -> Scene {
    let fields = json!({"role": "client", "closer": closer, "ending": ending});
    scene(world, vec![Expected::of(conn.remote(), conn.local(), fields).states(states)])
}

fn in_established() -> Scene {
    let world = World::new().unwrap();
    let (mut conn, _kernel) = world.connected().unwrap();
    reset(&world, &mut conn);
    client(&world, &conn, &Value::Null, "reset_by_peer", &["SYN_SENT", "ESTABLISHED"])
}

/// Its last transition runs in whatever task is on the CPU.
fn of_a_server() -> Scene {
    let world = World::new().unwrap();
    let (mut conn, kernel) = world.served().unwrap();
    reset(&world, &mut conn);
    drop(kernel);
    let fields = json!({"role": "server", "closer": null, "ending": "reset_by_peer"});
    scene(&world, vec![Expected::of(conn.remote(), conn.local(), fields).states(&["ESTABLISHED"])])
}

fn in_close_wait() -> Scene {
    let world = World::new().unwrap();
    let (mut conn, _kernel) = world.connected().unwrap();
    conn.close_first(PATIENCE).unwrap();
    reset(&world, &mut conn);
    let states = &["SYN_SENT", "ESTABLISHED", "CLOSE_WAIT"];
    client(&world, &conn, &json!("passive"), "reset_by_peer", states)
}

fn in_fin_wait2() -> Scene {
    let world = World::new().unwrap();
    let (mut conn, kernel) = world.connected().unwrap();
    kernel.shutdown(Shutdown::Write).unwrap();
    conn.ack_fin_only(PATIENCE).unwrap();
    settle(&world, &conn, Some(TcpState::FinWait2));
    reset(&world, &mut conn);
    let states = &["SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2"];
    client(&world, &conn, &json!("active"), "reset_by_peer", states)
}

fn in_last_ack() -> Scene {
    let world = World::new().unwrap();
    let (mut conn, kernel) = world.connected().unwrap();
    conn.close_first(PATIENCE).unwrap();
    drop(kernel);
    conn.expect(Flags::FIN, PATIENCE).unwrap();
    settle(&world, &conn, Some(TcpState::LastAck));
    reset(&world, &mut conn);
    let states = &["SYN_SENT", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK"];
    client(&world, &conn, &json!("passive"), "reset_by_peer", states)
}

fn user_timeout() -> Scene {
    let world = World::new().unwrap();
    let (conn, mut kernel) = world.connected().unwrap();
    rustix::net::sockopt::set_tcp_user_timeout(&kernel, 500).unwrap();
    kernel.write_all(b"is anybody there?").unwrap();
    let deadline = Instant::now() + 4 * PATIENCE;
    while sock::tcp_state(&kernel).unwrap() != TcpState::Close {
        assert!(Instant::now() < deadline, "the time-out does not come");
        sleep(Duration::from_millis(10));
    }
    let fields = json!({"role": "client", "closer": null, "ending": "timed_out"});
    let expected = Expected::of(conn.remote(), PEER, fields)
        .states(&["SYN_SENT", "ESTABLISHED"])
        .time("/retransmits", 1..=10)
        .time("/states/ESTABLISHED", 450_000_000..=20_000_000_000);
    scene(&world, vec![expected])
}

fn unread() -> Scene {
    let world = World::new().unwrap();
    let (mut conn, kernel) = world.connected().unwrap();
    conn.send_data(b"never read").unwrap();
    conn.expect_all_acked(PATIENCE).unwrap();
    drop(kernel);
    settle(&world, &conn, None);
    let fields =
        json!({"role": "client", "closer": null, "ending": "aborted_unread", "unread_bytes": [10, null]});
    let expected = Expected::of(conn.remote(), PEER, fields).states(&["SYN_SENT", "ESTABLISHED"]);
    scene(&world, vec![expected])
}

fn unread_in_close_wait() -> Scene {
    let world = World::new().unwrap();
    let (mut conn, kernel) = world.connected().unwrap();
    conn.send_data(b"never read").unwrap();
    conn.close_first(PATIENCE).unwrap();
    drop(kernel);
    settle(&world, &conn, None);
    let states = &["SYN_SENT", "ESTABLISHED", "CLOSE_WAIT"];
    client(&world, &conn, &json!("passive"), "aborted_unread", states)
}

fn linger_zero() -> Scene {
    let world = World::new().unwrap();
    let (conn, kernel) = world.connected().unwrap();
    sock::abort_on_close(&kernel).unwrap();
    drop(kernel);
    settle(&world, &conn, None);
    client(&world, &conn, &Value::Null, "linger_zero", &["SYN_SENT", "ESTABLISHED"])
}

fn linger_zero_in_close_wait() -> Scene {
    let world = World::new().unwrap();
    let (mut conn, kernel) = world.connected().unwrap();
    conn.close_first(PATIENCE).unwrap();
    sock::abort_on_close(&kernel).unwrap();
    drop(kernel);
    settle(&world, &conn, None);
    client(&world, &conn, &json!("passive"), "linger_zero", &["SYN_SENT", "ESTABLISHED", "CLOSE_WAIT"])
}

/// One socket, one cookie, two connections.
fn reconnected() -> Scene {
    let world = World::new().unwrap();
    let (first, kernel) = world.connected().unwrap();
    let cookie = sock::cookie(&kernel).unwrap();
    sock::disconnect(&kernel).unwrap();
    let again = SocketAddr::new(PEER.ip(), 4001);
    let listener = world.peer.listen(again);
    let reconnecting = world.ns.spawn("reconnect", move || connect_again(kernel, again)).unwrap();
    let mut second = listener.accept(ConnOptions::default(), PATIENCE).unwrap();
    let kernel = reconnecting.join().unwrap();
    reset(&world, &mut second);
    drop(kernel);
    let expected = |conn: &Conn, ending| {
        let fields = json!({"role": "client", "closer": null, "ending": ending, "cookie": [cookie, null]});
        Expected::of(conn.remote(), conn.local(), fields).states(&["SYN_SENT", "ESTABLISHED"])
    };
    scene(&world, vec![expected(&first, "disconnected"), expected(&second, "reset_by_peer")])
}

fn connect_again(socket: TcpStream, to: SocketAddr) -> TcpStream {
    rustix::net::connect(&socket, &to).unwrap();
    socket
}
