//! The records that the kernel programs write into the ring buffer.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The first field of every record in the ring buffer: which struct follows.
pub mod kind {
    /// A [`super::StateChange`].
    pub const STATE_CHANGE: u16 = 1;
    /// A [`super::SocketUse`].
    pub const SOCKET_USE: u16 = 2;
    /// A [`super::RequestChange`].
    pub const REQUEST_CHANGE: u16 = 3;
    /// A [`crate::packed::PackedChange`].
    pub const PACKED_CHANGE: u16 = 4;
}

/// Values of [`SocketUse::how`].
pub mod socket_use {
    /// `accept()` returned the socket to this task.
    pub const ACCEPT: u16 = 1;
    /// The first read of data from an accepted socket.
    pub const READ: u16 = 2;
    /// The last holder closed a socket whose connection had ended before, by a reset or a timeout.
    pub const CLOSE: u16 = 3;
}

/// Values of [`RequestChange::what`].
pub mod request_change {
    /// The SYN-ACK was sent once more: by the timer, or because the client repeated its SYN.
    pub const RETRANSMIT: u16 = 1;
    /// The request's timer gave it up.
    pub const EXPIRED: u16 = 2;
    /// The request was dropped: by a reset, by an ICMP error, with its listener.
    pub const DROPPED: u16 = 3;
}

/// Bits of [`StateChange::flags`].
pub mod flags {
    /// The socket's own fields were read: `netns`, `cgroup_id`, `sk_err` and [`DONE`] say something.
    /// Absent when the program was attached as a perf tracepoint.
    pub const HAS_SOCK: u32 = 1 << 0;
    /// The current task is the socket's user: `sk_lock.owned` was 1, or the transition is one that the
    /// kernel only ever makes inside the caller's own system call. `tgid`, `tid` and `comm` are set only
    /// then; the task that merely happened to be on the CPU never leaves the kernel.
    pub const TASK: u32 = 1 << 1;
    /// `SOCK_DONE` of `sk_flags`: the peer's FIN was seen (`enum sock_flags`, `include/net/sock.h`).
    pub const DONE: u32 = 1 << 2;
    /// `srtt_us` and `total_retrans` were read.
    pub const HAS_TCP: u32 = 1 << 3;
    /// `total_rto` and `total_rto_time_ms` were read (first kernel: 6.7).
    pub const HAS_RTO: u32 = 1 << 4;
    /// `request_ns` is when the request was queued.
    pub const HAS_REQUEST: u32 = 1 << 5;
    /// The request was a TCP Fast Open one: `request_ns` is when its SYN came.
    pub const FAST_OPEN: u32 = 1 << 6;
    /// `comm` is a thread's name and not its process's: the group leader could not be read.
    pub const THREAD_COMM: u32 = 1 << 7;
    /// The socket has no file: it was not accepted yet, or its last holder has closed it (`sk_socket` is NULL).
    pub const NO_FILE: u32 = 1 << 8;
    /// `SO_LINGER` is on with a time of 0: `close()` resets.
    pub const LINGER_ZERO: u32 = 1 << 9;
    /// The kernel has made a time-wait socket of this one (`inet_twsk_alloc`), in TIME_WAIT.
    pub const TIME_WAIT: u32 = 1 << 10;
    /// The same, in FIN_WAIT2: its program has closed it and the peer has not closed yet.
    pub const TIME_WAIT_ORPHAN: u32 = 1 << 11;
    /// Whether there is a time-wait socket is known for certain: [`TIME_WAIT`] and [`TIME_WAIT_ORPHAN`] are to be
    /// trusted, also when both are absent.
    pub const TIME_WAIT_KNOWN: u32 = 1 << 12;
    /// The request was seen by fentry rather than by sock_ops.
    pub const REQUEST_BY_FENTRY: u32 = 1 << 13;
    /// `bytes_received`, `bytes_acked` and `unread` were read: at `… → CLOSE`, and of nothing but connections.
    pub const HAS_BYTES: u32 = 1 << 14;
    /// The transition is counted in a row of [`crate::aggregate`]: this event only keeps live tables right.
    pub const AGGREGATED: u32 = 1 << 15;
    /// Of a [`crate::packed::PackedChange`] only: the family is `AF_INET6`.
    pub const INET6: u32 = 1 << 16;
    /// Of a [`crate::packed::PackedChange`] only: its third part is there.
    pub const REST: u32 = 1 << 17;
    /// Of a [`crate::packed::PackedChange`] only: its fourth part is there, the addresses at full length.
    pub const LONG_ADDRESSES: u32 = 1 << 18;
}

