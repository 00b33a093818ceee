//! `fexit/inet_accept(struct socket *sock, struct socket *newsock, …)` (`net/ipv4/af_inet.c`): who accepts a connection.
//!
//! `newsock->sk` is set when it succeeds (`sock_graft`), in the accepting task, whatever the way: `accept()`,
//! `accept4()`, io_uring. The arguments behind the second one differ from version to version and are not read;
//! `inet_csk_accept`, which returns the socket, has its return value at another place in each of them, and the
//! socket has no file yet there.

use aya_ebpf::{macros::fexit, programs::FExitContext};
use tcp_trace_common::{event::socket_use, filter::Subject, state};

use crate::{
    emit,
    kernel::{TcpSock, bytes, member},
    maps::global,
};

#[fexit(function = "inet_accept")]
fn accepted(ctx: FExitContext) -> i32 {
    let newsock: *const u8 = ctx.arg(1);
    let sk = member!(newsock, socket_sk: *const u8);
    if !sk.is_null()
        && let Some(tcp) = TcpSock::from_sock(sk)
        && is_wanted(tcp)
    {
        let sk = tcp.common();
        emit::socket_use(socket_use::ACCEPT, sk, sk.cookie());
    }
    0
}

/// Whether the filter may want the connection.
#[inline(always)]
fn is_wanted(tcp: TcpSock) -> bool {
    if global!(SETTINGS.filtering) == 0 {
        return true;
    }
    let sk = tcp.common();
    let family = sk.family();
    let (local_addr, peer_addr) = sk.addresses(family);
    let (local_addr, peer_addr) = (bytes(local_addr), bytes(peer_addr));
    emit::wanted(&Subject {
        old: state::ESTABLISHED,
        new: state::ESTABLISHED,
        local_port: tcp.local_port(state::ESTABLISHED, state::ESTABLISHED),
        peer_port: sk.peer_port(),
        family,
        netns: sk.netns(),
        cgroup_id: tcp.cgroup_id(),
        local_addr: &local_addr,
        peer_addr: &peer_addr,
        pid: 0,
    })
}
