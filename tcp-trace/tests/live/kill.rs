//! `tcp-trace kill` against processes that really leak: what it destroys, what it leaves alone, and what it refuses.

use std::{
    io,
    os::{
        fd::{FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Command, Output, Stdio},
};

use rustix::{
    io::Errno,
    net::SendFlags,
    process::{Pid, PidfdFlags, pidfd_open},
};
use serde_json::Value;
use tcp_trace::{
    kill::{Candidate, act, look},
    survey::sock_diag::try_to_destroy,
};
use tcp_trace_core::kill::{Action, Wish};
use tcp_trace_testkit::{
    Helper, NetNs,
    helper::Line,
    leak::{Leak, LeakKind, UNREAD_BYTES},
};

use crate::{
    Test,
    tracer::{PATIENCE, Tracer, text},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("a_dry_run_lists_and_does_nothing", a_dry_run_lists_and_does_nothing),
    (
        "what_one_process_leaks_is_destroyed_and_nothing_else",
        what_one_process_leaks_is_destroyed_and_nothing_else,
    ),
    (
        "the_program_gets_econnaborted_and_keeps_its_descriptor",
        the_program_gets_econnaborted_and_keeps_its_descriptor,
    ),
    ("unread_data_can_still_be_read", unread_data_can_still_be_read),
    ("filters_choose", filters_choose),
    ("what_another_process_holds_too_is_refused", what_another_process_holds_too_is_refused),
    ("what_changed_hands_after_the_look_is_refused", what_changed_hands_after_the_look_is_refused),
    ("a_process_that_ended_after_the_look_is_refused", a_process_that_ended_after_the_look_is_refused),
    ("what_cannot_be_done_here_is_3_and_says_why", what_cannot_be_done_here_is_3_and_says_why),
];

const COUNT: usize = 4;

/// A process that does not close what its peers have closed.
struct Leaky {
    server: Helper,
    _client: Helper,
    /// Local ends of its peers.
    peers: Vec<String>,
}

impl Leaky {
    fn start(ns: &NetNs, address: &str) -> Self {
        let mut server = Helper::spawn(ns, "leaky-server", &[&format!("listen={address}")]).unwrap();
        server.expect("listening", PATIENCE).unwrap();
        let arguments = [format!("connect={address}"), format!("count={COUNT}")];
        let mut client = Helper::spawn(ns, "client", &arguments.each_ref().map(String::as_str)).unwrap();
        client.expect("ready", PATIENCE).unwrap();
        client.send("close").unwrap();
        let peer = |line: Line| line.get("peer").unwrap().to_owned();
        let peers = (0..COUNT).map(|_| peer(server.expect("eof", PATIENCE).unwrap())).collect();
        Self { server, _client: client, peers }
    }

    fn pid(&self) -> String {
        self.server.pid().to_string()
    }

    /// How many of its sockets are in CLOSE_WAIT.
    fn left(&self, ns: &NetNs) -> usize {
        let inum = ns.inum().to_string();
        let pid = self.pid();
        let output = Tracer::run(&[
            "snapshot",
            "--json",
            "--sockets",
            "--netns",
            &inum,
            "-p",
            &pid,
            "--state",
            "close-wait",
        ]);
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        document["sockets"].as_array().unwrap().len()
    }
}

/// Runs it on a process; the exit code, and the JSON Lines.
fn kill(leaky: &Leaky, more: &[&str]) -> (i32, Vec<Value>) {
    let pid = leaky.pid();
    let output = Tracer::run(&[&["kill", "--close-wait", "--json", "--pid", &pid], more].concat());
    let lines = text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.code().unwrap(), lines)
}

/// What it does where the kernel cannot; false where it can.
fn cannot(leaky: &Leaky) -> bool {
    match try_to_destroy() {
        Ok(()) => false,
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP), "root may: {error}");
            let output = Tracer::run(&["kill", "--close-wait", "--yes", "--pid", &leaky.pid()]);
            assert_eq!((output.status.code(), text(&output.stdout)), (Some(3), String::new()));
            assert!(text(&output.stderr).contains("CONFIG_INET_DIAG_DESTROY"), "{}", text(&output.stderr));
            true
        }
    }
}

