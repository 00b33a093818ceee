//! A load with every common transition in it, which counts its connections itself.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::Result;
use tcp_trace_testkit::{
    ListenOptions, NetNs, sock,
    workload::{ChurnPlan, Closer, Driver, churn},
};

use crate::check::Check;

/// Transitions of a connection that both ends close, without those of its listener.
const EACH: u64 = 10;

/// What was done.
pub(super) struct Made {
    /// Connections that were established at their server.
    pub(super) connections: u64,
}

/// Rounds of churn, each of them with other roles, and beside them one connection after the other that ends in its own way.
pub(super) fn run(ns: &NetNs, check: &Check) -> Result<Made> {
    const PLANS: [(Closer, Driver); 4] = [
        (Closer::ClientFirst, Driver::OneThread),
        (Closer::ServerFirst, Driver::OneThread),
        (Closer::ClientFirst, Driver::ThreadPair),
        (Closer::ServerFirst, Driver::ThreadPair),
    ];
    let each = check.transitions.div_ceil(EACH * PLANS.len() as u64);
    let (stop, odd) = (AtomicBool::new(false), AtomicU64::new(0));
    let connections = thread::scope(|scope| -> Result<u64> {
        let oddities = scope.spawn(|| ns.run(|| keep_on(&stop, &odd)));
        let rounds = (0..).zip(PLANS).try_fold(0, |sum, (round, (closer, driver))| -> Result<u64> {
            // Ports of their own: connections of the round before still wait in TIME_WAIT.
            let first_port = 700 + 10 * round;
            let plan =
                ChurnPlan { closer, driver, first_port, rate: Some(check.rate), ..ChurnPlan::default() };
            Ok(sum + churn_quietly(ns, each, &plan)?)
        });
        stop.store(true, Ordering::Relaxed);
        oddities.join().map_err(|_panic| anyhow::anyhow!("the odd connections panicked"))??;
        rounds
    })?;
    Ok(Made { connections: connections + odd.load(Ordering::Relaxed) })
}

/// The churn waits for the end of every socket, those of the odd connections included, which do not end: that it did not
/// wait long enough is no fault here.
fn churn_quietly(ns: &NetNs, connections: u64, plan: &ChurnPlan) -> Result<u64> {
    match churn(ns, connections, plan) {
        Ok(churn) => Ok(churn.connections),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(connections),
        Err(error) => Err(error.into()),
    }
}

/// One odd connection after the other.
fn keep_on(stop: &AtomicBool, established: &AtomicU64) -> io::Result<()> {
    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let listen = |address| sock::listen(SocketAddr::new(address, 0), &ListenOptions::default());
    while !stop.load(Ordering::Relaxed) {
        for (at, from) in [(V4, V4), (V6, V6), (any, V4), (any, V6)] {
            let listener = listen(at)?;
            let to = SocketAddr::new(from, listener.local_addr()?.port());
            for way in WAYS {
                let client = sock::connect(None, to)?;
                let (server, _) = listener.accept()?;
                established.fetch_add(1, Ordering::Relaxed);
                way(client, server)?;
            }
            // Nobody accepts this one.
            let ignored = sock::connect(None, to)?;
            established.fetch_add(1, Ordering::Relaxed);
            drop(listener);
            drop(ignored);
            // Nobody listens any more.
            drop(sock::connect(None, to));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

type Way = fn(TcpStream, TcpStream) -> io::Result<()>;

const WAYS: [Way; 6] = [by_halves, with_a_reset, unread, disconnected, reset_in_close_wait, at_once];

/// The client has nothing more to say, and the server answers before it closes.
fn by_halves(mut client: TcpStream, mut server: TcpStream) -> io::Result<()> {
    client.shutdown(Shutdown::Write)?;
    server.read_to_end(&mut Vec::new())?;
    server.write_all(b"yes")?;
    drop(server);
    client.read_to_end(&mut Vec::new())?;
    Ok(())
}

fn with_a_reset(client: TcpStream, server: TcpStream) -> io::Result<()> {
    sock::abort_on_close(&client)?;
    drop(client);
    drop(server);
    Ok(())
}

fn unread(mut client: TcpStream, server: TcpStream) -> io::Result<()> {
    client.write_all(b"hello")?;
    drop(server);
    drop(client);
    Ok(())
}

fn disconnected(client: TcpStream, server: TcpStream) -> io::Result<()> {
    sock::disconnect(&client)?;
    drop(server);
    drop(client);
    Ok(())
}

fn reset_in_close_wait(client: TcpStream, server: TcpStream) -> io::Result<()> {
    client.shutdown(Shutdown::Write)?;
    sock::abort_on_close(&server)?;
    drop(server);
    drop(client);
    Ok(())
}

/// Both FINs are on their way before either end has seen the other's.
fn at_once(client: TcpStream, server: TcpStream) -> io::Result<()> {
    let other = thread::spawn(move || drop(server));
    drop(client);
    other.join().map_err(|_panic| io::Error::other("a thread that closes a socket panicked"))
}
