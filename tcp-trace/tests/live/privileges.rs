//! Rights: what each thread keeps once everything is open, and what is lost without each of them. The table of
//! `docs/privileges.md` names these tests.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{XattrFlags, setxattr};
use serde_json::Value;
use tcp_trace::{bpf, confine, host};
use tcp_trace_testkit::{
    Helper, NetNs,
    workload::{ChurnPlan, churn},
};

use crate::{
    Test,
    rights::{
        BPF, DAC_READ_SEARCH, NET_ADMIN, PERFMON, SYS_ADMIN, SYS_PTRACE, become_nobody, nobody_with, usual,
    },
    tracer::{PATIENCE, Tracer, assert_whole, text},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("each_thread_of_an_agent_keeps_what_it_needs", each_thread_of_an_agent_keeps_what_it_needs),
    ("each_thread_of_a_report_keeps_what_it_needs", each_thread_of_a_report_keeps_what_it_needs),
    ("without_a_sandbox_everything_is_kept", without_a_sandbox_everything_is_kept),
    (
        "an_agent_that_gave_up_its_rights_rotates_and_reloads",
        an_agent_that_gave_up_its_rights_rotates_and_reloads,
    ),
    ("what_is_written_at_the_end_is_opened_before", what_is_written_at_the_end_is_opened_before),
    ("with_file_capabilities_nobody_names_a_leak", with_file_capabilities_nobody_names_a_leak),
    ("without_cap_bpf_or_cap_perfmon_nothing_is_traced", without_cap_bpf_or_cap_perfmon_nothing_is_traced),
    ("without_cap_net_admin_half_open_times_are_samples", without_cap_net_admin_half_open_times_are_samples),
    ("without_cap_sys_ptrace_programs_are_not_known", without_cap_sys_ptrace_programs_are_not_known),
    ("without_either_of_two_a_snapshot_knows_no_owners", without_either_of_two_a_snapshot_knows_no_owners),
    (
        "without_cap_dac_read_search_there_is_no_perf_tracepoint",
        without_cap_dac_read_search_there_is_no_perf_tracepoint,
    ),
    ("without_cap_sys_admin_other_namespaces_are_closed", without_cap_sys_admin_other_namespaces_are_closed),
];

const fn bit(number: libc::c_ulong) -> u64 {
    1 << number
}

/// What whoever looks at the host keeps of root's.
const LOOKS: u64 = bit(SYS_PTRACE) | bit(DAC_READ_SEARCH) | bit(SYS_ADMIN);

/// A thread, as its `status` shows it.
#[derive(Debug)]
struct Status(BTreeMap<String, String>);

impl Status {
    fn bits(&self, key: &str) -> u64 {
        u64::from_str_radix(&self.0[key], 16).unwrap()
    }

    fn is(&self, key: &str, value: &str) -> bool {
        self.0.get(key).is_none_or(|found| found == value)
    }
}

/// The threads of a process, by name.
fn threads(pid: u32) -> BTreeMap<String, Status> {
    let mut threads = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        // One that has ended meanwhile was a short one.
        let Ok(status) = fs::read_to_string(entry.unwrap().path().join("status")) else { continue };
        let fields = status.lines().filter_map(|line| line.split_once(":\t"));
        let fields: BTreeMap<_, _> = fields.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        threads.insert(fields["Name"].clone(), Status(fields));
    }
    threads
}

/// CAP_BPF where every call about a map takes it: up to 5.19, and then only if so set.
fn for_maps() -> u64 {
    let old = host::kernel_version().is_some_and(|version| version < (6, 0));
    let disabled = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled");
    if old && disabled.is_ok_and(|value| value.trim() != "0") { bit(BPF) } else { 0 }
}

