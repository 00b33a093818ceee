//! Filters of system calls (seccomp(2)): a list of what is allowed, because that is what can be known.
//!
//! What is not on it is answered with EPERM, and what is newer than the list with ENOSYS, upon which libraries fall back
//! on what is older. Neither ends the process: a call that nobody thought of must not take an instrument away from whoever
//! is looking at it.

use std::{collections::BTreeSet, io, iter::once};

use libc::{c_long, sock_filter};

use super::NotConfined;

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// What all threads may call, the ones that run already included.
    Base,
    /// For a thread that reads what other processes show: it opens nothing for writing, and talks to the kernel only.
    ReadOnly,
}

/// `AUDIT_ARCH_*` (`include/uapi/linux/audit.h`) of this build; `None` where the numbers of calls are not known here.
const ARCH: Option<u32> = if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
    Some(0xc000_003e)
} else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
    Some(0xc000_00b7)
} else {
    None
};

/// Whether there is a filter for the architecture of this build.
#[must_use]
pub fn is_known_here() -> bool {
    ARCH.is_some()
}

/// Calls that came after those that libc knows by name, numbered alike on every architecture.
mod newer {
    use libc::c_long;

    pub(super) const CLOSE_RANGE: c_long = 436;
    pub(super) const OPENAT2: c_long = 437;
    pub(super) const FACCESSAT2: c_long = 439;
    pub(super) const EPOLL_PWAIT2: c_long = 441;
    pub(super) const LANDLOCK: [c_long; 3] = [444, 445, 446];
    pub(super) const FUTEXES: [c_long; 4] = [449, 454, 455, 456];
    pub(super) const FCHMODAT2: c_long = 452;
    /// The last that this list was made with (6.18).
    pub(super) const LAST: u32 = 470;
}

/// Calls that libc knows by name on some architectures and some of its builds only.
mod unnamed {
    use libc::c_long;

    const X86: bool = cfg!(target_arch = "x86_64");
    pub(super) const RENAMEAT: c_long = if X86 { 264 } else { 38 };
    pub(super) const SYNC_FILE_RANGE: c_long = if X86 { 277 } else { 84 };
    pub(super) const GETRLIMIT: c_long = if X86 { 97 } else { 163 };
}

/// Of every architecture: files, memory, threads, time, sockets, the kernel's programs.
#[rustfmt::skip]
const ALLOWED: &[c_long] = &[
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64, libc::SYS_pwrite64,
    libc::SYS_preadv, libc::SYS_pwritev, libc::SYS_openat, libc::SYS_close, newer::CLOSE_RANGE, libc::SYS_lseek,
    libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx, libc::SYS_statfs, libc::SYS_fstatfs, libc::SYS_faccessat,
    newer::FACCESSAT2, libc::SYS_readlinkat, libc::SYS_getdents64, libc::SYS_fcntl, libc::SYS_flock, libc::SYS_ioctl,
    libc::SYS_fsync, libc::SYS_fdatasync, unnamed::SYNC_FILE_RANGE, libc::SYS_ftruncate, libc::SYS_truncate,
    libc::SYS_fallocate, libc::SYS_fadvise64, libc::SYS_readahead, unnamed::RENAMEAT, libc::SYS_renameat2,
    libc::SYS_unlinkat, libc::SYS_mkdirat, libc::SYS_linkat, libc::SYS_symlinkat, libc::SYS_fchmod, libc::SYS_fchmodat,
    newer::FCHMODAT2, libc::SYS_umask, libc::SYS_getcwd, libc::SYS_dup, libc::SYS_dup3, libc::SYS_pipe2,
    libc::SYS_copy_file_range, libc::SYS_sendfile, libc::SYS_splice, libc::SYS_memfd_create,
    libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mprotect, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_brk,
    libc::SYS_msync, libc::SYS_mincore, libc::SYS_membarrier,
    libc::SYS_clone, libc::SYS_clone3, libc::SYS_exit, libc::SYS_exit_group, libc::SYS_futex, newer::FUTEXES[0],
    newer::FUTEXES[1], newer::FUTEXES[2], newer::FUTEXES[3], libc::SYS_set_robust_list, libc::SYS_get_robust_list,
    libc::SYS_rseq, libc::SYS_set_tid_address, libc::SYS_gettid, libc::SYS_getpid, libc::SYS_getppid, libc::SYS_getuid,
    libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid, libc::SYS_getpgid, libc::SYS_getsid, libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity, libc::SYS_restart_syscall, libc::SYS_prctl, libc::SYS_capget, libc::SYS_capset,
    libc::SYS_seccomp, newer::LANDLOCK[0], newer::LANDLOCK[1], newer::LANDLOCK[2], libc::SYS_setns,
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigsuspend, libc::SYS_rt_sigpending, libc::SYS_sigaltstack, libc::SYS_kill, libc::SYS_tgkill,
    libc::SYS_tkill, libc::SYS_signalfd4,
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_clock_nanosleep, libc::SYS_nanosleep,
    libc::SYS_gettimeofday, libc::SYS_times, libc::SYS_timerfd_create, libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, newer::EPOLL_PWAIT2, libc::SYS_eventfd2,
    libc::SYS_ppoll, libc::SYS_pselect6,
    libc::SYS_socket, libc::SYS_socketpair, libc::SYS_connect, libc::SYS_accept, libc::SYS_accept4, libc::SYS_bind,
    libc::SYS_listen, libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_getsockopt, libc::SYS_setsockopt,
    libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_sendmmsg, libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    libc::SYS_bpf,
    libc::SYS_uname, libc::SYS_sysinfo, unnamed::GETRLIMIT, libc::SYS_prlimit64, libc::SYS_getrusage,
    libc::SYS_getrandom, libc::SYS_getcpu, libc::SYS_wait4,
];