fn actions(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["action"].as_str().unwrap()).collect()
}

fn a_dry_run_lists_and_does_nothing() {
    let ns = NetNs::new().unwrap();
    let leaky = Leaky::start(&ns, "127.0.0.1:7001");
    let (code, lines) = kill(&leaky, &[]);
    assert_eq!((code, actions(&lines)), (0, vec!["would_destroy"; COUNT]));
    let mut peers: Vec<String> =
        lines.iter().map(|line| format!("127.0.0.1:{}", line["peer"]["port"])).collect();
    let mut expected = leaky.peers.clone();
    peers.sort_unstable();
    expected.sort_unstable();
    assert_eq!(peers, expected);
    for line in &lines {
        assert_eq!(
            (&line["process"]["pid"], &line["netns"]),
            (&leaky.server.pid().into(), &ns.inum().into())
        );
        assert_eq!((&line["kind"], &line["unread_bytes"]), (&"forgot_close".into(), &0.into()), "{line:#}");
        assert!(line["fds"].as_array().unwrap().len() == 1 && line["age_ns"].as_u64().is_some(), "{line:#}");
        assert_eq!((&line["reason"], &line["others"]), (&Value::Null, &Value::Array(vec![])));
    }
    assert_eq!(leaky.left(&ns), COUNT);
}

fn what_one_process_leaks_is_destroyed_and_nothing_else() {
    let ns = NetNs::new().unwrap();
    // An IPv4 client of a socket that speaks both, and one of IPv6.
    let leaky = Leaky::start(&ns, "[::1]:7001");
    let other = Leaky::start(&ns, "127.0.0.1:7002");
    if cannot(&leaky) {
        return;
    }
    let output = Tracer::run(&["kill", "--close-wait", "--yes", "--pid", &leaky.pid()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let record = text(&output.stdout);
    assert_eq!(record.lines().count(), COUNT);
    assert!(record.lines().all(|line| line.contains(" destroyed [::1]:7001 ← [::1]:")), "{record}");
    assert!(text(&output.stderr).contains("4 destroyed, 0 gone before, 0 refused or failed"));
    assert_eq!((leaky.left(&ns), other.left(&ns)), (0, COUNT));
    let (code, lines) = kill(&leaky, &["--yes"]);
    assert_eq!((code, lines.len()), (0, 0), "nothing is left to do");
}

fn the_program_gets_econnaborted_and_keeps_its_descriptor() {
    let ns = NetNs::new().unwrap();
    let mut leaky = Leaky::start(&ns, "127.0.0.1:7001");
    if cannot(&leaky) {
        return;
    }
    let sockets = |pid: &str| {
        let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let is_socket = |link: io::Result<std::path::PathBuf>| {
            link.is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
        };
        links.filter(|fd| is_socket(std::fs::read_link(fd.path()))).count()
    };
    let before = sockets(&leaky.pid());
    let (code, lines) = kill(&leaky, &["--yes"]);
    assert_eq!((code, actions(&lines)), (0, vec!["destroyed"; COUNT]));
    assert_eq!(sockets(&leaky.pid()), before);
    // The end of the stream stays the end of the stream.
    leaky.server.send(&format!("read peer={} bytes=1", leaky.peers[0])).unwrap();
    assert_eq!(leaky.server.expect("did-read", PATIENCE).unwrap().get("bytes"), Some("0"));
    let socket = take(leaky.server.pid(), lines[0]["fds"][0].as_u64().unwrap());
    assert_eq!(send(&socket), [Err(Errno::CONNABORTED), Err(Errno::PIPE)]);
}

fn send(socket: &OwnedFd) -> [Result<usize, Errno>; 2] {
    [(); 2].map(|()| rustix::net::send(socket, b"x", SendFlags::NOSIGNAL))
}

/// What was not read is not lost; what was not accepted is nobody's.
fn unread_data_can_still_be_read() {
    let ns = NetNs::new().unwrap();
    let leak = Leak::start(&ns, 1, 7001).unwrap();
    let of_kind = |kind| leak.sockets.iter().find(|socket| socket.kind == kind).unwrap();
    if try_to_destroy().is_err() {
        return;
    }
    let unread = of_kind(LeakKind::UnreadData);
    let output = Tracer::run(&["kill", "--close-wait", "--yes", "--json", "--pid", &unread.pid.to_string()]);
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&line["action"], &line["kind"]), (&"destroyed".into(), &"unread_data".into()));
    assert_eq!(line["unread_bytes"], UNREAD_BYTES);
    let socket = take(unread.pid, unread.fd.unwrap().into());
    let mut bytes = [0; 4096];
    let mut read = || rustix::io::read(&socket, &mut bytes[..]);
    assert_eq!([read(), read()], [Ok(UNREAD_BYTES as usize), Ok(0)]);
    assert_eq!(send(&socket), [Err(Errno::CONNABORTED), Err(Errno::PIPE)]);
    let unaccepted = of_kind(LeakKind::NeverAccepted);
    let output = Tracer::run(&["kill", "--close-wait", "--yes", "--pid", &unaccepted.pid.to_string()]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), String::new()));
    assert!(
        text(&output.stderr).contains("1 more in CLOSE_WAIT wait to be accepted"),
        "{}",
        text(&output.stderr)
    );
}

