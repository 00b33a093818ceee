//! `reqsk_timer_handler(struct timer_list *t)` (`net/ipv4/inet_connection_sock.c`), before and after: whether a
//! half-open request's timer has given it up.
//!
//! What the handler calls for that is compiled into it, so that no function can be watched; but afterwards nobody
//! refers to the request and its timer is off. Its memory may be another request's by then: that has another cookie.

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use tcp_trace_common::event::request_change;

use crate::{emit, kernel::HalfOpen, maps::RUNNING};

#[fentry(function = "reqsk_timer_handler")]
fn request_timer(ctx: FEntryContext) -> i32 {
    let timer: *const u8 = ctx.arg(0);
    let request = HalfOpen::of_timer(timer as u64);
    let Some(running) = RUNNING.get_ptr_mut(0) else { return 0 };
    let cookie = request.cookie();
    // Without a cookie it could not be recognised afterwards.
    if cookie != 0 && request.is_listened_for() {
        // SAFETY: this CPU's value; a timer's handler is not interrupted by another one.
        unsafe {
            (*running).change = request.describe(request_change::EXPIRED, cookie);
            (*running).request = request.address();
        }
    }
    0
}

#[fexit(function = "reqsk_timer_handler")]
fn request_timer_end(ctx: FExitContext) -> i32 {
    let timer: *const u8 = ctx.arg(0);
    let request = HalfOpen::of_timer(timer as u64);
    let Some(running) = RUNNING.get_ptr_mut(0) else { return 0 };
    // SAFETY: as above.
    let (noted, change) = unsafe { ((*running).request, &(*running).change) };
    // SAFETY: as above.
    unsafe { (*running).request = 0 };
    // The cookie last: until it is found to be the same one, what was read may have been another request's.
    if noted == request.address() && request.is_dead() && request.cookie() == change.cookie {
        emit::request_change(change, true);
    }
    0
}
