//! The `owners-client` role.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use super::super::line::Line;
use super::super::role::say;
use super::process::fork;
use super::{Socket, wait_for_parent};
use crate::sock;

pub(in super::super) fn run(arguments: &Line) -> io::Result<()> {
    let to: SocketAddr = arguments.value("connect")?;
    let (count, batch) = (arguments.value("count")?, arguments.value_or("batch", Some(1))?);
    let modes = arguments.get("modes").unwrap_or("c").as_bytes();
    let (heir, mute) = (arguments.get("heir").is_some(), arguments.get("mute").is_some());
    let mut left: usize = count;
    let mut modes = modes.iter().copied().cycle();
    while left > 0 {
        let some = left.min(batch);
        left -= some;
        let sockets = (0..some)
            .map(|_| Socket::new(sock::connect(None, to)?, "client", "connect"))
            .collect::<io::Result<Vec<_>>>()?;
        if mute {
            say("waiting", &[])?;
            wait_for_parent()?;
            sockets.into_iter().try_for_each(Socket::close)?;
            continue;
        }
        let sockets: Vec<_> = sockets.into_iter().zip(modes.by_ref()).collect();
        if heir { bequeath(sockets)? } else { use_up(sockets)? }
    }
    say("done", &[])?;
    wait_for_parent()
}

/// Lets a child use and close them.
fn bequeath(sockets: Vec<(Socket, u8)>) -> io::Result<()> {
    sockets.iter().try_for_each(|(socket, _)| socket.leaving("hand-on"))?;
    let child = fork("heir", move || {
        sockets.iter().try_for_each(|(socket, _)| socket.has("fork"))?;
        use_up(sockets)
    })?;
    child.join()
}

fn use_up(mut sockets: Vec<(Socket, u8)>) -> io::Result<()> {
    for (socket, mode) in &mut sockets {
        // The byte that nobody reads comes in the same segment: the server cannot be gone before it.
        let hello: &[u8] = if *mode == b'u' { b"u-" } else { &[*mode] };
        socket.stream.write_all(hello)?;
        let mut answer = [0];
        socket.stream.read_exact(&mut answer)?;
        socket.used(*mode, hello.len(), 1)?;
    }
    for (mut socket, mode) in sockets {
        match mode {
            b'h' => {
                socket.stream.shutdown(Shutdown::Write)?;
                read_to_end(&mut socket, mode)?;
            }
            b's' | b'x' | b'u' => read_to_end(&mut socket, mode)?,
            b'r' => sock::abort_on_close(&socket.stream)?,
            _ => {}
        }
        socket.close()?;
    }
    Ok(())
}

/// A reset is an end, too.
fn read_to_end(socket: &mut Socket, mode: u8) -> io::Result<()> {
    let mut rest = Vec::new();
    match socket.stream.read_to_end(&mut rest) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => _ = other?,
    }
    socket.used(mode, 0, rest.len())
}
