//! What listeners do to their connections; none has an obituary of its own.

use std::{
    io::Read as _,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    thread::sleep,
    time::Duration,
};

use rustix::net::{AddressFamily, Protocol, Shutdown, SocketFlags, SocketType, ipproto, socket_with};
use serde_json::{Value, json};
use tcp_trace_testkit::{
    Conn, ConnOptions, Helper, ListenOptions, NetNs, World,
    peer::PATIENCE,
    world::{PEER, SERVER},
};

use super::{
    Expected, Scenario, Scene, address_of,
    closes::{scene, settle},
    timed,
};
use crate::{
    requirements::{Feature, requires},
    tracer::Tracer,
};

pub(super) const SCENARIOS: &[Scenario] = &[
    ("closed with connections that nobody accepted", never_accepted),
    ("shut down, and listening again", listening_again),
    ("Fast Open", fast_open),
    ("SYN cookies", cookies),
    ("a dual-stack listener", dual_stack),
];

fn client(world: &World, port: u16) -> Conn {
    let mut conn = world.peer.connect_from(SocketAddr::new(PEER.ip(), port), SERVER, ConnOptions::default());
    conn.handshake().unwrap();
    conn
}

/// The kernel resets what waits in the accept queue: the listener's fault, and its owner's.
fn never_accepted() -> Scene {
    let world = World::new().unwrap();
    let listener = world.listen(&ListenOptions::default()).unwrap();
    let mut conns: Vec<Conn> = (4_000..4_003).map(|port| client(&world, port)).collect();
    conns[2].close_first(PATIENCE).unwrap();
    drop(listener);
    conns.iter().for_each(|conn| settle(&world, conn, None));
    let expected = conns.iter().zip([None, None, Some("passive")]).map(|(conn, closer)| {
        let fields = json!({"role": "server", "closer": closer, "ending": "never_accepted"});
        Expected::of(SERVER, conn.local(), fields)
    });
    scene(&world, expected.collect())
}

/// The peer closes first, then the kernel.
fn close(world: &World, mut conn: Conn, accepted: TcpStream) -> Expected {
    conn.close_first(PATIENCE).unwrap();
    drop(accepted);
    conn.finish_close(PATIENCE).unwrap();
    settle(world, &conn, None);
    let fields = json!({"role": "server", "closer": "passive", "ending": "closed"});
    Expected::of(SERVER, conn.local(), fields)
}

fn listening_again() -> Scene {
    let world = World::new().unwrap();
    let listener = world.listen(&ListenOptions::default()).unwrap();
    let first = client(&world, 4_000);
    let first_accepted = listener.accept().unwrap().0;
    rustix::net::shutdown(&listener, Shutdown::Both).unwrap();
    rustix::net::listen(&listener, 16).unwrap();
    let second = client(&world, 4_001);
    let second_accepted = listener.accept().unwrap().0;
    let obituaries = vec![close(&world, first, first_accepted), close(&world, second, second_accepted)];
    drop(listener);
    scene(&world, obituaries)
}

fn fast_open() -> Scene {
    let world = World::new().unwrap();
    world.ns.sysctl("net.ipv4.tcp_fastopen", 2 | 0x200).unwrap(); // Servers may, and ask for no cookie.
    let server = world.listen(&ListenOptions { fastopen: Some(16), ..ListenOptions::default() }).unwrap();
    let mut conn = world.client(ConnOptions::default());
    let (_, began) = timed(|| conn.send_syn_with_data(b"early").unwrap());
    let mut accepted = server.accept().unwrap().0;
    conn.expect_syn_ack(PATIENCE).unwrap();
    sleep(Duration::from_millis(300));
    let (_, ended) = timed(|| conn.send_ack().unwrap());
    accepted.read_exact(&mut [0; 5]).unwrap();
    let expected = close(&world, conn, accepted).time("/half_open_ns", began.until(ended));
    let mut expected = expected.time("/bytes_received", 5..=5);
    expected.fields["half_open_source"] = "fast_open".into();
    scene(&world, vec![expected])
}

/// The kernel kept nothing of the handshake, so nobody can know how long it took.
fn cookies() -> Scene {
    let world = World::new().unwrap();
    // 2: every handshake by cookie, whether the queue is full or not.
    world.ns.sysctl("net.ipv4.tcp_syncookies", 2).unwrap();
    let listener = world.listen(&ListenOptions::default()).unwrap();
    let mut conn = world.client(ConnOptions::default());
    conn.handshake_with_delay(Duration::from_millis(100)).unwrap();
    let accepted = listener.accept().unwrap().0;
    let mut expected = close(&world, conn, accepted);
    expected.fields["half_open_ns"] = Value::Null;
    scene(&world, vec![expected])
}

/// IPv4 through an IPv6 listener: both ends are shown as IPv4.
fn dual_stack() -> Scene {
    let ns = NetNs::new().unwrap();
    let mut server = Helper::spawn(&ns, "server", &["listen=[::]:7001"]).unwrap();
    server.expect("listening", PATIENCE).unwrap();
    let mut client = Helper::spawn(&ns, "client", &["connect=127.0.0.1:7001"]).unwrap();
    let local: SocketAddr = client.expect("connected", PATIENCE).unwrap().value("local").unwrap();
    client.send("close").unwrap();
    server.expect("closed", PATIENCE).unwrap();
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 7001));
    let fields = |pid, role, closer| json!({"process": {"pid": pid}, "role": role, "closer": closer});
    let obituaries = vec![
        Expected::of(local, at, fields(client.pid(), "client", "active")),
        Expected::of(at, local, fields(server.pid(), "server", "passive")),
    ];
    client.finish().unwrap();
    server.finish().unwrap();
    Scene { ns, obituaries }
}

fn mptcp_socket() -> OwnedFd {
    let protocol: Option<Protocol> = Some(ipproto::MPTCP);
    socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, protocol).unwrap()
}

/// One obituary for each end's subflow, and none for the sockets above them.
pub(super) fn multipath() {
    requires(&[Feature::Mptcp]);
    let ns = NetNs::new().unwrap();
    let tracer = Tracer::start(&["stream", "--closed", "--json", "--netns", &ns.inum().to_string()]);
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 7001));
    let client = ns.run(|| {
        let listener = mptcp_socket();
        rustix::net::bind(&listener, &at).unwrap();
        rustix::net::listen(&listener, 16).unwrap();
        let client = mptcp_socket();
        rustix::net::connect(&client, &at).unwrap();
        let (client, server) = (TcpStream::from(client), TcpListener::from(listener).accept().unwrap().0);
        let local = client.local_addr().unwrap();
        exchange(client, server);
        local
    });
    let lines = tracer.lines();
    let roles: Vec<_> =
        lines.iter().map(|line| (address_of(&line["local"]), line["role"].as_str())).collect();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(roles.contains(&(client, Some("client"))) && roles.contains(&(at, Some("server"))), "{lines:#?}");
    for line in &lines {
        let owner = &line["process"]["pid"];
        // Subflows are closed by a kernel worker, which is never their owner.
        assert!(owner.is_null() || *owner == std::process::id(), "{line}");
        assert!(line["ending"].is_string(), "{line}");
    }
}

/// A byte each way; then the client closes first.
fn exchange(mut client: TcpStream, mut server: TcpStream) {
    use std::io::Write as _;
    client.write_all(b"a").unwrap();
    server.read_exact(&mut [0]).unwrap();
    server.write_all(b"b").unwrap();
    client.read_exact(&mut [0]).unwrap();
    drop(client);
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    drop(server);
    sleep(Duration::from_millis(200));
}
