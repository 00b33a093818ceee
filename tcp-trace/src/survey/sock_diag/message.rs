//! Netlink messages: the question, and the answer's bytes as rows. No system calls; nothing here panics, whatever the
//! bytes are.

use std::{io, net::Ipv4Addr, num::NonZeroU64};

use tcp_trace_core::{
    endpoint::Endpoint,
    state::TcpState,
    survey::{ListenerFacts, SocketRow, TcpInfo, Timer},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, native_endian as ne, network_endian as be};

/// Of `include/uapi/linux/netlink.h`.
mod netlink {
    pub(super) const NOOP: u16 = 1;
    pub(super) const ERROR: u16 = 2;
    pub(super) const DONE: u16 = 3;
    pub(super) const OVERRUN: u16 = 4;
    pub(super) const F_REQUEST: u16 = 0x1;
    pub(super) const F_ACK: u16 = 0x4;
    /// `NLM_F_ROOT | NLM_F_MATCH`
    pub(super) const F_DUMP: u16 = 0x300;
    pub(super) const F_DUMP_INTR: u16 = 0x10;
    /// Messages and attributes begin at multiples of four.
    pub(super) const ALIGNMENT: usize = 4;
    /// `NLA_F_NESTED | NLA_F_NET_BYTEORDER`
    pub(super) const ATTRIBUTE_FLAGS: u16 = 0xc000;
}

/// Of `include/uapi/linux/sock_diag.h` and `inet_diag.h`.
mod diag {
    /// `TCPDIAG_GETSOCK`: the older question.
    pub(super) const GETSOCK: u16 = 18;
    pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;
    /// First kernel: 4.5, where it was built with `CONFIG_INET_DIAG_DESTROY`.
    pub(super) const SOCK_DESTROY: u16 = 21;
    pub(super) const INFO: u16 = 2;
    pub(super) const MEMORY: u16 = 7;
    pub(super) const SHUTDOWN: u16 = 8;
    pub(super) const CGROUP_ID: u16 = 21;
    pub(super) const IPPROTO_TCP: u8 = 6;
    pub(super) const AF_INET: u8 = 2;
}

/// `struct nlmsghdr`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Header {
    length: ne::U32,
    kind: ne::U16,
    flags: ne::U16,
    sequence: ne::U32,
    port: ne::U32,
}

/// `struct inet_diag_sockid`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct SocketId {
    local_port: be::U16,
    peer_port: be::U16,
    local: [u8; 16],
    peer: [u8; 16],
    interface: ne::U32,
    cookie: [ne::U32; 2],
}

/// The question.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request {
    OfFamily(RequestOfFamily),
    OfAll(RequestOfAll),
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`: the sockets of a family.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct RequestOfFamily {
    header: Header,
    family: u8,
    protocol: u8,
    /// Attributes asked for: bit n for attribute n + 1.
    extensions: u8,
    padding: u8,
    states: ne::U32,
    id: SocketId,
}

/// One socket, as the kernel wants to be told of it: its addresses, and the cookie by which it is checked that the socket
/// found by these is the one that is meant (`sock_diag_check_cookie`, `net/core/sock_diag.c`).
#[derive(Clone, Copy, Debug)]
pub struct Handle {
    family: u8,
    id: SocketId,
}

impl Header {
    fn new(kind: u16, size: usize, flags: u16, sequence: u32) -> Self {
        Self {
            length: u32::try_from(size).unwrap_or(u32::MAX).into(),
            kind: kind.into(),
            flags: (netlink::F_REQUEST | flags).into(),
            sequence: sequence.into(),
            port: ne::U32::ZERO,
        }
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req`: the sockets of all families.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct RequestOfAll {
    header: Header,
    family: u8,
    lengths: [u8; 2],
    extensions: u8,
    id: SocketId,
    states: ne::U32,
    database: ne::U32,
}

/// What is asked for of each socket beyond its addresses, state and queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Sockets,
    /// `TCP_INFO`.
    Info,
    /// What it has turned away.
    Drops,
}

impl Asked {
    fn extensions(self) -> u8 {
        match self {
            Self::Sockets => 0,
            Self::Info => 1 << (diag::INFO - 1),
            Self::Drops => 1 << (diag::MEMORY - 1),
        }
    }
}

