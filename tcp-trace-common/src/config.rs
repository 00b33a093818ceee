//! Read-only globals that user space sets before the programs are loaded.
//!
//! The verifier sees their values as constants, so that what is off costs nothing: the branch is gone.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An offset of [`Offsets`] that this kernel does not have.
pub const MISSING: u32 = u32::MAX;

/// What stands in the compiled programs for an offset of [`Offsets`], in the place of a load instruction's own: the
/// loader writes the running kernel's in. So a field costs one instruction; looked up in a map it would be four.
pub mod placeholder {
    /// The first one. A larger offset than any struct that the programs read has.
    const FIRST: usize = 0x6000;
    /// From one to the next, so that a field of 16 bytes can be read in parts.
    const STEP: usize = 16;
    /// Bytes of a field of [`super::Offsets`].
    const FIELD: usize = size_of::<u32>();

    /// The one of the field that is so many bytes from the beginning of [`super::Offsets`].
    #[must_use]
    pub const fn of(field: usize) -> i16 {
        (FIRST + field / FIELD * STEP) as i16
    }

    /// Which field of [`super::Offsets`] an instruction's offset stands for, counted from 0, and how many bytes into it.
    #[must_use]
    pub fn field(offset: i16) -> Option<(usize, u32)> {
        let place = usize::try_from(offset).ok()?.checked_sub(FIRST)?;
        let field = place / STEP;
        (field < size_of::<super::Offsets>() / FIELD).then_some((field, (place % STEP) as u32))
    }
}

/// Byte offsets of the kernel's struct members, taken from the running kernel's BTF.
///
/// rustc emits no CO-RE relocations; and all but a handful of these move from version to version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Offsets {
    /// `sock_common.skc_family`
    pub skc_family: u32,
    /// `sock_common.skc_daddr`
    pub skc_daddr: u32,
    /// `sock_common.skc_rcv_saddr`
    pub skc_rcv_saddr: u32,
    /// `sock_common.skc_v6_daddr`
    pub skc_v6_daddr: u32,
    /// `sock_common.skc_v6_rcv_saddr`
    pub skc_v6_rcv_saddr: u32,
    /// `sock_common.skc_dport`
    pub skc_dport: u32,
    /// `sock_common.skc_num`
    pub skc_num: u32,
    /// `sock_common.skc_cookie`
    pub skc_cookie: u32,
    /// `sock_common.skc_net.net`
    pub skc_net: u32,
    /// `sock.sk_lock.owned`
    pub sk_lock_owned: u32,
    /// `sock_common.skc_flags`
    pub sk_flags: u32,
    /// `sock.sk_err`
    pub sk_err: u32,
    /// `sock.sk_protocol`, 16 bits wide since 5.6.
    pub sk_protocol: u32,
    /// `sock.sk_cgrp_data.cgroup`, or [`MISSING`] (before 5.15 it is a tagged word, not a pointer).
    pub sk_cgroup: u32,
    /// `sock.sk_cgrp_data.val`, the tagged word of before, or [`MISSING`].
    pub sk_cgroup_word: u32,
    /// `sock.sk_socket`
    pub sk_socket: u32,
    /// `sock.sk_lingertime`
    pub sk_lingertime: u32,
    /// `inet_sock.inet_sport`
    pub inet_sport: u32,
    /// `tcp_sock.srtt_us`
    pub srtt_us: u32,
    /// `tcp_sock.total_retrans`
    pub total_retrans: u32,
    /// `tcp_sock.total_rto`, or [`MISSING`] before 6.7.
    pub total_rto: u32,
    /// `tcp_sock.total_rto_time`, or [`MISSING`] before 6.7.
    pub total_rto_time: u32,
    /// `tcp_sock.rcv_nxt`
    pub rcv_nxt: u32,
    /// `tcp_sock.copied_seq`
    pub copied_seq: u32,
    /// `tcp_sock.bytes_received`
    pub bytes_received: u32,
    /// `tcp_sock.bytes_acked`
    pub bytes_acked: u32,
    /// `net.ns.inum`
    pub net_inum: u32,
    /// `net.net_cookie`, or [`MISSING`] before 5.7; 0 before 5.12 until somebody has asked for it.
    pub net_cookie: u32,
    /// `cgroup.kn`
    pub cgroup_kn: u32,
    /// `kernfs_node.id`
    pub kn_id: u32,
    /// `task_struct.flags`
    pub task_flags: u32,
    /// `task_struct.pid`
    pub task_pid: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `task_struct.group_leader`
    pub task_group_leader: u32,
    /// `task_struct.start_boottime`
    pub task_start: u32,
    /// `task_struct.comm`
    pub task_comm: u32,
    /// `sock_common.skc_listener`, of a half-open request. From here on: members that only optional programs need.
    pub skc_listener: u32,
    /// `sock_common.skc_state`
    pub skc_state: u32,
    /// `sock_common.skc_refcnt`
    pub skc_refcnt: u32,
    /// `sock.sk_ack_backlog`
    pub sk_ack_backlog: u32,
    /// `sock.sk_max_ack_backlog`
    pub sk_max_ack_backlog: u32,
    /// `request_sock.rsk_timer`
    pub rsk_timer: u32,
    /// `timer_list.entry.pprev`
    pub timer_pprev: u32,
    /// `request_sock.num_timeout`, in bits: it is a bit field of 7.
    pub num_timeout_bit: u32,
    /// `inet_request_sock.acked`, in bits: it is a bit field of 1.
    pub acked_bit: u32,
    /// `tcp_request_sock.snt_synack`
    pub snt_synack: u32,
    /// `socket.sk`
    pub socket_sk: u32,
    /// `file.f_inode`
    pub file_inode: u32,
    /// `file.private_data`
    pub file_private: u32,
    /// `inode.i_mode`
    pub inode_mode: u32,
    /// `inode.i_ino`
    pub inode_number: u32,
}

