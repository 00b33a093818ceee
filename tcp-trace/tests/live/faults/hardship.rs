//! Hosts that lack something: what is not known then is said, and what is left is exact.

use std::{
    ffi::{CStr, CString},
    fs, io,
    os::unix::process::CommandExt as _,
    process::Stdio,
    thread,
    time::Duration,
};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount},
    thread::{UnshareFlags, capabilities, unshare_unsafe},
    time::{ClockId, Timespec, clock_gettime, clock_settime},
};
use serde_json::Value;
use tcp_trace::bpf;
use tcp_trace_testkit::{
    Helper, NetNs,
    workload::{ChurnPlan, churn},
};

use super::degradations;
use crate::{
    requirements::{Feature, requires},
    tracer::{PATIENCE, Tracer, assert_whole, count, text},
};

/// A mount namespace of its own, in which nothing comes from or goes to another.
fn private_mounts() -> io::Result<()> {
    // SAFETY: between fork and exec; the mounts of nobody else are changed.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    Ok(mount_change(c"/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?)
}

/// Empties a folder by mounting something empty on it.
fn hide(folder: &CStr) -> io::Result<()> {
    Ok(mount(c"tcp-trace-test", folder, c"tmpfs", MountFlags::empty(), None)?)
}

/// What is reported of 200 connections under a hardship.
fn report_under(arguments: &[&str], hardship: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> Value {
    let ns = NetNs::new().unwrap();
    let netns = ns.inum().to_string();
    let by_namespace = ["--netns", &netns];
    let filter = if arguments.contains(&"-p") { &[][..] } else { &by_namespace[..] };
    let tracer = Tracer::start_under(&[&["report", "--json"], arguments, filter].concat(), hardship);
    churn(&ns, 200, &ChurnPlan::default()).unwrap();
    let report = tracer.report();
    assert_eq!(report["loss"]["balanced"], true, "{}", report["loss"]);
    let missed = report["loss"]["missed"].as_u64().unwrap();
    let opened = count(&report, "CLOSE", "SYN_SENT");
    assert!(opened == 200 || missed > 0, "{opened} opened, {missed} missed");
    report
}

#[track_caller]
fn assert_told(report: &Value, feature: &str, words: &str) {
    let told = degradations(report);
    let found = told.iter().any(|(what, reason)| what == feature && reason.contains(words));
    assert!(found, "no {feature} with `{words}` in {told:#?}");
}

pub(super) fn without_proc() {
    let report = report_under(&[], || private_mounts().and_then(|()| hide(c"/proc")));
    assert_whole(&report);
    assert_told(&report, "survey", "/proc");
    assert_told(&report, "half_open", "/proc");
}

pub(super) fn without_cgroup2() {
    let mount = bpf::cgroup_mount_point().unwrap();
    let path = CString::new(mount.to_str().unwrap()).unwrap();
    let report = report_under(&[], move || {
        private_mounts()?;
        Ok(unmount(&*path, UnmountFlags::DETACH)?)
    });
    assert_whole(&report);
    assert_told(&report, "half_open", "no cgroup2 hierarchy is mounted");
    assert_eq!(report["half_open"]["sources"]["sock_ops"], 0, "{}", report["half_open"]);
}

pub(super) fn without_btf() {
    let pid = std::process::id().to_string();
    let hidden = || private_mounts().and_then(|()| hide(c"/sys/kernel/btf"));
    let report = report_under(&["-p", &pid], hidden);
    assert_eq!(report["source"]["attach"], "tracepoint");
    assert_told(&report, "tp_btf", "BTF");
    assert!(report["time_wait"]["entered"].is_null(), "not known is not 0");
}

const NOBODY: libc::uid_t = 65_534;

/// Another user, with those of these capabilities that root has, whom this `/proc` shows no process but its own.
fn nobody_and_hidepid(set: u64) -> io::Result<()> {
    private_mounts()?;
    mount(c"proc", c"/proc", c"proc", MountFlags::empty(), c"hidepid=2")?;
    let ok = |result: libc::c_int| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: no address in it.
    ok(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) })?;
    // SAFETY: no address is read, as the list of groups is empty.
    ok(unsafe { libc::setgroups(0, std::ptr::null()) })?;
    // SAFETY: no address in it.
    ok(unsafe { libc::setresgid(NOBODY, NOBODY, NOBODY) })?;
    // SAFETY: no address in it.
    ok(unsafe { libc::setresuid(NOBODY, NOBODY, NOBODY) })?;
    let (low, high) = (set as u32, (set >> 32) as u32);
    // `struct __user_cap_header_struct` and `__user_cap_data_struct` (`include/uapi/linux/capability.h`, version 3).
    let (header, data) = ([0x2008_0522_u32, 0], [[low; 3], [high; 3]]);
    // SAFETY: both are of the kernel's layout, and live through the call.
    let done = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    ok(libc::c_int::try_from(done).unwrap_or(-1))?;
    for number in (0..64).filter(|number| set & 1 << number != 0) {
        // SAFETY: no address in it.
        ok(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0) })?;
    }
    Ok(())
}

