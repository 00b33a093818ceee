//! Signals at every moment of a start and of a stop: what ends, ends in order or at once, and nothing is left.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tcp_trace_testkit::{
    NetNs, scale,
    workload::{ChurnPlan, churn},
};

use super::{Folder, reports};
use crate::{
    hosts::loaded,
    tracer::{PATIENCE, Tracer, text},
};

const SIGNALS: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::KILL];

/// What is on the host that a run might leave there.
struct Host {
    loaded: BTreeSet<(&'static str, u32)>,
    mounts: String,
    namespaces: BTreeSet<String>,
}

impl Host {
    fn now() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        let namespaces = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        Self { loaded: loaded(), mounts, namespaces }
    }

    /// The kernel frees what lost its last descriptor a moment later; other programs of this host may come and go.
    #[track_caller]
    fn is_as_before(&self) {
        let Self { loaded: before, mounts, namespaces } = Self::now();
        assert_eq!((&mounts, &namespaces), (&self.mounts, &self.namespaces));
        let mut left: BTreeSet<_> = before.difference(&self.loaded).copied().collect();
        let deadline = Instant::now() + PATIENCE;
        while !left.is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
            left = left.intersection(&loaded()).copied().collect();
        }
        assert!(left.is_empty(), "left in the kernel: {left:?}");
    }
}

/// A run that is sent a signal so long after its start.
fn run(arguments: &[&str], folder: &Folder, signal: Signal, after: Duration) -> Output {
    let mut command = Tracer::command(arguments);
    command.env("TMPDIR", &folder.0).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A shell without job control has what it starts in the background ignore SIGINT, and so do its children.
    let by_default = || {
        // SAFETY: no handler is set.
        unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
        Ok(())
    };
    // SAFETY: between fork and exec the hook makes one system call; it allocates and locks nothing.
    unsafe { command.pre_exec(by_default) };
    let child = command.spawn().unwrap();
    let pid = Pid::from_child(&child);
    // Not reaped before the signal, so that the pid is this one's.
    thread::sleep(after);
    kill_process(pid, signal).unwrap();
    let waiter = thread::spawn(move || child.wait_with_output().unwrap());
    let deadline = Instant::now() + PATIENCE;
    while !waiter.is_finished() {
        assert!(Instant::now() < deadline, "{arguments:?}: {signal:?} after {after:?} does not end it");
        thread::sleep(Duration::from_millis(2));
    }
    waiter.join().unwrap()
}

/// Ended by the signal before it was ready to do so in order, or in order; what it printed is whole.
#[track_caller]
fn is_whole(arguments: &[&str], signal: Signal, after: Duration, output: &Output) {
    let (code, said) = (output.status.code(), text(&output.stderr));
    let case = format!("{arguments:?}: {signal:?} after {after:?}: {:?}: {said}", output.status);
    if code.is_none() {
        assert_eq!(output.status.signal(), Some(signal.as_raw()), "{case}");
    } else {
        assert_eq!(code, Some(0), "{case}");
    }
    assert!(!said.contains("panic"), "{case}");
    if signal != Signal::KILL && arguments.contains(&"--json") {
        let reports = reports(&output.stdout);
        assert_eq!(reports.len(), usize::from(code.is_some()), "{case}");
        assert!(reports.iter().all(|report| report["loss"]["balanced"] == true), "{case}");
    }
    // By SIGKILL, at least no line that is shown is half of one before its last.
    if code == Some(0) && !output.stdout.is_empty() {
        assert!(output.stdout.ends_with(b"\n"), "{case}");
    }
}

pub(super) fn at_every_moment_of_a_start() {
    // Long enough for a start; an emulated machine takes seconds over one.
    let (moments, step) = if scale::is_slow() { (9, 300) } else { (12, 24) };
    let (folder, host) = (Folder::new(), Host::now());
    for moment in 0..moments {
        let after = Duration::from_millis(moment * step);
        let recording = folder.path(&format!("{moment}.tctrace"));
        let commands: [&[&str]; 4] = [
            &["report", "--json"],
            &["report", "--json", "--attach", "tracepoint"],
            &["stream", "--mode", "stream"],
            &["record", &recording],
        ];
        // Side by side, each with another signal from moment to moment.
        thread::scope(|scope| {
            for (number, arguments) in commands.into_iter().enumerate() {
                let signal = SIGNALS[(number + usize::try_from(moment).unwrap()) % SIGNALS.len()];
                let folder = &folder;
                scope.spawn(move || {
                    let output = run(arguments, folder, signal, after);
                    is_whole(arguments, signal, after, &output);
                });
            }
        });
    }
    let left = fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| !name.to_string_lossy().ends_with(".tctrace")).collect();
    assert!(left.is_empty(), "no temporary file is left: {left:?}");
    host.is_as_before();
}

pub(super) fn at_every_moment_of_a_stop() {
    let moments = scale::scaled(12, 4);
    let (ns, host) = (NetNs::new().unwrap(), Host::now());
    let netns = ns.inum().to_string();
    for moment in 0..moments {
        let tracer = Tracer::start(&["report", "--json", "--netns", &netns]);
        churn(&ns, 50, &ChurnPlan::default()).unwrap();
        tracer.signal(Signal::TERM);
        thread::sleep(Duration::from_millis(moment * 4));
        let second = SIGNALS[usize::try_from(moment).unwrap() % SIGNALS.len()];
        // It may have ended by then; nobody has waited for it yet, so that the pid is still its own.
        tracer.signal(second);
        let output = tracer.wait();
        let after = Duration::from_millis(moment * 4);
        if second == Signal::KILL && output.status.code().is_none() {
            assert!(output.stdout.is_empty() || output.stdout.ends_with(b"\n"), "{}", text(&output.stdout));
        } else {
            is_whole(&["report", "--json"], second, after, &output);
            assert!(output.status.success(), "{:?}", output.status);
        }
    }
    host.is_as_before();
}