impl Offsets {
    /// Every member missing: what a program that reads no kernel struct is loaded with.
    pub const NONE: Self = Self {
        skc_family: MISSING,
        skc_daddr: MISSING,
        skc_rcv_saddr: MISSING,
        skc_v6_daddr: MISSING,
        skc_v6_rcv_saddr: MISSING,
        skc_dport: MISSING,
        skc_num: MISSING,
        skc_cookie: MISSING,
        skc_net: MISSING,
        sk_lock_owned: MISSING,
        sk_flags: MISSING,
        sk_err: MISSING,
        sk_protocol: MISSING,
        sk_cgroup: MISSING,
        sk_cgroup_word: MISSING,
        sk_socket: MISSING,
        sk_lingertime: MISSING,
        inet_sport: MISSING,
        srtt_us: MISSING,
        total_retrans: MISSING,
        total_rto: MISSING,
        total_rto_time: MISSING,
        rcv_nxt: MISSING,
        copied_seq: MISSING,
        bytes_received: MISSING,
        bytes_acked: MISSING,
        net_inum: MISSING,
        net_cookie: MISSING,
        cgroup_kn: MISSING,
        kn_id: MISSING,
        task_flags: MISSING,
        task_pid: MISSING,
        task_tgid: MISSING,
        task_group_leader: MISSING,
        task_start: MISSING,
        task_comm: MISSING,
        skc_listener: MISSING,
        skc_state: MISSING,
        skc_refcnt: MISSING,
        sk_ack_backlog: MISSING,
        sk_max_ack_backlog: MISSING,
        rsk_timer: MISSING,
        timer_pprev: MISSING,
        num_timeout_bit: MISSING,
        acked_bit: MISSING,
        snt_synack: MISSING,
        socket_sk: MISSING,
        file_inode: MISSING,
        file_private: MISSING,
        inode_mode: MISSING,
        inode_number: MISSING,
    };
}

/// How the programs behave; the rest of the read-only globals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Settings {
    /// Each CPU looks at every (mask + 1)th of its transitions, a power of two less one, whether the reader has to be
    /// woken. It comes by itself every few milliseconds; a wake-up per record would cost ten times the record.
    pub wake_mask: u64,
    /// The reader is woken when so many bytes wait for it.
    pub wake_bytes: u64,
    /// 1 when `half_open` is attached, so that the map of requests is worth looking into.
    pub half_open: u32,
    /// 1 when a filter is set.
    pub filtering: u32,
    /// 1 when `tp_btf` programs may call `bpf_get_socket_cookie` (first kernel: 5.12); otherwise the cookie is
    /// read from the socket, where it stands once something else has asked for it.
    pub cookie_helper: u32,
    /// 1 when `bpf_get_current_task_btf` exists (first kernel: 5.11).
    pub task_btf: u32,
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    #[test]
    fn a_placeholder_tells_its_field() {
        let last = size_of::<Offsets>() / 4 - 1;
        assert_eq!(placeholder::field(placeholder::of(0)), Some((0, 0)));
        assert_eq!(placeholder::field(placeholder::of(offset_of!(Offsets, skc_dport)) + 8), Some((5, 8)));
        assert_eq!(placeholder::field(placeholder::of(offset_of!(Offsets, inode_number))), Some((last, 0)));
        for none in [-1, 0, 0x5fff, placeholder::of(size_of::<Offsets>())] {
            assert_eq!(placeholder::field(none), None, "{none:#x}");
        }
    }
}
