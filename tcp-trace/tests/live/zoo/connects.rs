//! Programs that cannot connect.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tcp_trace_testkit::{ConnOptions, Helper, World, peer::PATIENCE, world::PEER};

use super::{Animal, Seen, end, pause, start};

pub(super) const ANIMALS: &[Animal] = &[
    Animal { name: "refused", config: "", arguments: &[], yields: &["connect_failures"], play: refused },
    Animal {
        name: "blackholed",
        config: "",
        arguments: &[],
        yields: &["connect_failures"],
        play: blackholed,
    },
    Animal {
        name: "unreachable",
        config: "",
        arguments: &[],
        yields: &["connect_failures"],
        play: unreachable,
    },
];

fn subject(client: &Helper, to: SocketAddr) -> Value {
    json!({"kind": "destination", "peer": end(to), "process": {"pid": client.pid()}})
}

fn refused(world: &World) -> Seen {
    let to = "127.0.0.1:7009".parse().unwrap();
    let client = start(world, "client", "ready", &[&format!("connect={to}"), "count=20", "comm=refused"]);
    Seen::of(subject(&client, to)).alive(client)
}

fn burst(world: &World, to: SocketAddr, comm: &str) -> Helper {
    let mut client = start(world, "burst", "ready", &[&format!("connect={to}"), &format!("comm={comm}")]);
    client.send("burst count=10").unwrap();
    client.expect("done", PATIENCE).unwrap();
    client
}

/// One SYN is sent again, after a second; two seconds later the kernel gives up.
fn blackholed(world: &World) -> Seen {
    world.ns.sysctl("net.ipv4.tcp_syn_retries", 1).unwrap();
    let to = "198.18.9.9:443".parse().unwrap();
    let client = burst(world, to, "blackholed");
    pause(4_500);
    Seen::of(subject(&client, to)).alive(client)
}

fn unreachable(world: &World) -> Seen {
    let listener = world.peer.listen(PEER);
    let client = burst(world, PEER, "unreachable");
    for _ in 0..10 {
        let conn = listener.next_syn(ConnOptions::default(), PATIENCE).unwrap();
        conn.send_unreachable().unwrap();
    }
    pause(300);
    Seen::of(subject(&client, PEER)).alive(client)
}
