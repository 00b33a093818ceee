//! Floods do to the kernel what they say, within their bounds.

use std::io::{self, ErrorKind};
use std::net::TcpStream;

use tcp_trace_testkit::peer::{PATIENCE, clients_of};
use tcp_trace_testkit::sock::{self, TcpState};
use tcp_trace_testkit::world::{PEER, SERVER};
use tcp_trace_testkit::{ConnOptions, ListenOptions, World};

use super::Test;
use super::util::{SHORT, ms};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("a_flood_leaves_requests", a_flood_leaves_requests),
    ("beyond_the_queue", beyond_the_queue),
    ("a_flood_is_bounded", a_flood_is_bounded),
    ("unreachable", unreachable),
];

fn requests(world: &World) -> io::Result<usize> {
    Ok(sock::table(&world.ns)?.iter().filter(|entry| entry.state == TcpState::SynRecv).count())
}

fn a_flood_leaves_requests() -> io::Result<()> {
    let world = World::new()?;
    world.ns.sysctl("net.ipv4.tcp_syncookies", 0)?;
    world.ns.sysctl("net.ipv4.tcp_synack_retries", 1)?;
    let _listener = world.listen(&ListenOptions::default())?;
    let mut flood = world.peer.flood(SERVER, clients_of(7, 30).chain(clients_of(9, 20)))?;
    assert!(flood.answered(PATIENCE).into_iter().all(|answered| answered));
    assert_eq!(requests(&world)?, 50);
    flood.complete(0..10)?;
    flood.reset(10..25)?;
    std::thread::sleep(ms(50));
    assert_eq!(requests(&world)?, 25);
    let counters = sock::counters(&world.ns)?;
    assert_eq!((counters["Tcp.PassiveOpens"], counters["TcpExt.EmbryonicRsts"]), (10, 15));
    std::thread::sleep(ms(3_800));
    assert_eq!(requests(&world)?, 0, "one SYN-ACK was repeated, after 3 s they are dead");
    Ok(())
}

fn beyond_the_queue() -> io::Result<()> {
    for cookies in [0, 1, 2] {
        let world = World::new()?;
        world.ns.sysctl("net.ipv4.tcp_syncookies", cookies)?;
        let _listener = world.listen(&ListenOptions { backlog: 8, ..ListenOptions::default() })?;
        let mut flood = world.peer.flood(SERVER, clients_of(7, 60))?;
        let answered = flood.answered(SHORT).into_iter().filter(|answered| *answered).count() as i64;
        let counters = sock::counters(&world.ns)?;
        let (sent, queued) = (counters["TcpExt.SyncookiesSent"], requests(&world)? as i64);
        assert_eq!(answered, sent + queued);
        match cookies {
            // The queue holds the backlog (5.10) or one more (6.1 and later).
            0 => assert!((8..=9).contains(&queued) && sent == 0, "{queued} queued, {sent} cookies"),
            1 => assert!((8..=9).contains(&queued) && sent == 60 - queued, "{queued} queued, {sent} cookies"),
            _ => assert_eq!((queued, sent), (0, 60)),
        }
        let dropped = if cookies == 0 { 60 - queued } else { 0 };
        assert_eq!((counters["TcpExt.TCPReqQFullDrop"], counters["TcpExt.ListenDrops"]), (dropped, dropped));
    }
    Ok(())
}

fn a_flood_is_bounded() -> io::Result<()> {
    let world = World::new()?;
    let too_many = (0..5).flat_map(|third| clients_of(third, 250));
    assert_eq!(world.peer.flood(SERVER, too_many).unwrap_err().kind(), ErrorKind::InvalidInput);
    Ok(())
}

fn unreachable() -> io::Result<()> {
    let world = World::new()?;
    let listener = world.peer.listen(PEER);
    let client = world.ns.spawn("connect", || TcpStream::connect(PEER))?;
    listener.next_syn(ConnOptions::default(), PATIENCE)?.send_unreachable()?;
    assert_eq!(client.join().unwrap().unwrap_err().kind(), ErrorKind::HostUnreachable);
    Ok(())
}