/// One call of the tracepoint `sock:inet_sock_set_state` for a TCP socket. The main programs write it as a
/// [`crate::packed::PackedChange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct StateChange {
    /// [`kind::STATE_CHANGE`].
    pub kind: u16,
    /// State left, as the kernel numbers it (`crate::state`).
    pub old: u8,
    /// State entered.
    pub new: u8,
    /// Bits of [`flags`].
    pub flags: u32,
    /// `bpf_ktime_get_ns()`: CLOCK_MONOTONIC, in nanoseconds.
    pub time_ns: u64,
    /// Socket cookie; 0 where the attach kind cannot give it. For `LISTEN → SYN_RECV` up to 6.12 it is the
    /// *listener's* (`inet_csk_clone_lock` fires the event before the child gets its own).
    pub cookie: u64,
    /// Address of the `struct sock`. Shown, and the key only where there is no cookie: it is reused.
    pub skaddr: u64,
    /// Id of the socket's cgroup (its creator's), 0 when unknown.
    pub cgroup_id: u64,
    /// Start of the task's process (`group_leader->start_boottime`), nanoseconds since boot; 0 unknown.
    pub process_start_ns: u64,
    /// When the half-open request was queued, CLOCK_MONOTONIC ns; see [`flags::HAS_REQUEST`].
    pub request_ns: u64,
    /// Local address, as in [`crate::address`].
    pub local_addr: [u8; 16],
    /// Peer address, as in [`crate::address`].
    pub peer_addr: [u8; 16],
    /// Local port in host order, 0 when not chosen yet.
    pub local_port: u16,
    /// Peer port in host order, 0 when there is none (yet, or any more).
    pub peer_port: u16,
    /// The socket's own family, `AF_INET` or `AF_INET6`; a dual-stack socket keeps `AF_INET6`.
    pub family: u16,
    /// `sk_err`, an errno, 0 when none is set.
    pub sk_err: u16,
    /// Inode number of the socket's network namespace, as `readlink /proc/PID/ns/net` shows it; 0 unknown.
    pub netns: u32,
    /// Process id as users know it (the kernel's tgid).
    pub tgid: u32,
    /// Thread id (the kernel's pid).
    pub tid: u32,
    /// Smoothed round-trip time in microseconds (`srtt_us >> 3`).
    pub srtt_us: u32,
    /// `tcp_sock.total_retrans`.
    pub total_retrans: u32,
    /// `tcp_sock.total_rto_time`, milliseconds.
    pub total_rto_time_ms: u32,
    /// Name of the process (or thread, see [`flags::THREAD_COMM`]), NUL-padded, any bytes.
    pub comm: [u8; 16],
    /// `tcp_sock.total_rto`.
    pub total_rto: u16,
    /// Always 0.
    pub reserved: u16,
    /// `rcv_nxt - copied_seq`: bytes received and not read, the FIN counting as one; see [`flags::HAS_BYTES`].
    pub unread: u32,
    /// `tcp_sock.bytes_received`.
    pub bytes_received: u64,
    /// `tcp_sock.bytes_acked`: bytes sent and acknowledged.
    pub bytes_acked: u64,
}

/// A task that used a socket which it had not opened: its owner, of an accepted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SocketUse {
    /// [`kind::SOCKET_USE`].
    pub kind: u16,
    /// A value of [`socket_use`].
    pub how: u16,
    /// [`flags::THREAD_COMM`] or nothing.
    pub flags: u32,
    /// `bpf_ktime_get_ns()`.
    pub time_ns: u64,
    /// Socket cookie.
    pub cookie: u64,
    /// Address of the `struct sock`.
    pub skaddr: u64,
    /// As in [`StateChange`].
    pub process_start_ns: u64,
    /// Process id.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// Name, as in [`StateChange`].
    pub comm: [u8; 16],
}

/// Something happened to a half-open request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RequestChange {
    /// [`kind::REQUEST_CHANGE`].
    pub kind: u16,
    /// A value of [`request_change`].
    pub what: u16,
    /// Network namespace, by inode number; 0 unknown.
    pub netns: u32,
    /// `bpf_ktime_get_ns()`.
    pub time_ns: u64,
    /// Cookie of the request, which its connection will have; 0 unknown.
    pub cookie: u64,
    /// Cookie of the listener; 0 unknown.
    pub listener_cookie: u64,
    /// `snt_synack`: when the first SYN-ACK was sent, CLOCK_MONOTONIC ns, to the microsecond; 0 unknown.
    pub sent_ns: u64,
    /// Local address.
    pub local_addr: [u8; 16],
    /// Peer address.
    pub peer_addr: [u8; 16],
    /// Local port in host order.
    pub local_port: u16,
    /// Peer port in host order.
    pub peer_port: u16,
    /// The listener's family.
    pub family: u16,
    /// `num_timeout`: how often the SYN-ACK's timer has fired.
    pub timeouts: u16,
    /// The listener's `sk_ack_backlog`: connections that wait to be accepted.
    pub accept_queue: u32,
    /// The listener's `sk_max_ack_backlog`: the queue is full when `accept_queue` is larger. 0 unknown.
    pub accept_limit: u32,
    /// 1 when the client's final ACK came and was turned away (`inet_request_sock.acked`): a full accept queue, or
    /// TCP_DEFER_ACCEPT.
    pub acked: u32,
    /// Always 0.
    pub reserved: u32,
}
