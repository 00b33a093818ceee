//! `fexit/inet_twsk_alloc(const struct sock *sk, struct inet_timewait_death_row *dr, const int state)`
//! (`net/ipv4/inet_timewait_sock.c`): whether a socket that closes leaves a time-wait socket, and in which state.
//!
//! `tcp_time_wait` (`net/ipv4/tcp_minisocks.c`) calls it, and closes the socket soon after; `set_state` tells then. Its
//! return value is what counts: it is NULL when there are too many already (TCPTimeWaitOverflow).

use aya_ebpf::{macros::fexit, programs::FExitContext};

use crate::{
    kernel::Common,
    maps::{TIME_WAITS, TimeWait},
};

#[fexit(function = "inet_twsk_alloc")]
fn time_wait(ctx: FExitContext) -> i32 {
    let sk = Common::of(ctx.arg(0));
    let state: u32 = ctx.arg(2);
    let made: *const u8 = ctx.arg(3);
    let state = if made.is_null() { 0 } else { u64::from(state) };
    // Without room nothing is known of this one, and `set_state` says so.
    let _ = TIME_WAITS.insert(sk.address(), TimeWait { cookie: sk.standing_cookie(), state }, 0);
    0
}
