//! The `owners-server` role.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;

use super::super::line::Line;
use super::super::role::say;
use super::process::{Forked, fork};
use super::worker::{Abandon, Intake, Worker, read_mode};
use super::{Socket, handover, ring, wait_for_parent};
use crate::sock::{self, ListenOptions};

const WORKERS: usize = 4;
/// Connections that a worker takes before it ends with them open; the client's `batch` must be the same.
const ABANDONED_AT_ONCE: u64 = 4;

pub(in super::super) fn run(arguments: &Line) -> io::Result<()> {
    let listener = sock::listen(arguments.value("listen")?, &ListenOptions::default())?;
    let count = arguments.value("count")?;
    let kind = arguments.get("kind").unwrap_or("");
    if matches!(kind, "threads" | "prefork" | "exit") {
        // A worker that is woken for a connection which another one takes must not hang in accept().
        listener.set_nonblocking(true)?;
    }
    say("listening", &[("addr", &listener.local_addr()?)])?;
    match kind {
        "threads" => threads(&listener),
        "prefork" => forked_workers("prefork", WORKERS, || Worker::of(Intake::Listener(&listener)).run()),
        "fork" => fork_each(&listener, count),
        "pass" => pass(&listener, count),
        "exit" => abandon(&listener, count),
        "share" => share(&listener, count),
        "uring" => forked_workers("uring", 2, || ring::serve(&listener)),
        "ignore" => wait_for_parent(),
        other => Err(io::Error::other(format!("owners-server: kind={other}"))),
    }
}

fn threads(listener: &TcpListener) -> io::Result<()> {
    for number in 0..WORKERS {
        let listener = listener.try_clone()?;
        std::thread::Builder::new().name(format!("pool-{number}")).spawn(move || {
            if let Err(error) = Worker::of(Intake::Listener(&listener)).run() {
                // If nobody reads any more, nobody is there to be told.
                let _ = say("error", &[("text", &format!("{error:?}"))]);
            }
        })?;
    }
    wait_for_parent()
}

/// They made no listener; this process accepts nothing.
fn forked_workers(comm: &str, count: usize, work: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let workers = (0..count)
        .map(|number| fork(&format!("{comm}-{number}"), &work))
        .collect::<io::Result<Vec<Forked>>>()?;
    wait_for_parent()?;
    drop(workers);
    Ok(())
}

fn fork_each(listener: &TcpListener, count: u64) -> io::Result<()> {
    let mut children: Vec<Forked> = Vec::new();
    for _ in 0..count {
        let socket = Socket::new(listener.accept()?.0, "server", "accept")?;
        socket.leaving("hand-on")?;
        children.push(fork("forked", move || {
            socket.has("fork")?;
            Worker::heir(socket).run()
        })?);
        let mut running = Vec::new();
        for mut child in children {
            if !child.has_ended()? {
                running.push(child);
            }
        }
        children = running;
    }
    children.into_iter().try_for_each(Forked::join)?;
    wait_for_parent()
}

fn pass(listener: &TcpListener, count: u64) -> io::Result<()> {
    let (ours, theirs) = UnixStream::pair()?;
    let receiver = fork("receiver", || Worker::of(Intake::Inbox(&theirs)).run())?;
    for number in 0..count {
        let socket = Socket::new(listener.accept()?.0, "server", "accept")?;
        let mode = if number % 2 == 0 { None } else { read_mode(&socket)? };
        if let Some(mode) = mode {
            socket.used(mode, 0, 1)?;
        }
        socket.leaving("hand-on")?;
        handover::hand_on(&ours, socket.stream, mode)?;
    }
    wait_for_parent()?;
    drop(receiver);
    Ok(())
}

fn abandon(listener: &TcpListener, count: u64) -> io::Result<()> {
    let (mut left, mut how) = (count, Abandon::Exit);
    while left > 0 {
        let some = left.min(ABANDONED_AT_ONCE);
        fork("abandoning", || Worker::that_abandons(listener, some, how).run())?.join()?;
        left -= some;
        how = match how {
            Abandon::Exit => Abandon::Kill,
            Abandon::Kill => Abandon::Exit,
        };
    }
    wait_for_parent()
}

fn share(listener: &TcpListener, count: u64) -> io::Result<()> {
    for _ in 0..count {
        let socket = Socket::new(listener.accept()?.0, "server", "accept")?;
        let inherited = socket.stream.try_clone()?;
        let Socket { stream: _, cookie, local, peer, role } = &socket;
        let child = fork("sharer", || {
            // The child's copies of the parent's descriptors close with it; the one it uses, before.
            let socket = Socket { stream: inherited, cookie: *cookie, local: *local, peer: *peer, role };
            socket.has("share")?;
            Worker::heir(socket).run()
        })?;
        socket.has("share")?;
        child.join()?;
        socket.close()?;
    }
    wait_for_parent()
}
