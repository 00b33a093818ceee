//! The processes that hand sockets on know what they did, and the kernel agrees.

use std::collections::{HashMap, HashSet};
use std::io;

use tcp_trace_testkit::truth::{Role, SocketTruth, Truth, TruthPlan};
use tcp_trace_testkit::{NetNs, sock};

use super::Test;

pub(crate) const TESTS: &[(&str, Test)] = &[("every_socket_has_a_story", every_socket_has_a_story)];

fn every_socket_has_a_story() -> io::Result<()> {
    let ns = NetNs::new()?;
    let began = std::time::Instant::now();
    let truth = Truth::of(&ns, &TruthPlan { connections: 400 })?;
    eprintln!(
        "{} sockets of {} processes in {:?}",
        truth.sockets.len(),
        truth.processes().len(),
        began.elapsed()
    );
    let connections = truth.sockets.len() as i64 / 2;
    assert!(connections >= 400, "{connections}");
    assert!(truth.processes().len() >= 8);
    let counters = sock::counters(&ns)?;
    assert_eq!((counters["Tcp.ActiveOpens"], counters["Tcp.PassiveOpens"]), (connections, connections));
    assert_eq!((counters["Tcp.CurrEstab"], counters["TcpExt.ListenOverflows"]), (0, 0));
    assert_eq!(counters["Tcp.RetransSegs"], 0);
    let mut cookies = HashSet::new();
    // A client's port may be taken again when its connection is over: earlier ones come first.
    let mut sockets: Vec<&SocketTruth> = truth.sockets.iter().collect();
    sockets.sort_by_key(|socket| socket.opened_ns);
    let mut ends: HashMap<_, Vec<&SocketTruth>> = HashMap::new();
    for socket in sockets {
        assert!(
            socket.cookie.is_none_or(|cookie| cookies.insert(cookie)),
            "one socket, one story: {socket:?}"
        );
        assert_eq!(socket.netns, ns.inum());
        ends.entry((socket.local, socket.peer)).or_default().push(socket);
    }
    for ((local, peer), sockets) in &ends {
        let others = &ends[&(*peer, *local)];
        assert_eq!(sockets.len(), others.len(), "{local} - {peer}");
        for (socket, other) in sockets.iter().zip(others) {
            assert_story(socket, other, &truth);
        }
    }
    let modes: HashSet<char> = truth.sockets.iter().map(|socket| socket.mode).collect();
    assert_eq!(modes, HashSet::from(['c', 's', 'h', 'r', 'x', 'u', 'i']));
    Ok(())
}

fn assert_story(socket: &SocketTruth, other: &SocketTruth, truth: &Truth) {
    assert_ne!(socket.role, other.role, "{socket:?}");
    assert_eq!(socket.mode, other.mode, "{socket:?} {other:?}");
    // All that was sent was received, but for the byte that is left unread on purpose.
    assert_eq!(socket.received, other.sent - u64::from(socket.mode == 'u' && socket.role == Role::Server));
    assert!(!socket.owners.is_empty() && socket.owners.iter().all(|pid| truth.comms.contains_key(pid)));
    let comm = &truth.comms[&socket.owners[0]];
    let served = socket.role == Role::Server;
    match socket.local.port().min(socket.peer.port()) - 7_100 {
        0 if served => assert_eq!((comm.as_str(), &socket.owners), ("serve-threads", &socket.holders)),
        1 if served => {
            assert!(comm.starts_with("prefork-"), "{comm}");
            assert_eq!(socket.owners, socket.holders);
            assert_ne!(Some(socket.owners[0]), socket.listener);
        }
        2 => assert_eq!((comm.as_str(), socket.holders.len()), (if served { "forked" } else { "heir" }, 2)),
        3 if served => assert_eq!((comm.as_str(), socket.holders.len()), ("receiver", 2)),
        4 if served => assert_eq!((comm.as_str(), socket.holders.len()), ("abandoning", 1)),
        5 if served => assert_eq!((socket.owners.len(), &socket.owners), (2, &socket.holders)),
        6 if served => assert!(comm.starts_with("uring-"), "{comm}"),
        7 if served => assert_eq!((comm.as_str(), socket.holders.len()), ("serve-ignore", 0)),
        _ => assert!(comm.starts_with("use-"), "{comm}"),
    }
}
