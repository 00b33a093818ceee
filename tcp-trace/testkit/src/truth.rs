//! Connections between processes that hand their sockets to each other, and the truth about each socket.
//!
//! At least 8 processes on a namespace's loopback: thread pool, prefork, fork + close in the parent, `SCM_RIGHTS`,
//! exits and SIGKILLs with open sockets, a socket that two processes share, io_uring where it is allowed, listeners that nobody accepts from; clients
//! that close first, last, by halves, with a reset, and through a forked heir. Every process logs what it
//! has, when, and under which cookie; the roles and their words are in `helper/owners.rs`.
//!
//! ```no_run
//! # fn main() -> std::io::Result<()> {
//! use tcp_trace_testkit::{NetNs, truth::{Truth, TruthPlan}};
//! let ns = NetNs::new()?;
//! let truth = Truth::of(&ns, &TruthPlan::default())?;
//! assert!(truth.sockets.len() >= 2 * 2_000);
//! # Ok(())
//! # }
//! ```

mod log;

use std::collections::{BTreeSet, HashMap};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use crate::helper::{Helper, Line, io_uring_is_allowed};
use crate::netns::{NetNs, about};
use crate::sock;

/// How long a process may take for its part: an emulated machine is twenty times slower than a real one.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many connections.
#[derive(Clone, Copy, Debug)]
pub struct TruthPlan {
    /// At least so many in all, at most 10,000. Default 2,000; every kind gets some.
    pub connections: u64,
}

impl Default for TruthPlan {
    fn default() -> Self {
        Self { connections: 2_000 }
    }
}

/// Which side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It connected.
    Client,
    /// It was accepted, or would have been.
    Server,
}

/// One end of one connection.
#[derive(Clone, Debug)]
pub struct SocketTruth {
    /// `SO_COOKIE`; `None` if no process ever had it.
    pub cookie: Option<u64>,
    /// Its own address.
    pub local: SocketAddr,
    /// The other end's.
    pub peer: SocketAddr,
    /// Inode number of its namespace.
    pub netns: u32,
    /// Which side it is.
    pub role: Role,
    /// How the connection ends: see the modes in `helper/owners.rs`; `i` for one that was never accepted.
    pub mode: char,
    /// Processes that may rightly be called owner at its end: those that held or used it last.
    pub owners: Vec<u32>,
    /// Every process that ever had it.
    pub holders: Vec<u32>,
    /// The process that connected or accepted; the listener's, if nobody accepted.
    pub opened_by: u32,
    /// The process that made the listener at this end or the other.
    pub listener: Option<u32>,
    /// When it had been opened, in `CLOCK_MONOTONIC` ns; `None` if no process ever had it.
    pub opened_ns: Option<u64>,
    /// When its last holder began to give it up.
    pub left_ns: Option<u64>,
    /// Bytes that the processes wrote.
    pub sent: u64,
    /// Bytes that the processes read.
    pub received: u64,
}

impl SocketTruth {
    /// Whether this end sent the first FIN (`Some(true)`), the other one did (`Some(false)`), or none was sent.
    #[must_use]
    pub fn closed_first(&self) -> Option<bool> {
        match (self.mode, self.role) {
            ('c' | 'h', role) => Some(role == Role::Client),
            ('s' | 'x', role) => Some(role == Role::Server),
            _ => None,
        }
    }
}

/// What the processes did, by their own logs.
#[derive(Clone, Debug)]
pub struct Truth {
    /// Both ends of every connection, in no order. A client's port may have been taken again by a later one.
    pub sockets: Vec<SocketTruth>,
    /// Each process's comm.
    pub comms: HashMap<u32, String>,
}

