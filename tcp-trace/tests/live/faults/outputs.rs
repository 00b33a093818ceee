//! Those who should take what the program says: slow, stopped, gone, never there.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _},
    net::{TcpListener, TcpStream},
    os::fd::OwnedFd,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::{Pid, Signal, kill_process},
};
use tcp_trace_testkit::{
    NetNs,
    scale::scaled,
    workload::{ChurnPlan, churn},
};

use super::{Folder, reports, total};
use crate::tracer::{PATIENCE, Tracer, assert_sums, text};

/// Four of its seconds, in which everything that happens is more than its buffers hold; some of it happens to connections
/// that it knew.
pub(super) fn a_stopped_reader() {
    const KNOWN: usize = 20;
    let connections = scaled(5_000, 1_000);
    let ns = NetNs::new().unwrap();
    let netns = ns.inum().to_string();
    let tracer = Tracer::start(&[
        "report",
        "--json",
        "--interval",
        "500ms",
        "--mode",
        "stream",
        "--buffer",
        "4k",
        "--netns",
        &netns,
    ]);
    let listener = ns.run(|| TcpListener::bind("127.0.0.1:7000")).unwrap();
    let pairs: Vec<_> = (0..KNOWN)
        .map(|_| (ns.run(|| TcpStream::connect("127.0.0.1:7000")).unwrap(), listener.accept().unwrap()))
        .collect();
    thread::sleep(Duration::from_millis(800));
    tracer.signal(Signal::STOP);
    churn(&ns, connections, &ChurnPlan::default()).unwrap();
    let (clients, servers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    drop(clients);
    thread::sleep(Duration::from_secs(2));
    tracer.signal(Signal::CONT);
    thread::sleep(Duration::from_secs(2));
    let output = tracer.stop();
    drop(servers);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let reports = reports(&output.stdout);
    let sum = |key: &str| reports.iter().map(|report| report["loss"][key].as_u64().unwrap()).sum::<u64>();
    assert!(sum("lost") > 0, "nothing was lost, so this tests nothing");
    for report in &reports {
        assert_eq!(report["loss"]["balanced"], true, "{}", report["loss"]);
        assert_sums(&report["loss"]);
    }
    let opened = connections + KNOWN as u64;
    assert_eq!(total(&reports, "CLOSE", "SYN_SENT"), opened, "the counts are exact all the same");
    assert_eq!(total(&reports, "ESTABLISHED", "CLOSE_WAIT"), opened);
    assert!(sum("repaired") > 0, "what was lost of known connections is found out by looking");
    let live = |state: &str| reports.last().unwrap()["states"][state]["live"].as_u64();
    assert_eq!((live("ESTABLISHED"), live("CLOSE_WAIT")), (Some(0), Some(KNOWN as u64)));
}

/// With its standard output and error as pipes, after it has said that it traces.
fn started(arguments: &[&str]) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut command = Tracer::command(arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("tracing by") {
        assert_ne!(stderr.read_line(&mut said).unwrap(), 0, "it ended at once: {said}");
    }
    (child, stderr)
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Its exit code, and what it has said since.
fn ended(child: &mut Child, mut stderr: impl io::Read) -> (Option<i32>, String) {
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it does not end");
        }
        thread::sleep(Duration::from_millis(5));
    };
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    (status.code(), said)
}

pub(super) fn a_reader_that_goes_away() {
    let ns = NetNs::new().unwrap();
    for arguments in [&["stream"][..], &["stream", "--json"], &["report", "--interval", "100ms"]] {
        let netns = ns.inum().to_string();
        let (mut child, stderr) = started(&[arguments, &["--netns", &netns]].concat());
        drop(child.stdout.take());
        churn(&ns, 50, &ChurnPlan::default()).unwrap();
        let (code, said) = ended(&mut child, stderr);
        assert_eq!((code, said.contains("panic")), (Some(0), false), "{arguments:?}: {said}");
    }
}

