//! The user stack of a task that opens a connection, for `--stacks`. These programs live in an object of their own, so
//! that `UNCLAIMED` is a set of their own there.
//!
//! The kernel follows frame pointers. The C library's own functions have none: they would hide who has called them. So the
//! registers and the end of the stack go along, for user space to unwind from.

use aya_ebpf::{
    bindings::{BPF_F_USER_STACK, BPF_RB_NO_WAKEUP},
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_get_current_task_btf, bpf_get_stack, bpf_probe_read_user, bpf_task_pt_regs},
    },
};
use tcp_trace_common::stack::{COPY, FRAMES, PIECE, StackDump, registers};

use crate::{
    emit,
    kernel::{Task, TcpSock, peek},
    maps::{CPUS, DUMPS, global},
};

/// Emits the current task's stack, whatever the filter: user space decides. Without room for it, it is counted. `context`
/// is the program's.
#[inline(always)]
pub(crate) fn emit(context: *mut core::ffi::c_void, how: u32, tcp: TcpSock) {
    let current = Task::current();
    let cookie = tcp.common().cookie();
    if current.is_kernel_thread() || cookie == 0 {
        return;
    }
    let Some(mut entry) = DUMPS.reserve::<StackDump>(0) else {
        if let Some(cpu) = CPUS.get_ptr_mut(0) {
            // SAFETY: this CPU's value.
            emit::bump(unsafe { &raw mut (*cpu).counters.side_lost });
        }
        return;
    };
    let (ip, sp, bp) = user_registers(current);
    let dump = entry.as_mut_ptr();
    // SAFETY: `dump` points to a reserved record of this type. The stores below and the helpers, which fill with zeros
    // what they cannot read, write every byte of it that `copied` and the first zero among the frames do not exclude.
    unsafe {
        (*dump).how = how;
        (*dump).time_ns = bpf_ktime_get_ns();
        (*dump).cookie = cookie;
        (*dump).process_start_ns = current.group_leader().start_ns();
        (*dump).tgid = current.tgid();
        (*dump).tid = current.tid();
        ((*dump).ip, (*dump).sp, (*dump).bp) = (ip, sp, bp);
        let frames = (&raw mut (*dump).frames).cast();
        if bpf_get_stack(context, frames, (FRAMES * 8) as u32, BPF_F_USER_STACK.into()) < 0 {
            (*dump).frames[0] = 0;
        }
        (*dump).copied = copy((&raw mut (*dump).stack).cast(), sp);
    }
    entry.submit(BPF_RB_NO_WAKEUP.into());
}

/// Copies the stack from `sp` on, and returns how many bytes of it could be read: none beyond its end.
///
/// # Safety
///
/// `to` must be as long as the copy.
#[inline(always)]
unsafe fn copy(to: *mut u8, sp: u64) -> u32 {
    let mut copied = 0;
    while sp != 0 && copied < COPY {
        // SAFETY: inside of it, by the caller's contract; the helper checks the other address.
        let (piece, from) = (unsafe { to.add(copied) }, (sp + copied as u64) as *const core::ffi::c_void);
        // SAFETY: as above.
        if unsafe { bpf_probe_read_user(piece.cast(), PIECE as u32, from) } < 0 {
            break;
        }
        copied += PIECE;
    }
    copied as u32
}

/// Instruction, stack and frame pointer of the current task as it entered the kernel; 0 where they are not known.
#[inline(always)]
fn user_registers(current: Task) -> (u64, u64, u64) {
    let registers = match global!(STACKS.registers) {
        // SAFETY: the current task, BTF-typed.
        registers::HELPER => unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as u64 },
        registers::STACK => {
            let stack: u64 = peek(current.address(), global!(STACKS.task_stack));
            stack + u64::from(global!(STACKS.below))
        }
        _ => return (0, 0, 0),
    };
    (
        peek(registers, global!(STACKS.ip)),
        peek(registers, global!(STACKS.sp)),
        peek(registers, global!(STACKS.bp)),
    )
}
