//! `tcp-trace doctor`: whatever is taken away, the cause that it names is that, and its verdict is what `report` does.

use std::{
    ffi::CStr,
    io,
    os::unix::process::CommandExt as _,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tcp_trace::{bpf, host};

use tcp_trace_testkit::container::run_once;

use crate::{
    Test,
    requirements::{Feature, requires},
    rights::{
        BPF, DAC_OVERRIDE, DAC_READ_SEARCH, NET_ADMIN, PERFMON, SYS_ADMIN, SYS_PTRACE, SYS_RESOURCE,
        become_nobody, errno_of, nobody_with, without,
    },
    tracer::text,
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("as_root_it_finds_what_a_report_uses", as_root_it_finds_what_a_report_uses),
    ("each_capability_that_is_taken_away_is_named", each_capability_that_is_taken_away_is_named),
    ("an_ordinary_user_is_told_what_is_missing", an_ordinary_user_is_told_what_is_missing),
    ("a_user_with_two_capabilities_is_ready", a_user_with_two_capabilities_is_ready),
    ("without_btf_the_perf_tracepoint_is_left", without_btf_the_perf_tracepoint_is_left),
    ("without_btf_and_tracefs_nothing_is", without_btf_and_tracefs_nothing_is),
    ("without_cgroup2_there_are_no_handshakes", without_cgroup2_there_are_no_handshakes),
    ("root_of_a_user_namespace_is_not_root", root_of_a_user_namespace_is_not_root),
    ("a_seccomp_filter_is_no_missing_capability", a_seccomp_filter_is_no_missing_capability),
    ("locked_memory_matters_to_old_kernels_only", locked_memory_matters_to_old_kernels_only),
    ("a_pid_namespace_hides_processes", a_pid_namespace_hides_processes),
    (
        "in_a_container_it_names_what_the_runtime_took_away",
        in_a_container_it_names_what_the_runtime_took_away,
    ),
];

/// What is done to a process between fork and exec: system calls only.
type Hardship = fn() -> io::Result<()>;

fn run(hardship: impl Fn() -> io::Result<()> + Send + Sync + 'static, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcp-trace"));
    command.args(arguments).stdin(Stdio::null());
    // SAFETY: between fork and exec the hook makes system calls; it allocates and locks nothing.
    unsafe { command.pre_exec(hardship) };
    command.output().unwrap()
}

/// What the doctor finds under a hardship. It and a report must agree whether transitions can be traced.
fn doctor(hardship: Hardship) -> Value {
    doctor_under(hardship)
}

fn doctor_under(hardship: impl Fn() -> io::Result<()> + Clone + Send + Sync + 'static) -> Value {
    let output = run(hardship.clone(), &["doctor", "--json"]);
    let found: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {} {}", text(&output.stdout), text(&output.stderr)));
    let report = run(hardship, &["report", "--json", "--duration", "100ms"]);
    let code = if found["ready"] == true { 0 } else { 3 };
    assert_eq!(
        (output.status.code(), report.status.code()),
        (Some(code), Some(code)),
        "{}",
        text(&report.stderr)
    );
    found
}

fn hook<'a>(found: &'a Value, name: &str, kind: &str) -> &'a Value {
    let is_it = |hook: &&Value| hook["name"] == name && hook["kind"] == kind;
    found["hooks"].as_array().unwrap().iter().find(is_it).unwrap_or_else(|| panic!("no {name}: {found:#}"))
}

fn tier<'a>(found: &'a Value, name: &str) -> &'a str {
    let tiers = found["tiers"].as_array().unwrap();
    tiers.iter().find(|tier| tier["tier"] == name).unwrap()["works"].as_str().unwrap()
}

fn check<'a>(found: &'a Value, name: &str) -> &'a Value {
    let checks = found["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}: {found:#}"))
}

/// Every hook of these kinds is refused for this cause, and the sentence has the words.
#[track_caller]
fn assert_refused(found: &Value, kinds: &[&str], cause: &str, words: &str) {
    for hook in found["hooks"].as_array().unwrap() {
        if kinds.contains(&hook["kind"].as_str().unwrap()) {
            assert_eq!(hook["cause"], cause, "{hook:#}");
            assert!(hook["reason"].as_str().unwrap().contains(words), "{words}: {hook:#}");
        }
    }
}

const TRACING: [&str; 5] = ["tp_btf", "tracepoint", "fentry", "fexit", "iter"];
const TYPED: [&str; 4] = ["tp_btf", "fentry", "fexit", "iter"];

