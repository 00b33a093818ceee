//! `struct task_struct`.

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_get_current_task_btf};

use super::{Loadable as _, peek, peek_member, placeholder};
use crate::maps::global;

/// A task: a BTF-typed pointer where `bpf_get_current_task_btf` exists (first kernel: 5.11), else an address.
#[derive(Clone, Copy)]
pub(crate) struct Task(*const u8);

/// Reads a member in whichever way the pointer allows; the verifier removes the other one.
macro_rules! task_member {
    ($task:expr, $member:ident: $type:ty) => {
        if global!(SETTINGS.task_btf) == 0 {
            peek_member!($task as u64, $member: $type)
        } else {
            super::member!($task, $member: $type)
        }
    };
}

impl Task {
    /// The current task.
    #[inline(always)]
    pub(crate) fn current() -> Self {
        if global!(SETTINGS.task_btf) == 0 {
            // SAFETY: takes nothing, returns the address of the current task.
            return Self(unsafe { bpf_get_current_task() } as *const u8);
        }
        // SAFETY: takes nothing, returns the BTF-typed current task.
        Self(unsafe { bpf_get_current_task_btf() }.cast())
    }

    /// The kernel address.
    #[inline(always)]
    pub(crate) fn address(self) -> u64 {
        self.0 as u64
    }

    /// Bit `PF_KTHREAD` of `flags` (`include/linux/sched.h`).
    #[inline(always)]
    pub(crate) fn is_kernel_thread(self) -> bool {
        const PF_KTHREAD: u32 = 0x0020_0000;
        task_member!(self.0, task_flags: u32) & PF_KTHREAD != 0
    }

    /// Thread id.
    #[inline(always)]
    pub(crate) fn tid(self) -> u32 {
        task_member!(self.0, task_pid: u32)
    }

    /// Process id.
    #[inline(always)]
    pub(crate) fn tgid(self) -> u32 {
        task_member!(self.0, task_tgid: u32)
    }

    /// The process's first thread, whose name and start are the process's.
    #[inline(always)]
    pub(crate) fn group_leader(self) -> Self {
        if global!(SETTINGS.task_btf) == 0 {
            Self(peek_member!(self.0 as u64, task_group_leader: u64) as *const u8)
        } else {
            Self(super::member!(self.0, task_group_leader: *const u8))
        }
    }

    /// Start, nanoseconds since boot.
    #[inline(always)]
    pub(crate) fn start_ns(self) -> u64 {
        task_member!(self.0, task_start: u64)
    }

    /// Name, as its two halves in memory order.
    #[inline(always)]
    pub(crate) fn comm(self) -> [u64; 2] {
        if global!(SETTINGS.task_btf) == 0 {
            return peek(self.0 as u64, global!(OFFSETS.task_comm));
        }
        const AT: i16 = placeholder!(task_comm);
        // SAFETY: `comm` is `char[16]`, which the verifier lets be read in aligned words.
        unsafe { [u64::load::<AT>(self.0), u64::load::<{ AT + 8 }>(self.0)] }
    }
}
