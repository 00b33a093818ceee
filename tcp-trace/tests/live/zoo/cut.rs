//! Programs whose connections are cut off instead of closed.

use std::net::SocketAddr;

use tcp_trace_testkit::{
    Conn, ConnOptions, Flags, Helper, World,
    peer::PATIENCE,
    world::{PEER, SERVER},
};

use super::{Animal, Seen, pause, process, start};

pub(super) const ANIMALS: &[Animal] = &[
    Animal { name: "linger 0", config: "", arguments: &[], yields: &["linger_zero_close"], play: linger },
    Animal {
        name: "abort with unread data",
        config: "",
        arguments: &[],
        yields: &["abort_unread_data"],
        play: abort,
    },
    Animal { name: "reset storm", config: "", arguments: &[], yields: &["reset_storm"], play: storm },
];

/// Five rounds of so many, in as many seconds or less.
const ROUNDS: usize = 5;
const EACH: usize = 30;
const BETWEEN_MS: u64 = 800;

fn linger(world: &World) -> Seen {
    let listener = world.peer.listen(PEER);
    let arguments =
        [format!("connect={PEER}"), format!("count={}", ROUNDS * EACH), "comm=impatient".to_owned()];
    let mut client = Helper::spawn(&world.ns, "client", &arguments.each_ref().map(String::as_str)).unwrap();
    let accept = |_| listener.accept(ConnOptions::default(), PATIENCE).unwrap();
    let mut conns: Vec<Conn> = (0..ROUNDS * EACH).map(accept).collect();
    client.expect("ready", PATIENCE).unwrap();
    client.send("send bytes=10").unwrap();
    client.expect("done", PATIENCE).unwrap();
    for conn in &mut conns {
        conn.expect(Flags::PSH, PATIENCE).unwrap();
        conn.ack_received().unwrap();
    }
    for _ in 0..ROUNDS {
        client.send(&format!("reset count={EACH}")).unwrap();
        client.expect("done", PATIENCE).unwrap();
        pause(BETWEEN_MS);
    }
    Seen::of(process(&client)).alive((client, conns))
}

/// The hand-made clients of a round: connected, and with data sent.
fn clients(world: &World, round: usize) -> Vec<Conn> {
    let client = |number: usize| {
        let port = u16::try_from(4_000 + round * EACH + number).unwrap();
        let mut conn = world.peer.connect_from(
            SocketAddr::from(([198, 18, 7, 1], port)),
            SERVER,
            ConnOptions::default(),
        );
        conn.handshake().unwrap();
        conn.send_data(b"a request").unwrap();
        conn
    };
    (0..EACH).map(client).collect()
}

fn abort(world: &World) -> Seen {
    let listen = format!("listen={SERVER}");
    let mut server = start(world, "server", "listening", &[&listen, "eof=never", "comm=hasty"]);
    let mut all = Vec::new();
    for round in 0..ROUNDS {
        all.extend(clients(world, round));
        for _ in 0..EACH {
            server.expect("accepted", PATIENCE).unwrap();
        }
        server.send("close").unwrap();
        for _ in 0..EACH {
            server.expect("closed", PATIENCE).unwrap();
        }
        pause(BETWEEN_MS);
    }
    Seen::of(process(&server)).alive((server, all))
}

/// They reset what the server has read from.
fn storm(world: &World) -> Seen {
    let listen = format!("listen={SERVER}");
    let mut server = start(world, "server", "listening", &[&listen, "comm=stormed"]);
    let mut all = Vec::new();
    for round in 0..ROUNDS {
        let mut some = clients(world, round);
        for conn in &mut some {
            conn.expect_all_acked(PATIENCE).unwrap();
        }
        pause(100);
        for conn in &mut some {
            conn.send_rst().unwrap();
        }
        for _ in 0..EACH {
            server.expect("hangup", PATIENCE).unwrap();
        }
        all.extend(some);
        pause(BETWEEN_MS);
    }
    Seen::of(process(&server)).alive((server, all))
}
