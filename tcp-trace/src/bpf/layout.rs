//! Where the running kernel keeps the struct members that the programs read.

use tcp_trace_common::config::{MISSING, Offsets};

use super::btf::{Btf, Member};

/// Looks every member up.
///
/// # Errors
///
/// Names a member that every supported kernel has and this BTF lacks, or one whose size is not the expected
/// one: nothing is read from a place that is not what it is taken for.
pub fn offsets(btf: &Btf<'_>) -> Result<Offsets, String> {
    macro_rules! look_up {
        ($($field:ident: $path:literal, $size:literal, $need:ident;)*) => {{
            let [$($field),*] = btf.members([$($path),*]);
            Ok(Offsets { $($field: check($path, $field, $size, Need::$need)?),* })
        }};
    }
    look_up! {
        skc_family: "sock_common.skc_family", 2, Always;
        skc_daddr: "sock_common.skc_daddr", 4, Always;
        skc_rcv_saddr: "sock_common.skc_rcv_saddr", 4, Always;
        skc_v6_daddr: "sock_common.skc_v6_daddr", 16, Always;
        skc_v6_rcv_saddr: "sock_common.skc_v6_rcv_saddr", 16, Always;
        skc_dport: "sock_common.skc_dport", 2, Always;
        skc_net: "sock_common.skc_net.net", 8, Always;
        sk_lock_owned: "sock.sk_lock.owned", 4, Always;
        sk_flags: "sock_common.skc_flags", 8, Always;
        sk_err: "sock.sk_err", 4, Always;
        sk_cgroup: "sock.sk_cgrp_data.cgroup", 8, IfPresent;
        inet_sport: "inet_sock.inet_sport", 2, Always;
        srtt_us: "tcp_sock.srtt_us", 4, Always;
        total_retrans: "tcp_sock.total_retrans", 4, Always;
        total_rto: "tcp_sock.total_rto", 2, IfPresent;
        total_rto_time: "tcp_sock.total_rto_time", 4, IfPresent;
        net_inum: "net.ns.inum", 4, Always;
        cgroup_kn: "cgroup.kn", 8, Always;
        kn_id: "kernfs_node.id", 8, Always;
        task_flags: "task_struct.flags", 4, Always;
        task_pid: "task_struct.pid", 4, Always;
        task_tgid: "task_struct.tgid", 4, Always;
        task_group_leader: "task_struct.group_leader", 8, Always;
        task_start: "task_struct.start_boottime", 8, Always;
        task_comm: "task_struct.comm", 16, Always;
    }
}

/// Whether a kernel may lack a member.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Every supported kernel has it.
    Always,
    /// The programs do without it.
    IfPresent,
}

fn check(path: &str, found: Option<Member>, size: u32, need: Need) -> Result<u32, String> {
    match found {
        Some(member) if member.size == size => Ok(member.offset),
        Some(member) => Err(format!("{path} takes {} bytes in this kernel, expected {size}", member.size)),
        None if need == Need::IfPresent => Ok(MISSING),
        None => Err(format!("this kernel's BTF has no {path}")),
    }
}
