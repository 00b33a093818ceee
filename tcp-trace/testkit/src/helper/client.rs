//! The `client` role.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};

use super::line::Line;
use super::role::say;
use crate::clock::monotonic_ns;
use crate::sock;

pub(super) fn run(arguments: &Line) -> io::Result<()> {
    let to: SocketAddr = arguments.value("connect")?;
    let from: Option<IpAddr> = arguments.get("bind").map(|_| arguments.value("bind")).transpose()?;
    let mut open = VecDeque::new();
    for _ in 0..arguments.value_or("count", Some(1))? {
        let at_ns = monotonic_ns();
        match sock::connect(from, to) {
            Ok(stream) => {
                let (local, end_ns) = (stream.local_addr()?, monotonic_ns());
                say("connected", &[("local", &local), ("at_ns", &at_ns), ("end_ns", &end_ns)])?;
                open.push_back(stream);
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(0);
                say("failed", &[("errno", &errno), ("at_ns", &at_ns), ("end_ns", &monotonic_ns())])?;
            }
        }
    }
    say("ready", &[])?;
    for text in io::stdin().lines() {
        let command = Line::parse(&text?);
        match command.verb() {
            "close" | "reset" => close(&mut open, &command)?,
            "send" => {
                let data = vec![b'x'; command.value("bytes")?];
                open.iter_mut().try_for_each(|stream| stream.write_all(&data))?;
            }
            "shutdown" => open.iter().try_for_each(|stream| stream.shutdown(Shutdown::Write))?,
            "quit" => return Ok(()),
            _ => return Err(io::Error::other(format!("client: unknown command {command}"))),
        }
        say("done", &[])?;
    }
    Ok(())
}

/// Closes the oldest `count` connections (all without one), `reset` with a RST.
fn close(open: &mut VecDeque<TcpStream>, command: &Line) -> io::Result<()> {
    let count = command.value_or("count", Some(open.len()))?;
    for stream in open.drain(..count.min(open.len())) {
        let local = stream.local_addr()?;
        if command.verb() == "reset" {
            sock::abort_on_close(&stream)?;
        }
        let at_ns = monotonic_ns();
        drop(stream);
        say("closed", &[("local", &local), ("at_ns", &at_ns), ("end_ns", &monotonic_ns())])?;
    }
    Ok(())
}
