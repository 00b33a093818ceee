//! The kernel's side: sockets with the options the scenarios need, and what the kernel says of them.
//!
//! Functions without a [`NetNs`] argument act in the calling thread's namespace: call them through
//! [`NetNs::run`].

mod destroy;

use std::collections::HashMap;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};

pub use destroy::destroy;

use crate::netns::{NetNs, about};

/// The kernel's TCP states, with the kernel's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the kernel's own")]
#[repr(u8)]
pub enum TcpState {
    Established = 1,
    SynSent = 2,
    SynRecv = 3,
    FinWait1 = 4,
    FinWait2 = 5,
    TimeWait = 6,
    Close = 7,
    CloseWait = 8,
    LastAck = 9,
    Listen = 10,
    Closing = 11,
    NewSynRecv = 12,
}

impl TcpState {
    const ALL: [Self; 12] = [
        Self::Established,
        Self::SynSent,
        Self::SynRecv,
        Self::FinWait1,
        Self::FinWait2,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::Closing,
        Self::NewSynRecv,
    ];

    /// The state with the kernel's `number`.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as u8 == number)
    }
}

/// How to listen.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Argument of `listen()`: the accept queue holds one more. Default 128.
    pub backlog: i32,
    /// `TCP_DEFER_ACCEPT` in seconds: connections complete when data comes.
    pub defer_accept: Option<u32>,
    /// `TCP_FASTOPEN` queue length; the namespace's `tcp_fastopen` sysctl must have bit 1 (value 2) set.
    pub fastopen: Option<u32>,
    /// `SO_REUSEPORT`. Default off.
    pub reuse_port: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog: 128, defer_accept: None, fastopen: None, reuse_port: false }
    }
}

/// A listening socket with `SO_REUSEADDR`. Port 0 lets the kernel choose.
///
/// # Errors
/// `AddrInUse` and whatever else the kernel says, with the address.
pub fn listen(address: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
    let make = || -> io::Result<OwnedFd> {
        let socket = stream_socket(address)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        sockopt::set_socket_reuseport(&socket, options.reuse_port)?;
        rustix::net::bind(&socket, &address)?;
        if let Some(seconds) = options.defer_accept {
            set_tcp_option(&socket, libc::TCP_DEFER_ACCEPT, seconds)?;
        }
        if let Some(queue) = options.fastopen {
            set_tcp_option(&socket, libc::TCP_FASTOPEN, queue)?;
        }
        rustix::net::listen(&socket, options.backlog)?;
        Ok(socket)
    };
    make().map(TcpListener::from).map_err(|error| about(&error, &format!("listening on {address}")))
}

/// A blocking connect, from a chosen source address if one is given.
///
/// # Errors
/// `ConnectionRefused`, `TimedOut` and whatever else the kernel says, its `raw_os_error` kept.
pub fn connect(from: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = stream_socket(to)?;
    if let Some(source) = from {
        rustix::net::bind(&socket, &SocketAddr::new(source, 0))?;
    }
    rustix::net::connect(&socket, &to)?;
    Ok(socket.into())
}

fn stream_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    Ok(socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

fn set_tcp_option(socket: &OwnedFd, option: libc::c_int, value: u32) -> io::Result<()> {
    // SAFETY: the option value is a live u32 and its true size is given.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            std::ptr::from_ref(&value).cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes the next `close()` of the socket an abort: RST instead of FIN (`SO_LINGER` with 0 s).
///
/// # Errors
/// What the kernel says.
pub fn abort_on_close(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(socket, Some(Duration::ZERO))?)
}

/// Dissolves the connection but keeps the socket (`connect()` to `AF_UNSPEC`).
///
/// # Errors
/// What the kernel says.
pub fn disconnect(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::connect_unspec(socket)?)
}

/// The kernel's 64-bit socket cookie: what BPF programs and `inet_diag` call it.
///
/// # Errors
/// What the kernel says.
pub fn cookie(socket: impl AsFd) -> io::Result<u64> {
    Ok(sockopt::socket_cookie(socket)?)
}

/// `TCP_INFO`.
///
/// # Errors
/// What the kernel says, e.g. for something that is no TCP socket.
pub fn tcp_info(socket: impl AsFd) -> io::Result<libc::tcp_info> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to the buffer, which has as many.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: integers only, and all bytes were zeroed before the kernel wrote some.
    Ok(unsafe { info.assume_init() })
}

/// The socket's state by `TCP_INFO`.
///
/// # Errors
/// As [`tcp_info`]; `InvalidData` for a state number this library does not know.
pub fn tcp_state(socket: impl AsFd) -> io::Result<TcpState> {
    let number = tcp_info(socket)?.tcpi_state;
    TcpState::from_number(number)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("TCP state {number}")))
}

/// A line of `/proc/net/tcp` or `tcp6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// Local address; a v4-mapped IPv6 address stays one.
    pub local: SocketAddr,
    /// Remote address; all zero for a listener.
    pub remote: SocketAddr,
    /// State. A half-open request is listed as [`TcpState::SynRecv`].
    pub state: TcpState,
    /// Bytes received but not read, a FIN counting as one; for a listener, connections not yet accepted.
    pub rx_queue: u32,
    /// Inode number; 0 without a descriptor (orphan, not yet accepted, half-open, TIME_WAIT).
    pub inode: u64,
}

