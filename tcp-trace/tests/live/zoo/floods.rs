//! Listeners whose clients do not finish their handshakes.

use std::net::{Ipv4Addr, SocketAddr};

use tcp_trace_testkit::{World, peer::PATIENCE, world::SERVER};

use super::{Animal, Seen, listener, pause, start};

pub(super) const ANIMALS: &[Animal] = &[
    Animal { name: "SYN flood", config: "", arguments: &[], yields: &["syn_flood"], play: flood },
    Animal { name: "handshake loss", config: "", arguments: &[], yields: &["handshake_loss"], play: loss },
];

/// Addresses of 198.18.0.0/15 that look chosen at random, and are the same each time.
fn random_sources(count: usize) -> impl Iterator<Item = SocketAddr> {
    let mut random = 88_172_645_463_325_252_u64;
    let next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let address = Ipv4Addr::from_bits(0xC612_0100 | (random as u32 & 0x1_FEFF) | 1);
        Some(SocketAddr::from((address, 1_024 + (random >> 40) as u16 % 60_000)))
    };
    std::iter::from_fn(next).take(count)
}

fn flood(world: &World) -> Seen {
    world.ns.sysctl("net.ipv4.tcp_max_syn_backlog", 4_096).unwrap();
    let server =
        start(world, "server", "listening", &[&format!("listen={SERVER}"), "backlog=512", "comm=flooded"]);
    let mut waves = Vec::new();
    for wave in 0..3 {
        let sources = random_sources(900).skip(wave * 300).take(300);
        waves.push(world.peer.flood(SERVER, sources).unwrap());
        pause(1_200);
    }
    Seen::of(listener(&server, SERVER)).alive((server, waves))
}

/// Three clients; the first SYN-ACK of each connection is lost, the second one answered.
fn loss(world: &World) -> Seen {
    let mut server =
        start(world, "server", "listening", &[&format!("listen={SERVER}"), "backlog=512", "comm=unheard"]);
    let sources =
        (0..60_u16).map(|number| SocketAddr::from(([198, 18, 7, 1 + (number % 3) as u8], 4_000 + number)));
    let mut clients = world.peer.flood(SERVER, sources).unwrap();
    pause(1_400);
    clients.complete(0..60).unwrap();
    for _ in 0..60 {
        server.expect("accepted", PATIENCE).unwrap();
    }
    pause(300);
    Seen::of(listener(&server, SERVER)).alive((server, clients))
}
