//! What a test needs of the kernel and the machine, and what becomes of it where that is missing.
//!
//! A skip is a claim, and it is checked. A test says what it needs by calling [`requires`] first. Where the
//! kernel is older than the feature, the test is skipped, and the reason names the first kernel that has it.
//! Where the kernel is new enough, only a reason that lies in the machine excuses it, and that reason must be
//! found by a probe; otherwise the test runs, and fails if the feature is not there after all. What is
//! skipped on each kernel of the matrix is an error of `cargo xtask vm`.

use std::{fmt, panic::resume_unwind, process::Command};

use aya::{programs::ProgramType, sys::is_program_supported};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};
use tcp_trace::host;
use tcp_trace_testkit::container;

use crate::Test;

pub(crate) const TESTS: &[(&str, Test)] = &[("a_skip_is_a_claim", a_skip_is_a_claim)];

/// Something that not every kernel or machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    /// A socket's cookie in a `tp_btf` program.
    TpBtfCookie,
    /// `fentry` and `fexit` programs.
    Fentry,
    /// MPTCP sockets.
    Mptcp,
    /// The time that a socket has spent in retransmission time-outs.
    TotalRto,
    /// The tracepoint `sock:sk_data_ready`.
    SkDataReady,
    /// Something that starts containers.
    ContainerRuntime,
    /// gcc.
    CCompiler,
    /// rustc.
    RustCompiler,
    /// CPython.
    Python,
    /// nginx, and wrk to ask it.
    WebServer,
    /// logrotate.
    Logrotate,
    /// systemd's journal, and what reads it.
    Journal,
    /// rsyslogd.
    Rsyslog,
    /// Chromium.
    Browser,
    /// tcpstates of libbpf-tools.
    Tcpstates,
    /// bpftrace.
    Bpftrace,
    /// A cgroup controller that limits tasks.
    LimitOfTasks,
    /// A cgroup controller that limits memory.
    LimitOfMemory,
    /// A clock that may be set, because nobody goes by it.
    OwnClock,
}

/// Major and minor version of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(major, minor) = self;
        write!(f, "{major}.{minor}")
    }
}

/// All about a feature that decides whether a test runs.
struct Facts {
    name: &'static str,
    /// The first kernel that has it; `None` if it is not the kernel's to have.
    since: Option<Version>,
    /// Why this machine lacks it for all that. It answers only with a reason that it has found.
    excuse: fn() -> Option<&'static str>,
}

impl Feature {
    const ALL: [Self; 19] = [
        Self::TpBtfCookie,
        Self::Fentry,
        Self::Mptcp,
        Self::TotalRto,
        Self::SkDataReady,
        Self::ContainerRuntime,
        Self::CCompiler,
        Self::RustCompiler,
        Self::Python,
        Self::WebServer,
        Self::Logrotate,
        Self::Journal,
        Self::Rsyslog,
        Self::Browser,
        Self::Tcpstates,
        Self::Bpftrace,
        Self::LimitOfTasks,
        Self::LimitOfMemory,
        Self::OwnClock,
    ];

    fn facts(self) -> Facts {
        let kernel = |name, major, minor, excuse| Facts { name, since: Some(Version(major, minor)), excuse };
        let machine = |name, excuse| Facts { name, since: None, excuse };
        match self {
            Self::TpBtfCookie => kernel("socket cookies in tp_btf", 5, 12, || None),
            Self::Fentry => kernel("fentry", 5, 5, fentry_is_refused),
            Self::Mptcp => kernel("MPTCP", 5, 6, mptcp_is_left_out),
            Self::TotalRto => kernel("tcp_sock.total_rto_time", 6, 7, || None),
            Self::SkDataReady => kernel("the tracepoint sk_data_ready", 6, 3, || None),
            Self::ContainerRuntime => {
                Facts { name: "a container runtime", since: None, excuse: no_container_runtime }
            }
            Self::CCompiler => machine("a C compiler", || no_program("gcc", "gcc is not installed")),
            Self::RustCompiler => {
                machine("a Rust compiler", || no_program("rustc", "rustc is not installed"))
            }
            Self::Python => machine("CPython", || no_program("python3", "python3 is not installed")),
            Self::Logrotate => machine("logrotate", || no_file(&["logrotate"], "logrotate is not installed")),
            Self::Journal => machine("the journal", no_journal),
            Self::Rsyslog => machine("rsyslogd", || no_file(&["rsyslogd"], "rsyslog is not installed")),
            Self::WebServer => Facts { name: "a web server", since: None, excuse: no_web_server },
            Self::Tcpstates => {
                machine("tcpstates", || no_file(&["tcpstates", "stdbuf"], "libbpf-tools is not installed"))
            }
            Self::Bpftrace => machine("bpftrace", || no_file(&["bpftrace"], "bpftrace is not installed")),
            Self::LimitOfTasks => machine("a limit of tasks", || {
                no_controller("pids", "no cgroup controller limits tasks here")
            }),
            Self::LimitOfMemory => machine("a limit of memory", || {
                no_controller("memory", "no cgroup controller limits memory here")
            }),
            Self::OwnClock => {
                machine("a clock of its own", || (!is_guest()).then_some("others go by this machine's clock"))
            }
            Self::Browser => machine("Chromium", || no_program("chromium", "chromium is not installed")),
        }
    }