/// All TCP sockets of the namespace, minisocks included.
///
/// # Errors
/// When procfs cannot be read, or a line is not understood (`InvalidData`).
pub fn table(ns: &NetNs) -> io::Result<Vec<TableEntry>> {
    ns.run(|| {
        let mut entries = Vec::new();
        for file in ["tcp", "tcp6"] {
            // Not /proc/net: that is the namespace of the thread group's leader.
            let text = std::fs::read_to_string(format!("/proc/thread-self/net/{file}"))?;
            for line in text.lines().skip(1) {
                let entry = table_entry(line);
                entries
                    .push(entry.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, line.to_owned()))?);
            }
        }
        Ok(entries)
    })
}

fn table_entry(line: &str) -> Option<TableEntry> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, local, remote, state, queues, _, _, _, _, inode, ..] = fields.as_slice() else { return None };
    Some(TableEntry {
        local: table_address(local)?,
        remote: table_address(remote)?,
        state: TcpState::from_number(u8::from_str_radix(state, 16).ok()?)?,
        rx_queue: u32::from_str_radix(queues.split_once(':')?.1, 16).ok()?,
        inode: inode.parse().ok()?,
    })
}

/// `0100007F:1F90`: the address as 32-bit words in the machine's byte order, the port in hex.
fn table_address(text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let mut octets = Vec::new();
    for word in words.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        octets.extend(word.to_ne_bytes());
    }
    let ip: IpAddr = match octets.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into(),
        _ => Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into(),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// Waits until the table shows `local`–`remote` in `state` (`None`: until it shows them no more).
///
/// # Errors
/// `TimedOut` with the last state seen; those of [`table`].
pub fn wait_state(
    ns: &NetNs,
    local: SocketAddr,
    remote: SocketAddr,
    state: Option<TcpState>,
    timeout: Duration,
) -> io::Result<()> {
    let end = Instant::now() + timeout;
    loop {
        let entries = table(ns)?;
        let entry = entries.iter().find(|entry| (entry.local, entry.remote) == (local, remote));
        let seen = entry.map(|entry| entry.state);
        if seen == state {
            return Ok(());
        }
        if Instant::now() >= end {
            let what = format!("{local} - {remote}: awaited {state:?}, is {seen:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The namespace's counters (`/proc/net/snmp` and `netstat`), named like `Tcp.ActiveOpens` or
/// `TcpExt.SyncookiesSent`. They start at 0 in a new namespace.
///
/// # Errors
/// When procfs cannot be read.
pub fn counters(ns: &NetNs) -> io::Result<HashMap<String, i64>> {
    let text = ns.run(|| -> io::Result<String> {
        let snmp = std::fs::read_to_string("/proc/thread-self/net/snmp")?;
        Ok(snmp + &std::fs::read_to_string("/proc/thread-self/net/netstat")?)
    })?;
    let lines: Vec<&str> = text.lines().collect();
    let mut counters = HashMap::new();
    // Two lines for each group: the names, then the values.
    for pair in lines.chunks_exact(2) {
        let (Some((group, names)), Some((_, values))) = (pair[0].split_once(':'), pair[1].split_once(':'))
        else {
            continue;
        };
        for (name, value) in names.split_ascii_whitespace().zip(values.split_ascii_whitespace()) {
            counters.insert(format!("{group}.{name}"), value.parse().unwrap_or(0));
        }
    }
    Ok(counters)
}

/// Full TCP sockets of the namespace that are hashed (listeners included, TIME_WAIT and half-open not).
pub(crate) fn in_use(ns: &NetNs) -> io::Result<u64> {
    let text = ns.run(|| std::fs::read_to_string("/proc/thread-self/net/sockstat"))?;
    let count =
        text.lines().find_map(|line| line.strip_prefix("TCP: inuse ")?.split(' ').next()?.parse().ok());
    count.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_line_is_read() {
        let line = "   0: 0100007F:1F90 0200007F:0016 08 00000000:00000065 00:00000000 00000000     0        0 4711 1";
        let entry = table_entry(line).unwrap();
        if cfg!(target_endian = "little") {
            assert_eq!(entry.local, "127.0.0.1:8080".parse().unwrap());
            assert_eq!(entry.remote, "127.0.0.2:22".parse().unwrap());
        }
        assert_eq!((entry.state, entry.rx_queue, entry.inode), (TcpState::CloseWait, 101, 4711));
        assert_eq!(table_entry("nonsense"), None);
    }

    #[test]
    fn an_ipv6_address_is_read() {
        if cfg!(target_endian = "little") {
            let mapped = table_address("0000000000000000FFFF00000100007F:0050").unwrap();
            assert_eq!(mapped, "[::ffff:127.0.0.1]:80".parse().unwrap());
        }
    }
}
