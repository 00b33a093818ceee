//! A task's user stack as it opens a connection, as the kernel programs hand it over. It never enters a recording: what
//! it holds means nothing without the process's memory map.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Values of [`StackDump::how`]. The numbers are part of the recording format.
pub mod how {
    /// In `connect()`.
    pub const CONNECT: u32 = 1;
    /// In `accept()`.
    pub const ACCEPT: u32 = 2;
    /// In the first read of data from an accepted connection.
    pub const READ: u32 = 3;
}

/// Frames that the kernel is asked for.
pub const FRAMES: usize = 64;
/// Bytes of the stack that are copied at most.
pub const COPY: usize = 4096;
/// They are copied in pieces, of which those that can be read stand before those that cannot.
pub const PIECE: usize = 256;

/// Where a task was in its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct StackDump {
    /// A value of [`how`].
    pub how: u32,
    /// Bytes of [`Self::stack`] that were copied.
    pub copied: u32,
    /// `bpf_ktime_get_ns()`.
    pub time_ns: u64,
    /// Socket cookie, never 0.
    pub cookie: u64,
    /// As in [`crate::event::StateChange`].
    pub process_start_ns: u64,
    /// Process id.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// Where the task enters the kernel; 0 where its registers are not known.
    pub ip: u64,
    /// Its stack pointer.
    pub sp: u64,
    /// Its frame pointer, or whatever the program has made of that register.
    pub bp: u64,
    /// What the kernel finds by following frame pointers (`bpf_get_stack`), innermost first; 0 behind the last.
    pub frames: [u64; FRAMES],
    /// The stack from `sp` on.
    pub stack: [u8; COPY],
}

/// Where the programs find a task's registers; set before load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct StackSettings {
    /// Whether the first read stands in for `accept()`.
    pub reads: u32,
    /// A value of [`registers`].
    pub registers: u32,
    /// `task_struct.stack`
    pub task_stack: u32,
    /// `pt_regs.ip`
    pub ip: u32,
    /// `pt_regs.sp`
    pub sp: u32,
    /// `pt_regs.bp`
    pub bp: u32,
    /// Bytes from the beginning of a task's kernel stack to its `pt_regs`.
    pub below: u32,
    /// Always 0.
    pub reserved: u32,
}

impl StackSettings {
    /// Nothing is known.
    pub const NONE: Self =
        Self { reads: 0, registers: 0, task_stack: 0, ip: 0, sp: 0, bp: 0, below: 0, reserved: 0 };
}

/// How registers are found.
pub mod registers {
    /// They are not.
    pub const NONE: u32 = 0;
    /// `bpf_task_pt_regs` (first kernel: 5.15).
    pub const HELPER: u32 = 1;
    /// At the end of the task's kernel stack, where older kernels keep them on this architecture.
    pub const STACK: u32 = 2;
}
