//! Programs that keep what they should let go.

use serde_json::json;
use tcp_trace_testkit::World;

use super::{Animal, Seen, pause, process, start};
use crate::tracer::PATIENCE;

const AT: &str = "127.0.0.1:7001";

pub(super) const ANIMALS: &[Animal] = &[
    Animal {
        name: "forgot close",
        config: "",
        arguments: &["--close-wait-after", "1s"],
        yields: &["close_wait_leak"],
        play: |world| close_wait(world, &["eof=read"], 0),
    },
    Animal {
        name: "stuck reader",
        config: "",
        arguments: &["--close-wait-after", "1s"],
        yields: &["close_wait_leak"],
        play: |world| close_wait(world, &["eof=never"], 100),
    },
    Animal {
        name: "port-exhausting client",
        config: "",
        arguments: &[],
        yields: &["port_exhaustion"],
        play: ports,
    },
    Animal {
        name: "fork leak",
        config: "[findings.fork_leak]\nafter_s = 2\n",
        arguments: &["--interval", "1s"],
        yields: &["fork_leak"],
        play: fork,
    },
];

const LEAK: u64 = 40;

fn close_wait(world: &World, server: &[&str], bytes: u32) -> Seen {
    let listen = format!("listen={AT}");
    let arguments: Vec<&str> =
        [listen.as_str(), "comm=leaky"].into_iter().chain(server.iter().copied()).collect();
    let mut server = start(world, "leaky-server", "listening", &arguments);
    let mut client = start(world, "client", "ready", &[&format!("connect={AT}"), &format!("count={LEAK}")]);
    for _ in 0..LEAK {
        server.expect("accepted", PATIENCE).unwrap();
    }
    if bytes > 0 {
        client.send(&format!("send bytes={bytes}")).unwrap();
        client.expect("done", PATIENCE).unwrap();
    }
    client.send("close").unwrap();
    client.expect("done", PATIENCE).unwrap();
    pause(2_000);
    Seen::of(process(&server)).alive((server, client))
}

/// Of 512 ports it leaves 480 in TIME_WAIT.
fn ports(world: &World) -> Seen {
    world.ns.sysctl("net.ipv4.ip_local_port_range", "32768 33279").unwrap();
    world.ns.sysctl("net.ipv4.tcp_tw_reuse", 0).unwrap();
    let server = start(world, "server", "listening", &[&format!("listen={AT}"), "backlog=1024"]);
    let mut client =
        start(world, "client", "ready", &[&format!("connect={AT}"), "count=480", "comm=exhausting"]);
    client.send("close").unwrap();
    client.expect("done", PATIENCE).unwrap();
    pause(1_000);
    let subject = json!({
        "kind": "local_ports", "local": "127.0.0.1", "peer": {"address": "127.0.0.1", "port": 7001},
        "process": {"pid": client.pid()}
    });
    Seen::of(subject).alive((server, client))
}

/// The child holds what the parent has closed. The client waits for an answer that nobody will send.
fn fork(world: &World) -> Seen {
    let mut parent = start(
        world,
        "heir",
        "listening",
        &[&format!("listen={AT}"), "count=12", "comm=parent", "heir=forgotten"],
    );
    let mut client = start(world, "client", "ready", &[&format!("connect={AT}"), "count=12"]);
    client.send("send bytes=10").unwrap();
    client.expect("done", PATIENCE).unwrap();
    let pid: u32 = parent.expect("forked", PATIENCE).unwrap().value("pid").unwrap();
    pause(5_500);
    let subject = json!({"kind": "process", "process": {"pid": pid, "comm": "forgotten"}});
    Seen::of(subject).alive((parent, client))
}
