//! One lane: a listener and the client that connects to it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, accept_with, connect, recv, socket_with,
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{ChurnPlan, Closer, Driver};
use crate::clock::{as_ns, monotonic_ns};
use crate::latency::Histogram;
use crate::netns::about;
use crate::sock;

/// A lane's destination addresses, taken in turn. The kernel uses every second local port for each of them, so a
/// 4-tuple repeats after 2 x 32,256 connections: more than 1 s (what `tcp_tw_reuse` needs) up to 64,000/s a lane.
const ADDRESSES: u8 = 2;

/// Connections between two looks at the clock.
const CLOCK_EVERY: u64 = 32;

/// How much a lane has to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Quota {
    Count(u64),
    For(Duration),
    Until(u64),
}

impl Quota {
    pub(super) fn starting_at(self, now_ns: u64) -> Self {
        match self {
            Self::For(duration) => Self::Until(now_ns.saturating_add(as_ns(duration))),
            other => other,
        }
    }

    fn allows(self, done: u64) -> bool {
        match self {
            Self::Count(count) => done < count,
            Self::Until(end_ns) => !done.is_multiple_of(CLOCK_EVERY) || monotonic_ns() < end_ns,
            Self::For(_) => false,
        }
    }
}

/// When a lane's connections are due.
#[derive(Clone, Copy, Debug)]
struct Pace {
    began_ns: u64,
    /// Nanoseconds from one to the next; 0 for as soon as possible.
    each_ns: u64,
}

impl Pace {
    /// Waits until the connection with this number is due; one that is late is made up for.
    fn wait(self, number: u64) {
        if self.each_ns == 0 {
            return;
        }
        let due_ns = self.began_ns + number * self.each_ns;
        thread::sleep(Duration::from_nanos(due_ns.saturating_sub(monotonic_ns())));
    }
}

#[derive(Debug)]
pub(super) struct Lane {
    number: u16,
    listener: OwnedFd,
    targets: [SocketAddrV4; ADDRESSES as usize],
    plan: ChurnPlan,
}

impl Lane {
    /// Acts in the calling thread's namespace.
    pub(super) fn open(number: u16, plan: &ChurnPlan) -> io::Result<Self> {
        let port = plan.first_port + number;
        // Distinct networks for the lanes, so that their 4-tuples and port searches never meet.
        let third = u8::try_from(number + 1).map_err(|_wide| io::ErrorKind::InvalidInput)?;
        let targets =
            std::array::from_fn(|n| SocketAddrV4::new(Ipv4Addr::new(127, 1, third, n as u8 + 1), port));
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let options = sock::ListenOptions { backlog: plan.backlog, ..sock::ListenOptions::default() };
        Ok(Self { listener: sock::listen(any, &options)?.into(), targets, plan: *plan, number })
    }

    /// Makes the connections; returns how long each took to be made. Binds the calling thread to one CPU for good.
    pub(super) fn run(&self, quota: Quota) -> io::Result<Histogram> {
        stay_on_one_cpu(self.number)?;
        match self.plan.driver {
            Driver::OneThread => self.run_alone(quota),
            Driver::ThreadPair => self.run_pair(quota),
        }
    }

    fn pace(&self) -> Pace {
        let lanes = u64::from(self.plan.lanes.max(1));
        let each_ns = self.plan.rate.map_or(0, |rate| lanes * 1_000_000_000 / u64::from(rate.max(1)));
        Pace { began_ns: monotonic_ns(), each_ns }
    }

    fn run_alone(&self, quota: Quota) -> io::Result<Histogram> {
        let mut done = Histogram::default();
        let pace = self.pace();
        while quota.allows(done.count()) {
            pace.wait(done.count());
            let client = self.connect(&mut done)?;
            let server = self.accept()?;
            let (first, second) = match self.plan.closer {
                Closer::ClientFirst => (client, server),
                Closer::ServerFirst => (server, client),
            };
            drop(first);
            read_end(&second)?;
        }
        Ok(done)
    }

    fn run_pair(&self, quota: Quota) -> io::Result<Histogram> {
        // The client may not run ahead of the accept queue: a dropped SYN costs a second.
        let lead = usize::try_from(self.plan.backlog / 2).unwrap_or(0);
        let (announce, announced) = sync_channel(lead);
        thread::scope(|scope| {
            let server = scope.spawn(move || self.serve(&announced));
            let mut done = Histogram::default();
            let pace = self.pace();
            let mut failed = None;
            // An announcement fails only when the server has ended with an error: that one is returned.
            while quota.allows(done.count()) && announce.send(()).is_ok() {
                pace.wait(done.count());
                if let Err(error) = self.connect(&mut done).and_then(|client| match self.plan.closer {
                    Closer::ClientFirst => Ok(()),
                    Closer::ServerFirst => read_end(&client),
                }) {
                    failed = Some(error);
                    break;
                }
            }
            drop(announce);
            if let Some(error) = failed {
                // The server waits for a connection that never comes.
                let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
                return Err(error);
            }
            server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok(done)
        })
    }

    fn serve(&self, announced: &Receiver<()>) -> io::Result<()> {
        for () in announced {
            let server = self.accept()?;
            if self.plan.closer == Closer::ClientFirst {
                read_end(&server)?;
            }
        }
        Ok(())
    }

    /// Makes a connection and takes its time.
    fn connect(&self, done: &mut Histogram) -> io::Result<OwnedFd> {
        let number = done.count();
        let target = &self.targets[(number % u64::from(ADDRESSES)) as usize];
        let client = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let began_ns = monotonic_ns();
        connect(&client, target)
            .map_err(|error| about(&error.into(), &format!("connection {number} to {target}")))?;
        done.record(monotonic_ns() - began_ns);
        Ok(client)
    }

    fn accept(&self) -> io::Result<OwnedFd> {
        Ok(accept_with(&self.listener, SocketFlags::CLOEXEC)?)
    }
}

/// Loopback keeps a flow's segments in order only on one CPU. Moved in the middle, a delayed ACK can overtake
/// or be overtaken by a FIN, and a TIME_WAIT answer then meets a RST.
fn stay_on_one_cpu(lane: u16) -> io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    let cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    // The mask of a running thread is never empty.
    one.set(cpus.cycle().nth(usize::from(lane)).unwrap_or(0));
    Ok(sched_setaffinity(None, &one)?)
}

/// Reads the end of stream; anything else is an error.
fn read_end(socket: &OwnedFd) -> io::Result<()> {
    let (length, _) = recv(socket, &mut [0u8; 16], RecvFlags::empty())?;
    if length == 0 { Ok(()) } else { Err(io::Error::other("data where the end of stream was awaited")) }
}