/// The older forms of some, which x86-64 has kept.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED_TOO: &[c_long] = &[
    libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink, libc::SYS_getdents,
    libc::SYS_pipe, libc::SYS_dup2, libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_create, libc::SYS_epoll_wait,
    libc::SYS_eventfd, libc::SYS_rename, libc::SYS_unlink, libc::SYS_mkdir, libc::SYS_rmdir, libc::SYS_link,
    libc::SYS_symlink, libc::SYS_chmod, libc::SYS_creat, libc::SYS_time, libc::SYS_pause, libc::SYS_getpgrp,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_TOO: &[c_long] = &[];

/// What whoever only reads does not call.
#[rustfmt::skip]
const WRITES: &[c_long] = &[
    libc::SYS_truncate, unnamed::RENAMEAT, libc::SYS_renameat2, libc::SYS_unlinkat, libc::SYS_mkdirat,
    libc::SYS_linkat, libc::SYS_symlinkat, libc::SYS_fchmod, libc::SYS_fchmodat, newer::FCHMODAT2, newer::OPENAT2,
    libc::SYS_connect, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4,
];
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const WRITES_TOO: &[c_long] = &[
    libc::SYS_rename, libc::SYS_unlink, libc::SYS_mkdir, libc::SYS_rmdir, libc::SYS_link, libc::SYS_symlink,
    libc::SYS_chmod, libc::SYS_creat,
];
#[cfg(not(target_arch = "x86_64"))]
const WRITES_TOO: &[c_long] = &[];

/// `SECCOMP_SET_MODE_FILTER`, `SECCOMP_FILTER_FLAG_*` (`include/uapi/linux/seccomp.h`).
const SET_MODE_FILTER: u32 = 1;
const ALL_THREADS: u32 = 1;
const LOG: u32 = 2;

/// Puts a filter before those that are in force.
pub(super) fn install(filter: Filter) -> Result<(), NotConfined> {
    let Some(arch) = ARCH else {
        return Err(NotConfined::Lacking("there is a list of calls for x86-64 and aarch64 only"));
    };
    let mut program = match filter {
        Filter::Base => base(arch),
        Filter::ReadOnly => read_only(arch),
    };
    let threads = if filter == Filter::Base { ALL_THREADS } else { 0 };
    let answer = set(&mut program, threads | log_flag())?;
    if answer != 0 {
        return Err(io::Error::other(format!("thread {answer} has a filter of its own")).into());
    }
    Ok(())
}