fn filters_choose() {
    let ns = NetNs::new().unwrap();
    let leaky = Leaky::start(&ns, "127.0.0.1:7001");
    let count = |more: &[&str]| kill(&leaky, more).1.len();
    assert_eq!(count(&["--peer", &leaky.peers[0]]), 1);
    assert_eq!((count(&["--peer", "127.0.0.1"]), count(&["--peer", "127.0.0.2"])), (COUNT, 0));
    assert_eq!((count(&["-L", "7001,1"]), count(&["-L", "1"])), (COUNT, 0));
    assert_eq!(
        (count(&["--netns", &ns.inum().to_string()]), count(&["--older-than", "1ms"])),
        (COUNT, COUNT)
    );
    // Exact ages are below that; a lower bound would be refused.
    let (_, old) = kill(&leaky, &["--older-than", "1h", "--yes"]);
    assert!(old.iter().all(|line| line["action"] == "refused"), "{old:#?}");
    assert_eq!(leaky.left(&ns), COUNT);
}

/// Takes a descriptor of another process, which has it still.
fn take(pid: u32, fd: u64) -> OwnedFd {
    let process = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let process = pidfd_open(process, PidfdFlags::empty()).unwrap();
    // SAFETY: no address in it.
    let taken =
        unsafe { libc::syscall(libc::SYS_pidfd_getfd, std::os::fd::AsRawFd::as_raw_fd(&process), fd, 0) };
    assert!(taken >= 0, "{}", io::Error::last_os_error());
    // SAFETY: new, and nobody else's.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(taken).unwrap()) }
}

fn what_another_process_holds_too_is_refused() {
    let ns = NetNs::new().unwrap();
    let leaky = Leaky::start(&ns, "127.0.0.1:7001");
    let fd = kill(&leaky, &[]).1[0]["fds"][0].as_u64().unwrap();
    let copy = take(leaky.server.pid(), fd);
    if cannot(&leaky) {
        return;
    }
    let (code, lines) = kill(&leaky, &["--yes"]);
    assert_eq!(code, 1, "not all was done");
    let refused: Vec<_> = lines.iter().filter(|line| line["action"] == "refused").collect();
    assert_eq!((lines.len(), refused.len()), (COUNT, 1));
    let me = std::process::id();
    assert_eq!((&refused[0]["fds"][0], &refused[0]["others"][0]["pid"]), (&fd.into(), &me.into()));
    assert!(refused[0]["reason"].as_str().unwrap().contains(&format!("shared with process {me}")));
    assert_eq!(leaky.left(&ns), 1);
    let (code, lines) = kill(&leaky, &["--yes", "--shared"]);
    assert_eq!((code, actions(&lines)), (0, vec!["destroyed"]));
    drop(copy);
}

