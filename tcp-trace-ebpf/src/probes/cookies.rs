//! `cgroup/sock_create` on the cgroup2 root, only before 5.12: gives every new socket its cookie.
//!
//! There `set_state` cannot ask for one, and `half_open` comes too late for the first transition of a client.

use aya_ebpf::{helpers::bpf_get_socket_cookie, macros::cgroup_sock, programs::SockContext};

#[cgroup_sock(sock_create)]
fn cookies(ctx: SockContext) -> i32 {
    // SAFETY: the helper takes the socket that is the context.
    unsafe { bpf_get_socket_cookie(ctx.sock.cast()) };
    // 1 lets the socket be made.
    1
}
