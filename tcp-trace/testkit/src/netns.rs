//! Fresh network namespaces, made and entered without the `ip` program and without moving the
//! caller: a namespace belongs to a thread, so helper threads do the entering.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::iface;

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;

/// A network namespace of our own, with `lo` up.
///
/// Clones share it. The kernel removes it when the last clone, socket, TUN descriptor and process
/// in it are gone.
#[derive(Clone, Debug)]
pub struct NetNs {
    fd: Arc<OwnedFd>,
    inum: u32,
}

impl NetNs {
    /// Makes a namespace and brings its `lo` up. The calling thread stays where it is.
    ///
    /// # Errors
    /// `PermissionDenied` without `CAP_SYS_ADMIN`; whatever the kernel says otherwise.
    pub fn new() -> io::Result<Self> {
        let fd = on_thread("netns-new", || -> io::Result<OwnedFd> {
            // SAFETY: NEWNET leaves memory and descriptors of this thread shared as they were.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
            iface::up("lo")?;
            Ok(File::open("/proc/thread-self/ns/net")?.into())
        })?;
        // The kernel keeps this inode number in a u32 (`ns_common.inum`).
        let inum = u32::try_from(rustix::fs::fstat(&fd)?.st_ino).map_err(io::Error::other)?;
        Ok(Self { fd: Arc::new(fd), inum })
    }

    /// The namespace that a process is in.
    ///
    /// # Errors
    /// When there is no such process, or it may not be looked at.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        let fd: OwnedFd = File::open(format!("/proc/{pid}/ns/net"))?.into();
        let inum = u32::try_from(rustix::fs::fstat(&fd)?.st_ino).map_err(io::Error::other)?;
        Ok(Self { fd: Arc::new(fd), inum })
    }

    /// The namespace's inode number: what `readlink /proc/PID/ns/net` shows and BPF reads as `ns.inum`.
    #[must_use]
    pub fn inum(&self) -> u32 {
        self.inum
    }

    /// Moves the calling thread into the namespace, for good.
    fn enter(&self) -> io::Result<()> {
        Ok(move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))?)
    }

    /// Runs `work` on a thread inside the namespace and returns its result.
    ///
    /// Threads that `work` starts are inside as well. Do not start child processes with
    /// `PR_SET_PDEATHSIG` from it: they would die with the thread (see [`NetNs::command`]).
    ///
    /// # Panics
    /// With `work`'s own panic, or when the namespace cannot be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_thread("netns-run", || {
            if let Err(error) = self.enter() {
                panic!("cannot enter network namespace {}: {error}", self.inum);
            }
            work()
        })
    }

    /// Starts a long-lived thread inside the namespace.
    ///
    /// # Errors
    /// When no thread can be made. A failure to enter the namespace panics in the new thread.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        let ns = self.clone();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Err(error) = ns.enter() {
                panic!("cannot enter network namespace {}: {error}", ns.inum);
            }
            work()
        })
    }

    /// Starts `command` as a child process inside the namespace, from the calling thread.
    ///
    /// Each call adds one more hook to `command`: use a fresh `Command` for each child.
    ///
    /// # Errors
    /// Those of `Command::spawn`; also when the child cannot enter the namespace.
    pub fn command(&self, command: &mut Command) -> io::Result<Child> {
        let ns = self.clone();
        // SAFETY: between fork and exec the hook makes one system call; it allocates and locks nothing.
        unsafe { command.pre_exec(move || ns.enter()) };
        command.spawn()
    }

    /// Sets a network sysctl of this namespace, e.g. `("net.ipv4.tcp_synack_retries", 1)`.
    ///
    /// Per namespace, hence usable here: all of `net.ipv4.tcp_{synack_retries, syn_retries, syncookies,
    /// fin_timeout, max_syn_backlog, max_tw_buckets, tw_reuse, timestamps, fastopen, retries2, rfc1337,
    /// abort_on_overflow, no_metrics_save}`, `net.ipv4.ip_local_port_range`, `net.core.somaxconn`, and
    /// `net.{ipv4,ipv6}.conf.IFACE.*`. A machine-wide sysctl (`net.ipv4.tcp_mem`, …) does not exist inside
    /// a namespace or is read-only there, so the host cannot be changed by mistake.
    ///
    /// # Errors
    /// `InvalidInput` for a name outside `net.`; `NotFound` when the sysctl is not per namespace or
    /// unknown to this kernel; `InvalidInput` when the kernel refuses the value.
    pub fn sysctl(&self, name: &str, value: impl Display) -> io::Result<()> {
        let value = value.to_string();
        let path = sysctl_path(name)?;
        self.run(|| fs::write(&path, &value)).map_err(|error| about(&error, &format!("{path} = {value}")))
    }

    /// Reads a network sysctl of this namespace, without the final newline.
    ///
    /// # Errors
    /// As [`NetNs::sysctl`].
    pub fn read_sysctl(&self, name: &str) -> io::Result<String> {
        let path = sysctl_path(name)?;
        let value = self.run(|| fs::read_to_string(&path)).map_err(|error| about(&error, &path))?;
        Ok(value.trim_end().to_owned())
    }
}

/// Runs `work` on a scoped thread and hands its panic on.
fn on_thread<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, work);
        match worker.map(thread::ScopedJoinHandle::join) {
            Ok(Ok(value)) => value,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => panic!("cannot start thread {name}: {error}"),
        }
    })
}

fn sysctl_path(name: &str) -> io::Result<String> {
    let plain = |part: &str| !part.is_empty() && !part.contains('/');
    if !name.starts_with("net.") || !name.split('.').all(plain) {
        return Err(io::Error::new(ErrorKind::InvalidInput, format!("not a network sysctl: {name:?}")));
    }
    Ok(format!("/proc/sys/{}", name.replace('.', "/")))
}

/// `error` with what it was about in front, its kind kept.
pub(crate) fn about(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Whether this process may do what the library does.
///
/// # Errors
/// Everything that is lacking, as one sentence fit for a skipped test's reason.
pub fn require_root() -> Result<(), String> {
    let mut lacking = Vec::new();
    let euid = rustix::process::geteuid().as_raw();
    if euid != 0 {
        lacking.push(format!("root (euid is {euid})"));
    }
    let capabilities = effective_capabilities();
    for (bit, name) in [(CAP_SYS_ADMIN, "CAP_SYS_ADMIN"), (CAP_NET_ADMIN, "CAP_NET_ADMIN")] {
        if capabilities & (1 << bit) == 0 {
            lacking.push(name.to_owned());
        }
    }
    if let Err(error) = File::options().read(true).write(true).open("/dev/net/tun") {
        lacking.push(format!("/dev/net/tun ({error})"));
    }
    if lacking.is_empty()
        && let Err(error) = NetNs::new()
    {
        lacking.push(format!("a new network namespace ({error})"));
    }
    if lacking.is_empty() { Ok(()) } else { Err(format!("needs {}", lacking.join(", "))) }
}

fn effective_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctl_names_stay_below_proc_sys_net() {
        assert_eq!(sysctl_path("net.ipv4.tcp_fin_timeout").unwrap(), "/proc/sys/net/ipv4/tcp_fin_timeout");
        for bad in ["kernel.panic", "net", "net.../etc", "net.a/../../b", "net.ipv4."] {
            assert_eq!(sysctl_path(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }
}
