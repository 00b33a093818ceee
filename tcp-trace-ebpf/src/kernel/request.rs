//! `struct request_sock` and what it begins: `inet_request_sock`, `tcp_request_sock`.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use tcp_trace_common::{
    address::{self, mapped},
    event::{RequestChange, kind},
    state,
};

use super::{bytes, peek, peek_member};
use crate::maps::global;

/// The address of a half-open request. Not a typed pointer, because a timer's program has only the address of a member
/// of it; and these programs run a few times in a request's life.
#[derive(Clone, Copy)]
pub(crate) struct HalfOpen(u64);

impl HalfOpen {
    /// `req`, a `struct request_sock *`.
    #[inline(always)]
    pub(crate) fn at(req: u64) -> Self {
        Self(req)
    }

    /// The request that a timer is in.
    #[inline(always)]
    pub(crate) fn of_timer(timer: u64) -> Self {
        Self(timer.wrapping_sub(u64::from(global!(OFFSETS.rsk_timer))))
    }

    /// The address itself.
    #[inline(always)]
    pub(crate) fn address(self) -> u64 {
        self.0
    }

    /// The cookie, 0 if nobody has asked for it.
    #[inline(always)]
    pub(crate) fn cookie(self) -> u64 {
        peek_member!(self.0, skc_cookie: u64)
    }

    /// The listener that it came to (`rsk_listener`).
    #[inline(always)]
    fn listener(self) -> u64 {
        peek_member!(self.0, skc_listener: u64)
    }

    /// Whether its listener still listens. A timer that finds another state drops the request or, with
    /// `tcp_migrate_req`, gives it to another listener (`reqsk_timer_handler`, `net/ipv4/inet_connection_sock.c`).
    #[inline(always)]
    pub(crate) fn is_listened_for(self) -> bool {
        peek_member!(self.listener(), skc_state: u8) == state::LISTEN
    }

    /// Whether nobody refers to it any more and its timer is off: it is dead, and its memory will be given to
    /// another request (never to anything else: the slab is `SLAB_TYPESAFE_BY_RCU`).
    #[inline(always)]
    pub(crate) fn is_dead(self) -> bool {
        let timer = global!(OFFSETS.rsk_timer) + global!(OFFSETS.timer_pprev);
        peek_member!(self.0, skc_refcnt: u32) == 0 && peek::<u64>(self.0, timer) == 0
    }

    /// All of it, as of now.
    #[inline(always)]
    pub(crate) fn describe(self, what: u16, cookie: u64) -> RequestChange {
        let listener = self.listener();
        let family = peek_member!(self.0, skc_family: u16);
        // IPv4 addresses of a dual-stack listener's request stand in the IPv6 fields too, v4-mapped
        // (`sk_rcv_saddr_set`, `sk_daddr_set`, `include/net/inet_hashtables.h`).
        let (local_addr, peer_addr) = if family == address::AF_INET6 {
            (peek_member!(self.0, skc_v6_rcv_saddr: [u64; 2]), peek_member!(self.0, skc_v6_daddr: [u64; 2]))
        } else {
            (mapped(peek_member!(self.0, skc_rcv_saddr: u32)), mapped(peek_member!(self.0, skc_daddr: u32)))
        };
        let net = peek_member!(self.0, skc_net: u64);
        let timeouts = bits(self.0, global!(OFFSETS.num_timeout_bit), 7);
        RequestChange {
            kind: kind::REQUEST_CHANGE,
            what,
            netns: peek_member!(net, net_inum: u32),
            // SAFETY: takes nothing.
            time_ns: unsafe { bpf_ktime_get_ns() },
            cookie,
            listener_cookie: peek_member!(listener, skc_cookie: u64),
            sent_ns: peek_member!(self.0, snt_synack: u64).wrapping_mul(1000),
            local_addr: bytes(local_addr),
            peer_addr: bytes(peer_addr),
            local_port: peek_member!(self.0, skc_num: u16),
            peer_port: u16::from_be(peek_member!(self.0, skc_dport: u16)),
            family,
            timeouts: u16::from(timeouts),
            accept_queue: peek_member!(listener, sk_ack_backlog: u32),
            accept_limit: peek_member!(listener, sk_max_ack_backlog: u32),
            acked: u32::from(bits(self.0, global!(OFFSETS.acked_bit), 1)),
            reserved: 0,
        }
    }
}

/// A bit field that lies within one byte.
#[inline(always)]
fn bits(address: u64, first: u32, width: u32) -> u8 {
    peek::<u8>(address, first / 8) >> (first % 8) & ((1 << width) - 1)
}
