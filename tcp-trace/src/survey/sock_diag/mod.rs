//! Lists the TCP sockets of the calling thread's network namespace by `NETLINK_SOCK_DIAG` (sock_diag(7)).
//!
//! A dump is no photograph: the kernel walks its hash table bucket by bucket (`inet_diag_dump_icsk`,
//! `net/ipv4/inet_diag.c`), so a socket that moves or dies meanwhile can be listed twice or not at all, and whoever
//! merges rows does so by cookie. What was there all the time is listed.

mod destroy;
pub mod message;

use std::{io, os::fd::OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};
use tcp_trace_core::{
    state::TcpState,
    survey::{ListenerFacts, SocketRow},
};

pub use destroy::{destroy, try_to_destroy};
use message::{Asked, Handle, Reader, Request};

/// Rows that one dump may add: above that it ends, and is not complete. Eight times what the tracker follows.
const MAX_ROWS: usize = 8 << 20;

/// The kernel fills datagrams of at most 32 KiB (`netlink_recvmsg`, `net/netlink/af_netlink.c`).
const DATAGRAM: usize = 64 << 10;

/// Room for datagrams that wait to be read. A dump cannot overrun it, as the kernel goes on only when there is room.
const RECEIVE_BUFFER: usize = 512 << 10;

/// A set of states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States(u32);

impl States {
    /// Every state: half-open requests, time-wait sockets, and (first kernel 6.8) sockets that are only bound.
    pub const ALL: Self = Self(0x3ffe);

    /// These.
    #[must_use]
    pub fn of(states: &[TcpState]) -> Self {
        Self(states.iter().fold(0, |bits, state| bits | bit(state.number())))
    }

    /// These without those.
    #[must_use]
    pub fn without(self, Self(others): Self) -> Self {
        Self(self.0 & !others)
    }

    /// These and one more.
    #[must_use]
    pub fn and(self, state: TcpState) -> Self {
        Self(self.0 | bit(state.number()))
    }

    /// Whether the state is one of them.
    #[must_use]
    pub fn contains(self, state: TcpState) -> bool {
        self.0 & bit(state.number()) != 0
    }

    /// Kernel numbers of them.
    #[must_use]
    pub fn numbers(self) -> Vec<u8> {
        (0..32).filter(|number| self.0 & bit(*number) != 0).collect()
    }

    /// As the kernel wants to be asked: it lists half-open requests along with SYN_RECV and knows no bit of their own
    /// (`inet_diag_dump_icsk`).
    fn asked(self) -> u32 {
        let (syn_recv, request) = (TcpState::SynReceived, TcpState::NewSynReceived);
        let more = if self.contains(request) { bit(syn_recv.number()) } else { 0 };
        (self.0 | more) & !bit(request.number())
    }
}

fn bit(number: u8) -> u32 {
    1_u32.checked_shl(number.into()).unwrap_or(0)
}

/// What to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dump {
    /// Sockets in these states.
    pub states: States,
    /// With `TCP_INFO`, which costs half as much again.
    pub info: bool,
    /// Inode number of the calling thread's network namespace, for the rows.
    pub netns: u32,
}

/// Adds the sockets of the calling thread's network namespace to `rows`; says whether these are all of them.
///
/// # Errors
///
/// If the kernel cannot be asked, or refuses; `rows` may have grown nevertheless. No privilege is needed.
pub fn dump(request: &Dump, rows: &mut Vec<SocketRow>) -> io::Result<bool> {
    let mut take = Batches { rows: Vec::new(), take: |some: &mut Vec<SocketRow>| rows.append(some) };
    list(request, &mut take)
}

/// Hands over the sockets of the calling thread's network namespace, some at a time, for `take` to take out of the list;
/// says whether these were all of them.
///
/// # Errors
///
/// If the kernel cannot be asked, or refuses; there may have been some nevertheless. No privilege is needed.
pub fn for_each(request: &Dump, take: impl FnMut(&mut Vec<SocketRow>)) -> io::Result<bool> {
    list(request, &mut Batches { rows: Vec::new(), take })
}

