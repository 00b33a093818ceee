//! What the survey finds, held against what the kernel's own tables show.

use std::{
    io::Read as _,
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use tcp_trace::survey::{
    namespaces, netstat,
    sock_diag::{Dump, States, dump},
};
use tcp_trace_core::{
    state::TcpState,
    survey::{SocketRow, Timer},
};
use tcp_trace_testkit::{
    Conn, ConnOptions, Helper, ListenOptions, NetNs, World,
    peer::PATIENCE,
    scale::scaled,
    sock,
    world::{PEER, SERVER},
};

use crate::Test;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("every_state_is_listed_as_the_kernel_shows_it", every_state_is_listed_as_the_kernel_shows_it),
    ("a_fast_open_child_is_no_request", a_fast_open_child_is_no_request),
    ("namespaces_are_found_and_visited", namespaces_are_found_and_visited),
    ("a_hundred_thousand_sockets_are_listed_in_time", a_hundred_thousand_sockets_are_listed_in_time),
];

fn rows_of(ns: &NetNs, states: States) -> Vec<SocketRow> {
    ns.run(|| {
        let mut rows = Vec::new();
        assert!(dump(&Dump { states, info: true, netns: ns.inum() }, &mut rows).unwrap());
        rows
    })
}

fn row_of(rows: &[SocketRow], port: u16) -> &SocketRow {
    rows.iter().find(|row| row.peer.port == port).unwrap()
}

/// The socket of a peer's connection, as a test holds it.
type Held = Option<TcpStream>;

/// Takes a connection into a state.
type Step = fn(&mut Conn, TcpStream) -> Held;

/// One socket in each state that a handshake can lead to; the peer's port is the kernel's number of the state, a
/// time-wait socket in FIN_WAIT2 has 105.
const STEPS: [(u16, Step); 8] = [
    (1, |_, stream| Some(stream)),
    (4, |_, stream| {
        stream.shutdown(Shutdown::Write).unwrap();
        Some(stream)
    }),
    (5, |conn, stream| {
        stream.shutdown(Shutdown::Write).unwrap();
        conn.ack_fin_only(PATIENCE).unwrap();
        Some(stream)
    }),
    (105, |conn, stream| {
        drop(stream);
        conn.ack_fin_only(PATIENCE).unwrap();
        None
    }),
    (6, |conn, stream| {
        drop(stream);
        conn.close_after_kernel(PATIENCE).unwrap();
        None
    }),
    (8, |conn, stream| {
        conn.close_first(PATIENCE).unwrap();
        Some(stream)
    }),
    (9, |conn, stream| {
        conn.close_first(PATIENCE).unwrap();
        drop(stream);
        conn.expect(tcp_trace_testkit::Flags::FIN, PATIENCE).unwrap();
        None
    }),
    (11, |conn, stream| {
        stream.shutdown(Shutdown::Write).unwrap();
        conn.close_simultaneously(PATIENCE).unwrap();
        Some(stream)
    }),
];

fn peer(port: u16) -> SocketAddr {
    SocketAddr::new(PEER.ip(), port)
}