/// With -v what is refused goes into the kernel's log, too.
fn log_flag() -> u32 {
    if log::log_enabled!(log::Level::Info) { LOG } else { 0 }
}

fn set(program: &mut [sock_filter], flags: u32) -> Result<c_long, NotConfined> {
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: a program of that many instructions, which the kernel copies.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const program) };
    if answer >= 0 {
        return Ok(answer);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EINVAL) => {
            Err(NotConfined::Lacking("this kernel has no filters of system calls (CONFIG_SECCOMP_FILTER)"))
        }
        _ => Err(error.into()),
    }
}

/// Where `struct seccomp_data` has the number of the call, the architecture, and the low half of an argument.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();

fn load(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, (0, 0), offset)
}

fn answer(with: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, (0, 0), with)
}

/// Jumps over so many instructions if it holds, and if not.
fn jump(test: u32, jumps: (u8, u8), than: u32) -> sock_filter {
    instruction(libc::BPF_JMP | test | libc::BPF_K, jumps, than)
}

fn instruction(code: u32, (jt, jf): (u8, u8), k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

/// Refuses calls of other architectures, whose numbers mean something else.
fn head(arch: u32) -> [sock_filter; 4] {
    [load(ARCHITECTURE), jump(libc::BPF_JEQ, (1, 0), arch), answer(REFUSE), load(NUMBER)]
}

/// Goes up through the numbers: at each one where the answer changes, whatever is below it has the answer so far. The kernel
/// asks once for each call whose answer is the same whatever its arguments, and remembers it (since 5.11).
fn base(arch: u32) -> Vec<sock_filter> {
    let numbers = |list: &[c_long]| -> BTreeSet<u32> {
        list.iter().filter_map(|number| u32::try_from(*number).ok()).collect()
    };
    let mut allowed = numbers(ALLOWED);
    allowed.append(&mut numbers(ALLOWED_TOO));
    let mut program: Vec<_> = head(arch).into();
    let mut below = |bound: u32, with: u32| {
        program.extend([jump(libc::BPF_JGE, (1, 0), bound), answer(with)]);
    };
    let mut end = 0;
    for number in allowed {
        if number != end {
            if end != 0 {
                below(end, ALLOW);
            }
            below(number, REFUSE);
        }
        end = number + 1;
    }
    below(end, ALLOW);
    below(newer::LAST + 1, REFUSE);
    program.push(answer(UNKNOWN));
    program
}

fn read_only(arch: u32) -> Vec<sock_filter> {
    let mut program: Vec<_> = head(arch).into();
    for number in WRITES.iter().chain(WRITES_TOO) {
        // Its flags stand where no filter can read them; without it there is openat.
        let with = if *number == newer::OPENAT2 { UNKNOWN } else { REFUSE };
        let number = u32::try_from(*number).unwrap_or(u32::MAX);
        program.extend([jump(libc::BPF_JEQ, (0, 1), number), answer(with)]);
    }
    for (number, index) in opens() {
        program.extend([
            jump(libc::BPF_JEQ, (0, 4), number),
            load(argument(index)),
            jump(libc::BPF_JSET, (0, 1), CHANGES),
            answer(REFUSE),
            answer(ALLOW),
        ]);
    }
    let socket = u32::try_from(libc::SYS_socket).unwrap_or(u32::MAX);
    program.extend([
        jump(libc::BPF_JEQ, (0, 3), socket),
        load(argument(0)),
        jump(libc::BPF_JEQ, (1, 0), libc::AF_NETLINK.cast_unsigned()),
        answer(REFUSE),
    ]);
    program.push(answer(ALLOW));
    program
}

/// Flags of open(2) that a file can be changed or made with.
const CHANGES: u32 =
    (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND).cast_unsigned();

/// The calls that open files, and which of their arguments has the flags.
fn opens() -> impl Iterator<Item = (u32, u32)> {
    #[cfg(target_arch = "x86_64")]
    let older = Some((libc::SYS_open, 1));
    #[cfg(not(target_arch = "x86_64"))]
    let older = None;
    once((libc::SYS_openat, 2))
        .chain(older)
        .filter_map(|(number, index): (c_long, u32)| Some((u32::try_from(number).ok()?, index)))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        net::TcpStream,
        process::{Command, Stdio},
        thread,
    };

    use super::*;

    /// What the kernel would make of a call.
    fn judge(program: &[sock_filter], number: c_long, arguments: [u32; 3]) -> u32 {
        let (mut at, mut word) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let code = u32::from(code);
            if code == libc::BPF_RET | libc::BPF_K {
                return k;
            } else if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS {
                word = match k {
                    NUMBER => number as u32,
                    ARCHITECTURE => ARCH.unwrap(),
                    offset => arguments[((offset - 16) / 8) as usize],
                };
            } else {
                let holds = match code & !(libc::BPF_JMP | libc::BPF_K) {
                    libc::BPF_JEQ => word == k,
                    libc::BPF_JGE => word >= k,
                    libc::BPF_JSET => word & k != 0,
                    other => panic!("{other}"),
                };
                at += usize::from(if holds { jt } else { jf });
            }
        }
    }

    #[test]
    fn the_list_is_what_is_allowed() {
        let Some(arch) = ARCH else { return };
        let program = base(arch);
        assert!(program.len() < 400, "{}", program.len());
        for number in 0..=c_long::from(newer::LAST) {
            let listed = ALLOWED.contains(&number) || ALLOWED_TOO.contains(&number);
            let expected = if listed { ALLOW } else { REFUSE };
            assert_eq!(judge(&program, number, [0; 3]), expected, "{number}");
        }
        assert_eq!(judge(&program, c_long::from(newer::LAST) + 1, [0; 3]), UNKNOWN);
        // The x32 form of read(2).
        assert_eq!(judge(&program, 0x4000_0000, [0; 3]), UNKNOWN);
        for worst in
            [libc::SYS_execve, libc::SYS_ptrace, libc::SYS_mount, libc::SYS_init_module, libc::SYS_setuid]
        {
            assert_eq!(judge(&program, worst, [0; 3]), REFUSE);
        }
    }

    #[test]
    fn who_reads_opens_nothing_for_writing() {
        let Some(arch) = ARCH else { return };
        let program = read_only(arch);
        let openat = |flags: i32| judge(&program, libc::SYS_openat, [0, 0, flags.cast_unsigned()]);
        assert_eq!(openat(libc::O_RDONLY | libc::O_CLOEXEC | libc::O_DIRECTORY | libc::O_PATH), ALLOW);
        for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TMPFILE | libc::O_RDWR] {
            assert_eq!(openat(flags), REFUSE, "{flags:o}");
        }
        let socket = |family: i32| judge(&program, libc::SYS_socket, [family.cast_unsigned(), 0, 0]);
        assert_eq!([libc::AF_NETLINK, libc::AF_INET, libc::AF_UNIX].map(socket), [ALLOW, REFUSE, REFUSE]);
        assert_eq!(judge(&program, newer::OPENAT2, [0; 3]), UNKNOWN);
        assert_eq!(judge(&program, libc::SYS_read, [0; 3]), ALLOW);
        assert_eq!(judge(&program, libc::SYS_unlinkat, [0; 3]), REFUSE);
    }

    #[test]
    fn the_kernel_takes_both() {
        if ARCH.is_none() {
            return;
        }
        // A thread of its own, which nothing else of the tests comes to run on.
        let confined = thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            let mut programs = [base(ARCH.unwrap()), read_only(ARCH.unwrap())];
            for program in &mut programs {
                match set(program, 0) {
                    Ok(answer) => assert_eq!(answer, 0),
                    Err(NotConfined::Lacking(_)) => return,
                    Err(NotConfined::Failed(error)) => panic!("{error}"),
                }
            }
            assert!(File::open("/etc/passwd").is_ok());
            let denied = |error: io::Error| assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
            denied(File::options().write(true).open("/dev/null").unwrap_err());
            denied(TcpStream::connect("127.0.0.1:1").unwrap_err());
            denied(Command::new("true").stdin(Stdio::inherit()).spawn().unwrap_err());
        });
        confined.join().unwrap();
    }
}