/// What a thread of this name keeps when root has started it.
fn kept_by(name: &str) -> u64 {
    match name {
        "tcp-trace-drain" | "tcp-trace-watch" | "tcp-trace-grace" => for_maps(),
        // Names are cut. They start others for a part of their work.
        "tcp-trace-surve" | "tcp-trace-look" | "tcp-trace-proc" | "holders" | "namespaces" => {
            LOOKS | for_maps()
        }
        // CAP_CHECKPOINT_RESTORE opens what is mapped, and CAP_SYS_ADMIN is not needed then.
        "tcp-trace-stack" => bit(SYS_PTRACE) | bit(DAC_READ_SEARCH) | bit(40) | for_maps(),
        // Who answers, and a sink of standard output: what they write into is open.
        "tt-http" | "tt-out" | "tcp-trace-stop" => 0,
        // Certificates are read again, and folders passed.
        name if name.starts_with("tt-") => bit(DAC_READ_SEARCH),
        _ => panic!("nobody has said what a thread of the name {name} needs"),
    }
}

/// Waits until every thread has what it keeps, and no more.
fn assert_confined(pid: u32, main: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let threads = threads(pid);
        let wrong: Vec<_> = threads
            .iter()
            // What waits for work of the runtime is as its thread is.
            .filter(|(name, _)| *name != "tokio-runtime-w" && *name != "tokio-rt-worker")
            .filter(|(name, status)| {
                let kept = if *name == "tcp-trace" { main } else { kept_by(name) };
                let expected = [("CapPrm", kept), ("CapEff", kept), ("CapInh", 0), ("CapAmb", 0)];
                let is_right = expected.iter().all(|(key, bits)| status.bits(key) == *bits);
                !is_right || status.bits("CapBnd") & !(LOOKS | usual() | bit(40)) != 0
            })
            .collect();
        let unconfined = threads.values().any(|status| {
            !status.is("NoNewPrivs", "1") || confine::has_filter() && !status.is("Seccomp", "2")
        });
        // Those that look start last.
        if wrong.is_empty() && !unconfined && threads.contains_key("tcp-trace-surve") {
            return;
        }
        assert!(Instant::now() < deadline, "{wrong:#?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A folder for the length of a test, which everybody may enter.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tcp-trace-rights-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn config(ns: &NetNs, sinks: &str) -> String {
    format!(
        "[report]\ninterval = \"1s\"\n[http]\nlisten = \"127.0.0.1:0\"\n[source]\nnetns = \"{}\"\n{sinks}",
        ns.inum()
    )
}

fn each_thread_of_an_agent_keeps_what_it_needs() {
    let (ns, folder) = (NetNs::new().unwrap(), Folder::new("agent"));
    let [file, log] = ["agent.toml", "log.jsonl"].map(|name| folder.path(name));
    let sinks = format!("[sinks.log.file]\npath = \"{log}\"\n[sinks.out.stdout]\n");
    fs::write(&file, config(&ns, &sinks)).unwrap();
    let tracer = Tracer::start(&["agent", "--config", &file]);
    assert_confined(tracer.pid(), bit(DAC_READ_SEARCH));
    let names: Vec<_> = threads(tracer.pid()).into_keys().collect();
    for name in ["tt-http", "tt-log", "tt-out", "tcp-trace-drain", "tcp-trace-watch", "tcp-trace-look"] {
        assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
    }
    let output = tracer.stop();
    assert!(output.status.success(), "{}", text(&output.stderr));
    // What could not be given up would be said.
    assert!(!text(&output.stderr).contains("docs/privileges.md"), "{}", text(&output.stderr));
}

fn each_thread_of_a_report_keeps_what_it_needs() {
    let ns = NetNs::new().unwrap();
    let netns = ns.inum().to_string();
    let tracer = Tracer::start(&["report", "--json", "--stacks", "--netns", &netns]);
    assert_confined(tracer.pid(), 0);
    churn(&ns, 20, &ChurnPlan::default()).unwrap();
    let report = tracer.report();
    assert_whole(&report);
    assert!(report["loss"]["seen"].as_u64() >= Some(20 * 8), "{}", report["loss"]);
}

fn without_a_sandbox_everything_is_kept() {
    for (arguments, environment) in [
        (["--no-sandbox", "report", "--json"].as_slice(), [].as_slice()),
        (&["report", "--json"], &[("TCP_TRACE_NO_SANDBOX", "1")]),
    ] {
        let tracer = Tracer::start_with(arguments, environment);
        let own = threads(std::process::id()).into_values().next().unwrap();
        for (name, status) in threads(tracer.pid()) {
            assert_eq!(status.bits("CapEff"), own.bits("CapEff"), "{name}");
            assert!(status.is("NoNewPrivs", "1") && status.is("Seccomp", &own.0["Seccomp"]), "{name}");
        }
        assert!(tracer.stop().status.success());
    }
}

/// The lines of a file that are documents of finished connections.
fn closed(path: &str) -> usize {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter(|line| line.contains("\"tcp.connection_closed\"")).count()
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A file that is renamed is opened anew; so is one in a folder that the first configuration did not name.
fn an_agent_that_gave_up_its_rights_rotates_and_reloads() {
    let (ns, folder, other) = (NetNs::new().unwrap(), Folder::new("reload"), Folder::new("elsewhere"));
    let [file, first, moved] = ["agent.toml", "log.jsonl", "log.jsonl.1"].map(|name| folder.path(name));
    let second = other.path("log.jsonl");
    let sinks = |path: &str| {
        let sink = "[sinks.log]\nlevel = \"closed\"\nqueue = 100000\nrate = 100000\n";
        config(&ns, &format!("{sink}[sinks.log.file]\npath = \"{path}\"\nrotation = \"external\"\n"))
    };
    fs::write(&file, sinks(&first)).unwrap();
    let tracer = Tracer::start(&["agent", "--config", &file]);
    assert_confined(tracer.pid(), bit(DAC_READ_SEARCH));
    churn(&ns, 10, &ChurnPlan::default()).unwrap();
    until("the first documents", || closed(&first) == 20);
    fs::rename(&first, &moved).unwrap();
    churn(&ns, 10, &ChurnPlan::default()).unwrap();
    until("documents in a file that was opened anew", || closed(&first) == 20);
    fs::write(&file, sinks(&second)).unwrap();
    tracer.signal(rustix::process::Signal::HUP);
    until("a file in another folder", || Path::new(&second).exists());
    churn(&ns, 10, &ChurnPlan::default()).unwrap();
    until("documents there", || closed(&second) == 20);
    assert_confined(tracer.pid(), bit(DAC_READ_SEARCH));
    assert!(tracer.stop().status.success());
    assert_eq!([closed(&moved), closed(&first), closed(&second)], [20; 3]);
}

/// Root writes into another user's folder with rights that it does not keep: recordings and pages are open by then. A
/// sink's file will be opened again when it is rotated, so that it is refused at once.
fn what_is_written_at_the_end_is_opened_before() {
    let (ns, folder, theirs) = (NetNs::new().unwrap(), Folder::new("mine"), Folder::new("theirs"));
    chown(&theirs.0, Some(65_534), Some(65_534)).unwrap();
    fs::set_permissions(&theirs.0, fs::Permissions::from_mode(0o700)).unwrap();
    let [recording, page, log] = ["run.tctrace", "run.html", "log.jsonl"].map(|name| theirs.path(name));
    for arguments in [
        ["record", &recording, "--duration", "300ms"].as_slice(),
        &["report", "--html", &page, "--duration", "300ms"],
    ] {
        let output = Tracer::run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    }
    assert!([recording, page].iter().all(|path| fs::metadata(path).unwrap().len() > 100));
    let file = folder.path("agent.toml");
    fs::write(&file, config(&ns, &format!("[sinks.log.file]\npath = \"{log}\"\n"))).unwrap();
    let mut agent = Command::new(env!("CARGO_BIN_EXE_tcp-trace"));
    let mut agent = agent.args(["agent", "--config", &file]).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while agent.try_wait().unwrap().is_none() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let _ = agent.kill();
    let output = agent.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("sinks.log.file") && said.contains("docs/privileges.md"), "{said}");
}

/// A process whose sockets were in CLOSE_WAIT before anybody looked.
struct Leak {
    ns: NetNs,
    server: Helper,
    _client: Helper,
}

const LEAK: u64 = 5;

fn leak() -> Leak {
    let ns = NetNs::new().unwrap();
    let mut server = Helper::spawn(&ns, "leaky-server", &["listen=127.0.0.1:7001", "comm=leaky"]).unwrap();
    server.expect("listening", PATIENCE).unwrap();
    let connect = ["connect=127.0.0.1:7001".to_owned(), format!("count={LEAK}")];
    let mut client = Helper::spawn(&ns, "client", &connect.each_ref().map(String::as_str)).unwrap();
    client.expect("ready", PATIENCE).unwrap();
    client.send("close").unwrap();
    for _ in 0..LEAK {
        server.expect("eof", PATIENCE).unwrap();
    }
    Leak { ns, server, _client: client }
}

/// Runs it inside the namespace to its end, as `become_somebody` has it between fork and exec.
fn run_in(
    ns: &NetNs,
    program: &Path,
    become_somebody: impl Fn() -> io::Result<()> + Send + Sync + 'static,
    arguments: &[&str],
) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    // SAFETY: between fork and exec the hook makes system calls; it allocates and locks nothing.
    unsafe { command.pre_exec(become_somebody) };
    ns.run(move || command.output()).unwrap()
}