impl Request {
    /// The sockets of one family, or of all of them: a question from before there was another one, which the kernel
    /// answers in one walk over its hash table (`inet_diag_dump_compat`, `net/ipv4/inet_diag.c`).
    pub(super) fn new(family: Option<u16>, sequence: u32, states: u32, asked: Asked) -> Self {
        let header = |kind: u16, size: usize| Header::new(kind, size, netlink::F_DUMP, sequence);
        let (extensions, id) = (asked.extensions(), SocketId::default());
        match family {
            Some(family) => Self::OfFamily(RequestOfFamily {
                header: header(diag::SOCK_DIAG_BY_FAMILY, size_of::<RequestOfFamily>()),
                family: u8::try_from(family).unwrap_or(0),
                protocol: diag::IPPROTO_TCP,
                extensions,
                padding: 0,
                states: states.into(),
                id,
            }),
            None => Self::OfAll(RequestOfAll {
                header: header(diag::GETSOCK, size_of::<RequestOfAll>()),
                family: diag::AF_INET,
                lengths: [0; 2],
                extensions,
                id,
                states: states.into(),
                database: ne::U32::ZERO,
            }),
        }
    }

    /// Asks for a socket to be destroyed, and for an answer to that.
    pub(super) fn destroy(handle: &Handle, sequence: u32) -> Self {
        let Handle { family, id } = *handle;
        let size = size_of::<RequestOfFamily>();
        Self::OfFamily(RequestOfFamily {
            header: Header::new(diag::SOCK_DESTROY, size, netlink::F_ACK, sequence),
            family,
            protocol: diag::IPPROTO_TCP,
            extensions: 0,
            padding: 0,
            states: u32::MAX.into(),
            id,
        })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::OfFamily(request) => request.as_bytes(),
            Self::OfAll(request) => request.as_bytes(),
        }
    }
}

/// Reads the answer to [`Request::destroy`]; `None` if the datagram has none to this question.
pub(super) fn acknowledged(datagram: &[u8], sequence: u32) -> Option<io::Result<()>> {
    let mut rest = datagram;
    while let Some((header, content, after)) = message(rest) {
        if header.sequence == sequence && header.kind.get() == netlink::ERROR {
            return Some(error_of(content).map_or(Ok(()), Err));
        }
        rest = after;
    }
    None
}

/// `struct inet_diag_msg`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Socket {
    family: u8,
    state: u8,
    timer: u8,
    retransmits: u8,
    id: SocketId,
    expires_ms: ne::U32,
    receive_queue: ne::U32,
    send_queue: ne::U32,
    uid: ne::U32,
    inode: ne::U32,
}

/// The front of `struct tcp_info`, as far as the oldest supported kernel has it; it only grows at its end.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Info {
    before_times: [u8; 44],
    last_data_sent_ms: ne::U32,
    last_ack_sent_ms: ne::U32,
    last_data_received_ms: ne::U32,
    last_ack_received_ms: ne::U32,
    path_mtu: ne::U32,
    receive_ssthresh: ne::U32,
    srtt_us: ne::U32,
    before_total: [u8; 28],
    total_retrans: ne::U32,
    pacing: [ne::U64; 2],
    bytes_acked: ne::U64,
    bytes_received: ne::U64,
    segments_out: ne::U32,
    segments_in: ne::U32,
    not_sent_bytes: ne::U32,
    minimum_rtt_us: ne::U32,
    data_segments_in: ne::U32,
    data_segments_out: ne::U32,
}

// Offsets of `include/uapi/linux/tcp.h`.
const _: () = assert!(std::mem::offset_of!(Info, last_data_sent_ms) == 44);
const _: () = assert!(std::mem::offset_of!(Info, srtt_us) == 68);
const _: () = assert!(std::mem::offset_of!(Info, total_retrans) == 100);
const _: () = assert!(std::mem::offset_of!(Info, bytes_acked) == 120);
const _: () = assert!(std::mem::offset_of!(Info, data_segments_in) == 152);
const _: () = assert!(size_of::<RequestOfFamily>() == 72 && size_of::<RequestOfAll>() == 76);
const _: () = assert!(size_of::<Socket>() == 72 && size_of::<Info>() == 160);