    /// Why a test that needs this cannot run here.
    fn missing(self, kernel: Version) -> Option<Skip> {
        let Facts { name, since, excuse } = self.facts();
        match since {
            Some(since) if kernel < since => {
                Some(Skip { cause: Cause::Kernel, reason: format!("needs {name}, first in kernel {since}") })
            }
            _ => excuse().map(|why| Skip { cause: Cause::Machine, reason: format!("needs {name}: {why}") }),
        }
    }
}

/// Where the reason of a skip lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The tests were started without the rights that they need.
    Privileges,
    /// The kernel is too old.
    Kernel,
    /// The kernel is new enough; the machine is made or set up in another way.
    Machine,
}

/// A test that cannot run here. As the payload of a panic it ends the test.
#[derive(Clone, Debug)]
pub(crate) struct Skip {
    pub(crate) cause: Cause,
    pub(crate) reason: String,
}

/// Ends the test as skipped unless all these are here; to be called before anything else.
pub(crate) fn requires(features: &[Feature]) {
    // A kernel that does not tell its version is not excused by it.
    let kernel = host::kernel_version().map_or(Version(u32::MAX, 0), |(major, minor)| Version(major, minor));
    if let Some(skip) = features.iter().find_map(|feature| feature.missing(kernel)) {
        // Unlike `panic!` this writes nothing.
        resume_unwind(Box::new(skip));
    }
}

/// Under lockdown the kernel lets nobody load them, root included.
fn fentry_is_refused() -> Option<&'static str> {
    let error = is_program_supported(ProgramType::Tracing).err()?;
    let refused = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
    refused.then_some("this kernel is locked down and refuses it to root")
}

fn mptcp_is_left_out() -> Option<&'static str> {
    let mptcp = Protocol::from_raw(262.try_into().ok()?);
    let made = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, Some(mptcp));
    (made.err()? == rustix::io::Errno::PROTONOSUPPORT).then_some("this kernel was built without it")
}

fn no_container_runtime() -> Option<&'static str> {
    container::require_podman().is_err().then_some("podman and runc are not installed")
}

fn no_program(name: &str, why: &'static str) -> Option<&'static str> {
    let quiet = std::process::Stdio::null;
    let ran = Command::new(name).arg("--version").stdout(quiet()).stderr(quiet()).status();
    (!ran.is_ok_and(|status| status.success())).then_some(why)
}

fn no_web_server() -> Option<&'static str> {
    no_file(&["nginx", "wrk"], "nginx and wrk are not installed")
}

fn no_journal() -> Option<&'static str> {
    let daemon = std::path::Path::new("/lib/systemd/systemd-journald").is_file();
    if daemon {
        no_file(&["journalctl", "unshare"], "journalctl is not installed")
    } else {
        Some("systemd-journald is not installed")
    }
}

/// A controller of either version of cgroups, in the place where it is by convention.
fn no_controller(name: &str, why: &'static str) -> Option<&'static str> {
    let first = std::path::Path::new("/sys/fs/cgroup").join(name).join("cgroup.procs").exists();
    let second = tcp_trace::bpf::cgroup_mount_point()
        .and_then(|root| std::fs::read_to_string(root.join("cgroup.controllers")).ok())
        .is_some_and(|controllers| controllers.split_whitespace().any(|word| word == name));
    (!first && !second).then_some(why)
}

/// In a guest of `cargo xtask vm`, which is made for the tests alone.
fn is_guest() -> bool {
    rustix::system::uname().nodename() == c"guest" && std::path::Path::new("/job.json").exists()
}

/// For programs that are not to be started only to see whether they are there.
fn no_file(names: &[&str], why: &'static str) -> Option<&'static str> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &&str| std::env::split_paths(&folders).any(|folder| folder.join(name).is_file());
    (!names.iter().all(is_there)).then_some(why)
}

/// Each feature is here, or missing for a reason that can be told.
fn a_skip_is_a_claim() {
    for feature in Feature::ALL {
        let Facts { name, since, .. } = feature.facts();
        if let Some(Version(major, minor)) = since {
            let before = feature.missing(Version(major, minor - 1)).unwrap();
            assert_eq!(before.cause, Cause::Kernel);
            assert_eq!(before.reason, format!("needs {name}, first in kernel {major}.{minor}"));
        }
        if let Err(payload) = std::panic::catch_unwind(|| requires(&[feature])) {
            let Skip { cause, reason } = payload.downcast_ref().unwrap();
            eprintln!("{feature:?}: {cause:?}: {reason}");
        } else {
            eprintln!("{feature:?}: here");
        }
    }
}
