//! Attempts to connect that come to nothing.

use std::{
    net::{SocketAddr, TcpStream},
    thread::sleep,
    time::Duration,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use serde_json::{Value, json};
use tcp_trace_testkit::{ConnOptions, NetNs, World, peer::PATIENCE, world::PEER};

use super::{Expected, Scenario, Scene, closes::scene, timed};

pub(super) const SCENARIOS: &[Scenario] = &[
    ("refused by the peer", refused),
    ("refused on loopback", refused_on_loopback),
    ("timed out", timed_out),
    ("unreachable", unreachable),
    ("given up by the program", given_up),
    ("no route, and bound only: no connection at all", nothing_to_bury),
];

/// Nothing but SYN_SENT. The local address is the kernel's choice: the peer saw it.
fn attempt(local: SocketAddr, peer: SocketAddr, ending: &Value) -> Expected {
    let fields = json!({"role": "client", "closer": null, "ending": ending, "connect_ns": null});
    Expected::of(local, peer, fields).states(&["SYN_SENT"])
}

fn refused() -> Scene {
    let world = World::new().unwrap();
    let listener = world.peer.listen(PEER);
    let client = world.ns.spawn("connect", || TcpStream::connect(PEER)).unwrap();
    let mut conn = listener.next_syn(ConnOptions::default(), PATIENCE).unwrap();
    conn.send_rst().unwrap();
    client.join().unwrap().unwrap_err();
    scene(&world, vec![attempt(conn.remote(), PEER, &json!("refused"))])
}

fn refused_on_loopback() -> Scene {
    let world = World::new().unwrap();
    // One port to choose from, so that it is known.
    world.ns.sysctl("net.ipv4.ip_local_port_range", "41000 41000").unwrap();
    let nobody: SocketAddr = "127.0.0.1:9".parse().unwrap();
    world.ns.run(|| TcpStream::connect(nobody).unwrap_err());
    scene(&world, vec![attempt("127.0.0.1:41000".parse().unwrap(), nobody, &json!("refused"))])
}

fn timed_out() -> Scene {
    let world = World::new().unwrap();
    world.ns.sysctl("net.ipv4.tcp_syn_retries", 1).unwrap();
    // Newer kernels send some first SYNs in a linear, not an exponential, rhythm.
    let _ = world.ns.sysctl("net.ipv4.tcp_syn_linear_timeouts", 0);
    let listener = world.peer.listen(PEER);
    let (_, tried) = timed(|| world.ns.run(|| TcpStream::connect(PEER).unwrap_err()));
    let conn = listener.next_syn(ConnOptions::default(), PATIENCE).unwrap();
    let least = Duration::from_millis(2_900).as_nanos() as u64;
    let expected = attempt(conn.remote(), PEER, &json!("timed_out"));
    scene(
        &world,
        vec![expected.time("/states/SYN_SENT", least..=tried.1 - tried.0).time("/retransmits", 1..=2)],
    )
}

fn unreachable() -> Scene {
    let world = World::new().unwrap();
    let listener = world.peer.listen(PEER);
    let client = world.ns.spawn("connect", || TcpStream::connect(PEER)).unwrap();
    let conn = listener.next_syn(ConnOptions::default(), PATIENCE).unwrap();
    conn.send_unreachable().unwrap();
    client.join().unwrap().unwrap_err();
    scene(&world, vec![attempt(conn.remote(), PEER, &json!("unreachable"))])
}

/// The kernel would have gone on trying.
fn given_up() -> Scene {
    let world = World::new().unwrap();
    let listener = world.peer.listen(PEER);
    let patience = Duration::from_millis(200);
    world.ns.run(|| TcpStream::connect_timeout(&PEER, patience).unwrap_err());
    let conn = listener.next_syn(ConnOptions::default(), PATIENCE).unwrap();
    scene(&world, vec![attempt(conn.remote(), PEER, &json!(["given_up"]))])
}

fn nothing_to_bury() -> Scene {
    let ns = NetNs::new().unwrap();
    let far: SocketAddr = "192.0.2.1:80".parse().unwrap();
    ns.run(|| {
        TcpStream::connect(far).unwrap_err();
        let socket =
            socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 7001))).unwrap();
        drop(socket);
    });
    sleep(Duration::from_millis(10));
    Scene { ns, obituaries: Vec::new() }
}