/// It waits for its reader, and the kernel counts what does not fit meanwhile; but it ends when it is told to.
pub(super) fn a_pipe_that_nobody_reads() {
    let ns = NetNs::new().unwrap();
    let (mut child, stderr) = started(&["stream", "--buffer", "64k", "--netns", &ns.inum().to_string()]);
    // Some 100 bytes a line, where a pipe takes 64 KiB and the queue 16 MiB.
    churn(&ns, scaled(4_000, 2_000), &ChurnPlan::default()).unwrap();
    thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "a slow reader is no fault");
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 100 << 10, "what waits is bounded: {kib} KiB");
    for _ in 0..2 {
        signal(&child, Signal::TERM);
        thread::sleep(Duration::from_millis(100));
    }
    let start = Instant::now();
    let (code, said) = ended(&mut child, stderr);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("it was asked to end and cannot"), "{said}");
}

pub(super) fn a_pipe_that_is_read_again() {
    let connections = scaled(4_000, 2_000);
    let ns = NetNs::new().unwrap();
    let netns = ns.inum().to_string();
    let (mut child, stderr) = started(&["stream", "--json", "--buffer", "64k", "--netns", &netns]);
    churn(&ns, connections, &ChurnPlan::default()).unwrap();
    thread::sleep(Duration::from_millis(500));
    signal(&child, Signal::TERM);
    thread::sleep(Duration::from_secs(1));
    let mut told = String::new();
    child.stdout.take().unwrap().read_to_string(&mut told).unwrap();
    let (code, said) = ended(&mut child, stderr);
    assert_eq!(code, Some(0), "{said}");
    let lines = told.lines().filter(|line| line.contains("tcp.state_change")).count();
    let balance = said.lines().find(|line| line.contains(" transitions seen = ")).unwrap();
    assert!(balance.contains("(balanced)"), "{balance}");
    let number = |what: &str| -> usize {
        let before = balance.split(what).next().unwrap();
        before.rsplit(' ').next().unwrap().replace(',', "").parse().unwrap()
    };
    assert_eq!(number(" transitions seen") as u64, connections * 10 + 4, "{balance}");
    assert_eq!(number(" delivered"), lines, "each that was delivered was told: {balance}");
}

/// A recording into a pipe that has no other end yet: the opening waits.
pub(super) fn a_pipe_that_nobody_opens() {
    let folder = Folder::new();
    let pipe = folder.path("pipe");
    mknodat(CWD, pipe.as_str(), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let mut child = Tracer::command(&["record", &pipe]).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = child.stderr.take().unwrap();
    thread::sleep(Duration::from_millis(300));
    for _ in 0..3 {
        signal(&child, Signal::INT);
        thread::sleep(Duration::from_millis(50));
    }
    let (code, said) = ended(&mut child, stderr);
    assert_eq!((code, said.contains("it was asked to end and cannot")), (Some(1), true), "{said}");
}

/// Standard error whose reader has gone, and one on a full disk: what should be said there is lost, and nothing else.
pub(super) fn nobody_to_tell() {
    let full = || OwnedFd::from(fs::File::options().write(true).open("/dev/full").unwrap());
    let gone = || OwnedFd::from(io::pipe().unwrap().1);
    for (name, stderr) in [("full", full()), ("gone", gone())] {
        let arguments = ["report", "--json", "--duration", "300ms"];
        let output = Tracer::command(&arguments).stderr(stderr).stdout(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}");
        assert_eq!(reports(&output.stdout).len(), 1, "{name}");
    }
    for (name, stderr) in [("full", full()), ("gone", gone())] {
        let folder = Folder::new();
        let (config, log) = (folder.path("agent.toml"), folder.path("log"));
        let text = format!("[report]\ninterval = \"1s\"\n[sinks.a.file]\npath = \"{log}\"\n");
        fs::write(&config, text).unwrap();
        let mut command = Tracer::command(&["agent", "--config", &config]);
        let mut child = command.stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        super::until("the agent's log", || fs::metadata(&log).ok().filter(|log| log.len() > 0));
        // What a reload says finds nobody either.
        signal(&child, Signal::HUP);
        thread::sleep(Duration::from_millis(200));
        signal(&child, Signal::TERM);
        let (code, _) = ended(&mut child, io::empty());
        assert_eq!(code, Some(0), "{name}");
    }
}
