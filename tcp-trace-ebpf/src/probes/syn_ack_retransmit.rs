//! `tcp_retransmit_synack(const struct sock *sk, const struct request_sock *req)` (`include/trace/events/tcp.h`, first
//! kernel 4.17) as `tp_btf`: a half-open request that lasts. It comes when the timer fires, and when the client
//! repeats its SYN; `num_timeout` does not count this very time yet.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tcp_trace_common::event::request_change;

use crate::{
    emit,
    kernel::{Common, HalfOpen},
};

#[btf_tracepoint(function = "tcp_retransmit_synack")]
fn syn_ack_retransmit(ctx: BtfTracePointContext) -> i32 {
    let req: *const u8 = ctx.arg(1);
    let cookie = Common::of(req).cookie();
    emit::request_change(&HalfOpen::at(req as u64).describe(request_change::RETRANSMIT, cookie), false);
    0
}