/// The same one by one, with what the kernel wants to be told of each socket.
///
/// # Errors
///
/// As [`for_each`].
pub fn dump_each(request: &Dump, each: impl FnMut(SocketRow, Handle)) -> io::Result<bool> {
    list(request, &mut OneByOne(each))
}

/// Whoever takes what is listed.
trait Taker {
    /// A socket.
    fn socket(&mut self, row: SocketRow, handle: Handle);
    /// Those of a datagram were handed over.
    fn pause(&mut self) {}
}

struct Batches<F> {
    rows: Vec<SocketRow>,
    take: F,
}

impl<F: FnMut(&mut Vec<SocketRow>)> Taker for Batches<F> {
    fn socket(&mut self, row: SocketRow, _: Handle) {
        self.rows.push(row);
    }

    fn pause(&mut self) {
        (self.take)(&mut self.rows);
        self.rows.clear();
    }
}

struct OneByOne<F>(F);

impl<F: FnMut(SocketRow, Handle)> Taker for OneByOne<F> {
    fn socket(&mut self, row: SocketRow, handle: Handle) {
        (self.0)(row, handle);
    }
}

/// What each listener of the calling thread's network namespace has turned away since it was made.
///
/// # Errors
///
/// As [`dump`].
pub fn drops() -> io::Result<Vec<ListenerFacts>> {
    let request = Dump { states: States::of(&[TcpState::Listen]), info: false, netns: 0 };
    let mut nothing = OneByOne(|_, _| {});
    let mut listing = Listing::new(&request, Asked::Drops, &mut nothing)?;
    listing.all("TCP listeners")?;
    Ok(listing.drops)
}

fn list(request: &Dump, taker: &mut dyn Taker) -> io::Result<bool> {
    let asked = if request.info { Asked::Info } else { Asked::Sockets };
    Listing::new(request, asked, taker)?.all("TCP sockets")
}

/// Questions and their answers.
struct Listing<'a> {
    socket: OwnedFd,
    request: &'a Dump,
    asked: Asked,
    /// Of the last question.
    sequence: u32,
    buffer: Vec<u8>,
    /// Rows so far.
    count: usize,
    /// What listeners have turned away, where that was asked for.
    drops: Vec<ListenerFacts>,
    taker: &'a mut dyn Taker,
}

impl<'a> Listing<'a> {
    fn new(request: &'a Dump, asked: Asked, taker: &'a mut dyn Taker) -> io::Result<Self> {
        let socket = open().map_err(|error| about(&error, "opening a NETLINK_SOCK_DIAG socket"))?;
        let buffer = vec![0; DATAGRAM];
        Ok(Self { socket, request, asked, sequence: 0, buffer, count: 0, drops: Vec::new(), taker })
    }

    /// The sockets of every family. `what` they are is for people.
    fn all(&mut self, what: &str) -> io::Result<bool> {
        // Most of the time is the kernel's way through its hash table: one for all families, if it can.
        match self.of(None) {
            Err(_) if self.count == 0 => {}
            result => return result.map_err(|error| about(&error, &format!("listing {what}"))),
        }
        let mut complete = true;
        for (family, name) in [(AddressFamily::INET, "IPv4"), (AddressFamily::INET6, "IPv6")] {
            let of_family = self.of(Some(family));
            complete &= of_family.map_err(|error| about(&error, &format!("listing {name} {what}")))?;
        }
        Ok(complete)
    }

