//! A half-open request, as the kernel programs remember it from its SYN until its handshake completes.
//!
//! User space reads the map now and then: what is in it and is not listed by the kernel any more has died.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Values of [`Request::source`].
pub mod source {
    /// Queued; seen by sock_ops.
    pub const SOCK_OPS: u32 = 0;
    /// TCP Fast Open: there is a child from the SYN on, and never was a queued request.
    pub const FAST_OPEN: u32 = 1;
    /// Queued; seen by fentry.
    pub const FENTRY: u32 = 2;
}

/// A value of the map of requests, whose key is the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Request {
    /// The key once more: the map gives an evicted entry to another socket at once, even while it is read.
    pub cookie: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub queued_ns: u64,
    /// Local address, as in [`crate::address`].
    pub local_addr: [u8; 16],
    /// Peer address.
    pub peer_addr: [u8; 16],
    /// Local port in host order.
    pub local_port: u16,
    /// Peer port in host order.
    pub peer_port: u16,
    /// The listener's family.
    pub family: u16,
    /// Always 0.
    pub reserved: u16,
    /// A value of [`source`].
    pub source: u32,
    /// Always 0.
    pub reserved2: u32,
}
