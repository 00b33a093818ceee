//! Helper processes: their identity, their words, their end.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tcp_trace_testkit::peer::PATIENCE;
use tcp_trace_testkit::sock::{self, TcpState};
use tcp_trace_testkit::{Helper, NetNs};

use super::Test;
use super::util::SHORT;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("identity", identity),
    ("leak", leak),
    ("leak_after_reading", leak_after_reading),
    ("plain_server", plain_server),
    ("failures_are_told", failures_are_told),
];

const LISTEN: &str = "listen=127.0.0.1:7001";
const CONNECT: &str = "connect=127.0.0.1:7001";

fn identity() -> io::Result<()> {
    let ns = NetNs::new()?;
    let mut server = Helper::spawn(&ns, "server", &[LISTEN, "comm=billing-api-is-cut"])?;
    let listening = server.expect("listening", PATIENCE)?;
    assert_eq!(listening.value::<SocketAddr>("addr")?, "127.0.0.1:7001".parse().unwrap());
    let proc = format!("/proc/{}", server.pid());
    assert_eq!(fs::read_to_string(format!("{proc}/comm"))?.trim(), "billing-api-is-");
    assert_eq!(server.comm(), "billing-api-is-");
    assert_eq!(fs::metadata(format!("{proc}/ns/net"))?.ino(), u64::from(ns.inum()));
    drop(server);
    assert!(!Path::new(&proc).exists(), "killed and reaped");
    Ok(())
}

fn leak() -> io::Result<()> {
    let ns = NetNs::new()?;
    let mut server = Helper::spawn(&ns, "leaky-server", &[LISTEN, "eof=peek"])?;
    server.expect("listening", PATIENCE)?;
    let mut client = Helper::spawn(&ns, "client", &[CONNECT, "count=2"])?;
    client.expect("ready", PATIENCE)?;
    for _ in 0..2 {
        let local: SocketAddr = client.expect("connected", PATIENCE)?.value("local")?;
        assert_eq!(server.expect("accepted", PATIENCE)?.value::<SocketAddr>("peer")?, local);
    }
    client.send("close count=1")?;
    let closed = client.expect("closed", PATIENCE)?;
    let eof = server.expect("eof", PATIENCE)?;
    assert_eq!(eof.get("peer"), closed.get("local"));
    assert!(eof.value::<u64>("at_ns")? >= closed.value::<u64>("at_ns")?);
    let peer: SocketAddr = closed.value("local")?;
    let leaked = sock::table(&ns)?.into_iter().find(|entry| entry.remote == peer).unwrap();
    assert_eq!((leaked.state, leaked.rx_queue), (TcpState::CloseWait, 1), "the end is not consumed");
    assert_eq!(server.expect("eof", SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
    server.send(&format!("close peer={peer}"))?;
    server.expect("closed", PATIENCE)?;
    sock::wait_state(&ns, leaked.local, leaked.remote, None, PATIENCE)?;
    client.finish()?;
    server.expect("eof", PATIENCE)?;
    server.finish()
}

fn leak_after_reading() -> io::Result<()> {
    let ns = NetNs::new()?;
    let mut server = Helper::spawn(&ns, "leaky-server", &[LISTEN])?;
    server.expect("listening", PATIENCE)?;
    let mut client = Helper::spawn(&ns, "client", &[CONNECT, "bind=127.0.0.9"])?;
    let local: SocketAddr = client.expect("connected", PATIENCE)?.value("local")?;
    assert_eq!(local.ip().to_string(), "127.0.0.9");
    client.send("send bytes=100")?;
    client.send("shutdown")?;
    server.expect("eof", PATIENCE)?;
    let leaked = sock::table(&ns)?.into_iter().find(|entry| entry.remote == local).unwrap();
    assert_eq!((leaked.state, leaked.rx_queue), (TcpState::CloseWait, 0), "all was read");
    client.send("quit")?;
    client.finish()
}

fn plain_server() -> io::Result<()> {
    let ns = NetNs::new()?;
    let mut server = Helper::spawn(&ns, "server", &[LISTEN])?;
    server.expect("listening", PATIENCE)?;
    let mut client = Helper::spawn(&ns, "client", &[CONNECT, "count=3"])?;
    client.expect("ready", PATIENCE)?;
    client.send("close count=2")?;
    client.send("reset")?;
    for verb in ["eof", "closed", "eof", "closed", "hangup", "closed"] {
        server.expect(verb, PATIENCE)?;
    }
    server.send("stop-listening")?;
    server.expect("stopped", PATIENCE)?;
    let mut late = Helper::spawn(&ns, "client", &[CONNECT])?;
    let failed = late.expect("failed", PATIENCE)?;
    assert_eq!(failed.value::<i32>("errno")?, 111);
    Ok(())
}

fn failures_are_told() -> io::Result<()> {
    let ns = NetNs::new()?;
    let unknown = Helper::spawn(&ns, "no-such-role", &[])?.expect("ready", PATIENCE).unwrap_err();
    assert!(unknown.to_string().contains("leaky-server"), "{unknown}");
    let mut server = Helper::spawn(&ns, "server", &[LISTEN])?;
    server.expect("listening", PATIENCE)?;
    server.kill()?;
    assert_eq!(server.expect("accepted", PATIENCE).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    Ok(())
}
