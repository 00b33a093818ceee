//! Sockets that were there before anybody looked: CLOSE_WAIT of every kind, and crowds of idle connections.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::helper::Helper;
use crate::netns::{NetNs, about};
use crate::sock::{self, TcpState};

/// How long a process may take for its part: an emulated machine is twenty times slower than a real one.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes that a server of [`LeakKind::UnreadData`] leaves in each socket's queue.
pub const UNREAD_BYTES: u32 = 100;
/// Connections of one process of a crowd: it has both ends, and 20,000 descriptors are a common hard limit.
const CROWD: u64 = 9_000;

/// Why a socket stays in CLOSE_WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeakKind {
    /// The program has read the end of stream, and not closed.
    ForgotClose,
    /// It has not looked since the FIN came; there was no data.
    NeverLooked,
    /// Data waits for it.
    UnreadData,
    /// It has not even accepted the connection.
    NeverAccepted,
}

/// A socket in CLOSE_WAIT.
#[derive(Clone, Copy, Debug)]
pub struct Leaked {
    /// Why.
    pub kind: LeakKind,
    /// The process to blame.
    pub pid: u32,
    /// Its descriptor there; `None` if it was never accepted.
    pub fd: Option<u32>,
    /// The leaking end.
    pub local: SocketAddr,
    /// The end that has closed.
    pub peer: SocketAddr,
    /// The FIN came after this, in `CLOCK_MONOTONIC` ns,
    pub fin_after_ns: u64,
    /// and before this.
    pub fin_before_ns: u64,
}

/// Processes that leak, one for each kind.
#[derive(Debug)]
pub struct Leak {
    /// The servers; drop them to end the leak.
    pub servers: Vec<(LeakKind, Helper)>,
    /// What they leak.
    pub sockets: Vec<Leaked>,
}

/// Kind, the server's comm, its other arguments, whether the client sends data.
type Script = (LeakKind, &'static str, &'static [&'static str], bool);

const SCRIPTS: [Script; 4] = [
    (LeakKind::ForgotClose, "forgot-close", &["eof=read"], false),
    (LeakKind::NeverLooked, "never-looked", &["eof=never"], false),
    (LeakKind::UnreadData, "unread-data", &["eof=never"], true),
    (LeakKind::NeverAccepted, "never-accepted", &["count=0"], false),
];

impl Leak {
    /// Leaks `each` sockets of every kind in `ns`, which has no others in CLOSE_WAIT, on four ports from
    /// `first_port` on.
    ///
    /// # Errors
    /// Those of any process, with its name; `TimedOut`.
    pub fn start(ns: &NetNs, each: u64, first_port: u16) -> io::Result<Self> {
        let mut leak = Self { servers: Vec::new(), sockets: Vec::new() };
        for (port, script) in (first_port..).zip(SCRIPTS) {
            leak.add(ns, script, port, each)?;
        }
        leak.settle(ns)?;
        leak.find_descriptors(ns)?;
        Ok(leak)
    }

    fn add(&mut self, ns: &NetNs, script: Script, port: u16, each: u64) -> io::Result<()> {
        let (kind, comm, more, data) = script;
        let local = SocketAddr::from(([127, 0, 0, 1], port));
        let own = [format!("listen={local}"), format!("comm={comm}"), format!("backlog={each}")];
        let arguments: Vec<&str> = own.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let mut server = Helper::spawn(ns, "leaky-server", &arguments)?;
        server.expect("listening", PATIENCE)?;
        let mut client =
            Helper::spawn(ns, "client", &[&format!("connect={local}"), &format!("count={each}")])?;
        client.expect("ready", PATIENCE)?;
        if kind != LeakKind::NeverAccepted {
            (0..each).try_for_each(|_| server.expect("accepted", PATIENCE).map(|_| ()))?;
        }
        if data {
            client.send(&format!("send bytes={UNREAD_BYTES}"))?;
            client.expect("done", PATIENCE)?;
        }
        client.send("close")?;
        for _ in 0..each {
            let closed = client.expect("closed", PATIENCE)?;
            self.sockets.push(Leaked {
                kind,
                pid: server.pid(),
                fd: None,
                local,
                peer: closed.value("local")?,
                fin_after_ns: closed.value("at_ns")?,
                fin_before_ns: closed.value("end_ns")?,
            });
        }
        if kind == LeakKind::ForgotClose {
            (0..each).try_for_each(|_| server.expect("eof", PATIENCE).map(|_| ()))?;
        }
        self.servers.push((kind, server));
        client.finish()
    }

    /// Waits until the kernel, too, has all of them in CLOSE_WAIT.
    fn settle(&self, ns: &NetNs) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let there = sock::table(ns)?.iter().filter(|entry| entry.state == TcpState::CloseWait).count();
            if there == self.sockets.len() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let late = io::Error::from(ErrorKind::TimedOut);
                return Err(about(&late, &format!("{there} of {} in CLOSE_WAIT", self.sockets.len())));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn find_descriptors(&mut self, ns: &NetNs) -> io::Result<()> {
        let mut by_inode = HashMap::new();
        for (_, server) in &self.servers {
            by_inode.extend(descriptors(server.pid())?);
        }
        let entries = sock::table(ns)?;
        let inodes: HashMap<_, _> =
            entries.iter().map(|entry| ((entry.local, entry.remote), entry.inode)).collect();
        for socket in &mut self.sockets {
            let inode = inodes.get(&(socket.local, socket.peer)).copied().unwrap_or(0);
            socket.fd = by_inode.get(&inode).copied();
        }
        Ok(())
    }
}

/// Inode and number of each socket that a process has.
fn descriptors(pid: u32) -> io::Result<Vec<(u64, u32)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        // Closed meanwhile, or no socket.
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let inode =
            target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        let number = entry.file_name().to_str().and_then(|text| text.parse().ok());
        found.extend(inode.zip(number));
    }
    Ok(found)
}

/// Idle connections in `ns`, both ends of each open, at ports from `first_port` on; they end with the helpers.
///
/// # Errors
/// Those of any process: no descriptors, no memory.
pub fn crowd(ns: &NetNs, connections: u64, first_port: u16) -> io::Result<Vec<Helper>> {
    let mut left = connections;
    let mut helpers = Vec::new();
    for port in first_port.. {
        let some = left.min(CROWD);
        let arguments = [format!("count={some}"), format!("port={port}")];
        helpers.push(Helper::spawn(ns, "crowd", &arguments.each_ref().map(String::as_str))?);
        left -= some;
        if left == 0 {
            break;
        }
    }
    for helper in &mut helpers {
        helper.expect("ready", PATIENCE)?;
    }
    Ok(helpers)
}