/// A kind of server with its share of the connections.
struct Kind {
    name: &'static str,
    percent: u64,
    /// Arguments of its clients, each of which makes its part of the connections.
    clients: &'static [&'static [&'static str]],
}

const KINDS: &[Kind] = &[
    Kind { name: "threads", percent: 20, clients: &[&["batch=8", "modes=csh"], &["batch=3", "modes=hscr"]] },
    Kind { name: "prefork", percent: 25, clients: &[&["batch=8", "modes=shc"], &["batch=5", "modes=ccrs"]] },
    Kind { name: "fork", percent: 15, clients: &[&["batch=6", "modes=cshr", "heir=yes"]] },
    Kind { name: "pass", percent: 15, clients: &[&["batch=8", "modes=ccsshhr"]] },
    Kind { name: "exit", percent: 15, clients: &[&["batch=4", "modes=xxxu"]] },
    Kind { name: "share", percent: 9, clients: &[&["batch=1", "modes=csh"]] },
    // On top of the hundred per cent, and only where the kernel allows io_uring.
    Kind { name: "uring", percent: 6, clients: &[&["batch=2", "modes=cscr"]] },
    // Last: its port tells which sockets nobody had.
    Kind { name: "ignore", percent: 1, clients: &[&["batch=1000", "mute=yes"]] },
];

/// Below the clients' ports.
const FIRST_PORT: u16 = 7_100;

/// The processes of one kind.
struct Cast {
    ignores: bool,
    address: SocketAddr,
    server: Helper,
    clients: Vec<Helper>,
}

impl Truth {
    /// Makes the connections in `ns`, which has no others, and waits for the end of every process and socket.
    ///
    /// # Errors
    /// Those of any process, with its name; `TimedOut`.
    pub fn of(ns: &NetNs, plan: &TruthPlan) -> io::Result<Self> {
        let mut casts = (FIRST_PORT..)
            .zip(KINDS)
            .filter(|(_, kind)| kind.name != "uring" || io_uring_is_allowed())
            .map(|(port, kind)| start(ns, kind, port, plan.connections))
            .collect::<io::Result<Vec<_>>>()?;
        for cast in &mut casts {
            let last_word = if cast.ignores { "waiting" } else { "done" };
            for client in &mut cast.clients {
                client.expect(last_word, PATIENCE)?;
            }
        }
        let mut log = log::Log::new(ns.inum());
        casts.iter().for_each(|cast| log.listening(cast.address, &cast.server));
        if let Some(at) = casts.iter().position(|cast| cast.ignores) {
            let Cast { server, clients, .. } = casts.remove(at);
            end(&mut log, server, clients)?;
        }
        settle(ns, casts.len() as u64)?;
        for Cast { server, clients, .. } in casts {
            end(&mut log, server, clients)?;
        }
        log.truth()
    }

    /// Every process that had a socket.
    #[must_use]
    pub fn processes(&self) -> BTreeSet<u32> {
        self.sockets.iter().flat_map(|socket| socket.holders.iter().copied()).collect()
    }
}

fn start(ns: &NetNs, kind: &Kind, port: u16, connections: u64) -> io::Result<Cast> {
    let clients = kind.clients.len() as u64;
    // Rounded to the batch of the workers that end with their sockets open.
    let each = (connections * kind.percent / 100 / clients).next_multiple_of(4);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let arguments = [
        format!("listen={address}"),
        format!("kind={}", kind.name),
        format!("count={}", each * clients),
        format!("comm=serve-{}", kind.name),
    ];
    let mut server = Helper::spawn(ns, "owners-server", &arguments.each_ref().map(String::as_str))?;
    server.expect("listening", PATIENCE)?;
    let clients = kind.clients.iter().map(|more| {
        let own = [format!("connect={address}"), format!("count={each}"), format!("comm=use-{}", kind.name)];
        let arguments: Vec<&str> = own.iter().map(String::as_str).chain(more.iter().copied()).collect();
        Helper::spawn(ns, "owners-client", &arguments)
    });
    let clients = clients.collect::<io::Result<_>>()?;
    Ok(Cast { ignores: kind.name == "ignore", address, server, clients })
}

/// Ends the processes and takes their logs: the server first, so that clients see what it does to them.
fn end(log: &mut log::Log, server: Helper, clients: Vec<Helper>) -> io::Result<()> {
    let mut take = |helper: Helper| -> io::Result<()> {
        let lines = helper.finish_with_lines(PATIENCE)?;
        lines.iter().try_for_each(|line: &Line| log.take(line))
    };
    take(server)?;
    clients.into_iter().try_for_each(take)
}

/// Waits until only the listeners are left.
fn settle(ns: &NetNs, listeners: u64) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let open = sock::in_use(ns)?;
        if open <= listeners {
            return Ok(());
        }
        if Instant::now() > deadline {
            let late = io::Error::from(ErrorKind::TimedOut);
            return Err(about(&late, &format!("{} sockets still open", open - listeners)));
        }
        thread::sleep(Duration::from_millis(5));
    }
}
