//! Programs that do not serve who comes.

use std::net::SocketAddr;

use tcp_trace_testkit::{Conn, ConnOptions, Helper, World, peer::PATIENCE, world::SERVER};

use super::{Animal, Seen, listener, pause, start};

const AT: &str = "127.0.0.1:7001";

pub(super) const ANIMALS: &[Animal] = &[
    Animal {
        name: "slow accept",
        config: "",
        arguments: &[],
        yields: &["accept_queue_overflow"],
        play: slow,
    },
    Animal { name: "tiny backlog", config: "", arguments: &[], yields: &["listener_backlog"], play: tiny },
    Animal {
        name: "listener restarted",
        config: "",
        arguments: &[],
        yields: &["listener_restarted"],
        play: restarted,
    },
    Animal { name: "listener gone", config: "", arguments: &[], yields: &["listener_gone"], play: gone },
];

/// It takes half a second for each connection, and many come at once.
fn slow(world: &World) -> Seen {
    let server = start(
        world,
        "server",
        "listening",
        &[&format!("listen={AT}"), "backlog=8", "pause-ms=500", "comm=slow"],
    );
    let mut clients = start(world, "burst", "ready", &[&format!("connect={AT}")]);
    clients.send("burst count=60").unwrap();
    clients.expect("done", PATIENCE).unwrap();
    pause(4_000);
    Seen::of(listener(&server, AT.parse().unwrap())).alive((server, clients))
}

/// It accepts at once, and its queue has room for two.
fn tiny(world: &World) -> Seen {
    let server = start(world, "server", "listening", &[&format!("listen={AT}"), "backlog=1", "comm=tiny"]);
    let mut clients: Vec<Helper> =
        (0..3).map(|_| start(world, "burst", "ready", &[&format!("connect={AT}")])).collect();
    for _ in 0..12 {
        for client in &mut clients {
            client.send("burst count=20").unwrap();
        }
        for client in &mut clients {
            client.expect("done", PATIENCE).unwrap();
        }
        pause(200);
    }
    // What found no room comes again.
    pause(2_500);
    Seen::of(listener(&server, AT.parse().unwrap())).alive((server, clients))
}

/// A server that accepts nothing, and five clients that wait.
fn queued(world: &World, round: u16) -> (Helper, Vec<Conn>) {
    let listen = format!("listen={SERVER}");
    let server = start(world, "server", "listening", &[&listen, "count=0", "comm=restarted"]);
    let client = |number: u16| {
        let from = SocketAddr::from(([198, 18, 7, 1], 4_000 + round * 10 + number));
        let mut conn = world.peer.connect_from(from, SERVER, ConnOptions::default());
        conn.handshake().unwrap();
        conn
    };
    (server, (0..5).map(client).collect())
}

fn restarted(world: &World) -> Seen {
    let mut all = Vec::new();
    for round in 0..3 {
        let (mut server, clients) = queued(world, round);
        pause(200);
        server.kill().unwrap();
        all.push((server, clients));
        pause(300);
    }
    let server = start(world, "server", "listening", &[&format!("listen={SERVER}"), "comm=restarted"]);
    pause(300);
    Seen::of(listener(&server, SERVER)).alive((server, all))
}

fn gone(world: &World) -> Seen {
    let (mut server, clients) = queued(world, 0);
    let subject = listener(&server, SERVER);
    pause(200);
    server.kill().unwrap();
    pause(300);
    Seen::of(subject).alive((server, clients))
}
