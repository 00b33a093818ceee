//! Every order in which a connection can end.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use tcp_trace_testkit::peer::PATIENCE;
use tcp_trace_testkit::sock::{self, TcpState};
use tcp_trace_testkit::{Conn, Flags, World};

use super::Test;
use super::util::SHORT;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("peer_first", peer_first),
    ("kernel_first", kernel_first),
    ("orphan_fin_wait2", orphan_fin_wait2),
    ("simultaneous", simultaneous),
    ("reset_in_any_state", reset_in_any_state),
    ("unread_data_and_aborts", unread_data_and_aborts),
    ("disconnect", disconnect),
    ("destroyed_from_outside", destroyed_from_outside),
];

fn table_shows(world: &World, conn: &Conn, state: Option<TcpState>) -> io::Result<()> {
    sock::wait_state(&world.ns, conn.remote(), conn.local(), state, PATIENCE)
}

fn peer_first() -> io::Result<()> {
    let world = World::new()?;
    let (mut conn, mut stream) = world.served()?;
    conn.send_data(b"hello")?;
    conn.close_first(PATIENCE)?;
    assert_eq!(sock::tcp_state(&stream)?, TcpState::CloseWait);
    let entries = sock::table(&world.ns)?;
    let entry = entries.iter().find(|entry| entry.remote == conn.local()).unwrap();
    assert_eq!(entry.rx_queue, 6, "five bytes and the FIN");
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    assert_eq!(text, "hello");
    drop(stream);
    conn.expect(Flags::FIN, PATIENCE)?;
    table_shows(&world, &conn, Some(TcpState::LastAck))?;
    conn.ack_received()?;
    table_shows(&world, &conn, None)
}

fn kernel_first() -> io::Result<()> {
    let world = World::new()?;
    let (mut conn, mut stream) = world.connected()?;
    stream.write_all(b"bye")?;
    drop(stream);
    let fin = conn.close_after_kernel(PATIENCE)?;
    assert!(fin.segment.flags.contains(Flags::FIN));
    table_shows(&world, &conn, Some(TcpState::TimeWait))
}

fn orphan_fin_wait2() -> io::Result<()> {
    let world = World::new()?;
    world.ns.sysctl("net.ipv4.tcp_fin_timeout", 1)?;
    let (mut conn, stream) = world.served()?;
    drop(stream);
    conn.ack_fin_only(PATIENCE)?;
    table_shows(&world, &conn, Some(TcpState::FinWait2))?;
    table_shows(&world, &conn, None)
}

fn simultaneous() -> io::Result<()> {
    let world = World::new()?;
    let (mut conn, stream) = world.served()?;
    stream.shutdown(Shutdown::Write)?;
    assert_eq!(sock::tcp_state(&stream)?, TcpState::FinWait1);
    conn.close_simultaneously(PATIENCE)?;
    assert_eq!(sock::tcp_state(&stream)?, TcpState::Closing);
    table_shows(&world, &conn, Some(TcpState::Closing))?;
    conn.ack_received()?;
    table_shows(&world, &conn, Some(TcpState::TimeWait))
}

fn reset_in_any_state() -> io::Result<()> {
    let world = World::new()?;
    type Step = fn(&mut Conn) -> io::Result<()>;
    let steps: [(Step, Option<Shutdown>, TcpState); 4] = [
        (|_| Ok(()), None, TcpState::Established),
        (|conn| conn.close_first(PATIENCE).map(|_| ()), None, TcpState::CloseWait),
        (|conn| conn.ack_fin_only(PATIENCE).map(|_| ()), Some(Shutdown::Write), TcpState::FinWait2),
        (|conn| conn.close_first(PATIENCE).map(|_| ()), Some(Shutdown::Write), TcpState::Closing),
    ];
    for (step, shutdown, state) in steps {
        let (mut conn, stream) = world.served()?;
        if let Some(how) = shutdown {
            stream.shutdown(how)?;
        }
        step(&mut conn)?;
        assert_eq!(sock::tcp_state(&stream)?, state);
        conn.send_rst()?;
        assert_eq!(sock::tcp_state(&stream)?, TcpState::Close, "reset in {state:?}");
    }
    Ok(())
}

fn unread_data_and_aborts() -> io::Result<()> {
    let world = World::new()?;
    let (mut conn, stream) = world.served()?;
    conn.send_data(b"never read")?;
    conn.expect_all_acked(PATIENCE)?;
    drop(stream);
    conn.expect(Flags::RST, PATIENCE)?;

    let (mut conn, stream) = world.served()?;
    sock::abort_on_close(&stream)?;
    drop(stream);
    let unawaited = conn.expect(Flags::FIN, PATIENCE).unwrap_err();
    assert_eq!(unawaited.kind(), ErrorKind::ConnectionReset);
    assert_eq!(conn.expect(Flags::FIN, SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
    Ok(())
}

fn disconnect() -> io::Result<()> {
    let world = World::new()?;
    let (mut conn, stream) = world.connected()?;
    let cookie = sock::cookie(&stream)?;
    sock::disconnect(&stream)?;
    conn.expect(Flags::RST, PATIENCE)?;
    assert_eq!(sock::tcp_state(&stream)?, TcpState::Close);
    assert_eq!(sock::cookie(&stream)?, cookie);
    Ok(())
}

fn destroyed_from_outside() -> io::Result<()> {
    let world = World::new()?;
    let (mut conn, mut stream) = world.connected()?;
    world.ns.run(|| sock::destroy(conn.remote(), conn.local()))?;
    assert_eq!(conn.expect(Flags::FIN, PATIENCE).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    let again = world.ns.run(|| sock::destroy(conn.remote(), conn.local())).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::NotFound);
    Ok(())
}