pub(super) fn hidepid() {
    let ns = NetNs::new().unwrap();
    let mut server = Helper::spawn(&ns, "leaky-server", &["listen=127.0.0.1:7001", "comm=hidden"]).unwrap();
    server.expect("listening", PATIENCE).unwrap();
    // CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SYS_RESOURCE, CAP_PERFMON, CAP_BPF.
    let wanted: u64 = 1 << 12 | 1 << 21 | 1 << 24 | 1 << 38 | 1 << 39;
    let set = wanted & capabilities(None).unwrap().permitted.bits();
    let report = report_under(&[], move || nobody_and_hidepid(set));
    assert_whole(&report);
    let told = degradations(&report);
    let said = |words: &str| told.iter().any(|(_, reason)| reason.contains(words));
    assert!(said("hidepid") || said("cannot be read"), "{told:#?}");
}

/// Its clocks are not those of the kernel's programs: two hours behind, and a week ahead.
pub(super) fn time_namespace() {
    for (monotonic, boottime) in [(-1, -1), (7_200, 604_800)] {
        let uptime = clock_gettime(ClockId::Monotonic).tv_sec;
        // A clock cannot be put before its own start.
        let monotonic = if monotonic < 0 { -(uptime / 2) } else { monotonic };
        let boottime = if boottime < 0 { monotonic } else { boottime };
        let ns = NetNs::new().unwrap();
        let netns = ns.inum().to_string();
        let mut client =
            Helper::spawn(&ns, "leaky-server", &["listen=127.0.0.1:7001", "comm=timely"]).unwrap();
        client.expect("listening", PATIENCE).unwrap();
        let report = in_time_namespace(monotonic, boottime, &["report", "--json", "--netns", &netns], || {
            churn(&ns, 200, &ChurnPlan::default()).unwrap();
        });
        assert_whole(&report);
        assert_eq!(count(&report, "CLOSE", "SYN_SENT"), 200);
        let longest = report["states"]["ESTABLISHED"]["duration"]["max_ns"].as_u64().unwrap();
        assert!(longest < 60_000_000_000, "{longest}");
        let me = report["processes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["process"]["pid"] == std::process::id());
        let me = &me.unwrap_or_else(|| panic!("{}", report["processes"]))["process"];
        assert!(me["exe"].is_string(), "the process that the kernel saw is the one that /proc shows: {me}");
    }
}

/// The program with these offsets (time_namespaces(7)), which only a child of the unsharing process can have.
fn in_time_namespace(monotonic: i64, boottime: i64, arguments: &[&str], work: impl FnOnce()) -> Value {
    const CLONE_NEWTIME: libc::c_int = 0x80;
    let offsets = CString::new(format!("monotonic {monotonic} 0\nboottime {boottime} 0\n")).unwrap();
    let mut command = Tracer::command(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let started = thread::scope(|scope| {
        // A thread, because its children are in the new namespace for good, and it starts nothing else.
        let starter = scope.spawn(|| {
            // SAFETY: no address in it; nothing of this thread is shared by it.
            assert_eq!(unsafe { libc::unshare(CLONE_NEWTIME) }, 0, "{}", io::Error::last_os_error());
            // The file is a process's; a thread has one under its own number.
            let own = format!("/proc/{}/timens_offsets", rustix::thread::gettid().as_raw_nonzero());
            fs::write(own, offsets.as_bytes()).unwrap();
            // SAFETY: the hook does nothing; with one, the child is a fork's, which the new namespace takes.
            unsafe { command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(None)?)) };
            command.spawn().unwrap()
        });
        starter.join().unwrap()
    });
    thread::sleep(Duration::from_millis(1_500));
    work();
    thread::sleep(Duration::from_millis(300));
    rustix::process::kill_process(rustix::process::Pid::from_child(&started), rustix::process::Signal::INT)
        .unwrap();
    let output = started.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)))
}

/// Forward by an hour, and back.
pub(super) fn a_clock_that_is_set() {
    requires(&[Feature::OwnClock]);
    let set = |seconds: i64| {
        let now = clock_gettime(ClockId::Realtime);
        clock_settime(ClockId::Realtime, Timespec { tv_sec: now.tv_sec + seconds, ..now }).unwrap();
    };
    let ns = NetNs::new().unwrap();
    let netns = ns.inum().to_string();
    for seconds in [3_600, -3_600] {
        let tracer = Tracer::start(&["report", "--json", "--netns", &netns]);
        churn(&ns, 100, &ChurnPlan::default()).unwrap();
        set(seconds);
        churn(&ns, 100, &ChurnPlan::default()).unwrap();
        let report = tracer.report();
        set(-seconds);
        assert_whole(&report);
        assert_eq!(count(&report, "CLOSE", "SYN_SENT"), 200);
        let longest = report["states"]["ESTABLISHED"]["duration"]["max_ns"].as_u64().unwrap();
        assert!(longest < 600_000_000_000, "durations do not go by that clock: {longest}");
        let way = if seconds > 0 { "forward" } else { "back" };
        assert_told(&report, "survey", &format!("was set {way} by 3600"));
    }
}
