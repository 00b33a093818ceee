//! Others who trace the same: this program once more, other programs on the same hook, and the host's own switches.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tcp_trace_testkit::{
    NetNs,
    scale::scaled,
    workload::{ChurnPlan, churn},
};

use crate::{
    counts::{assert_counts, rounds},
    requirements::{Feature, requires},
    tracer::{Tracer, assert_whole},
};

fn start(ns: &NetNs) -> Tracer {
    Tracer::start(&["report", "--json", "--netns", &ns.inum().to_string()])
}

/// Each of them sees every transition, and each is told that it does.
fn is_exact(report: &Value, connections: u64, listeners: u16) {
    assert_whole(report);
    assert_counts(report, connections, listeners.into());
}

pub(super) fn two_at_once() {
    rounds(|| {
        let ns = NetNs::new().unwrap();
        let (one, other) = (start(&ns), start(&ns));
        let connections = scaled(3_000, 500);
        let churn = churn(&ns, connections, &ChurnPlan::default()).unwrap();
        for tracer in [one, other] {
            is_exact(&tracer.report(), connections, churn.listeners);
        }
    });
}

/// Somebody else's tracer, ended by Ctrl-C when it is dropped.
struct Other(Child);

impl Other {
    /// Starts it, and waits for a line that says that it is at work.
    fn start(command: &mut Command, ready: &str) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.contains(ready) {
            assert_ne!(stdout.read_line(&mut said).unwrap(), 0, "{command:?} ended at once: {said}");
        }
        // It must not wait for somebody to read what it says.
        thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        Self(child)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::INT);
        for _ in 0..200 {
            if self.0.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One that was there before, one that comes while we are at work, and goes.
fn beside(other: impl Fn() -> Other) {
    let connections = scaled(1_000, 300);
    for before in [true, false] {
        let first = before.then(&other);
        let ns = NetNs::new().unwrap();
        let tracer = start(&ns);
        let second = (!before).then(&other);
        let churn = churn(&ns, connections, &ChurnPlan::default()).unwrap();
        drop((first, second));
        is_exact(&tracer.report(), connections, churn.listeners);
    }
}

pub(super) fn tcpstates() {
    requires(&[Feature::Tcpstates]);
    rounds(|| beside(|| Other::start(Command::new("stdbuf").args(["-oL", "tcpstates"]), "SKADDR")));
}

pub(super) fn bpftrace() {
    requires(&[Feature::Bpftrace]);
    const PROGRAM: &str = "BEGIN { printf(\"at work\\n\"); } tracepoint:sock:inet_sock_set_state { @[args->newstate] = count(); }";
    rounds(|| {
        beside(|| Other::start(Command::new("bpftrace").args(["-B", "line", "-e", PROGRAM]), "at work"));
    });
}

/// A switch of the host, put back when dropped.
struct Switch {
    path: String,
    before: String,
}

impl Switch {
    fn set(name: &str, value: &str) -> Option<Self> {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let before = fs::read_to_string(&path).ok()?;
        fs::write(&path, value).ok()?;
        Some(Self { path, before })
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = fs::write(&self.path, self.before.trim());
    }
}

fn with_switch(name: &str, value: &str) -> Value {
    let switch = Switch::set(name, value).unwrap_or_else(|| panic!("{name} cannot be set to {value}"));
    let ns = NetNs::new().unwrap();
    let tracer = Tracer::start(&["report", "--json"]);
    churn(&ns, 100, &ChurnPlan::default()).unwrap();
    let report = tracer.report();
    drop(switch);
    assert_eq!(report["loss"]["balanced"], true, "{}", report["loss"]);
    assert!(crate::tracer::count(&report, "CLOSE", "SYN_SENT") >= 100, "{}", report["transitions"]);
    report
}

/// The kernel measures every run of every program then.
pub(super) fn statistics() {
    with_switch("kernel.bpf_stats_enabled", "1");
}

/// 3 is Debian's own, "nobody but root"; other kernels take it for 2.
pub(super) fn paranoid() {
    let report = with_switch("kernel.perf_event_paranoid", "3");
    assert_eq!(report["source"]["attach"], "tp_btf");
    let switch = Switch::set("kernel.perf_event_paranoid", "3").unwrap();
    let tracepoint = Tracer::run(&["report", "--json", "--attach", "tracepoint", "--duration", "200ms"]);
    drop(switch);
    let report: Value = serde_json::from_slice(&tracepoint.stdout).unwrap();
    assert_eq!(report["source"]["attach"], "tracepoint");
}
