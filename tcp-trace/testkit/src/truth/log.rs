//! The logs of the processes, put together.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;

use super::{Role, SocketTruth, Truth};
use crate::helper::{Helper, Line};

/// A moment and the process whose it was.
type Moment = (u64, u32);

/// What all processes together said of one socket.
struct Story {
    local: SocketAddr,
    peer: SocketAddr,
    role: Role,
    mode: Option<char>,
    /// How it came to each process.
    had: Vec<(Moment, String)>,
    /// The last use.
    used: Option<Moment>,
    left: Vec<Moment>,
    sent: u64,
    received: u64,
}

pub(super) struct Log {
    netns: u32,
    stories: HashMap<u64, Story>,
    comms: HashMap<u32, String>,
    /// The processes that made the listeners.
    listeners: HashMap<SocketAddr, u32>,
    /// Lines that come before what they are about: another process's log was taken first.
    early: Vec<Line>,
}

impl Log {
    pub(super) fn new(netns: u32) -> Self {
        let (stories, comms, listeners) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { netns, stories, comms, listeners, early: Vec::new() }
    }

    /// The server made a listener.
    pub(super) fn listening(&mut self, at: SocketAddr, server: &Helper) {
        self.listeners.insert(at, server.pid());
        self.comms.insert(server.pid(), server.comm().to_owned());
    }

    pub(super) fn take(&mut self, line: &Line) -> io::Result<()> {
        match line.verb() {
            "has" => self.has(line),
            "used" | "left" => self.later(line),
            _ => Ok(()),
        }
    }

    fn has(&mut self, line: &Line) -> io::Result<()> {
        let (pid, at_ns) = (line.value("pid")?, line.value("at_ns")?);
        self.comms.insert(pid, line.value("comm")?);
        let role = if line.get("role") == Some("client") { Role::Client } else { Role::Server };
        let (local, peer) = (line.value("local")?, line.value("peer")?);
        let story = self.stories.entry(line.value("cookie")?).or_insert_with(|| Story {
            local,
            peer,
            role,
            mode: None,
            had: Vec::new(),
            used: None,
            left: Vec::new(),
            sent: 0,
            received: 0,
        });
        story.had.push(((at_ns, pid), line.value("how")?));
        Ok(())
    }

    fn later(&mut self, line: &Line) -> io::Result<()> {
        let Some(story) = self.stories.get_mut(&line.value("cookie")?) else {
            self.early.push(line.clone());
            return Ok(());
        };
        let moment: Moment = (line.value("at_ns")?, line.value("pid")?);
        if line.verb() == "left" {
            story.left.push(moment);
            return Ok(());
        }
        story.used = story.used.max(Some(moment));
        story.mode = Some(line.value("mode")?);
        story.sent += line.value::<u64>("sent")?;
        story.received += line.value::<u64>("received")?;
        Ok(())
    }

    pub(super) fn truth(mut self) -> io::Result<Truth> {
        for line in std::mem::take(&mut self.early) {
            self.later(&line)?;
        }
        if let Some(line) = self.early.first() {
            return Err(io::Error::other(format!("a socket that nobody has: {line}")));
        }
        let ends: HashSet<_> = self.stories.values().map(|story| (story.local, story.peer)).collect();
        let mut sockets = Vec::new();
        for (cookie, story) in &self.stories {
            let listener =
                self.listeners.get(if story.role == Role::Server { &story.local } else { &story.peer });
            let socket = story.truth(*cookie, self.netns, listener.copied())?;
            if !ends.contains(&(story.peer, story.local)) {
                sockets.push(never_accepted(&socket)?);
            }
            sockets.push(socket);
        }
        Ok(Truth { sockets, comms: self.comms })
    }
}

impl Story {
    fn truth(&self, cookie: u64, netns: u32, listener: Option<u32>) -> io::Result<SocketTruth> {
        let untold = || io::Error::other(format!("{} - {}: nobody had or left it", self.local, self.peer));
        let first = self.had.iter().min().ok_or_else(untold)?;
        let last = *self.left.iter().max().ok_or_else(untold)?;
        let sharing = self.had.iter().filter(|(_, how)| how == "share").map(|((_, pid), _)| *pid);
        let last_used = self.used.map(|(_, pid)| pid);
        let sorted = |pids: &mut Vec<u32>| {
            pids.sort_unstable();
            pids.dedup();
        };
        let mut owners: Vec<u32> = sharing.chain(last_used).chain([last.1]).collect();
        let mut holders: Vec<u32> = self.had.iter().map(|((_, pid), _)| *pid).collect();
        sorted(&mut owners);
        sorted(&mut holders);
        Ok(SocketTruth {
            cookie: Some(cookie),
            local: self.local,
            peer: self.peer,
            netns,
            role: self.role,
            mode: self.mode.unwrap_or('i'),
            owners,
            holders,
            opened_by: first.0.1,
            listener,
            opened_ns: Some(first.0.0),
            left_ns: Some(last.0),
            sent: self.sent,
            received: self.received,
        })
    }
}

/// The other end of `client`: the kernel's alone until its listener was closed.
fn never_accepted(client: &SocketTruth) -> io::Result<SocketTruth> {
    let Some(listener) = client.listener.filter(|_| client.mode == 'i') else {
        return Err(io::Error::other(format!("nobody had the other end of {client:?}")));
    };
    Ok(SocketTruth {
        cookie: None,
        local: client.peer,
        peer: client.local,
        role: Role::Server,
        owners: vec![listener],
        holders: Vec::new(),
        opened_by: listener,
        opened_ns: None,
        left_ns: None,
        sent: 0,
        received: 0,
        ..client.clone()
    })
}