/// The main hooks and everything that a report has attached are to be had; nothing else is said to be.
fn as_root_it_finds_what_a_report_uses() {
    let found = doctor(|| Ok(()));
    assert_eq!(found["ready"], true);
    let report = run(|| Ok(()), &["report", "--json", "--duration", "100ms"]);
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    let missing: Vec<&str> = report["source"]["degradations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|degradation| degradation["feature"].as_str().unwrap())
        .collect();
    for hook in found["hooks"].as_array().unwrap() {
        let refused = hook["outcome"] != "ok";
        let name = hook["name"].as_str().unwrap();
        // A report without sock_ops would want it, and one with --stacks those.
        if name != "request_queued" && !name.starts_with("stack_") {
            assert_eq!(missing.contains(&name), refused, "{missing:?} {hook:#}");
        }
        assert_eq!(hook["reason"].is_null(), !refused, "{hook:#}");
    }
    let members = found["layout"]["members"].as_array().unwrap();
    let skaddr =
        &members.iter().find(|member| member["name"] == "sock_common.skc_rcv_saddr").unwrap()["offset"];
    assert_eq!((skaddr, &found["layout"]["tracepoint"][0]["offset"]), (&4.into(), &8.into()));
    assert_eq!(["sock_diag", "ring_buffer"].map(|name| check(&found, name)["status"].clone()), ["ok", "ok"]);
    assert_eq!((tier(&found, "0"), tier(&found, "1"), tier(&found, "1s")), ("yes", "yes", "yes"));
}

fn each_capability_that_is_taken_away_is_named() {
    // CAP_SYS_ADMIN stands in for the two.
    let found = doctor(|| without(&[BPF, PERFMON]));
    assert_eq!(found["ready"], true);
    let found = doctor(|| without(&[SYS_ADMIN, BPF]));
    assert_eq!(found["ready"], false);
    assert_refused(&found, &TRACING, "capabilities", "lacks CAP_BPF");
    let found = doctor(|| without(&[SYS_ADMIN, PERFMON]));
    assert_eq!((&found["ready"], tier(&found, "1s")), (&false.into(), "no"));
    assert_refused(&found, &TRACING, "capabilities", "lacks CAP_PERFMON");
    let found = doctor(|| without(&[SYS_ADMIN, BPF, PERFMON]));
    assert_refused(&found, &TRACING, "capabilities", "lacks CAP_BPF and CAP_PERFMON");
    assert!(found["next"]["reason"].as_str().unwrap().ends_with("lacks CAP_BPF and CAP_PERFMON"));
    let found = doctor(|| without(&[SYS_ADMIN, NET_ADMIN]));
    assert_eq!((&found["ready"], tier(&found, "1"), tier(&found, "K")), (&true.into(), "yes", "no"));
    assert_refused(&found, &["sock_ops"], "capabilities", "lacks CAP_NET_ADMIN");
    assert!(found["next"]["gives"].as_str().unwrap().starts_with("tier 1s"), "{found:#}");
    let found = doctor(|| without(&[SYS_ADMIN]));
    assert_eq!((&found["ready"], tier(&found, "1s")), (&true.into(), "yes"));
    let found = doctor(|| without(&[SYS_PTRACE]));
    let reason = check(&found, "holders")["note"].as_str().unwrap();
    assert!(reason.contains("needs CAP_SYS_PTRACE"), "{reason}");
    assert_eq!(found["next"]["reason"], "this process lacks CAP_SYS_PTRACE", "{}", found["next"]);
    // Root is let through to its own files without any.
    let found = doctor(|| without(&[DAC_READ_SEARCH, DAC_OVERRIDE, SYS_PTRACE]));
    assert_eq!(tier(&found, "S"), "partly");
    let kill = doctor(|| without(&[NET_ADMIN]));
    let note = check(&kill, "sock_destroy")["note"].as_str().unwrap();
    assert!(["this process lacks CAP_NET_ADMIN", NO_DESTROY].contains(&note), "{note}");
}

const NO_DESTROY: &str = "this kernel was built without CONFIG_INET_DIAG_DESTROY";

fn an_ordinary_user_is_told_what_is_missing() {
    let found = doctor(become_nobody);
    assert_eq!(
        (&found["ready"], &found["layout"]["members"].as_array().unwrap().is_empty()),
        (&false.into(), &false)
    );
    assert_refused(&found, &TRACING, "capabilities", "lacks CAP_BPF and CAP_PERFMON");
    let command = found["next"]["command"].as_str().unwrap();
    assert!(command.starts_with("sudo /") && command.ends_with("tcp-trace report"), "{command}");
    assert!(found["next"]["how"].as_str().unwrap().contains("setcap cap_bpf,cap_perfmon+ep /"), "{found:#}");
    assert_eq!(check(&found, "sock_diag")["status"], "ok");
    assert!(found["capabilities"].as_array().unwrap().iter().all(|one| one["held"] == false), "{found:#}");
    let list = run(become_nobody, &["snapshot", "--json"]);
    assert!(list.status.success(), "as it says: {}", text(&list.stderr));
}

fn a_user_with_two_capabilities_is_ready() {
    let mut capabilities = 1 << BPF | 1 << PERFMON;
    if host::kernel_version().is_some_and(|version| version < (5, 11)) {
        capabilities |= 1 << SYS_RESOURCE;
    }
    let found = doctor_under(move || nobody_with(capabilities));
    assert_eq!((&found["ready"], tier(&found, "1"), tier(&found, "1s")), (&true.into(), "yes", "no"));
    assert_refused(&found, &["sock_ops"], "capabilities", "lacks CAP_NET_ADMIN");
    // What only root may look into.
    let tracepoint = hook(&found, "set_state", "tracepoint");
    assert_eq!(tracepoint["cause"], "capabilities", "{tracepoint:#}");
    let reason = tracepoint["reason"].as_str().unwrap();
    let expected = ["this process lacks CAP_DAC_READ_SEARCH", "this process lacks CAP_SYS_ADMIN"];
    assert!(expected.contains(&reason), "{reason}");
}

/// A mount namespace of its own, in which nothing comes from or goes to another.
fn private_mounts() -> io::Result<()> {
    // SAFETY: no address in it.
    errno_of(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: strings that end, and null where nothing is meant.
    errno_of(unsafe {
        libc::mount(c"none".as_ptr(), c"/".as_ptr(), std::ptr::null(), flags, std::ptr::null())
    })
}

/// Empties a folder by mounting something empty on it.
fn hide(folder: &CStr) -> io::Result<()> {
    let kind = c"tmpfs".as_ptr();
    // SAFETY: strings that end, and null where nothing is meant.
    errno_of(unsafe { libc::mount(kind, folder.as_ptr(), kind, 0, std::ptr::null()) })
}

fn unmount(folder: &CStr) -> io::Result<()> {
    // SAFETY: a string that ends.
    errno_of(unsafe { libc::umount2(folder.as_ptr(), libc::MNT_DETACH) })
}

fn without_btf() -> io::Result<()> {
    private_mounts()?;
    hide(c"/sys/kernel/btf")
}

fn without_btf_the_perf_tracepoint_is_left() {
    let found = doctor(without_btf);
    assert_eq!((&found["ready"], tier(&found, "0"), tier(&found, "1")), (&true.into(), "yes", "no"));
    assert_refused(&found, &TYPED, "btf", "/sys/kernel/btf/vmlinux");
    assert_eq!(hook(&found, "set_state", "tracepoint")["outcome"], "ok");
    assert!(found["next"]["how"].as_str().unwrap().contains("CONFIG_DEBUG_INFO_BTF"), "{}", found["next"]);
    // It is not the lack of BTF that keeps an ordinary user from the main job.
    let found = doctor(|| without_btf().and_then(|()| become_nobody()));
    assert_eq!(found["ready"], false);
    assert_refused(&found, &["tracepoint"], "capabilities", "lacks CAP_BPF and CAP_PERFMON");
    assert!(found["next"]["command"].as_str().unwrap().starts_with("sudo /"), "{}", found["next"]);
}

/// It is mounted where it is missing, which takes a capability.
fn without_tracefs() -> io::Result<()> {
    for folder in [c"/sys/kernel/debug/tracing", c"/sys/kernel/debug", c"/sys/kernel/tracing"] {
        // It need not be mounted there.
        let _ = unmount(folder);
    }
    Ok(())
}

fn without_btf_and_tracefs_nothing_is() {
    let found = doctor(|| without_btf().and_then(|()| without_tracefs()));
    assert_eq!(found["ready"], true);
    assert_eq!(check(&found, "tracefs")["value"], "not mounted");
    let found =
        doctor(|| without_btf().and_then(|()| without_tracefs()).and_then(|()| without(&[SYS_ADMIN])));
    assert_eq!(found["ready"], false);
    assert_refused(&found, &["tracepoint"], "capabilities", "lacks CAP_SYS_ADMIN");
    assert_refused(&found, &TYPED, "btf", "/sys/kernel/btf/vmlinux");
}

fn without_cgroup2_there_are_no_handshakes() {
    let mount = bpf::cgroup_mount_point().unwrap();
    let path = std::ffi::CString::new(mount.to_str().unwrap()).unwrap();
    let found = doctor_under(move || private_mounts().and_then(|()| unmount(&path)));
    assert_eq!((&found["ready"], tier(&found, "1"), tier(&found, "1s")), (&true.into(), "yes", "no"));
    assert_refused(&found, &["sock_ops"], "cgroup", "no cgroup2 hierarchy is mounted");
    let command = found["next"]["command"].as_str().unwrap();
    assert!(command.contains("mount -t cgroup2 none /sys/fs/cgroup"), "{command}");
}

/// All capabilities, of nothing.
fn user_namespace() -> io::Result<()> {
    // SAFETY: no address in it.
    errno_of(unsafe { libc::unshare(libc::CLONE_NEWUSER) })?;
    for (file, map) in [
        (c"/proc/self/uid_map", c"0 0 1"),
        (c"/proc/self/setgroups", c"deny"),
        (c"/proc/self/gid_map", c"0 0 1"),
    ] {
        // SAFETY: a string that ends.
        let fd = unsafe { libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
        // SAFETY: so many bytes of a string.
        let written = unsafe { libc::write(fd, map.as_ptr().cast(), map.count_bytes()) };
        if written < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn root_of_a_user_namespace_is_not_root() {
    let found = doctor(user_namespace);
    assert_eq!(found["ready"], false);
    assert!(found["capabilities"].as_array().unwrap().iter().any(|one| one["held"] == true), "{found:#}");
    assert_refused(&found, &TRACING, "user_namespace", "in a user namespace of its own");
    assert_eq!(check(&found, "user_namespace")["status"], "limits");
}

/// As the usual profiles of container runtimes do.
fn no_bpf() -> io::Result<()> {
    let answer = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    let number = u32::try_from(libc::SYS_bpf).unwrap_or(u32::MAX);
    let statement = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, answer),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: a program of that many statements, which the kernel copies.
    errno_of(unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0)
    })
}

fn a_seccomp_filter_is_no_missing_capability() {
    let found = doctor(no_bpf);
    assert_eq!(found["ready"], false);
    assert_refused(&found, &TRACING, "seccomp", "a seccomp filter");
    assert!(found["next"]["how"].as_str().unwrap().contains("seccomp=unconfined"), "{}", found["next"]);
}

fn little_memory() -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: 64 << 10, rlim_max: 64 << 10 };
    // SAFETY: a struct that lives through the call.
    errno_of(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) })?;
    without(&[SYS_RESOURCE])
}