fn every_state_is_listed_as_the_kernel_shows_it() {
    let world = World::new().unwrap();
    let listener = world.listen(&ListenOptions::default()).unwrap();
    let mut held = Vec::new();
    for (port, step) in STEPS {
        let mut conn = world.peer.connect_from(peer(port), SERVER, ConnOptions::default());
        conn.handshake().unwrap();
        held.push(step(&mut conn, listener.accept().unwrap().0));
    }
    let mut silent = world.peer.connect_from(peer(3), SERVER, ConnOptions::default());
    silent.send_syn().unwrap();
    silent.expect_syn_ack(PATIENCE).unwrap();
    let mut waiting = world.peer.connect_from(peer(1000), SERVER, ConnOptions::default());
    waiting.handshake().unwrap();
    // Nobody answers: the thread is in connect() until the peer's device is gone.
    let black_hole = world.peer.listen(peer(2));
    let connect = world.ns.spawn("connect", || TcpStream::connect(peer(2)).map(|_| ())).unwrap();
    let _syn = black_hole.next_syn(ConnOptions::default(), PATIENCE).unwrap();

    let rows = rows_of(&world.ns, States::ALL);
    let table = sock::table(&world.ns).unwrap();
    assert_eq!(rows.len(), table.len());
    for entry in &table {
        let row = row_of(&rows, entry.remote.port());
        let shown = if row.state == TcpState::NewSynReceived { TcpState::SynReceived } else { row.state };
        assert_eq!(shown.number(), entry.state as u8, "{row:?}");
        assert_eq!((row.local.address, row.local.port), (entry.local.ip(), entry.local.port()));
        assert_eq!((row.peer.address, row.peer.port), (entry.remote.ip(), entry.remote.port()));
        assert_eq!(row.inode.map_or(0, u64::from), entry.inode, "{row:?}");
        assert_eq!((row.receive_queue, row.netns), (entry.rx_queue, world.ns.inum()), "{row:?}");
        let (wanted, others) = (States::of(&[row.state]), States::of(&[TcpState::Unknown(0)]));
        assert!(rows_of(&world.ns, wanted).iter().any(|again| again.cookie == row.cookie));
        assert!(rows_of(&world.ns, wanted).iter().all(|again| again.state == row.state));
        assert_eq!(rows_of(&world.ns, others), []);
    }
    minisocks(&rows);
    for (stream, (port, _)) in held.iter().zip(STEPS) {
        if let Some(stream) = stream {
            assert_eq!(row_of(&rows, port).cookie.get(), sock::cookie(stream).unwrap());
        }
    }
    assert_eq!((row_of(&rows, 1000).state, row_of(&rows, 1000).inode), (TcpState::Established, None));
    let of_listener = row_of(&rows, 0);
    assert_eq!(
        (of_listener.state, of_listener.receive_queue, of_listener.send_queue),
        (TcpState::Listen, 1, 128)
    );
    drop((held, world, black_hole, listener));
    drop(connect);
}

/// What is no full socket.
fn minisocks(rows: &[SocketRow]) {
    let request = row_of(rows, 3);
    assert_eq!(
        (request.state, request.timer, request.info),
        (TcpState::NewSynReceived, Timer::Retransmit, None)
    );
    assert!(request.expires_ms <= 1000 && request.retransmits == 0);
    for (port, timer) in [(5, Timer::Off), (105, Timer::TimeWait), (6, Timer::TimeWait)] {
        let row = row_of(rows, port);
        assert_eq!((row.timer, row.info.is_none()), (timer, timer == Timer::TimeWait), "{row:?}");
    }
}

fn a_fast_open_child_is_no_request() {
    let world = World::new().unwrap();
    world.ns.sysctl("net.ipv4.tcp_fastopen", 3).unwrap();
    let listener = world.listen(&ListenOptions { fastopen: Some(5), ..ListenOptions::default() }).unwrap();
    let mut asking = world.client(ConnOptions { fastopen: Some(vec![]), ..ConnOptions::default() });
    let cookie = asking.handshake().unwrap().syn_ack.segment.options.fastopen;
    asking.send_rst().unwrap();
    drop((listener.accept().unwrap(), asking));
    let options = ConnOptions { fastopen: cookie, ..ConnOptions::default() };
    let mut fast = world.peer.connect_from(peer(4001), SERVER, options);
    fast.send_syn_with_data(b"early").unwrap();
    fast.expect_syn_ack(PATIENCE).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.read_exact(&mut [0; 5]).unwrap();
    let rows = rows_of(&world.ns, States::of(&[TcpState::SynReceived]));
    assert_eq!(rows.iter().map(|row| row.peer.port).collect::<Vec<_>>(), [4001], "{rows:?}");
    assert!(rows[0].info.is_some() && rows[0].inode.is_some());
}

fn namespaces_are_found_and_visited() {
    let (lived_in, empty) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    let mut helper = Helper::spawn(&lived_in, "server", &["listen=127.0.0.1:7001"]).unwrap();
    helper.expect("listening", PATIENCE).unwrap();
    lived_in.sysctl("net.ipv4.ip_local_port_range", "2000 3000").unwrap();
    lived_in.sysctl("net.ipv4.tcp_syncookies", 2).unwrap();
    let client = lived_in.run(|| sock::connect(None, "127.0.0.1:7001".parse().unwrap())).unwrap();
    let found = namespaces::find(None);
    assert!(found.all[0].own);
    assert!(found.all.iter().all(|namespace| namespace.inum != empty.inum()), "nothing shows that one");
    let namespace = found.all.iter().find(|namespace| namespace.inum == lived_in.inum()).unwrap();
    assert_eq!((namespace.pid, namespace.own, &namespace.name), (Some(helper.pid()), false, &None));
    assert_eq!(namespaces::find(Some(lived_in.inum())).all, std::slice::from_ref(namespace));

    let mut facts = Vec::new();
    // The own one last: the worker has to come back.
    let order = [namespace.clone(), found.all[0].clone()];
    let problems = namespaces::for_each(&order, |namespace| facts.push(netstat::facts(namespace))).unwrap();
    assert_eq!(problems, [""; 0]);
    assert_eq!(
        (facts[0].inum, facts[0].port_range, facts[0].syncookies),
        (lived_in.inum(), Some((2000, 3000)), Some(2))
    );
    let counters = facts[0].counters.unwrap();
    assert_eq!((counters.active_opens, counters.passive_opens), (1, 1), "{counters:?}");
    assert_ne!(facts[1].port_range, Some((2000, 3000)));
    drop(client);
}