const REPORT: [&str; 6] = ["report", "--json", "--duration", "1s", "--close-wait-after", "200ms"];

fn report_of(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_whole(&report);
    report
}

/// A report as nobody with these rights.
fn report_with(ns: &NetNs, capabilities: u64) -> Value {
    let program = Path::new(env!("CARGO_BIN_EXE_tcp-trace"));
    report_of(&run_in(ns, program, move || nobody_with(capabilities), &REPORT))
}

/// What it says is not to be had, with the reasons.
fn degradations(report: &Value) -> Vec<(&str, &str)> {
    let all = report["source"]["degradations"].as_array().unwrap();
    all.iter().map(|one| (one["feature"].as_str().unwrap(), one["reason"].as_str().unwrap())).collect()
}

/// The process that leaks, as the report has it; the host may have others.
fn leaking<'a>(report: &'a Value, leak: &Leak) -> &'a Value {
    let processes = report["close_wait"]["processes"].as_array().unwrap();
    let found = processes.iter().find(|process| process["process"]["pid"] == leak.server.pid());
    let found = found.unwrap_or_else(|| panic!("{processes:#?}"));
    assert_eq!(found["count"], LEAK, "{found:#}");
    found
}

/// `security.capability`, `struct vfs_cap_data` of revision 2 (`include/uapi/linux/capability.h`), as setcap(8) writes it
/// for `+ep`.
fn set_file_capabilities(file: &Path, capabilities: u64) {
    const REVISION_2: u32 = 0x0200_0000;
    const EFFECTIVE: u32 = 1;
    let words = [REVISION_2 | EFFECTIVE, capabilities as u32, 0, (capabilities >> 32) as u32, 0];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    setxattr(file, c"security.capability", &bytes, XattrFlags::empty()).unwrap();
}