fn locked_memory_matters_to_old_kernels_only() {
    let found = doctor(little_memory);
    let old = host::kernel_version().is_some_and(|version| version < (5, 11));
    assert_eq!(found["ready"], !old, "{found:#}");
    if old {
        assert_refused(&found, &TRACING, "memlock", "RLIMIT_MEMLOCK");
        assert!(found["next"]["command"].as_str().unwrap().contains("prlimit"), "{}", found["next"]);
    }
}

/// As in a container without `--pid=host`: whoever is started next has it.
fn a_pid_namespace_hides_processes() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcp-trace"));
    command.args(["doctor", "--json"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let starter = std::thread::spawn(move || {
        // SAFETY: no address in it; what this thread starts is in the new namespace, and it starts nothing else.
        errno_of(unsafe { libc::unshare(libc::CLONE_NEWPID) })?;
        command.spawn()
    });
    let output = starter.join().unwrap().unwrap().wait_with_output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["ready"], tier(&found, "S")), (&true.into(), "partly"));
    assert_eq!(check(&found, "pid_namespace")["status"], "limits");
}

/// A real one, with the runtime's own profile.
fn in_a_container_it_names_what_the_runtime_took_away() {
    requires(&[Feature::ContainerRuntime]);
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_tcp-trace"));
    let inside = |flags: &[&str]| {
        let doctor = run_once("tt-doctor", flags, program, &["doctor", "--json"]).unwrap();
        let found: Value = serde_json::from_slice(&doctor.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", text(&doctor.stderr)));
        let report = run_once("tt-report", flags, program, &["report", "--duration", "100ms"]).unwrap();
        assert_eq!(doctor.status.code(), report.status.code(), "{}", text(&report.stderr));
        assert_eq!(found["ready"] == true, doctor.status.success());
        found
    };
    let found = inside(&[]);
    assert_refused(&found, &TRACING, "capabilities", "lacks CAP_BPF and CAP_PERFMON");
    let how = found["next"]["how"].as_str().unwrap();
    assert!(how.starts_with("to start the container with --cap-add=BPF --cap-add=PERFMON"), "{how}");
    // Some profiles answer to these capabilities, others do not.
    let found = inside(&["--cap-add=BPF", "--cap-add=PERFMON"]);
    if found["ready"] == false {
        assert_refused(&found, &TYPED, "seccomp", "a seccomp filter");
        let open = inside(&["--cap-add=BPF", "--cap-add=PERFMON", "--security-opt=seccomp=unconfined"]);
        assert_eq!(open["ready"], true, "as it says: {open:#}");
    }
    let found = inside(&["--privileged"]);
    assert_eq!(
        (&found["ready"], check(&found, "pid_namespace")["status"].as_str()),
        (&true.into(), Some("limits"))
    );
    let found = inside(&["--privileged", "--pid=host"]);
    assert!(!found["checks"].as_array().unwrap().iter().any(|check| check["name"] == "pid_namespace"));
}
