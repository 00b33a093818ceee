//! What each thread may still do, once everything is open.
//!
//! Capabilities, Landlock's rules and filters of system calls are a thread's, and one that it starts has its own. So the
//! thread that starts the others gives up what none of them needs before it starts them ([`settle`]), and each of them
//! gives up the rest as the first thing that it does ([`assume`]). `docs/privileges.md` has who keeps what.
//!
//! Threads that look at other processes cannot have Landlock's rules: to the kernel a look is a trace, and it lets nobody
//! trace who is less confined (`hook_ptrace_access_check`, `security/landlock/task.c`, since 5.13); not one owner would be
//! found. A filter keeps those from opening anything for writing instead.

mod capabilities;
mod landlock;
mod seccomp;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use rustix::thread::set_no_new_privs;
use tcp_trace_core::doctor::{Capability, Feature};

pub use landlock::abi as landlock_abi;
pub use seccomp::is_known_here as has_filter;

use landlock::Rules;
use seccomp::Filter;

/// Whether rights are given up at all: the program does, and not whoever uses a part of it.
static CONFINES: AtomicBool = AtomicBool::new(false);
/// Whether this kernel asks for CAP_BPF whenever a map is read.
static MAPS_TAKE_BPF: AtomicBool = AtomicBool::new(false);

/// What a thread does from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Follows connections, and writes into what is open.
    Follow,
    /// The same of an agent, which reads its configuration again when it is told to.
    Steer,
    /// Empties the ring buffers, and reads the counters.
    Drain,
    /// Loads a program of the kernel, and watches then.
    Load,
    /// Watches the buffers, and switches the programs.
    Watch,
    /// Looks at sockets, processes and containers.
    Survey,
    /// Names functions of other processes' programs.
    Symbolise,
    /// Answers over HTTP.
    Serve,
    /// Writes documents into files of this folder.
    Write(PathBuf),
    /// Sends documents elsewhere.
    Send,
    /// Looks, and destroys sockets.
    Kill,
}

impl Duty {
    /// What it takes capabilities for.
    fn features(&self) -> &'static [Feature] {
        match self {
            Self::Follow | Self::Drain | Self::Watch | Self::Serve => &[],
            Self::Steer | Self::Write(_) | Self::Send => &[Feature::Files],
            Self::Load => &[Feature::Trace],
            Self::Survey => &[Feature::Programs, Feature::Holders, Feature::Files, Feature::Namespaces],
            Self::Symbolise => &[Feature::Programs, Feature::Files, Feature::Mappings],
            Self::Kill => {
                &[Feature::Programs, Feature::Holders, Feature::Files, Feature::Namespaces, Feature::Kill]
            }
        }
    }

    fn reads_maps(&self) -> bool {
        matches!(self, Self::Drain | Self::Load | Self::Watch | Self::Survey | Self::Symbolise)
    }

    /// Whether it looks at other processes, and does nothing else.
    fn looks(&self) -> bool {
        matches!(self, Self::Survey | Self::Symbolise)
    }

    fn rules(&self) -> Option<Rules<'_>> {
        match self {
            // A new configuration may name other files and another address.
            Self::Steer => None,
            Self::Survey | Self::Symbolise | Self::Kill => None,
            // It goes on as another.
            Self::Load => None,
            Self::Follow | Self::Drain | Self::Watch | Self::Serve => {
                Some(Rules { write_below: None, connect: false })
            }
            Self::Write(folder) => Some(Rules { write_below: Some(folder), connect: false }),
            Self::Send => Some(Rules { write_below: None, connect: true }),
        }
    }
}

/// To be called before there is another thread. Without `confines`, nothing more is given up than what a program could get
/// by starting another one.
pub fn begin(confines: bool) {
    CONFINES.store(confines, Relaxed);
    if let Err(error) = set_no_new_privs(true) {
        log::warn!("no_new_privs cannot be set: {error}");
    }
}

/// Everything is attached and open: gives up what no thread needs any more. `reads_maps` tries, on a thread without any
/// capability, what threads will do with maps.
pub fn settle(reads_maps: impl FnOnce() -> bool + Send) {
    if !CONFINES.load(Relaxed) {
        log::info!("no rights are given up: --no-sandbox");
        return;
    }
    // `__sys_bpf`, `kernel/bpf/syscall.c`: up to 5.19 all of bpf(2) is for those with CAP_BPF where
    // kernel.unprivileged_bpf_disabled is set, from 6.0 on only what makes maps and programs.
    let works = thread::scope(|scope| {
        let work = || capabilities::keep(&[], &[]).is_ok() && reads_maps();
        // Where there is no room for a thread it is not known, and the capability is kept.
        let attempt = thread::Builder::new().name("tcp-trace-try".to_owned()).spawn_scoped(scope, work);
        attempt.ok().and_then(|attempt| attempt.join().ok()).unwrap_or(false)
    });
    MAPS_TAKE_BPF.store(!works, Relaxed);
    let all = [Feature::Trace, Feature::Holders, Feature::Files, Feature::Namespaces, Feature::Mappings];
    note("capabilities cannot be given up", capabilities::keep(&all, &[]));
    note("no filter of system calls", seccomp::install(Filter::Base));
}

/// Gives up what this thread does not need, and those that it starts from now on.
pub fn assume(duty: &Duty) {
    if !CONFINES.load(Relaxed) {
        return;
    }
    let maps = duty.reads_maps() && MAPS_TAKE_BPF.load(Relaxed);
    let more: &[Capability] = if maps { &[Capability::Bpf] } else { &[] };
    if let Some(rules) = duty.rules() {
        note("no Landlock rules", landlock::restrict(&rules));
    }
    if duty.looks() {
        note("no filter of system calls for who looks", seccomp::install(Filter::ReadOnly));
    }
    // Last: to find a folder may take what is given up now.
    note("capabilities cannot be given up", capabilities::keep(duty.features(), more));
}

/// For a command that starts no threads with other duties.
pub fn assume_alone(duty: &Duty) {
    if CONFINES.load(Relaxed) {
        note("no filter of system calls", seccomp::install(Filter::Base));
    }
    assume(duty);
}

/// The folder that a file is in.
pub fn folder_of(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).to_owned()
}

/// That something could not be given up is no reason to end: whoever watches the log of a service finds it there.
fn note(what: &str, result: Result<(), NotConfined>) {
    match result {
        Ok(()) => {}
        Err(NotConfined::Lacking(why)) => log::info!("{what}: {why}"),
        Err(NotConfined::Failed(error)) => {
            log::warn!("{what}: {error}; goes on without (docs/privileges.md)");
        }
    }
}

/// Why something was not given up.
#[derive(Debug)]
enum NotConfined {
    /// The kernel has no way to, which is no fault.
    Lacking(&'static str),
    Failed(std::io::Error),
}

impl<E: Into<std::io::Error>> From<E> for NotConfined {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}
