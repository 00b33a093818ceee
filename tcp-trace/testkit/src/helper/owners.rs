//! The `owners-server` and `owners-client` roles: processes that hand sockets to each other in every way that
//! there is, and log who has each of them.
//!
//! `owners-server`: `listen=ADDR:PORT`, `kind=`, `count=` connections (which most kinds need to know). Says `listening addr=`, ends at the end of its stdin. Kinds:
//!
//! | kind | who serves |
//! |---|---|
//! | `threads` | one of four threads, none of which made the listener |
//! | `prefork` | one of four processes forked after `listen()`; the master never accepts |
//! | `fork` | a child for each connection; the parent closes its copy |
//! | `pass` | another process, which gets the socket over a UNIX socket; the acceptor has read from every second |
//! | `exit` | a worker that ends with its sockets open, in turn by `exit` and by SIGKILL |
//! | `share` | a child; the parent keeps its copy and closes it last |
//! | `uring` | one of two forked processes, by io_uring alone; for every second connection through its worker thread |
//! | `ignore` | nobody: connections wait in the accept queue until the listener is closed |
//!
//! `owners-client`: `connect=ADDR:PORT`, `count=`, `modes=` (letters, taken in turn), `batch=` connections that are
//! open at once (1), `heir` (a forked child uses and closes them), `mute` (sends nothing and waits for `close`). Says
//! `done`, ends at the end of its stdin. The first byte of each connection is its mode, which says how it ends:
//!
//! | mode | end |
//! |---|---|
//! | `c` | the client closes first |
//! | `s` | the server closes first |
//! | `h` | the client shuts its sending side down, the server answers 100 bytes more and closes |
//! | `r` | the client resets |
//! | `x` | the server's process ends |
//! | `u` | the same, with a byte that it has not read: a reset |
//!
//! Both log `has cookie= local= peer= role= mode= pid= comm= how=connect|accept|fork|share|pass at_ns=`, `used
//! cookie= pid= sent= received= mode= at_ns=` after each use, and `left cookie= pid= how=close|exit|kill|hand-on at_ns=`
//! just before the call that gives it up.

mod client;
mod handover;
mod process;
mod ring;
mod server;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpStream};

pub(super) use client::run as run_client;
pub(super) use process::fork;
pub(crate) use ring::is_allowed as io_uring_is_allowed;
pub(super) use server::run as run_server;

use super::role::say;
use crate::clock::monotonic_ns;
use crate::sock;

/// What the server answers to the mode.
const ANSWER: u8 = b'!';
/// How many bytes more it answers to mode `h`.
const LATE_ANSWER: usize = 100;

/// A socket that this process has, under the name by which all that have it log it.
struct Socket {
    stream: TcpStream,
    cookie: u64,
    local: SocketAddr,
    peer: SocketAddr,
    role: &'static str,
}

impl Socket {
    /// Logs that this process has it now.
    fn new(stream: TcpStream, role: &'static str, how: &str) -> io::Result<Self> {
        let (cookie, local, peer) = (sock::cookie(&stream)?, stream.local_addr()?, stream.peer_addr()?);
        let socket = Self { stream, cookie, local, peer, role };
        socket.has(how)?;
        Ok(socket)
    }

    fn has(&self, how: &str) -> io::Result<()> {
        let comm = std::fs::read_to_string("/proc/self/comm")?;
        say(
            "has",
            &[
                ("cookie", &self.cookie),
                ("local", &self.local),
                ("peer", &self.peer),
                ("role", &self.role),
                ("pid", &std::process::id()),
                ("comm", &comm.trim_end()),
                ("how", &how),
                ("at_ns", &monotonic_ns()),
            ],
        )
    }

    fn used(&self, mode: u8, sent: usize, received: usize) -> io::Result<()> {
        say(
            "used",
            &[
                ("cookie", &self.cookie),
                ("pid", &std::process::id()),
                ("sent", &sent),
                ("received", &received),
                ("mode", &char::from(mode)),
                ("at_ns", &monotonic_ns()),
            ],
        )
    }

    fn leaving(&self, how: &str) -> io::Result<()> {
        let pid = std::process::id();
        say("left", &[("cookie", &self.cookie), ("pid", &pid), ("how", &how), ("at_ns", &monotonic_ns())])
    }

    fn close(self) -> io::Result<()> {
        self.leaving("close")
    }
}

/// Blocks until the parent closes stdin (or sends anything).
fn wait_for_parent() -> io::Result<()> {
    io::stdin().read_line(&mut String::new()).map(|_| ())
}
