//! Where the running kernel keeps the struct members that the programs read.

use tcp_trace_common::config::{MISSING, Offsets};

use super::btf::{Btf, Member};

macro_rules! members {
    ($($field:ident: $path:literal, $shape:expr, $need:ident;)*) => {
        /// Looks every member up.
        ///
        /// # Errors
        ///
        /// Names a member that every supported kernel has and this BTF lacks, or one whose size is not the expected
        /// one: nothing is read from a place that is not what it is taken for.
        pub fn offsets(btf: &Btf<'_>) -> Result<Offsets, String> {
            let [$($field),*] = btf.members([$($path),*]);
            Ok(Offsets { $($field: check($path, $field, $shape, Need::$need)?),* })
        }

        /// Each member as it stands in the kernel's BTF, by its name and without any judgement.
        #[must_use]
        pub fn found(btf: &Btf<'_>) -> Vec<(&'static str, Option<Member>)> {
            [$($path),*].into_iter().zip(btf.members([$($path),*])).collect()
        }
    };
}

members! {
    skc_family: "sock_common.skc_family", Bytes(2), Always;
    skc_daddr: "sock_common.skc_daddr", Bytes(4), Always;
    skc_rcv_saddr: "sock_common.skc_rcv_saddr", Bytes(4), Always;
    skc_v6_daddr: "sock_common.skc_v6_daddr", Bytes(16), Always;
    skc_v6_rcv_saddr: "sock_common.skc_v6_rcv_saddr", Bytes(16), Always;
    skc_dport: "sock_common.skc_dport", Bytes(2), Always;
    skc_num: "sock_common.skc_num", Bytes(2), Always;
    skc_cookie: "sock_common.skc_cookie", Bytes(8), Always;
    skc_net: "sock_common.skc_net.net", Bytes(8), Always;
    sk_lock_owned: "sock.sk_lock.owned", Bytes(4), Always;
    sk_flags: "sock_common.skc_flags", Bytes(8), Always;
    sk_err: "sock.sk_err", Bytes(4), Always;
    sk_protocol: "sock.sk_protocol", Bytes(2), Always;
    sk_cgroup: "sock.sk_cgrp_data.cgroup", Bytes(8), IfPresent;
    sk_cgroup_word: "sock.sk_cgrp_data.val", Bytes(8), IfPresent;
    sk_socket: "sock.sk_socket", Bytes(8), Always;
    sk_lingertime: "sock.sk_lingertime", Bytes(8), Always;
    inet_sport: "inet_sock.inet_sport", Bytes(2), Always;
    srtt_us: "tcp_sock.srtt_us", Bytes(4), Always;
    total_retrans: "tcp_sock.total_retrans", Bytes(4), Always;
    total_rto: "tcp_sock.total_rto", Bytes(2), IfPresent;
    total_rto_time: "tcp_sock.total_rto_time", Bytes(4), IfPresent;
    rcv_nxt: "tcp_sock.rcv_nxt", Bytes(4), Always;
    copied_seq: "tcp_sock.copied_seq", Bytes(4), Always;
    bytes_received: "tcp_sock.bytes_received", Bytes(8), Always;
    bytes_acked: "tcp_sock.bytes_acked", Bytes(8), Always;
    net_inum: "net.ns.inum", Bytes(4), Always;
    net_cookie: "net.net_cookie", Bytes(8), Optional;
    cgroup_kn: "cgroup.kn", Bytes(8), Always;
    kn_id: "kernfs_node.id", Bytes(8), Always;
    task_flags: "task_struct.flags", Bytes(4), Always;
    task_pid: "task_struct.pid", Bytes(4), Always;
    task_tgid: "task_struct.tgid", Bytes(4), Always;
    task_group_leader: "task_struct.group_leader", Bytes(8), Always;
    task_start: "task_struct.start_boottime", Bytes(8), Always;
    task_comm: "task_struct.comm", Bytes(16), Always;
    skc_listener: "sock_common.skc_listener", Bytes(8), Optional;
    skc_state: "sock_common.skc_state", Bytes(1), Optional;
    skc_refcnt: "sock_common.skc_refcnt", Bytes(4), Optional;
    sk_ack_backlog: "sock.sk_ack_backlog", Bytes(4), Optional;
    sk_max_ack_backlog: "sock.sk_max_ack_backlog", Bytes(4), Optional;
    rsk_timer: "request_sock.rsk_timer", Any, Optional;
    timer_pprev: "timer_list.entry.pprev", Bytes(8), Optional;
    num_timeout_bit: "request_sock.num_timeout", Bits(7), Optional;
    acked_bit: "inet_request_sock.acked", Bits(1), Optional;
    snt_synack: "tcp_request_sock.snt_synack", Bytes(8), Optional;
    socket_sk: "socket.sk", Bytes(8), Optional;
    file_inode: "file.f_inode", Bytes(8), Optional;
    file_private: "file.private_data", Bytes(8), Optional;
    inode_mode: "inode.i_mode", Bytes(2), Optional;
    inode_number: "inode.i_ino", Bytes(8), Optional;
}

/// What a member must look like.
#[derive(Clone, Copy)]
enum Shape {
    /// So many bytes.
    Bytes(u32),
    /// A bit field of so many bits; its place is counted in bits too.
    Bits(u32),
    /// A struct of which only the place counts.
    Any,
}
use Shape::{Any, Bits, Bytes};

/// Whether a kernel may lack a member.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Every supported kernel has it.
    Always,
    /// The programs do without it.
    IfPresent,
    /// Only optional programs need it, which are not to be had where it is missing or looks different.
    Optional,
}

fn check(path: &str, found: Option<Member>, shape: Shape, need: Need) -> Result<u32, String> {
    let Some(member) = found else {
        return match need {
            Need::Always => Err(format!("this kernel's BTF has no {path}")),
            Need::IfPresent | Need::Optional => Ok(MISSING),
        };
    };
    match (shape, member) {
        (Bytes(size), Member { size: found, offset, bits: None }) if found == size => Ok(offset),
        (Bits(width), Member { bits: Some((first, found)), .. }) if found == width => Ok(first),
        (Any, Member { offset, bits: None, .. }) => Ok(offset),
        _ if need == Need::Optional => Ok(MISSING),
        (Bytes(size), Member { size: found, .. }) => {
            Err(format!("{path} takes {found} bytes in this kernel, expected {size}"))
        }
        (Bits(_) | Any, _) => Err(format!("{path} is of another kind in this kernel")),
    }
}
