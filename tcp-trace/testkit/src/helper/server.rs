//! The `server` and `leaky-server` roles: one poll loop over stdin, the listener and the connections.

use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::line::Line;
use super::role::say;
use crate::clock::monotonic_ns;
use crate::sock::{self, ListenOptions};

/// What a connection's end of stream leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnEof {
    Close,
    Keep,
}

/// How the end of stream is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Eof {
    /// Read everything up to it: the receive queue ends up empty.
    Read,
    /// `POLLRDHUP`: nothing is consumed, the FIN stays in the receive queue.
    Peek,
    /// Not at all.
    Never,
}

struct Served {
    stream: TcpStream,
    peer: SocketAddr,
    /// Still waiting for its end.
    watched: bool,
}

struct Server {
    listener: Option<TcpListener>,
    /// How many more to accept.
    left: u64,
    eof: Eof,
    on_eof: OnEof,
    /// How long it is busy with something else after each `accept()`.
    pause: Duration,
    served: Vec<Served>,
}

pub(super) fn run(arguments: &Line, on_eof: OnEof) -> io::Result<()> {
    let backlog = arguments.value_or("backlog", Some(128))?;
    let options = ListenOptions { backlog, ..ListenOptions::default() };
    let listener = sock::listen(arguments.value("listen")?, &options)?;
    listener.set_nonblocking(true)?;
    say("listening", &[("addr", &listener.local_addr()?)])?;
    let eof = match arguments.get("eof") {
        None | Some("read") => Eof::Read,
        Some("peek") => Eof::Peek,
        Some("never") => Eof::Never,
        Some(other) => return Err(io::Error::other(format!("eof={other}"))),
    };
    let on_eof = match arguments.get("on-eof") {
        None => on_eof,
        Some("close") => OnEof::Close,
        Some("keep") => OnEof::Keep,
        Some(other) => return Err(io::Error::other(format!("on-eof={other}"))),
    };
    let left = arguments.value_or("count", Some(u64::MAX))?;
    let pause = Duration::from_millis(arguments.value_or("pause-ms", Some(0))?);
    Server { listener: Some(listener), left, eof, on_eof, pause, served: Vec::new() }.serve()
}

impl Server {
    fn serve(mut self) -> io::Result<()> {
        let mut commands = Commands::default();
        loop {
            let (stdin_ready, listener_ready, ready) = self.wait()?;
            let now_ns = monotonic_ns();
            for index in ready {
                self.look_at(index, now_ns)?;
            }
            if self.on_eof == OnEof::Close {
                self.close_those(|served| !served.watched)?;
            }
            if listener_ready {
                self.accept()?;
            }
            if stdin_ready {
                for command in commands.read()? {
                    if command.verb() == "quit" {
                        return Ok(());
                    }
                    self.obey(&command)?;
                }
                if commands.ended {
                    return Ok(());
                }
            }
        }
    }

    /// Blocks until something is ready: stdin, the listener, which of the watched connections.
    fn wait(&self) -> io::Result<(bool, bool, Vec<usize>)> {
        let stdin = io::stdin();
        let mut slots = vec![PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
        let listener: Option<BorrowedFd<'_>> =
            self.listener.as_ref().filter(|_| self.left > 0).map(AsFd::as_fd);
        slots.extend(listener.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let first = slots.len();
        let awaited = if self.eof == Eof::Read { PollFlags::IN } else { PollFlags::RDHUP };
        let watched: Vec<usize> = match self.eof {
            Eof::Never => Vec::new(),
            Eof::Read | Eof::Peek => {
                (0..self.served.len()).filter(|index| self.served[*index].watched).collect()
            }
        };
        slots.extend(watched.iter().map(|index| PollFd::new(&self.served[*index].stream, awaited)));
        while let Err(error) = poll(&mut slots, None) {
            if error != rustix::io::Errno::INTR {
                return Err(error.into());
            }
        }
        let is_ready = |slot: &PollFd<'_>| !slot.revents().is_empty();
        let ready =
            watched.iter().zip(&slots[first..]).filter(|(_, slot)| is_ready(slot)).map(|(index, _)| *index);
        Ok((is_ready(&slots[0]), slots[1..first].iter().any(is_ready), ready.collect()))
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Some(listener) = self.listener.as_ref().filter(|_| self.left > 0) {
            match listener.accept() {
                Ok((stream, peer)) => {
                    say("accepted", &[("peer", &peer), ("at_ns", &monotonic_ns())])?;
                    self.left -= 1;
                    self.served.push(Served { stream, peer, watched: true });
                    if !self.pause.is_zero() {
                        std::thread::sleep(self.pause);
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The client was gone before it was accepted.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Something happened to a watched connection.
    fn look_at(&mut self, index: usize, now_ns: u64) -> io::Result<()> {
        let Served { stream, peer, watched } = &mut self.served[index];
        let verb = match self.eof {
            Eof::Read => match stream.read(&mut [0; 4096]) {
                Ok(0) => "eof",
                Ok(_) => return Ok(()),
                Err(_) => "hangup",
            },
            Eof::Peek | Eof::Never => match stream.take_error()? {
                None => "eof",
                Some(_) => "hangup",
            },
        };
        *watched = false;
        say(verb, &[("peer", peer), ("at_ns", &now_ns)])
    }

    fn obey(&mut self, command: &Line) -> io::Result<()> {
        match command.verb() {
            "close" => {
                let one: Option<SocketAddr> =
                    command.get("peer").map(|_| command.value("peer")).transpose()?;
                self.close_those(|served| one.is_none_or(|peer| peer == served.peer))
            }
            "read" => {
                let peer: SocketAddr = command.value("peer")?;
                let mut buffer = vec![0; command.value("bytes")?];
                let Some(served) = self.served.iter_mut().find(|served| served.peer == peer) else {
                    return Err(io::Error::other(format!("no connection to {peer}")));
                };
                let length = served.stream.read(&mut buffer)?;
                say("did-read", &[("peer", &peer), ("bytes", &length)])
            }
            "stop-listening" => {
                self.listener = None;
                say("stopped", &[])
            }
            _ => Err(io::Error::other(format!("server: unknown command {command}"))),
        }
    }

    fn close_those(&mut self, which: impl Fn(&Served) -> bool) -> io::Result<()> {
        for Served { stream, peer, watched: _ } in self.served.extract_if(.., |served| which(served)) {
            let at_ns = monotonic_ns();
            drop(stream);
            say("closed", &[("peer", &peer), ("at_ns", &at_ns), ("end_ns", &monotonic_ns())])?;
        }
        Ok(())
    }
}

/// Command lines read from stdin without the buffer of `std::io::stdin`, which `poll` cannot see into.
#[derive(Default)]
struct Commands {
    partial: String,
    ended: bool,
}

impl Commands {
    /// One `read`; the lines complete by now.
    fn read(&mut self) -> io::Result<Vec<Line>> {
        let mut buffer = [0; 1024];
        let length = rustix::io::read(io::stdin(), &mut buffer)?;
        self.ended = length == 0;
        self.partial += &String::from_utf8_lossy(&buffer[..length]);
        let complete = self.partial.rfind('\n').map_or(0, |at| at + 1);
        let lines = self.partial[..complete].lines().map(Line::parse).collect();
        self.partial.drain(..complete);
        Ok(lines)
    }
}