/// Established connections on loopback in a namespace of their own: six pairs of processes, because none may have a
/// hundred thousand descriptors.
pub(crate) struct Hoard {
    pub(crate) ns: NetNs,
    helpers: Vec<(Helper, Helper)>,
}

impl Hoard {
    const PAIRS: u16 = 6;

    pub(crate) fn new(connections: u64) -> Self {
        let ns = NetNs::new().unwrap();
        let each = format!("count={}", connections / u64::from(Self::PAIRS));
        let pair = |number| {
            let (address, source) =
                (format!("127.0.0.1:{}", 7000 + number), format!("bind=127.0.1.{number}"));
            let listen = format!("listen={address}");
            let mut server = Helper::spawn(&ns, "server", &[&listen, "eof=never"]).unwrap();
            server.expect("listening", PATIENCE).unwrap();
            let connect = format!("connect={address}");
            (server, Helper::spawn(&ns, "client", &[&connect, &each, &source]).unwrap())
        };
        let helpers: Vec<_> = (1..=Self::PAIRS).map(pair).collect();
        let hoard = Self { ns, helpers };
        // Not by what the helpers say: a hundred thousand lines.
        hoard.wait(TcpState::Established, 2 * connections);
        hoard
    }

    /// Lets clients close this many connections of each pair.
    pub(crate) fn close(&mut self, count: u64) {
        for (_, client) in &mut self.helpers {
            client.send(&format!("close count={count}")).unwrap();
        }
        self.wait(TcpState::CloseWait, count * u64::from(Self::PAIRS));
    }

    /// Waits until so many sockets are in a state, all accepted.
    fn wait(&self, state: TcpState, count: u64) {
        let ready = || {
            let rows = rows_of(&self.ns, States::of(&[state]));
            rows.iter().filter(|row| row.inode.is_some()).count() as u64 == count
        };
        let deadline = Instant::now() + 20 * PATIENCE;
        while !ready() {
            assert!(Instant::now() < deadline, "no {count} sockets in {state}");
            thread::sleep(Duration::from_millis(200));
        }
    }
}

fn a_hundred_thousand_sockets_are_listed_in_time() {
    let connections = scaled(8_334, 200) * 6;
    let all = usize::try_from(2 * connections + 6).unwrap();
    let mut hoard = Hoard::new(connections);
    hoard.close(100);
    let ms = Duration::from_millis;
    // How long it took is printed beside the budget, and judged by nobody: machines are shared.
    for (name, states, info, number, budget) in [
        ("all, with TCP_INFO", States::ALL, true, all, ms(200)),
        ("all", States::ALL, false, all, ms(150)),
        ("CLOSE_WAIT, with TCP_INFO", States::of(&[TcpState::CloseWait]), true, 600, ms(15)),
        ("half-open", States::of(&[TcpState::NewSynReceived]), false, 0, ms(15)),
        ("LISTEN", States::of(&[TcpState::Listen]), false, 6, ms(2)),
    ] {
        let best = (0..5).map(|_| {
            hoard.ns.run(|| {
                let (mut rows, start) = (Vec::new(), cpu_time());
                assert!(dump(&Dump { states, info, netns: 1 }, &mut rows).unwrap());
                let took = cpu_time().saturating_sub(start);
                assert_eq!(rows.len(), number);
                thread::sleep(ms(20));
                took
            })
        });
        let best = best.min().unwrap();
        eprintln!("{name}: {number} rows in {best:.1?} (budget {budget:?})");
    }
}

/// What this thread has used, the kernel's work for it included: other load does not count.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}
