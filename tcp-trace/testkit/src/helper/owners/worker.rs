//! Serves connections that it accepts, is passed, or has inherited: one poll loop.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};

use super::{ANSWER, LATE_ANSWER, Socket, handover, process};

/// How a worker ends with its sockets open.
#[derive(Clone, Copy, Debug)]
pub(super) enum Abandon {
    Exit,
    Kill,
}

/// Where connections come from.
pub(super) enum Intake<'a> {
    Listener(&'a TcpListener),
    Inbox(&'a UnixStream),
    /// Only the one that it has already.
    Nowhere,
}

pub(super) struct Worker<'a> {
    intake: Intake<'a>,
    /// How many more to take in.
    left: u64,
    abandon: Option<Abandon>,
    served: Vec<Served>,
}

pub(super) struct Served {
    socket: Socket,
    /// Its first byte, once read.
    mode: Option<u8>,
    answered: bool,
}

impl<'a> Worker<'a> {
    /// Serves without end.
    pub(super) fn of(intake: Intake<'a>) -> Self {
        Self { intake, left: u64::MAX, abandon: None, served: Vec::new() }
    }

    /// Serves `count` connections until each has had its answer, then ends with all of them open.
    pub(super) fn that_abandons(listener: &'a TcpListener, count: u64, how: Abandon) -> Self {
        Self { left: count, abandon: Some(how), ..Self::of(Intake::Listener(listener)) }
    }

    /// Serves one connection to its end.
    pub(super) fn heir(socket: Socket) -> Self {
        let served = vec![Served { socket, mode: None, answered: false }];
        Self { intake: Intake::Nowhere, left: 0, abandon: None, served }
    }

    pub(super) fn run(mut self) -> io::Result<()> {
        loop {
            // What was read before the hand-over waits for no more input.
            self.look_at(|served| served.mode.is_some() && !served.answered)?;
            if let Some(how) =
                self.abandon.filter(|_| self.left == 0 && self.served.iter().all(|s| s.answered))
            {
                return self.give_up(how);
            }
            if self.left == 0 && self.served.is_empty() {
                return Ok(());
            }
            let (intake_ready, ready) = self.wait()?;
            let mut ready = ready.into_iter();
            self.look_at(|_| ready.next().unwrap_or(false))?;
            if intake_ready {
                self.take_in()?;
            }
        }
    }

    /// Blocks until something is ready: the intake, which of the connections.
    fn wait(&self) -> io::Result<(bool, Vec<bool>)> {
        let intake = match self.intake {
            Intake::Listener(listener) if self.left > 0 => Some(listener.as_fd()),
            Intake::Inbox(inbox) if self.left > 0 => Some(inbox.as_fd()),
            _ => None,
        };
        // Answered ones that will be abandoned are no more looked at.
        let events = |served: &Served| {
            if self.abandon.is_some() && served.answered { PollFlags::empty() } else { PollFlags::IN }
        };
        let sockets = self.served.iter().filter(|served| !events(served).is_empty());
        let mut slots: Vec<PollFd<'_>> =
            sockets.map(|served| PollFd::new(&served.socket.stream, PollFlags::IN)).collect();
        slots.extend(intake.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        while let Err(error) = poll(&mut slots, None) {
            if error != rustix::io::Errno::INTR {
                return Err(error.into());
            }
        }
        let mut slots = slots.iter().map(|slot| !slot.revents().is_empty());
        let mut next = || slots.next().unwrap_or(false);
        let ready = self.served.iter().map(|served| !events(served).is_empty() && next()).collect();
        Ok((next(), ready))
    }

    fn take_in(&mut self) -> io::Result<()> {
        let (socket, mode) = match self.intake {
            Intake::Listener(listener) => match listener.accept() {
                Ok((stream, _)) => (Socket::new(stream, "server", "accept")?, None),
                // Another worker was faster, or the client gave up.
                Err(error)
                    if [ErrorKind::WouldBlock, ErrorKind::ConnectionAborted].contains(&error.kind()) =>
                {
                    return Ok(());
                }
                Err(error) => return Err(error),
            },
            Intake::Inbox(inbox) => match handover::receive(inbox)? {
                Some((stream, mode)) => (Socket::new(stream, "server", "pass")?, mode),
                None => {
                    self.left = 0;
                    return Ok(());
                }
            },
            Intake::Nowhere => return Ok(()),
        };
        self.left -= 1;
        self.served.push(Served { socket, mode, answered: false });
        Ok(())
    }

    /// Serves those that `which` names, and closes those that are through.
    fn look_at(&mut self, mut which: impl FnMut(&Served) -> bool) -> io::Result<()> {
        let mut kept = Vec::new();
        for mut served in std::mem::take(&mut self.served) {
            if which(&served) && served.serve()? {
                served.socket.close()?;
            } else {
                kept.push(served);
            }
        }
        self.served = kept;
        Ok(())
    }

    fn give_up(self, how: Abandon) -> io::Result<()> {
        let word = match how {
            Abandon::Exit => "exit",
            Abandon::Kill => "kill",
        };
        for served in &self.served {
            served.socket.leaving(word)?;
        }
        if matches!(how, Abandon::Kill) {
            process::kill_oneself()?;
        }
        // The forked process exits next; its sockets must still be open then.
        std::mem::forget(self);
        Ok(())
    }
}

impl Served {
    /// Does what is next; whether the connection is to be closed.
    fn serve(&mut self) -> io::Result<bool> {
        if self.answered {
            return self.end();
        }
        let mode = match self.mode {
            Some(mode) => mode,
            None => match read_mode(&self.socket)? {
                Some(mode) => mode,
                None => return Ok(true),
            },
        };
        let unread = usize::from(self.mode.is_none());
        (self.mode, self.answered) = (Some(mode), true);
        self.socket.stream.write_all(&[ANSWER])?;
        self.socket.used(mode, 1, unread)?;
        Ok(mode == b's')
    }

    /// The client has closed, shut down or reset.
    fn end(&mut self) -> io::Result<bool> {
        match self.socket.stream.read(&mut [0; 64]) {
            Ok(0) => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(true),
            Err(error) => return Err(error),
        }
        if self.mode == Some(b'h') {
            self.socket.stream.write_all(&[ANSWER; LATE_ANSWER])?;
            self.socket.used(b'h', LATE_ANSWER, 0)?;
        }
        Ok(true)
    }
}

/// The first byte, and no more; `None` if there is none.
pub(super) fn read_mode(socket: &Socket) -> io::Result<Option<u8>> {
    let mut mode = [0];
    (&socket.stream).read(&mut mode).map(|length| (length == 1).then_some(mode[0]))
}
