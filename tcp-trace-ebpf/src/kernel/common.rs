//! `struct sock_common`: what full sockets, half-open requests and time-wait sockets all begin with.

use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use tcp_trace_common::{
    address::{self, mapped},
    config::MISSING,
};

use super::{Loadable as _, member, placeholder};
use crate::maps::global;

/// A BTF-typed pointer to a socket of any kind.
#[derive(Clone, Copy)]
pub(crate) struct Common(*const u8);

impl Common {
    /// `sk` must be an argument of a program, or have been loaded from one.
    #[inline(always)]
    pub(crate) fn of(sk: *const u8) -> Self {
        Self(sk)
    }

    /// The kernel address, to be shown.
    #[inline(always)]
    pub(crate) fn address(self) -> u64 {
        self.0 as u64
    }

    /// The socket cookie; made on first use, kept for the socket's life (`net/core/sock_diag.c`). Before 5.12 no
    /// tracing program may ask for it: then it is the one that stands, 0 if nobody has asked yet.
    #[inline(always)]
    pub(crate) fn cookie(self) -> u64 {
        let standing = self.standing_cookie();
        if global!(SETTINGS.cookie_helper) == 0 || standing != 0 {
            return standing;
        }
        // SAFETY: `self` is a BTF-typed socket pointer.
        unsafe { bpf_get_socket_cookie(self.0.cast_mut().cast()) }
    }

    /// The cookie if the socket has one already, else 0.
    #[inline(always)]
    pub(crate) fn standing_cookie(self) -> u64 {
        member!(self.0, skc_cookie: u64)
    }

    /// `skc_family`.
    #[inline(always)]
    pub(crate) fn family(self) -> u16 {
        member!(self.0, skc_family: u16)
    }

    /// Local and peer address, IPv4 as v4-mapped, each as its two halves in memory order.
    #[inline(always)]
    pub(crate) fn addresses(self, family: u16) -> ([u64; 2], [u64; 2]) {
        if family == address::AF_INET6 {
            (in6!(self.0, skc_v6_rcv_saddr), in6!(self.0, skc_v6_daddr))
        } else {
            (mapped(member!(self.0, skc_rcv_saddr: u32)), mapped(member!(self.0, skc_daddr: u32)))
        }
    }

    /// The local port that the socket holds, host order: 0 as soon as it is given back, at every `… → CLOSE` of an
    /// unbound or accepted socket (`inet_put_port`, `net/ipv4/inet_hashtables.c`).
    #[inline(always)]
    pub(crate) fn held_port(self) -> u16 {
        member!(self.0, skc_num: u16)
    }

    /// Peer port, host order.
    #[inline(always)]
    pub(crate) fn peer_port(self) -> u16 {
        u16::from_be(member!(self.0, skc_dport: u16))
    }

    /// Cookie of the network namespace; 0 if it has none.
    #[inline(always)]
    pub(crate) fn net_cookie(self) -> u64 {
        if global!(OFFSETS.net_cookie) == MISSING {
            return 0;
        }
        let net = member!(self.0, skc_net: *const u8);
        member!(net, net_cookie: u64)
    }

    /// Inode number of the network namespace. `Cpu::netns` is cheaper where there are many calls.
    #[inline(always)]
    pub(crate) fn netns(self) -> u32 {
        let net = member!(self.0, skc_net: *const u8);
        member!(net, net_inum: u32)
    }
}

/// A `struct in6_addr` in its two halves.
macro_rules! in6 {
    ($sk:expr, $member:ident) => {{
        const AT: i16 = placeholder!($member);
        // SAFETY: as in `member!`; the member is a 16-byte `in6_addr`.
        unsafe { [u64::load::<AT>($sk), u64::load::<{ AT + 8 }>($sk)] }
    }};
}
use in6;
