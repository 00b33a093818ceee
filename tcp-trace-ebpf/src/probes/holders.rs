//! `iter/task_file` (first kernel 5.8): every descriptor of every process that is a socket.
//!
//! Not a hook: it runs when user space reads. The kernel leaves out threads that share their process's descriptors
//! (since 5.10); of a thread that has its own, the process is told.

use aya_ebpf::helpers::generated::bpf_seq_write;

use crate::kernel::member;

/// `struct bpf_iter__task_file` (`kernel/bpf/task_iter.c`).
#[repr(C)]
struct Context {
    /// A `struct bpf_iter_meta *`, whose first member is the file that is read.
    meta: *const *mut u8,
    task: *const u8,
    fd: u32,
    file: *const u8,
}

/// What user space reads: `tcp_trace_core::survey::Holder`.
#[repr(C)]
struct Row {
    inode: u32,
    pid: u32,
    fd: u32,
}

/// # Safety
///
/// The kernel passes the context.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
unsafe extern "C" fn holders(ctx: *mut Context) -> i32 {
    // SAFETY: the context of this program; these are plain context loads.
    let (task, file) = unsafe { ((*ctx).task, (*ctx).file) };
    // Both are NULL at the end.
    if task.is_null() || file.is_null() {
        return 0;
    }
    let inode = member!(file, file_inode: *const u8);
    let mode = member!(inode, inode_mode: u16);
    // A file without anything behind it is a name of a unix socket, opened with O_PATH: its inode is on a disk.
    let socket = member!(file, file_private: *const u8);
    if !is_socket(mode) || socket.is_null() {
        return 0;
    }
    // sockfs numbers its inodes in 32 bits (`get_next_ino`, `fs/inode.c`).
    let inode = member!(inode, inode_number: u64) as u32;
    // SAFETY: as above.
    let fd = unsafe { (*ctx).fd };
    let row = Row { inode, pid: member!(task, task_tgid: u32), fd };
    // SAFETY: as above; the helper copies the row.
    unsafe {
        bpf_seq_write((*(*ctx).meta).cast(), (&raw const row).cast_mut().cast(), size_of::<Row>() as u32);
    }
    0
}

/// `S_ISSOCK` (`include/uapi/linux/stat.h`).
#[inline(always)]
fn is_socket(mode: u16) -> bool {
    mode & 0o170_000 == 0o140_000
}