/// Reads the answer to one question, datagram by datagram.
#[derive(Clone, Debug)]
pub struct Reader {
    sequence: u32,
    netns: u32,
    /// Nothing that was said is missing so far.
    complete: bool,
    /// What listeners have turned away, where that was asked for.
    drops: Vec<ListenerFacts>,
}

impl Reader {
    /// Of the question with this number; rows get this namespace.
    #[must_use]
    pub fn new(sequence: u32, netns: u32) -> Self {
        Self { sequence, netns, complete: true, drops: Vec::new() }
    }

    /// Whether the answer so far was whole: no dump that the kernel calls interrupted, no socket without a cookie.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// What listeners have turned away, where that was asked for.
    #[must_use]
    pub fn into_drops(self) -> Vec<ListenerFacts> {
        self.drops
    }

    /// Adds the rows of a datagram; says whether the answer ends with it.
    ///
    /// # Errors
    ///
    /// The kernel's own, or `InvalidData` for bytes that are no answer.
    pub fn read(&mut self, datagram: &[u8], rows: &mut Vec<SocketRow>) -> io::Result<bool> {
        self.read_each(datagram, |row, _| rows.push(row))
    }

    /// The same, with what the kernel wants to be told of each socket.
    ///
    /// # Errors
    ///
    /// As [`Reader::read`].
    pub fn read_each(
        &mut self,
        datagram: &[u8],
        mut each: impl FnMut(SocketRow, Handle),
    ) -> io::Result<bool> {
        let mut rest = datagram;
        while !rest.is_empty() {
            let (header, message, after) = message(rest).ok_or_else(malformed)?;
            rest = after;
            // What a question before this one left behind.
            if header.sequence != self.sequence {
                continue;
            }
            if header.flags.get() & netlink::F_DUMP_INTR != 0 {
                self.complete = false;
            }
            match header.kind.get() {
                netlink::NOOP => {}
                netlink::DONE => {
                    // A kernel that does not say how the dump ended has ended it well.
                    return error_of(message).map_or(Ok(true), Err);
                }
                netlink::ERROR => return Err(error_of(message).unwrap_or_else(malformed)),
                netlink::OVERRUN => return Err(io::Error::other("the kernel lost a part of its answer")),
                diag::SOCK_DIAG_BY_FAMILY | diag::GETSOCK => match self.row(message) {
                    Some((row, handle)) => each(row, handle),
                    None => self.complete = false,
                },
                _ => return Err(malformed()),
            }
        }
        Ok(false)
    }

    /// A socket; `None` for bytes that are none.
    fn row(&mut self, message: &[u8]) -> Option<(SocketRow, Handle)> {
        let (socket, attributes) = Socket::ref_from_prefix(message).ok()?;
        let [low, high] = socket.id.cookie.map(|half| u64::from(half.get()));
        let found = Attributes::read(attributes);
        let cookie = NonZeroU64::new(low | high << 32)?;
        let listens = socket.state == TcpState::Listen.number();
        self.drops.extend(found.drops.filter(|_| listens).map(|drops| ListenerFacts { cookie, drops }));
        let row = SocketRow {
            netns: self.netns,
            cookie,
            state: state(socket, &found),
            local: endpoint(socket.family, socket.id.local, socket.id.local_port.get()),
            peer: endpoint(socket.family, socket.id.peer, socket.id.peer_port.get()),
            family: socket.family.into(),
            inode: Some(socket.inode.get()).filter(|inode| *inode != 0),
            cgroup_id: found.cgroup_id,
            uid: socket.uid.get(),
            receive_queue: socket.receive_queue.get(),
            send_queue: socket.send_queue.get(),
            timer: Timer::from_number(socket.timer),
            retransmits: socket.retransmits,
            expires_ms: socket.expires_ms.get(),
            // A listener's is empty but for its queues (`tcp_get_info`, `net/ipv4/tcp.c`), which the row has anyway.
            info: found.info.filter(|_| !listens),
        };
        Some((row, Handle { family: socket.family, id: socket.id }))
    }
}

