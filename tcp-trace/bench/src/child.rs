//! Programs under measurement, started as a user starts them.

use std::{
    ffi::CStr,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    process::{Pid, Signal, kill_process, set_parent_process_death_signal},
    thread::{CpuSet, UnshareFlags, sched_setaffinity, unshare_unsafe},
};

use crate::programs;

/// How long a program may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where tracepoints are described; the kernel makes the folder, somebody has to mount the rest.
const TRACEFS: &CStr = c"/sys/kernel/tracing";

/// How a program is started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    /// Whether its standard output is wanted.
    pub(crate) stdout: bool,
    /// On the first CPU alone.
    pub(crate) one_cpu: bool,
    /// With tracefs, in a mount namespace of its own where this host has none mounted.
    pub(crate) tracefs: bool,
}

/// A program that runs.
pub(crate) struct Running {
    child: Child,
    name: String,
    began: Instant,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Receiver<String>,
    /// Lines of standard error that came so far.
    said: Vec<String>,
    ended: bool,
}

/// How a program has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<String>,
    /// Processor time, in the kernel and outside.
    pub(crate) cpu: Duration,
    /// From the start to the end.
    pub(crate) wall: Duration,
}

impl Running {
    pub(crate) fn start(program: &Path, arguments: &[&str], options: Options) -> Result<Self> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stderr(Stdio::piped());
        command.stdout(if options.stdout { Stdio::piped() } else { Stdio::null() });
        let mount_tracefs = options.tracefs && !Path::new("/sys/kernel/tracing/events").exists();
        // SAFETY: between fork and exec the hook makes system calls alone; it allocates and locks nothing.
        unsafe { command.pre_exec(move || prepare(options.one_cpu, mount_tracefs)) };
        let began = Instant::now();
        let mut child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        let stdout = child.stdout.take().map(|mut pipe| {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                // What came before an error is as good as ever; the program's own status tells the rest.
                let _ = pipe.read_to_end(&mut bytes);
                bytes
            })
        });
        let (sender, stderr) = channel();
        if let Some(pipe) = child.stderr.take() {
            thread::spawn(move || {
                let lines = BufReader::new(pipe).lines().map_while(Result::ok);
                lines.take_while(|line| sender.send(line.clone()).is_ok()).count()
            });
        }
        Ok(Self { child, name, began, stdout, stderr, said: Vec::new(), ended: false })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line with this text on standard error; returns how long after the start it came.
    pub(crate) fn wait_for(&mut self, text: &str) -> Result<Duration> {
        loop {
            let left = PATIENCE.saturating_sub(self.began.elapsed());
            let Ok(line) = self.stderr.recv_timeout(left) else {
                bail!("{} did not say {text:?}, but: {}", self.name, self.said.join("; "));
            };
            let found = line.contains(text);
            self.said.push(line);
            if found {
                return Ok(self.began.elapsed());
            }
        }
    }

    /// Waits until it has loaded a BPF program, and for a moment that it needs to attach it.
    pub(crate) fn wait_for_programs(&mut self) -> Result<()> {
        const ATTACHING: Duration = Duration::from_millis(700);
        while programs::of_process(self.pid()).is_ok_and(|programs| programs.is_empty()) {
            let left = PATIENCE.saturating_sub(self.began.elapsed());
            if left.is_zero() || self.child.try_wait()?.is_some() {
                self.said.extend(self.stderr.try_iter());
                bail!("{} loads no program: {}", self.name, self.said.join("; "));
            }
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(ATTACHING);
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("sending {signal:?} to {}", self.name))
    }

    /// A line of `/proc/PID/status`, in KiB: `VmRSS`, `VmHWM`.
    pub(crate) fn memory_kib(&self, key: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    }

    /// Ends it as Ctrl-C does.
    pub(crate) fn stop(self) -> Result<Ended> {
        self.signal(Signal::INT)?;
        self.wait()
    }

    /// Ends a program whose last words nobody wants: as Ctrl-C does, and by force if it does not listen.
    pub(crate) fn end(self) -> Result<Ended> {
        const TO_LISTEN: Duration = Duration::from_secs(5);
        self.signal(Signal::INT)?;
        let began = Instant::now();
        while fs::read_to_string(format!("/proc/{}/stat", self.pid()))
            .is_ok_and(|stat| !stat.contains(") Z "))
        {
            if began.elapsed() > TO_LISTEN {
                self.signal(Signal::KILL)?;
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.wait()
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Result<Ended> {
        let deadline = Instant::now() + PATIENCE;
        let (status, cpu) = loop {
            if let Some(end) = reap(self.child.id())? {
                break end;
            }
            if Instant::now() > deadline {
                self.said.extend(self.stderr.try_iter());
                bail!("{} does not end; it said: {}", self.name, self.said.join("; "));
            }
            thread::sleep(Duration::from_millis(1));
        };
        self.ended = true;
        let wall = self.began.elapsed();
        let stdout = self.stdout.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let mut stderr = std::mem::take(&mut self.said);
        stderr.extend(self.stderr.iter());
        Ok(Ended { status, stdout, stderr, cpu, wall })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            // It has ended already, or nothing better can be done.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Ended {
    /// The JSON document that it printed.
    pub(crate) fn json(&self) -> Result<serde_json::Value> {
        if !self.status.success() {
            bail!("it ended with {}: {}", self.status, self.stderr.join("; "));
        }
        serde_json::from_slice(&self.stdout).context("reading what it printed")
    }
}

/// What a child does before it becomes the program.
fn prepare(one_cpu: bool, mount_tracefs: bool) -> std::io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if one_cpu {
        let mut cpus = CpuSet::new();
        cpus.set(0);
        sched_setaffinity(None, &cpus)?;
    }
    if mount_tracefs {
        // SAFETY: this process has one thread and is about to become another program.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS)? };
        mount_change(c"/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
        mount(c"tracefs", TRACEFS, c"tracefs", MountFlags::empty(), None)?;
        // bpftrace and libbpf of old look here alone; it may be there or not be permitted.
        let _ = mount(c"debugfs", c"/sys/kernel/debug", c"debugfs", MountFlags::empty(), None);
    }
    Ok(())
}

/// The status and the processor time of a child, if it has ended.
fn reap(pid: u32) -> Result<Option<(ExitStatus, Duration)>> {
    let pid = libc::pid_t::try_from(pid)?;
    let mut status = 0;
    // SAFETY: all zeros is a value of this type.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both point to memory of the right type; the child is ours and nobody else waits for it.
    let ended = unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) };
    if ended < 0 {
        return Err(std::io::Error::last_os_error()).context("waiting for a child");
    }
    let time = |time: libc::timeval| {
        let (seconds, micros) = (time.tv_sec.unsigned_abs(), time.tv_usec.unsigned_abs());
        Duration::from_secs(seconds) + Duration::from_micros(micros)
    };
    Ok((ended == pid).then(|| (ExitStatus::from_raw(status), time(usage.ru_utime) + time(usage.ru_stime))))
}

/// Where a program is, if it is on PATH or among the administrator's.
pub(crate) fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|path| File::open(path).is_ok())
}

/// Entries of a folder of `/proc/PID`: `fd`, `task`.
pub(crate) fn entries(pid: u32, folder: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/{folder}");
    Ok(fs::read_dir(&path).with_context(|| format!("reading {path}"))?.count() as u64)
}
