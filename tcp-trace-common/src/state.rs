//! The kernel's numbers for TCP states (`include/net/tcp_states.h`).
//!
//! Plain `u8` constants on purpose: the kernel adds states (13 came in 6.8), so a byte from the kernel is
//! never trusted to be one of these. The checked enum lives in `tcp-trace-core`.

/// `TCP_ESTABLISHED`
pub const ESTABLISHED: u8 = 1;
/// `TCP_SYN_SENT`
pub const SYN_SENT: u8 = 2;
/// `TCP_SYN_RECV`
pub const SYN_RECV: u8 = 3;
/// `TCP_FIN_WAIT1`
pub const FIN_WAIT1: u8 = 4;
/// `TCP_FIN_WAIT2`
pub const FIN_WAIT2: u8 = 5;
/// `TCP_TIME_WAIT`; no transition event ever has it as its new state.
pub const TIME_WAIT: u8 = 6;
/// `TCP_CLOSE`
pub const CLOSE: u8 = 7;
/// `TCP_CLOSE_WAIT`
pub const CLOSE_WAIT: u8 = 8;
/// `TCP_LAST_ACK`
pub const LAST_ACK: u8 = 9;
/// `TCP_LISTEN`
pub const LISTEN: u8 = 10;
/// `TCP_CLOSING`
pub const CLOSING: u8 = 11;
/// `TCP_NEW_SYN_RECV`: a request socket, which is half-open and has no full socket yet.
pub const NEW_SYN_RECV: u8 = 12;
/// `TCP_BOUND_INACTIVE`, a pseudo-state of sock_diag (first in 6.8).
pub const BOUND_INACTIVE: u8 = 13;
