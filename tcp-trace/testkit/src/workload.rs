//! Bounded loads on a namespace's loopback: as many connect/accept/close cycles as two cores give,
//! each of them exactly the same sequence of TCP states.
//!
//! A *lane* is a listener and a client that work strictly in turn. On loopback the kernel runs both ends
//! inside the caller's system calls, so the default lane is one thread that owns both ends: no context
//! switch, the highest rate. [`Driver::ThreadPair`] has a thread for each end instead. Lane *n* stays on the
//! *n*th CPU (in rotation), because segments that change CPU can overtake each other.
//!
//! Of each connection the tracer sees, with [`Closer::ClientFirst`]: client CLOSE > SYN_SENT > ESTABLISHED >
//! FIN_WAIT1 > FIN_WAIT2 > CLOSE, server LISTEN > SYN_RECV > ESTABLISHED > CLOSE_WAIT > LAST_ACK > CLOSE;
//! with [`Closer::ServerFirst`] the two change roles after ESTABLISHED. Each lane adds its listener's
//! CLOSE > LISTEN and LISTEN > CLOSE. How the two sockets' events interleave at the end varies: the first FIN's
//! ACK usually travels with the second FIN, so that LAST_ACK comes before FIN_WAIT2.
//!
//! The side that closes first leaves a TIME_WAIT for 60 s. To keep them bounded at any duration
//! (65,000 for each lane) a lane's 4-tuples repeat after about 65,000 connections: long enough for `tcp_tw_reuse`,
//! which lets a connect take over a TIME_WAIT older than 1 s. The sequence stays as above.

mod lane;

use std::io;
use std::panic::resume_unwind;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::clock::{as_ns, monotonic_ns};
use crate::latency::Histogram;
use crate::netns::{NetNs, about};
use crate::sock;
use lane::{Lane, Quota};

/// How long [`churn`] waits for the last handshakes to end.
const SETTLE: Duration = Duration::from_secs(2);

/// Which end closes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Closer {
    /// The client; the server reads the end of stream and closes.
    #[default]
    ClientFirst,
    /// The server, at once after accepting; the client reads the end of stream and closes.
    ServerFirst,
}

/// Who drives the two ends of a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// One thread owns both ends: fastest.
    #[default]
    OneThread,
    /// A client thread, and a server thread that may lag behind by half the backlog.
    ThreadPair,
}

/// How to churn.
#[derive(Clone, Copy, Debug)]
pub struct ChurnPlan {
    /// Lanes at once, each with its own listener. Default 2; at most 200.
    pub lanes: u16,
    /// Which end closes first.
    pub closer: Closer,
    /// Who drives the ends.
    pub driver: Driver,
    /// Argument of `listen()`. Default 128.
    pub backlog: i32,
    /// Port of the first lane's listener, the others follow; below 1024, out of the clients' way. Default 800.
    pub first_port: u16,
    /// Connections per second that all lanes together begin at most; without it (the default), as many as they can.
    pub rate: Option<u32>,
}

impl Default for ChurnPlan {
    fn default() -> Self {
        let (closer, driver) = (Closer::default(), Driver::default());
        Self { lanes: 2, closer, driver, backlog: 128, first_port: 800, rate: None }
    }
}

/// What was done.
#[derive(Clone, Debug)]
pub struct Churn {
    /// Connections made, accepted and closed by both ends: exact.
    pub connections: u64,
    /// From the first lane's start to the last lane's end, without the settling.
    pub elapsed: Duration,
    /// Listeners opened and closed.
    pub listeners: u16,
    /// How long each `connect()` took.
    pub connect: Histogram,
}

impl Churn {
    /// Connections per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.connections as f64 / self.elapsed.as_secs_f64()
    }
}

/// Makes exactly `connections` connections in `ns`, shared among the lanes, and waits until the kernel has
/// closed them all. Sets `ip_local_port_range`, `tcp_tw_reuse`, `tcp_timestamps` and `tcp_max_tw_buckets` of `ns`.
///
/// # Errors
/// The first error of any lane; `TimedOut` when closed sockets linger for more than 2 s.
pub fn churn(ns: &NetNs, connections: u64, plan: &ChurnPlan) -> io::Result<Churn> {
    let lanes = u64::from(plan.lanes.max(1));
    run(ns, plan, |lane| {
        let one_more = u64::from(u64::from(lane) < connections % lanes);
        Quota::Count(connections / lanes + one_more)
    })
}

/// Churns for `duration`; [`Churn::connections`] is the exact number made. Otherwise as [`churn`].
///
/// # Errors
/// As [`churn`].
pub fn churn_for(ns: &NetNs, duration: Duration, plan: &ChurnPlan) -> io::Result<Churn> {
    run(ns, plan, |_| Quota::For(duration))
}

fn run(ns: &NetNs, plan: &ChurnPlan, quota: impl Fn(u16) -> Quota + Send) -> io::Result<Churn> {
    prepare(ns)?;
    let before = sock::in_use(ns)?;
    let listeners = plan.lanes.max(1);
    let churn = ns.run(|| drive(plan, listeners, quota))?;
    settle(ns, before)?;
    Ok(churn)
}

/// Opens the lanes, runs each on a thread, closes them. Acts in the calling thread's namespace.
fn drive(plan: &ChurnPlan, count: u16, quota: impl Fn(u16) -> Quota) -> io::Result<Churn> {
    let lanes = (0..count).map(|n| Lane::open(n, plan)).collect::<io::Result<Vec<_>>>()?;
    let start = &Barrier::new(lanes.len());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .zip(&lanes)
            .map(|(n, lane)| {
                let quota = quota(n);
                scope.spawn(move || {
                    start.wait();
                    let began_ns = monotonic_ns();
                    let done = lane.run(quota.starting_at(began_ns));
                    done.map(|done| (done, began_ns, monotonic_ns()))
                })
            })
            .collect();
        let (mut connections, mut first_ns, mut last_ns) = (0, u64::MAX, 0);
        let mut connect = Histogram::default();
        for thread in threads {
            let (done, began_ns, ended_ns) = thread.join().unwrap_or_else(|panic| resume_unwind(panic))?;
            connections += done.count();
            connect.add(&done);
            first_ns = first_ns.min(began_ns);
            last_ns = last_ns.max(ended_ns);
        }
        let elapsed = Duration::from_nanos(last_ns - first_ns);
        Ok(Churn { connections, elapsed, listeners: count, connect })
    })
}

fn prepare(ns: &NetNs) -> io::Result<()> {
    ns.sysctl("net.ipv4.ip_local_port_range", "1024 65535")?;
    ns.sysctl("net.ipv4.tcp_tw_reuse", 1)?;
    // Reuse needs timestamps.
    ns.sysctl("net.ipv4.tcp_timestamps", 1)?;
    // No FIN_WAIT2 minisock may be refused: the other end's FIN would be answered with a RST.
    ns.sysctl("net.ipv4.tcp_max_tw_buckets", 1 << 20)
}

/// Waits until no more full sockets exist than before.
fn settle(ns: &NetNs, before: u64) -> io::Result<()> {
    let end = monotonic_ns() + as_ns(SETTLE);
    loop {
        let now = sock::in_use(ns)?;
        if now <= before {
            return Ok(());
        }
        if monotonic_ns() > end {
            let late = io::Error::from(io::ErrorKind::TimedOut);
            return Err(about(&late, &format!("{} sockets still open after the churn", now - before)));
        }
        thread::sleep(Duration::from_millis(1));
    }
}
