//! `tcp-trace snapshot` of real sockets of many kinds.

use std::{
    net::SocketAddr,
    os::fd::{AsFd as _, AsRawFd as _},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::Value;
use tcp_trace_testkit::{
    ConnOptions, Helper, ListenOptions, NetNs, World,
    clock::monotonic_ns,
    peer::PATIENCE,
    scale::{is_slow, scaled},
    world::PEER,
    world::SERVER,
};

use crate::{
    Test,
    survey::Hoard,
    tracer::{Tracer, text},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("a_leak_from_before_is_listed_with_its_age", a_leak_from_before_is_listed_with_its_age),
    ("no_age_is_wrong", no_age_is_wrong),
    ("owners_are_told_apart", owners_are_told_apart),
    ("a_hundred_thousand_sockets_are_summed_up_in_time", a_hundred_thousand_sockets_are_summed_up_in_time),
];

fn snapshot(arguments: &[&str]) -> Value {
    let output = Tracer::run(&[&["snapshot", "--json"], arguments].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn sockets(ns: &NetNs, states: &str) -> Vec<Value> {
    let inum = ns.inum().to_string();
    let document = snapshot(&["--sockets", "--netns", &inum, "--state", states]);
    document["sockets"].as_array().unwrap().clone()
}

/// A namespace that nobody lives in is not found.
fn inhabitant(ns: &NetNs) -> Helper {
    let mut helper = Helper::spawn(ns, "server", &["listen=127.0.0.1:9"]).unwrap();
    helper.expect("listening", PATIENCE).unwrap();
    helper
}

fn of_peer(sockets: &[Value], port: u16) -> &Value {
    sockets
        .iter()
        .find(|socket| socket["peer"]["port"] == port)
        .unwrap_or_else(|| panic!("{port}: {sockets:#?}"))
}

fn a_leak_from_before_is_listed_with_its_age() {
    const LEAK: u64 = 20;
    let ns = NetNs::new().unwrap();
    let mut server = Helper::spawn(&ns, "leaky-server", &["listen=127.0.0.1:7001", "comm=leaky"]).unwrap();
    server.expect("listening", PATIENCE).unwrap();
    let mut client = Helper::spawn(&ns, "client", &["connect=127.0.0.1:7001", "count=25"]).unwrap();
    client.expect("ready", PATIENCE).unwrap();
    thread::sleep(Duration::from_millis(500));
    client.send(&format!("close count={LEAK}")).unwrap();
    let closed: Vec<u64> =
        (0..LEAK).map(|_| client.expect("closed", PATIENCE).unwrap().value("at_ns").unwrap()).collect();
    for _ in 0..LEAK {
        server.expect("eof", PATIENCE).unwrap();
    }
    thread::sleep(Duration::from_secs(1));
    let before = monotonic_ns();
    let document = snapshot(&["--netns", &ns.inum().to_string()]);
    let group =
        document["groups"].as_array().unwrap().iter().find(|group| group["state"] == "CLOSE_WAIT").unwrap();
    assert_eq!((&group["count"], &group["kinds"]["forgot_close"]), (&LEAK.into(), &LEAK.into()), "{group:#}");
    assert_eq!(
        (&group["processes"][0]["pid"], &group["processes"][0]["comm"]),
        (&server.pid().into(), &"leaky".into())
    );
    assert_eq!(group["oldest_exact"], true, "no data, and the FIN was the last segment: {group:#}");
    let (oldest, truth) = (group["oldest_ns"].as_u64().unwrap(), before - closed[0]);
    assert!(oldest + 10_000_000 >= truth && oldest < truth + 500_000_000, "{oldest}, in truth {truth}");
    let orphans =
        document["groups"].as_array().unwrap().iter().find(|group| group["state"] == "FIN_WAIT2").unwrap();
    assert_eq!(
        (&orphans["owner_state"], &orphans["oldest_ns"]),
        (&"orphaned".into(), &Value::Null),
        "{orphans:#}"
    );
    assert_eq!(document["namespaces"][0]["counters"]["active_opens"], 25);
}

/// What proves an age lies within a tick or two of the clock, if the machine is quick enough: a busy one has more chances.
fn no_age_is_wrong() {
    let proven = (0..5).any(|_| ages_beside_misleading_peers());
    assert!(proven || is_slow(), "no age was called exact that is");
}

/// Sockets whose peer does what misleads: none may be called exact that is not, and no bound may be above the truth.
/// Returns whether all are called exact that are.
fn ages_beside_misleading_peers() -> bool {
    let world = World::new().unwrap();
    let _inhabitant = inhabitant(&world.ns);
    let listener = world.listen(&ListenOptions::default()).unwrap();
    let serve = |port| {
        let mut conn = world.peer.connect_from((PEER.ip(), port).into(), SERVER, ConnOptions::default());
        conn.handshake().unwrap();
        (conn, listener.accept().unwrap().0)
    };
    let (mut silent, _a) = serve(1);
    let (mut acked, _b) = serve(2);
    let (mut with_data, _c) = serve(3);
    thread::sleep(Duration::from_millis(300));
    with_data.send_data(b"bye").unwrap();
    let fins: Vec<u64> =
        [&mut silent, &mut acked, &mut with_data].map(|conn| conn.close_first(PATIENCE).unwrap()).to_vec();
    let mut waiting = world.peer.connect_from((PEER.ip(), 4).into(), SERVER, ConnOptions::default());
    let syn = waiting.send_syn().unwrap();
    thread::sleep(Duration::from_millis(600));
    // An ACK that says nothing, as of data that was sent: the kernel's time of the last ACK moves.
    acked.send_ack().unwrap();
    waiting.send_syn().unwrap();
    thread::sleep(Duration::from_millis(300));
    let found = sockets(&world.ns, "close-wait,syn-recv");
    let now = monotonic_ns();
    let mut proven = true;
    for (port, start, exact) in [(1, fins[0], true), (2, fins[1], false), (3, fins[2], true), (4, syn, false)]
    {
        let socket = of_peer(&found, port);
        let (age, truth) = (socket["age_ns"].as_u64().unwrap(), now - start);
        let said = socket["age_exact"].as_bool().unwrap();
        assert!(exact || !said, "{socket:#}");
        proven &= said == exact;
        assert!(age <= truth + 10_000_000, "{age}, in truth {truth}: {socket:#}");
        assert!(!said || age + 500_000_000 > truth, "{age}, in truth {truth}: {socket:#}");
    }
    assert_eq!(of_peer(&found, 3)["kind"], "unread_data");
    assert_eq!(of_peer(&found, 1)["kind"], "never_looked");
    assert_eq!(of_peer(&found, 4)["owner_state"], "half_open");
    proven
}

fn owners_are_told_apart() {
    let world = World::new().unwrap();
    let _inhabitant = inhabitant(&world.ns);
    let listener = world.listen(&ListenOptions::default()).unwrap();
    let peer = |port| SocketAddr::from((PEER.ip(), port));
    let connect = |port| {
        let mut conn = world.peer.connect_from(peer(port), SERVER, ConnOptions::default());
        conn.handshake().unwrap();
        conn
    };
    let _held = connect(1);
    let held = listener.accept().unwrap().0;
    let _flying = connect(2);
    let flying = listener.accept().unwrap().0;
    let _shared = connect(3);
    let shared = listener.accept().unwrap().0;
    let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
    pass(&one, flying);
    let child = Child::holding(&shared);
    let _waiting = connect(4);
    let found = sockets(&world.ns, "established");
    let (own, fd) = (std::process::id(), held.as_raw_fd());
    let owner =
        |port| (of_peer(&found, port)["owner_state"].clone(), of_peer(&found, port)["holders"].clone());
    assert_eq!(owner(1).0, "held");
    assert_eq!((&owner(1).1[0]["pid"], &owner(1).1[0]["fds"][0]), (&own.into(), &fd.into()));
    let in_flight = owner(2).0;
    assert!(
        in_flight == "in_flight" || in_flight == "not_permitted",
        "{in_flight}: where a process may not be read"
    );
    assert_eq!(owner(3).0, "shared");
    let mut pids: Vec<_> = owner(3).1.as_array().unwrap().iter().map(|one| one["pid"].clone()).collect();
    pids.sort_by_key(Value::as_u64);
    let mut expected = [own, child.0.as_raw_nonzero().get().unsigned_abs()];
    expected.sort_unstable();
    assert_eq!(pids, expected);
    assert_eq!((owner(4).0, &owner(4).1[0]["pid"]), ("never_accepted".into(), &own.into()));
    drop(child);
    drop((one, other, shared));
}

/// A process that holds a socket and does nothing else.
struct Child(Pid);

impl Child {
    fn holding(socket: &std::net::TcpStream) -> Self {
        let fd = socket.as_raw_fd().unsigned_abs();
        // SAFETY: the child makes system calls only; it allocates and locks nothing, and never returns.
        let pid = unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::syscall(libc::SYS_close_range, 0, fd - 1, 0);
                libc::syscall(libc::SYS_close_range, fd + 1, u32::MAX, 0);
                loop {
                    libc::pause();
                }
            }
            pid
        };
        Self(Pid::from_raw(pid).unwrap())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It cannot have ended by itself.
        let _ = kill_process(self.0, Signal::KILL);
        let _ = waitpid(Some(self.0), WaitOptions::empty());
    }
}

/// Puts a socket into a message that nobody reads, and closes it here.
fn pass(through: &std::os::unix::net::UnixStream, socket: std::net::TcpStream) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [socket.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(through, &[std::io::IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
    drop(socket);
}

fn a_hundred_thousand_sockets_are_summed_up_in_time() {
    let connections = scaled(8_334, 200) * 6;
    let hoard = Hoard::new(connections);
    let start = Instant::now();
    let document = snapshot(&["--netns", &hoard.ns.inum().to_string()]);
    let took = start.elapsed();
    let count = document["states"].as_array().unwrap().iter().map(|state| state["count"].as_u64().unwrap());
    assert_eq!(count.sum::<u64>(), 2 * connections + 6);
    let groups = document["groups"].as_array().unwrap();
    assert!(groups.iter().all(|group| group["owner_state"] == "held"), "{groups:#?}");
    assert_eq!(groups.len(), 18, "six servers with listeners, six clients");
    eprintln!("{} sockets in {took:.1?}", 2 * connections + 6);
}
