//! Sockets that change hands: the obituary names the process that had it last.

use std::{net::SocketAddr, time::Duration};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use serde_json::{Value, json};
use tcp_trace_testkit::{ConnOptions, Helper, NetNs, World, helper::Line, peer::PATIENCE, sock, world::PEER};

use super::{
    Expected, Scenario, Scene,
    closes::{scene, settle},
};

pub(super) const SCENARIOS: &[Scenario] = &[
    ("the process exits in CLOSE_WAIT", exit_in_close_wait),
    ("forked, and closed by the parent", || handed_on("fork", "c", Some("forked"))),
    ("passed over a UNIX socket", || handed_on("pass", "c", Some("receiver"))),
    ("passed, and closed first by the receiver", || handed_on("pass", "s", Some("receiver"))),
    ("accepted by another process than the listener's", || handed_on("prefork", "c", None)),
    ("the worker exits with the socket open", || handed_on("exit", "x", Some("abandoning"))),
    ("a reset after the hand-over", || handed_on("fork", "r", Some("forked"))),
    ("killed from outside", killed),
    ("made in one namespace, used from another", in_another_namespace),
];

const SERVER: &str = "127.0.0.1:7001";
/// A process may take its time on an emulated machine.
const LONG: Duration = Duration::from_secs(60);

/// The process, or that it is not known.
fn process(pid: u32, comm: &str) -> Value {
    json!({"pid": [pid, null], "comm": [comm, null]})
}

/// Both ends of the one connection on loopback, without their processes.
fn both_ends(client: SocketAddr, server: SocketAddr, client_first: bool) -> (Expected, Expected) {
    let fields = |role, first: bool| {
        let (closer, endings) =
            if first { ("active", json!(["time_wait", "orphaned"])) } else { ("passive", json!(["closed"])) };
        json!({"role": role, "closer": closer, "ending": endings})
    };
    let clients = Expected::of(client, server, fields("client", client_first));
    (clients, Expected::of(server, client, fields("server", !client_first)))
}

fn exit_in_close_wait() -> Scene {
    let ns = NetNs::new().unwrap();
    let mut server =
        Helper::spawn(&ns, "leaky-server", &[&format!("listen={SERVER}"), "eof=never", "comm=leaky"])
            .unwrap();
    server.expect("listening", LONG).unwrap();
    let mut client = Helper::spawn(&ns, "client", &[&format!("connect={SERVER}"), "comm=plain"]).unwrap();
    let local: SocketAddr = client.expect("connected", LONG).unwrap().value("local").unwrap();
    server.expect("accepted", LONG).unwrap();
    client.send("close").unwrap();
    client.expect("done", LONG).unwrap();
    let at = SERVER.parse().unwrap();
    sock::wait_state(&ns, at, local, Some(sock::TcpState::CloseWait), LONG).unwrap();
    let pids = (server.pid(), client.pid());
    server.kill().unwrap();
    sock::wait_state(&ns, at, local, None, LONG).unwrap();
    let (mut clients, mut servers) = both_ends(local, at, true);
    // The ACK of its FIN came long before the server's end.
    clients.fields["ending"] = "orphaned".into();
    clients.fields["process"] = json!({"pid": pids.1, "comm": "plain"});
    servers.fields["process"] = json!({"pid": pids.0, "comm": "leaky"});
    Scene { ns, obituaries: vec![clients, servers] }
}

/// One connection of `owners-server` and `owners-client`: see `testkit/src/helper/owners.rs`.
fn handed_on(kind: &str, mode: &str, comm: Option<&str>) -> Scene {
    let ns = NetNs::new().unwrap();
    let server = [format!("listen={SERVER}"), format!("kind={kind}"), "count=1".into()];
    let mut server = Helper::spawn(&ns, "owners-server", &server.each_ref().map(String::as_str)).unwrap();
    server.expect("listening", LONG).unwrap();
    let client =
        [format!("connect={SERVER}"), format!("modes={mode}"), "count=1".into(), "comm=plain".into()];
    let mut client = Helper::spawn(&ns, "owners-client", &client.each_ref().map(String::as_str)).unwrap();
    client.expect("done", LONG).unwrap();
    let clients_pid = client.pid();
    let clients = client.finish_with_lines(LONG).unwrap();
    let local = said(&clients, "has").value("local").unwrap();
    let at = SERVER.parse().unwrap();
    // Only when all its sockets are closed, its forked processes may be killed.
    let mut lines = Vec::new();
    while lines.iter().filter(|line: &&Line| line.verb() == "left").count() < lefts(kind) {
        lines.push(server.expect("left", LONG).unwrap());
    }
    std::thread::sleep(Duration::from_millis(50));
    server.finish_with_lines(LONG).unwrap();
    let last = lines.iter().max_by_key(|line| line.value::<u64>("at_ns").unwrap()).unwrap();
    let (mut client, mut server) = both_ends(local, at, mode == "c");
    if mode == "r" {
        client.fields["ending"] = "linger_zero".into();
        server.fields["ending"] = "reset_by_peer".into();
        (client.fields["closer"], server.fields["closer"]) = (Value::Null, Value::Null);
    }
    client.fields["process"] = json!({"pid": clients_pid, "comm": "plain"});
    server.fields["process"] = process(last.value("pid").unwrap(), comm.unwrap_or(""));
    if comm.is_none() {
        server.fields["process"]["comm"] = json!(["prefork-0", "prefork-1", "prefork-2", "prefork-3", null]);
    }
    Scene { ns, obituaries: vec![client, server] }
}

/// How many processes give the server's end up.
fn lefts(kind: &str) -> usize {
    if matches!(kind, "fork" | "pass") { 2 } else { 1 }
}

fn said<'a>(lines: &'a [Line], verb: &str) -> &'a Line {
    lines.iter().find(|line| line.verb() == verb).unwrap()
}

/// As `ss --kill` does: the last transition runs in the killer, with the socket locked as by its owner (`tcp_abort`,
/// net/ipv4/tcp.c).
fn killed() -> Scene {
    let world = World::new().unwrap();
    let listener = world.peer.listen(PEER);
    let mut owner = Helper::spawn(&world.ns, "client", &[&format!("connect={PEER}"), "comm=victim"]).unwrap();
    let conn = listener.accept(ConnOptions::default(), LONG).unwrap();
    owner.expect("ready", LONG).unwrap();
    world.ns.run(|| sock::destroy(conn.remote(), PEER)).unwrap();
    settle(&world, &conn, None);
    let fields = json!({
        "role": "client", "closer": null, "ending": "killed", "process": {"pid": owner.pid(), "comm": "victim"}
    });
    scene(&world, vec![Expected::of(conn.remote(), PEER, fields).states(&["SYN_SENT", "ESTABLISHED"])])
}

/// The socket belongs to the namespace that it was made in.
fn in_another_namespace() -> Scene {
    let world = World::new().unwrap();
    let elsewhere = NetNs::new().unwrap();
    let listener = world.peer.listen(PEER);
    let socket = world
        .ns
        .run(|| socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap());
    let connecting =
        elsewhere.spawn("elsewhere", move || rustix::net::connect(&socket, &PEER).map(|()| socket)).unwrap();
    let mut conn = listener.accept(ConnOptions::default(), PATIENCE).unwrap();
    let socket = connecting.join().unwrap().unwrap();
    conn.close_first(PATIENCE).unwrap();
    drop(socket);
    conn.finish_close(PATIENCE).unwrap();
    settle(&world, &conn, None);
    let fields = json!({"role": "client", "closer": "passive", "ending": "closed"});
    scene(&world, vec![Expected::of(conn.remote(), PEER, fields)])
}
