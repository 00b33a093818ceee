//! The `burst` role: many connections at once.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::line::Line;
use super::role::say;

pub(super) fn run(arguments: &Line) -> io::Result<()> {
    let to: SocketAddr = arguments.value("connect")?;
    let mut open = Vec::new();
    say("ready", &[])?;
    for text in io::stdin().lines() {
        let command = Line::parse(&text?);
        match command.verb() {
            "burst" => {
                for _ in 0..command.value("count")? {
                    open.push(begin(to)?);
                }
            }
            "close" => open.clear(),
            "quit" => return Ok(()),
            _ => return Err(io::Error::other(format!("burst: unknown command {command}"))),
        }
        say("done", &[])?;
    }
    Ok(())
}

/// Whatever becomes of it, the socket is kept.
fn begin(to: SocketAddr) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    // Refused at once or under way: nobody waits for it.
    let _ = rustix::net::connect(&socket, &to);
    Ok(socket)
}