fn with_file_capabilities_nobody_names_a_leak() {
    let (leak, folder) = (leak(), Folder::new("setcap"));
    let program = PathBuf::from(folder.path("tcp-trace"));
    fs::copy(env!("CARGO_BIN_EXE_tcp-trace"), &program).unwrap();
    let output = run_in(&leak.ns, &program, become_nobody, &REPORT);
    assert_eq!(output.status.code(), Some(3), "an ordinary user may not: {}", text(&output.stderr));
    set_file_capabilities(&program, usual());
    let report = report_of(&run_in(&leak.ns, &program, become_nobody, &REPORT));
    let process = leaking(&report, &leak);
    assert_eq!(process["process"]["pid"], leak.server.pid(), "{process:#}");
    assert_eq!(process["process"]["comm"], "leaky");
    assert!(process["process"]["fds"].as_u64() > Some(LEAK), "its descriptors are counted: {process:#}");
    assert!(process["process"]["exe"].is_string(), "what it is is known: {process:#}");
    let missing = degradations(&report);
    // The host has other namespaces, which it is not asked to look into.
    let lacks = |(_, reason): &(&str, &str)| reason.contains("CAP_") && !reason.contains("CAP_SYS_ADMIN");
    assert!(!missing.iter().any(lacks), "{missing:#?}");
}

fn without_cap_bpf_or_cap_perfmon_nothing_is_traced() {
    let ns = NetNs::new().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_tcp-trace"));
    for (taken, name) in [(BPF, "CAP_BPF"), (PERFMON, "CAP_PERFMON")] {
        let rights = usual() & !bit(taken);
        let output = run_in(&ns, program, move || nobody_with(rights), &REPORT);
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(3), true), "{name}");
        let said = text(&output.stderr);
        assert!(said.contains(&format!("this process lacks {name};")), "{said}");
        assert!(said.contains("cap_sys_ptrace"), "it says how to get all that is usual: {said}");
    }
}

