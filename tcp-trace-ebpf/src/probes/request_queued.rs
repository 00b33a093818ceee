//! `fentry/inet_csk_reqsk_queue_hash_add(struct sock *sk, struct request_sock *req, …)`
//! (`net/ipv4/inet_connection_sock.c`): when each half-open request begins. The stand-in for `half_open` where
//! sock_ops cannot be attached. The third argument was dropped in 7.2, and the return type changed in 6.0.

use aya_ebpf::{macros::fentry, programs::FEntryContext};
use tcp_trace_common::request::{Details, source};

use super::half_open::remember;
use crate::kernel::Common;

#[fentry(function = "inet_csk_reqsk_queue_hash_add")]
fn request_queued(ctx: FEntryContext) -> i32 {
    let req = Common::of(ctx.arg(1));
    let cookie = req.cookie();
    // Before 5.12 nobody gives a request a cookie but sock_ops.
    if cookie != 0 {
        let family = req.family();
        let (local_addr, peer_addr) = req.addresses(family);
        let (local_port, peer_port) = (req.held_port(), req.peer_port());
        let source = source::FENTRY;
        remember(cookie, Details { local_addr, peer_addr, local_port, peer_port, family, source });
    }
    0
}
