//! `fexit/inet_csk_reqsk_queue_drop(struct sock *sk, struct request_sock *req)` (`net/ipv4/inet_connection_sock.c`): a
//! half-open request is taken out before its time, mostly by a reset.
//!
//! It returns whether it has taken the request out. Of one that has just become a connection it has not: the
//! connection stands in its place in the table already (`inet_csk_complete_hashdance`).

use aya_ebpf::{macros::fexit, programs::FExitContext};
use tcp_trace_common::event::request_change;

use crate::{emit, kernel::HalfOpen, maps::RUNNING};

#[fexit(function = "inet_csk_reqsk_queue_drop")]
fn request_dropped(ctx: FExitContext) -> i32 {
    let req: *const u8 = ctx.arg(1);
    let returned: u64 = ctx.arg(2);
    // A `bool` leaves the rest of its register undefined.
    let taken_out = returned & 0xff != 0;
    if taken_out && !is_expiring(req as u64) {
        let request = HalfOpen::at(req as u64);
        emit::request_change(&request.describe(request_change::DROPPED, request.cookie()), true);
    }
    0
}

/// Whether the request's own timer calls, in a kernel where this is not compiled into it: `request_timer` tells then.
#[inline(always)]
fn is_expiring(request: u64) -> bool {
    // SAFETY: this CPU's value.
    RUNNING.get_ptr(0).is_some_and(|running| unsafe { (*running).request } == request)
}
