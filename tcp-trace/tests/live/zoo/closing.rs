//! Programs whose peers do not let them close.

use tcp_trace_testkit::{Conn, ConnOptions, Helper, World, peer::PATIENCE, world::PEER};

use super::{Animal, Seen, pause, process};

/// Real ones take a minute.
const SOON: &str = "[findings.stuck_closing]\nafter_s = 2\n";

pub(super) const ANIMALS: &[Animal] = &[
    Animal {
        name: "silent peer, FIN_WAIT1",
        config: SOON,
        arguments: &[],
        yields: &["stuck_closing"],
        play: |world| {
            let (client, conns) = closed(world, 20, |_| {});
            wait(client, conns)
        },
    },
    Animal {
        name: "silent peer, LAST_ACK",
        config: SOON,
        arguments: &[],
        yields: &["stuck_closing"],
        play: |world| {
            let (client, conns) = closed(world, 20, close_first);
            wait(client, conns)
        },
    },
    Animal {
        name: "silent peer, CLOSING",
        config: SOON,
        arguments: &[],
        yields: &["stuck_closing"],
        play: |world| {
            let (client, mut conns) = closed(world, 20, |_| {});
            for conn in &mut conns {
                conn.close_simultaneously(PATIENCE).unwrap();
            }
            wait(client, conns)
        },
    },
    Animal {
        name: "peer that never closes, FIN_WAIT2",
        config: SOON,
        arguments: &[],
        yields: &["stuck_closing"],
        play: |world| {
            let (client, mut conns) = closed(world, 120, |_| {});
            for conn in &mut conns {
                conn.ack_fin_only(PATIENCE).unwrap();
            }
            wait(client, conns)
        },
    },
];

/// A process that has connected, and closed after the peer did `before`.
fn closed(world: &World, count: usize, before: fn(&mut Conn)) -> (Helper, Vec<Conn>) {
    let listener = world.peer.listen(PEER);
    let arguments = [format!("connect={PEER}"), format!("count={count}"), "comm=closer".to_owned()];
    let mut client = Helper::spawn(&world.ns, "client", &arguments.each_ref().map(String::as_str)).unwrap();
    let accept = |_| listener.accept(ConnOptions::default(), PATIENCE).unwrap();
    let mut conns: Vec<Conn> = (0..count).map(accept).collect();
    client.expect("ready", PATIENCE).unwrap();
    conns.iter_mut().for_each(before);
    client.send("close").unwrap();
    client.expect("done", PATIENCE).unwrap();
    (client, conns)
}

fn close_first(conn: &mut Conn) {
    conn.close_first(PATIENCE).unwrap();
}

fn wait(client: Helper, conns: Vec<Conn>) -> Seen {
    pause(3_000);
    Seen::of(process(&client)).alive((client, conns))
}
