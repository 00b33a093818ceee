//! Other programs, and tcp-trace as a user starts it. What they print goes to files: some of them print millions of lines.

use std::{
    ffi::CStr,
    fs::{self, File},
    io::{BufRead as _, BufReader, Seek as _},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::{
    fs::{MemfdFlags, memfd_create},
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    process::{Pid, Signal, kill_process, set_parent_process_death_signal},
    thread::{UnshareFlags, unshare_unsafe},
};
use tcp_trace_testkit::NetNs;

/// How long a program may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where tracepoints are described.
const TRACEFS: &CStr = c"/sys/kernel/tracing";

/// A program that runs; killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    name: String,
    stdout: File,
    stderr: File,
    ended: bool,
}

/// How one has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    name: String,
    status: ExitStatus,
    stdout: File,
    stderr: File,
}

impl Running {
    /// Starts it where this thread is.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        Self::with(command, Command::spawn)
    }

    /// Starts it in a namespace.
    pub(crate) fn start_in(ns: &NetNs, command: &mut Command) -> Result<Self> {
        Self::with(command, |command| ns.command(command))
    }

    fn with(
        command: &mut Command,
        spawn: impl FnOnce(&mut Command) -> std::io::Result<Child>,
    ) -> Result<Self> {
        let name =
            Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let [out, err] = [nameless()?, nameless()?];
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(err.try_clone()?);
        // SAFETY: between fork and exec the hook makes one system call; it allocates and locks nothing.
        unsafe { command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?)) };
        let child = spawn(command).with_context(|| format!("starting {name}"))?;
        Ok(Self { child, name, stdout: out, stderr: err, ended: false })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a text on standard error.
    pub(crate) fn wait_for(&mut self, text: &str) -> Result<()> {
        let file = self.stderr.try_clone()?;
        self.until(text, || Ok(read(&file)?.contains(text)))
    }

    /// Waits until something is so, as long as this runs.
    pub(crate) fn until(&mut self, what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !is_so()? {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > end {
                self.ended = ended.is_some();
                bail!(
                    "{}: still waiting for {what:?}; it said: {}",
                    self.name,
                    read(&self.stderr)?.trim_end()
                );
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("sending {signal:?} to {}", self.name))
    }

    /// Ends it as Ctrl-C does.
    pub(crate) fn stop(self) -> Result<Ended> {
        self.signal(Signal::INT)?;
        self.wait()
    }

    /// Waits for its end.
    pub(crate) fn wait(self) -> Result<Ended> {
        self.wait_within(PATIENCE)
    }

    pub(crate) fn wait_within(mut self, patience: Duration) -> Result<Ended> {
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.ended = true;
                let (stdout, stderr) = (self.stdout.try_clone()?, self.stderr.try_clone()?);
                return Ok(Ended { name: std::mem::take(&mut self.name), status, stdout, stderr });
            }
            if Instant::now() > end {
                bail!("{} does not end; it said: {}", self.name, read(&self.stderr)?.trim_end());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // SIGTERM first: servers end their workers then, which would outlive a SIGKILL. What cannot be ended stays.
        let _ = self.signal(Signal::TERM);
        let end = Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Ended {
    /// Anything but success is an error.
    pub(crate) fn succeeded(self) -> Result<Self> {
        ensure!(
            self.status.success(),
            "{} ended with {}: {}",
            self.name,
            self.status,
            self.stderr()?.trim_end()
        );
        Ok(self)
    }

    pub(crate) fn stdout(&self) -> Result<String> {
        read(&self.stdout)
    }

    pub(crate) fn stderr(&self) -> Result<String> {
        read(&self.stderr)
    }

    /// The JSON document on standard output.
    pub(crate) fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.stdout()?).with_context(|| format!("what {} printed", self.name))
    }

    /// Each line of standard output, as bytes that may be anything.
    pub(crate) fn each_line(&self, mut take: impl FnMut(&str) -> Result<()>) -> Result<()> {
        let mut file = self.stdout.try_clone()?;
        file.rewind()?;
        for line in BufReader::new(file).split(b'\n') {
            take(&String::from_utf8_lossy(&line?))?;
        }
        Ok(())
    }
}

/// Where a program is.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Gives the command a tracefs, in a mount namespace of its own, where this host has none mounted.
pub(crate) fn with_tracefs(command: &mut Command) -> &mut Command {
    if Path::new("/sys/kernel/tracing/events").exists() {
        return command;
    }
    // SAFETY: between fork and exec the hook makes system calls alone; it allocates and locks nothing.
    unsafe {
        command.pre_exec(|| {
            unshare_unsafe(UnshareFlags::NEWNS)?;
            mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
            Ok(mount(c"tracefs", TRACEFS, c"tracefs", MountFlags::empty(), None)?)
        })
    }
}

/// How often the kernel skipped programs of this process, as its descriptors of them tell (`bpf_prog_show_fdinfo` in
/// kernel/bpf/syscall.c; `recursion_misses` since 5.12, for programs of perf tracepoints since 6.7). `None` if it has none.
pub(crate) fn skipped_programs(pid: u32) -> Option<u64> {
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).ok()?;
    let texts = files.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok());
    let missed = |text: String| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
    };
    texts.filter_map(missed).fold(None, |sum, one| Some(sum.unwrap_or(0) + one))
}

/// The processes whose parent is this one.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let parent = |process: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(|process| parent(*process) == Some(pid)).collect()
}

/// A file in memory: a million lines are a hundred megabytes, and nobody has to remove it.
fn nameless() -> Result<File> {
    let file: OwnedFd = memfd_create(c"output", MemfdFlags::CLOEXEC)?;
    // The writers' own position must not be that of those who read.
    Ok(File::options()
        .read(true)
        .append(true)
        .open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)))?)
}

fn read(file: &File) -> Result<String> {
    use std::os::unix::fs::FileExt as _;
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len())?];
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, done as u64)? {
            0 => break,
            count => done += count,
        }
    }
    bytes.truncate(done);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