/// The library's two halves, with something in between.
fn what_changed_hands_after_the_look_is_refused() {
    let ns = NetNs::new().unwrap();
    let mut leaky = Leaky::start(&ns, "127.0.0.1:7001");
    let found = look(leaky.server.pid(), &Wish::default(), Some(ns.inum())).unwrap();
    assert!(found.candidates.len() == COUNT && found.candidates.iter().all(Candidate::is_to_be_destroyed));
    // One goes on to this process, the others are closed.
    let heir = take(leaky.server.pid(), found.candidates[0].entry.fds[0].into());
    leaky.server.send("close").unwrap();
    for _ in 0..COUNT {
        leaky.server.expect("closed", PATIENCE).unwrap();
    }
    let mut entries = Vec::new();
    act(&found, true, |entry| {
        entries.push(entry.clone());
        Ok(())
    })
    .unwrap();
    for entry in &entries {
        assert_eq!(entry.action, Action::Refused, "{entry:?}");
        assert_eq!(entry.reason.as_deref(), Some("the process does not hold it any more"));
    }
    assert_eq!(entries.len(), COUNT);
    // It is not reset.
    assert_eq!(rustix::net::sockopt::socket_error(&heir).unwrap(), Ok(()));
}

fn a_process_that_ended_after_the_look_is_refused() {
    let ns = NetNs::new().unwrap();
    let mut leaky = Leaky::start(&ns, "127.0.0.1:7001");
    let mut found = look(leaky.server.pid(), &Wish::default(), Some(ns.inum())).unwrap();
    let reasons = |found: &tcp_trace::kill::Look| {
        let mut reasons = Vec::new();
        act(found, true, |entry| {
            assert_eq!(entry.action, Action::Refused);
            reasons.extend(entry.reason.clone());
            Ok(())
        })
        .unwrap();
        reasons.dedup();
        reasons
    };
    // Another process with this pid would have another start.
    let start = found.process.start_ns;
    found.process.start_ns = start.map(|ns| ns + 10_000_000);
    assert_eq!(reasons(&found), ["the process has ended, and its pid is another's now"]);
    found.process.start_ns = start;
    leaky.server.kill().unwrap();
    let _inhabitant = Helper::spawn(&ns, "server", &["listen=127.0.0.1:9"]).unwrap();
    let ended = reasons(&found);
    let gone = "its network namespace cannot be entered any more";
    assert!(
        ended == ["the process has ended"] || ended.iter().all(|reason| reason.starts_with(gone)),
        "{ended:?}"
    );
}

/// Without the capability.
fn unprivileged(arguments: &[&str]) -> Output {
    const NET_ADMIN: libc::c_ulong = 12;
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcp-trace"));
    command.args(arguments).stdin(Stdio::null());
    let without = || {
        // SAFETY: no address in it.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, NET_ADMIN, 0, 0, 0) };
        if dropped == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec the hook makes one system call; it allocates and locks nothing.
    unsafe { command.pre_exec(without) };
    command.output().unwrap()
}

fn what_cannot_be_done_here_is_3_and_says_why() {
    let ns = NetNs::new().unwrap();
    let leaky = Leaky::start(&ns, "127.0.0.1:7001");
    if cannot(&leaky) {
        return;
    }
    let output = unprivileged(&["kill", "--close-wait", "--yes", "--pid", &leaky.pid()]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(3), String::new()));
    assert!(text(&output.stderr).contains("needs CAP_NET_ADMIN"), "{}", text(&output.stderr));
    let output = unprivileged(&["kill", "--close-wait", "--pid", &leaky.pid()]);
    assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(0), COUNT));
    assert!(text(&output.stderr).contains("--yes would do nothing here"), "{}", text(&output.stderr));
    assert_eq!(leaky.left(&ns), COUNT);
    let output = Tracer::run(&["kill", "--close-wait", "--pid", "4194303"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("there is no such process"), "{}", text(&output.stderr));
}