fn without_cap_net_admin_half_open_times_are_samples() {
    let ns = NetNs::new().unwrap();
    let whole = report_with(&ns, usual());
    let less = report_with(&ns, usual() & !bit(NET_ADMIN));
    let lacks = |report: &Value| degradations(report).iter().any(|(feature, _)| *feature == "half_open");
    // In a container's part of the hierarchy nobody gets them.
    assert_eq!((lacks(&whole), lacks(&less)), (bpf::cgroup_mount_point().is_none(), true));
}

fn without_cap_sys_ptrace_programs_are_not_known() {
    let leak = leak();
    let whole = report_with(&leak.ns, usual());
    assert!(leaking(&whole, &leak)["process"]["exe"].is_string(), "{:#}", leaking(&whole, &leak));
    let less = report_with(&leak.ns, usual() & !bit(SYS_PTRACE));
    let process = &leaking(&less, &leak)["process"];
    assert_eq!((&process["comm"], &process["exe"]), (&"leaky".into(), &Value::Null), "{process:#}");
    let says = |(_, reason): (&str, &str)| reason.contains("processes may not be read");
    assert!(degradations(&less).into_iter().any(says), "{:#?}", degradations(&less));
}

/// The first socket in CLOSE_WAIT, and what the snapshot says it could not look at.
fn snapshot_with(ns: &NetNs, capabilities: u64) -> (Value, String) {
    let arguments = ["snapshot", "--json", "--sockets", "--state", "close_wait"];
    let program = Path::new(env!("CARGO_BIN_EXE_tcp-trace"));
    let output = run_in(ns, program, move || nobody_with(capabilities), &arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    (found["sockets"][0].clone(), found["degradations"].to_string())
}

fn without_either_of_two_a_snapshot_knows_no_owners() {
    let leak = leak();
    let (socket, _) = snapshot_with(&leak.ns, bit(SYS_PTRACE) | bit(DAC_READ_SEARCH));
    assert_eq!(socket["holders"][0]["pid"], leak.server.pid(), "{socket:#}");
    for one in [SYS_PTRACE, DAC_READ_SEARCH] {
        let (socket, missing) = snapshot_with(&leak.ns, bit(one));
        assert_eq!(socket["owner_state"], "not_permitted", "{socket:#}");
        assert!(missing.contains("needs CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"), "{missing}");
    }
}

fn without_cap_sys_admin_other_namespaces_are_closed() {
    let leak = leak();
    let home = NetNs::new().unwrap();
    let whole = report_with(&home, usual() | bit(SYS_ADMIN));
    let less = report_with(&home, usual());
    let lingering = |report: &Value| report["close_wait"]["lingering"].as_u64().unwrap();
    assert!(
        lingering(&whole) >= LEAK && lingering(&less) < LEAK,
        "{} {}",
        lingering(&whole),
        lingering(&less)
    );
    let says = |report: &Value| {
        degradations(report)
            .iter()
            .any(|(_, reason)| reason.contains("cannot be entered without CAP_SYS_ADMIN"))
    };
    assert_eq!((says(&whole), says(&less)), (false, true), "{:#?}", degradations(&less));
    drop(leak);
}

fn without_cap_dac_read_search_there_is_no_perf_tracepoint() {
    let ns = NetNs::new().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_tcp-trace"));
    let arguments = ["report", "--json", "--duration", "100ms", "--attach", "tracepoint"];
    let run = |rights| run_in(&ns, program, move || nobody_with(rights), &arguments);
    // Where tracefs is not mounted it is for the moment, which takes more.
    let with = run(usual() | bit(SYS_ADMIN));
    assert_eq!(with.status.code(), Some(0), "{}", text(&with.stderr));
    let without = run(usual() & !bit(DAC_READ_SEARCH));
    assert_eq!(without.status.code(), Some(3), "{}", text(&without.stderr));
    let said = text(&without.stderr);
    assert!(
        said.contains("inet_sock_set_state/format: Permission denied") || said.contains("tracefs"),
        "{said}"
    );
}
