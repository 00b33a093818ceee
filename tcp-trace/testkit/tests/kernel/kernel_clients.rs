//! The kernel as the client of a peer that answers, refuses, is silent, or connects back.

use std::io::{self, ErrorKind};
use std::net::TcpStream;

use tcp_trace_testkit::clock::monotonic_ns;
use tcp_trace_testkit::peer::PATIENCE;
use tcp_trace_testkit::sock::{self, TcpState};
use tcp_trace_testkit::world::PEER;
use tcp_trace_testkit::{ConnOptions, World};

use super::Test;
use super::util::ms;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("accepted", accepted),
    ("late_answer", late_answer),
    ("refused", refused),
    ("black_hole", black_hole),
    ("simultaneous_open", simultaneous_open),
];

fn accepted() -> io::Result<()> {
    let world = World::new()?;
    let (conn, stream) = world.connected()?;
    assert_eq!(sock::tcp_state(&stream)?, TcpState::Established);
    assert_eq!((conn.local(), conn.remote()), (stream.peer_addr()?, stream.local_addr()?));
    Ok(())
}

fn late_answer() -> io::Result<()> {
    let world = World::new()?;
    let listener = world.peer.listen(PEER);
    let client = world.ns.spawn("connect", || (TcpStream::connect(PEER), monotonic_ns()))?;
    let mut conn = listener.next_syn(ConnOptions { timestamps: true, ..ConnOptions::default() }, PATIENCE)?;
    conn.stay_silent(ms(150));
    sock::wait_state(&world.ns, conn.remote(), conn.local(), Some(TcpState::SynSent), PATIENCE)?;
    let answered_ns = conn.send_syn_ack()?;
    conn.expect_all_acked(PATIENCE)?;
    let (stream, connected_ns) = client.join().unwrap();
    assert_eq!(sock::tcp_state(stream?)?, TcpState::Established);
    assert!(connected_ns - answered_ns < 20_000_000, "{}", connected_ns - answered_ns);
    Ok(())
}

fn refused() -> io::Result<()> {
    let world = World::new()?;
    let listener = world.peer.listen(PEER);
    let client = world.ns.spawn("connect", || TcpStream::connect(PEER))?;
    listener.next_syn(ConnOptions::default(), PATIENCE)?.send_rst()?;
    assert_eq!(client.join().unwrap().unwrap_err().kind(), ErrorKind::ConnectionRefused);
    Ok(())
}

fn black_hole() -> io::Result<()> {
    let world = World::new()?;
    world.ns.sysctl("net.ipv4.tcp_syn_retries", 1)?;
    // Newer kernels send some first SYNs in a linear, not an exponential, rhythm.
    let _ = world.ns.sysctl("net.ipv4.tcp_syn_linear_timeouts", 0);
    let began_ns = monotonic_ns();
    let error = world.ns.run(|| TcpStream::connect(PEER)).unwrap_err();
    let took_ms = (monotonic_ns() - began_ns) / 1_000_000;
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!((2_900..3_500).contains(&took_ms), "{took_ms} ms");
    Ok(())
}

fn simultaneous_open() -> io::Result<()> {
    let world = World::new()?;
    let listener = world.peer.listen(PEER);
    let client = world.ns.spawn("connect", || TcpStream::connect(PEER))?;
    let mut conn = listener.next_syn(ConnOptions::default(), PATIENCE)?;
    conn.send_syn()?;
    conn.expect_syn_ack(PATIENCE)?;
    sock::wait_state(&world.ns, conn.remote(), conn.local(), Some(TcpState::SynRecv), PATIENCE)?;
    conn.send_ack()?;
    let stream = client.join().unwrap()?;
    assert_eq!(sock::tcp_state(&stream)?, TcpState::Established);
    Ok(())
}
