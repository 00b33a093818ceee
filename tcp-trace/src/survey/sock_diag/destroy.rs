//! Destroying a socket from outside (`SOCK_DESTROY`), as `ss --kill` does.
//!
//! The kernel resets the connection (`tcp_abort`, `net/ipv4/tcp.c`). Its program is woken by POLLERR and POLLHUP, and its
//! next `send()` fails with ECONNABORTED; what it has not read it can still read, and the descriptor stays the program's
//! until it closes it. It takes CAP_NET_ADMIN over the network namespace, and a kernel
//! that was built with `CONFIG_INET_DIAG_DESTROY`.

use std::{io, net::TcpListener};

use rustix::net::sockopt;
use tcp_trace_core::state::TcpState;

use super::{
    DATAGRAM, Dump, States, dump_each,
    message::{Handle, Request, acknowledged},
    open, receive, send,
};

/// Answers to other questions that are read at most.
const PATIENCE: usize = 16;

/// Destroys a socket of the calling thread's network namespace, if it is still the one that was listed.
///
/// # Errors
///
/// What the kernel says: NotFound (ENOENT, ESTALE) if it is gone, EPERM without CAP_NET_ADMIN, EOPNOTSUPP from a kernel
/// that cannot.
pub fn destroy(handle: &Handle) -> io::Result<()> {
    const SEQUENCE: u32 = 1;
    let socket = open()?;
    send(&socket, &Request::destroy(handle, SEQUENCE))?;
    let mut buffer = vec![0; DATAGRAM];
    for _ in 0..PATIENCE {
        if let Some(answer) = acknowledged(receive(&socket, &mut buffer)?, SEQUENCE) {
            return answer;
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "no answer to SOCK_DESTROY"))
}

/// Destroys a listener that was made for this, on the loopback address and a port that nobody knows: no packet is sent.
///
/// # Errors
///
/// As [`destroy`], and if no such listener can be made.
pub fn try_to_destroy() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let cookie = sockopt::socket_cookie(&listener)?;
    let mut found = None;
    let request = Dump { states: States::of(&[TcpState::Listen]), info: false, netns: 0 };
    dump_each(&request, |row, handle| {
        if row.cookie.get() == cookie {
            found = Some(handle);
        }
    })?;
    destroy(&found.ok_or_else(|| io::Error::other("a listener of its own is not listed"))?)
}
