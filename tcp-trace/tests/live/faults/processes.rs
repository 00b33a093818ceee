//! Processes, containers, cgroups and namespaces that go while they are looked at, and processes that do not answer.

use std::{
    ffi::CString,
    fs, io,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    mount::{MountPropagationFlags, mount_bind, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};
use serde_json::Value;
use tcp_trace_testkit::{
    Container, Helper, NetNs,
    container::Network,
    scale::scaled,
    workload::{ChurnPlan, churn},
};

use super::{Folder, degradations, reports, total, until};
use crate::{
    requirements::{Feature, requires},
    tracer::{PATIENCE, Tracer, assert_whole, text},
};

/// A process that connects, in the namespace of the calling thread, and ends without an exec in between.
fn connect_and_end(to: SocketAddr) {
    let mut command = Command::new("/nowhere/tcp-trace-is-no-program");
    // SAFETY: between fork and exec the hook makes system calls; it allocates and locks nothing.
    unsafe {
        command.pre_exec(move || {
            let socket = rustix::net::socket_with(
                rustix::net::AddressFamily::INET,
                rustix::net::SocketType::STREAM,
                rustix::net::SocketFlags::CLOEXEC,
                None,
            )?;
            rustix::net::connect(&socket, &to)?;
            Ok(())
        });
    }
    // There is no such program: the process is gone by the time that this is told.
    assert!(command.spawn().is_err());
}

/// Each is looked for in `/proc` by every survey that it lives to see, and gone when it is read.
pub(super) fn thousands_that_end_at_once() {
    const THREADS: u64 = 4;
    let each = scaled(500, 50);
    let ns = NetNs::new().unwrap();
    let netns = ns.inum().to_string();
    let tracer = Tracer::start(&["report", "--json", "--interval", "100ms", "--netns", &netns]);
    let listener = ns.run(|| TcpListener::bind("127.0.0.1:0")).unwrap();
    let to = listener.local_addr().unwrap();
    thread::scope(|scope| {
        let accepting = scope.spawn(|| (0..THREADS * each).for_each(|_| drop(listener.accept().unwrap())));
        for _ in 0..THREADS {
            scope.spawn(|| ns.run(|| (0..each).for_each(|_| connect_and_end(to))));
        }
        accepting.join().unwrap();
    });
    let output = tracer.stop();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let reports = reports(&output.stdout);
    for report in &reports {
        assert_whole(report);
        // They are called what this process or their starter's thread is called: another name would be somebody else's.
        let own = fs::read_to_string("/proc/self/comm").unwrap();
        for row in report["processes"].as_array().unwrap() {
            // Of whom nobody knows there is no name.
            let comm = row["process"]["comm"].as_str();
            assert!(comm.is_none_or(|comm| [own.trim(), "netns-run"].contains(&comm)), "{row}");
        }
        assert_eq!(degradations(report).iter().filter(|(feature, _)| feature == "survey").count(), 0);
    }
    assert_eq!(total(&reports, "CLOSE", "SYN_SENT"), THREADS * each);
}

/// Puts a pipe that nobody writes to in the place of a file of a process, for the program alone: whoever opens it waits.
fn pipe_over(folder: &Folder, pid: u32, file: &str) -> impl Fn() -> io::Result<()> + Send + Sync + 'static {
    let pipe = folder.path("pipe");
    mknodat(CWD, pipe.as_str(), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let [pipe, file] = [pipe, format!("/proc/{pid}/{file}")].map(|path| CString::new(path).unwrap());
    move || {
        // SAFETY: between fork and exec; the mounts of nobody else are changed.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        mount_change(c"/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
        Ok(mount_bind(&*pipe, &*file)?)
    }
}

fn server(ns: &NetNs) -> Helper {
    let mut server = Helper::spawn(ns, "leaky-server", &["listen=127.0.0.1:7001", "comm=mute"]).unwrap();
    server.expect("listening", PATIENCE).unwrap();
    server
}

/// As one does that hangs with its mappings locked: its command line cannot be read. All else about it is known.
pub(super) fn one_that_does_not_answer() {
    let (ns, folder) = (NetNs::new().unwrap(), Folder::new());
    let server = server(&ns);
    let netns = ns.inum().to_string();
    let mute = pipe_over(&folder, server.pid(), "cmdline");
    let arguments = ["report", "--json", "--close-wait-after", "1ms", "--netns", &netns];
    let tracer = Tracer::start_under(&arguments, mute);
    let mut client = Helper::spawn(&ns, "client", &["connect=127.0.0.1:7001", "count=3"]).unwrap();
    client.expect("ready", PATIENCE).unwrap();
    client.send("close count=3").unwrap();
    client.expect("done", PATIENCE).unwrap();
    thread::sleep(Duration::from_secs(1));
    let start = Instant::now();
    let report = tracer.report();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_whole(&report);
    let rows = report["close_wait"]["processes"].as_array().unwrap();
    let row = rows.iter().find(|row| row["process"]["pid"] == server.pid()).unwrap();
    assert_eq!((&row["process"]["comm"], row["count"].as_u64()), (&"mute".into(), Some(3)), "{row}");
    assert!(row["process"]["exe"].is_string(), "{row}");
    let told = degradations(&report);
    let sentence = format!("process {} does not let its command line be read", server.pid());
    assert!(told.iter().any(|(_, reason)| reason.contains(&sentence)), "{told:?}");
}

/// The worst case, which no process is known to bring about: a look that never comes back.
pub(super) fn a_survey_that_hangs() {
    let (ns, folder) = (NetNs::new().unwrap(), Folder::new());
    let server = server(&ns);
    let netns = ns.inum().to_string();
    let mute = pipe_over(&folder, server.pid(), "stat");
    let arguments = ["report", "--json", "--interval", "500ms", "--netns", &netns];
    let tracer = Tracer::start_under(&arguments, mute);
    churn(&ns, 100, &ChurnPlan::default()).unwrap();
    thread::sleep(Duration::from_millis(6_500));
    churn(&ns, 100, &ChurnPlan::default()).unwrap();
    thread::sleep(Duration::from_secs(1));
    // The second one does not wait for a last look.
    tracer.signal(rustix::process::Signal::TERM);
    thread::sleep(Duration::from_millis(200));
    let output = tracer.stop();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let reports = reports(&output.stdout);
    assert!(reports.len() >= 3, "{} reports", reports.len());
    assert_eq!(total(&reports, "CLOSE", "SYN_SENT"), 200);
    for report in &reports {
        assert_eq!(report["loss"]["balanced"], true, "{}", report["loss"]);
    }
    let told = degradations(reports.last().unwrap());
    assert!(told.iter().any(|(_, reason)| reason.contains("took longer than 5 s")), "{told:?}");
}

/// Removed with its processes, its cgroup, its namespace and the runtime's files, while its transitions are counted.
pub(super) fn a_container_that_goes() {
    requires(&[Feature::ContainerRuntime]);
    let arguments = ["listen=127.0.0.1:0"];
    let mut container = Container::start("tt-goes", Network::None, "leaky-server", &arguments).unwrap();
    let address = container.helper.expect("listening", PATIENCE).unwrap().get("addr").unwrap().to_owned();
    let name = container.name().to_owned();
    let ns = container.netns().unwrap();
    let netns = ns.inum().to_string();
    let tracer = Tracer::start(&["report", "--json", "--interval", "500ms", "--netns", &netns]);
    let connect = format!("connect={address}");
    let mut client = Helper::spawn(&ns, "client", &[&connect, "count=5"]).unwrap();
    client.expect("ready", PATIENCE).unwrap();
    client.send("close count=5").unwrap();
    for _ in 0..5 {
        container.helper.expect("eof", PATIENCE).unwrap();
    }
    thread::sleep(Duration::from_millis(700));
    drop(container);
    thread::sleep(Duration::from_millis(700));
    let output = tracer.stop();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let reports = reports(&output.stdout);
    for report in &reports {
        assert_eq!(report["loss"]["balanced"], true, "{}", report["loss"]);
    }
    // CLOSE_WAIT ends when the container does: in the report in which it is gone.
    let of = |report: &Value| {
        let rows = report["processes"].as_array().unwrap().clone();
        let of = |row: Value| {
            row["process"]["container"]["name"].as_str().map(str::to_owned).zip(row["total"].as_u64())
        };
        rows.into_iter()
            .filter_map(of)
            .filter(|(found, _)| *found == name)
            .map(|(_, total)| total)
            .sum::<u64>()
    };
    let totals: Vec<_> = reports.iter().map(of).collect();
    // LISTEN > SYN_RECV > ESTABLISHED > CLOSE_WAIT of each, and CLOSE_WAIT > LAST_ACK > CLOSE.
    assert!(totals.iter().sum::<u64>() >= 25, "{totals:?}");
    assert!(total(&reports, "CLOSE_WAIT", "LAST_ACK") + total(&reports, "CLOSE_WAIT", "CLOSE") >= 5);
}

/// A plain one, removed after its last process; its sockets end in it.
pub(super) fn a_cgroup_that_goes() {
    let ns = NetNs::new().unwrap();
    let netns = ns.inum().to_string();
    let Some(root) = tcp_trace::bpf::cgroup_mount_point() else { panic!("no cgroup2 hierarchy is mounted") };
    let group = root.join(format!("tcp-trace-test-{}", std::process::id()));
    fs::create_dir(&group).unwrap();
    let tracer = Tracer::start(&["report", "--json", "--interval", "300ms", "--netns", &netns]);
    let mut helper = Helper::spawn(&ns, "crowd", &["count=20", "port=7001"]).unwrap();
    fs::write(group.join("cgroup.procs"), helper.pid().to_string()).unwrap();
    helper.expect("ready", PATIENCE).unwrap();
    thread::sleep(Duration::from_millis(500));
    drop(helper);
    until("the cgroup is empty", || fs::remove_dir(&group).ok());
    thread::sleep(Duration::from_millis(500));
    let output = tracer.stop();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let reports = reports(&output.stdout);
    reports.iter().for_each(assert_whole);
    let last = reports.last().unwrap();
    assert_eq!(last["states"]["ESTABLISHED"]["live"], 0, "{}", last["states"]);
    assert_eq!(total(&reports, "CLOSE", "SYN_SENT"), 20);
}

/// Made, used and left as fast as can be, while every survey visits all that it finds.
pub(super) fn namespaces_that_go() {
    let (done, connections) = (AtomicBool::new(false), AtomicU64::new(0));
    let tracer = Tracer::start(&["report", "--json", "--interval", "100ms"]);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    let ns = NetNs::new().unwrap();
                    // A process in it, so that it is found.
                    let mut sleeper = Command::new("/proc/self/exe");
                    let mut child =
                        ns.command(sleeper.arg("--list").stdout(std::process::Stdio::null())).unwrap();
                    let listener = ns.run(|| TcpListener::bind("127.0.0.1:0")).unwrap();
                    let to = listener.local_addr().unwrap();
                    drop((ns.run(|| TcpStream::connect(to)).unwrap(), listener.accept().unwrap()));
                    connections.fetch_add(1, Relaxed);
                    child.wait().unwrap();
                }
            });
        }
        thread::sleep(Duration::from_secs(3));
        done.store(true, Relaxed);
    });
    let output = tracer.stop();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let reports = reports(&output.stdout);
    for report in &reports {
        assert_eq!(report["loss"]["balanced"], true, "{}", report["loss"]);
        let told = degradations(report);
        assert!(!told.iter().any(|(_, reason)| reason.contains("cannot be entered")), "{told:?}");
    }
    assert!(total(&reports, "CLOSE", "SYN_SENT") >= connections.load(Relaxed));
    assert!(connections.load(Relaxed) > 10, "{connections:?} namespaces");
}