/// The state, with half-open requests told from full sockets in SYN_RECV (simultaneous open, Fast Open): a full
/// socket always comes with a SHUTDOWN attribute (`inet_diag_msg_attrs_fill`), a request never does
/// (`inet_req_diag_fill`, both `net/ipv4/inet_diag.c`), whatever was asked for.
fn state(socket: &Socket, found: &Attributes) -> TcpState {
    match TcpState::from_number(socket.state) {
        TcpState::SynReceived if !found.shutdown => TcpState::NewSynReceived,
        state => state,
    }
}

fn endpoint(family: u8, address: [u8; 16], port: u16) -> Endpoint {
    // Of an IPv4 socket only the first four bytes are used.
    let wire = match (family, address) {
        (diag::AF_INET, [a, b, c, d, ..]) => Ipv4Addr::new(a, b, c, d).to_ipv6_mapped().octets(),
        _ => address,
    };
    Endpoint::from_wire(wire, port)
}

/// What is used of a socket's attributes.
#[derive(Clone, Copy, Debug, Default)]
struct Attributes {
    info: Option<TcpInfo>,
    cgroup_id: Option<u64>,
    drops: Option<u32>,
    shutdown: bool,
}

impl Attributes {
    /// Attributes up to the first that cannot be one.
    fn read(mut bytes: &[u8]) -> Self {
        let mut found = Self::default();
        while let Some((kind, payload, rest)) = attribute(bytes) {
            bytes = rest;
            match kind {
                diag::INFO => found.info = info(payload),
                diag::MEMORY => found.drops = drops(payload),
                diag::CGROUP_ID => {
                    found.cgroup_id = ne::U64::read_from_bytes(payload).ok().map(ne::U64::get);
                }
                diag::SHUTDOWN => found.shutdown = true,
                _ => {}
            }
        }
        found
    }
}

/// `SK_MEMINFO_DROPS` (`include/uapi/linux/sock_diag.h`, first kernel 4.7), the ninth number.
fn drops(payload: &[u8]) -> Option<u32> {
    let (numbers, _newer) = <[ne::U32; 9]>::ref_from_prefix(payload).ok()?;
    numbers.last().map(|drops| drops.get())
}

fn info(payload: &[u8]) -> Option<TcpInfo> {
    let (info, _newer) = Info::ref_from_prefix(payload).ok()?;
    Some(TcpInfo {
        last_data_sent_ms: info.last_data_sent_ms.get(),
        last_data_received_ms: info.last_data_received_ms.get(),
        last_ack_received_ms: info.last_ack_received_ms.get(),
        srtt_us: info.srtt_us.get(),
        total_retrans: info.total_retrans.get(),
        bytes_acked: info.bytes_acked.get(),
        bytes_received: info.bytes_received.get(),
        segments_in: info.segments_in.get(),
        data_segments_in: info.data_segments_in.get(),
        data_segments_out: info.data_segments_out.get(),
    })
}

/// The first message: its header, its content, and what follows.
fn message(bytes: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let (header, _) = Header::read_from_prefix(bytes).ok()?;
    let (content, rest) = split(bytes, usize::try_from(header.length.get()).ok()?, size_of::<Header>())?;
    Some((header, content, rest))
}

/// The first attribute (`struct nlattr`): its kind, its content, and what follows.
fn attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let ([length, kind], _) = <[ne::U16; 2]>::read_from_prefix(bytes).ok()?;
    let (content, rest) = split(bytes, length.get().into(), 4)?;
    Some((kind.get() & !netlink::ATTRIBUTE_FLAGS, content, rest))
}

/// Something of `length` bytes with a header: its content, and what follows after the padding.
fn split(bytes: &[u8], length: usize, header: usize) -> Option<(&[u8], &[u8])> {
    let content = bytes.get(header..length)?;
    let next = length.checked_next_multiple_of(netlink::ALIGNMENT)?;
    // The last one may lack its padding.
    Some((content, bytes.get(next..).unwrap_or_default()))
}

/// The error that a message carries, if it is one: 0 is none.
fn error_of(message: &[u8]) -> Option<io::Error> {
    let (errno, _) = ne::I32::read_from_prefix(message).ok()?;
    (errno.get() != 0).then(|| io::Error::from_raw_os_error(errno.get().saturating_neg()))
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "bytes that are no answer of inet_diag")
}

#[cfg(test)]
mod tests;