    /// The sockets of one family, or of all.
    fn of(&mut self, family: Option<AddressFamily>) -> io::Result<bool> {
        let Dump { states, netns, .. } = *self.request;
        self.sequence += 1;
        let family = family.map(AddressFamily::as_raw);
        let question = Request::new(family, self.sequence, states.asked(), self.asked);
        send(&self.socket, &question)?;
        let mut reader = Reader::new(self.sequence, netns);
        while self.count < MAX_ROWS {
            let Self { count, taker, buffer, socket, .. } = self;
            let done = reader.read_each(receive(socket, buffer)?, |row, handle| {
                // The kernel cannot tell requests from full sockets in SYN_RECV when it is asked, and answers with both.
                if states.contains(row.state) {
                    *count += 1;
                    taker.socket(row, handle);
                }
            })?;
            taker.pause();
            if done {
                let complete = reader.is_complete();
                self.drops.extend(reader.into_drops());
                return Ok(complete);
            }
        }
        Ok(false)
    }
}

fn send(socket: &OwnedFd, question: &Request) -> io::Result<()> {
    let kernel = netlink::SocketAddrNetlink::new(0, 0);
    rustix::net::sendto(socket, question.bytes(), SendFlags::empty(), &kernel)?;
    Ok(())
}

fn open() -> io::Result<OwnedFd> {
    let protocol = Some(netlink::SOCK_DIAG);
    let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, protocol)?;
    sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
    Ok(socket)
}

/// One datagram, whole.
fn receive<'b>(socket: &OwnedFd, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let receive = || rustix::net::recv(socket, &mut *buffer, RecvFlags::TRUNC);
    let (_, length) = rustix::io::retry_on_intr(receive)?;
    // With `TRUNC` the length is the datagram's own, even where it did not fit.
    buffer.get(..length).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a datagram of {length} bytes where {DATAGRAM} fit"),
        )
    })
}

fn about(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_asked_for_as_syn_recv() {
        let syn_recv = 1 << 3;
        assert_eq!(States::of(&[TcpState::NewSynReceived]).asked(), syn_recv);
        assert_eq!(States::of(&[TcpState::SynReceived]).asked(), syn_recv);
        assert_eq!(States::ALL.asked(), 0x2ffe);
        assert_eq!(States::of(&[TcpState::Listen, TcpState::Established]).numbers(), [1, 10]);
        assert_eq!(States(0x402).without(States::of(&[TcpState::Listen])).numbers(), [1]);
        assert!(!States::of(&[TcpState::Unknown(200)]).contains(TcpState::Unknown(200)), "no such bit");
    }

    #[test]
    fn one_question_for_all_families_has_the_answers_of_one_for_each() {
        let listeners = ["127.0.0.1:0", "[::1]:0"].map(|at| std::net::TcpListener::bind(at).unwrap());
        let ports = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
        let listed = |families: &[Option<AddressFamily>]| {
            let request = Dump { states: States::of(&[TcpState::Listen]), info: true, netns: 7 };
            let mut found = Vec::new();
            let mut taker = OneByOne(|row, _| found.push(row));
            let mut listing = Listing::new(&request, Asked::Info, &mut taker).unwrap();
            assert!(families.iter().all(|family| listing.of(*family).unwrap()));
            found.retain(|row| ports.contains(&row.local.port));
            found.sort_by_key(|row| row.cookie);
            found
        };
        let each = listed(&[Some(AddressFamily::INET), Some(AddressFamily::INET6)]);
        assert_eq!(each.len(), 2, "{each:?}");
        assert_eq!(listed(&[None]), each);
    }

    #[test]
    fn this_process_sees_its_own_listener_without_any_privilege() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let mut rows = Vec::new();
        let request = Dump { states: States::of(&[TcpState::Listen]), info: true, netns: 7 };
        assert!(dump(&request, &mut rows).unwrap());
        let row = rows.iter().find(|row| row.local.port == local.port()).unwrap();
        assert_eq!((row.local.address, row.state, row.netns), (local.ip(), TcpState::Listen, 7));
        assert_eq!((row.receive_queue, row.info), (0, None));
        assert!(row.inode.is_some() && row.send_queue > 0);
        assert!(rows.iter().all(|row| row.state == TcpState::Listen));
        let drops = drops().unwrap();
        assert!(drops.iter().any(|facts| facts.cookie == row.cookie && facts.drops == 0), "{drops:?}");
    }
}
