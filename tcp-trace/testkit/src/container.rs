//! A real container, run by podman, with a helper as its only process.
//!
//! Its image is empty: the libraries of the host and the test's own executable are mounted into it, read-only, so that
//! no registry is needed. podman's own storage and cgroups are used, because what reads them is to be tested; what was
//! not there before is removed when the [`Container`] is dropped. The network is either none (a namespace with a
//! loopback of its own) or the host's: no bridge, no firewall rules.

use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use crate::helper::{Helper, ROLE_VARIABLE};
use crate::netns::{NetNs, about};

/// What Debian calls the packages that this needs; install them without the recommended ones.
pub const PACKAGES: [&str; 4] = ["podman", "runc", "conmon", "netavark"];
const PROGRAMS: [&str; 3] = ["podman", "runc", "conmon"];
/// How long podman may take to start a container.
const PATIENCE: Duration = Duration::from_secs(30);
/// The container ends by itself then, whatever became of us.
const LIFETIME: &str = "--timeout=300";
/// Every container's processes; podman's default is more than some hosts allow.
const PROCESSES: u64 = 4096;
/// podman's cgroup above those of its containers.
const PARENT: &str = "libpod_parent";

/// A container's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// A namespace of its own with nothing but `lo`.
    None,
    /// The host's.
    Host,
}

/// A running container; removed with everything that it made when dropped.
#[derive(Debug)]
pub struct Container {
    /// Its process, played as in [`crate::helper`]; its `pid()` is that of podman's client, not the process's.
    pub helper: Helper,
    name: String,
    id: String,
    pid: u32,
    leftovers: Leftovers,
}

/// What is removed at the end, even of a container that did not start.
#[derive(Debug)]
struct Leftovers {
    name: String,
    cgroups: Vec<PathBuf>,
}

/// What is missing to run containers, as a sentence fit for a skipped test's reason.
///
/// # Errors
/// The names of the missing programs.
pub fn require_podman() -> Result<(), String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let exists = |name: &str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    let missing: Vec<&str> =
        PROGRAMS.into_iter().filter(|name| !exists(name) && !is_in_libexec(name)).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("{} not installed", missing.join(", "))) }
}

/// Where distributions put what only podman starts.
fn is_in_libexec(name: &str) -> bool {
    ["/usr/libexec/podman", "/usr/lib/podman"].iter().any(|folder| Path::new(folder).join(name).is_file())
}

impl Container {
    /// Starts a helper `role` with `arguments` as a container. The container's name begins with `name` and is nobody
    /// else's.
    ///
    /// # Errors
    /// `NotFound` without podman; what podman says.
    pub fn start(name: &str, network: Network, role: &str, arguments: &[&str]) -> io::Result<Self> {
        let name = format!("{name}-{}", std::process::id());
        let leftovers = Leftovers::new(&name);
        let image = leftovers.image();
        import(&image)?;
        let comm = arguments.iter().find_map(|argument| argument.strip_prefix("comm=")).unwrap_or(role);
        let mut command = run(&name, network, role)?;
        command.arg(&image).arg("/helper").args(arguments);
        let mut helper = Helper::over(crate::helper::prepare(&mut command).spawn()?, comm)?;
        let (id, pid) = leftovers.wait_until_it_runs(&mut helper)?;
        Ok(Self { helper, name, id, pid, leftovers })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id, whole.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its image.
    #[must_use]
    pub fn image(&self) -> String {
        format!("{}:latest", self.leftovers.image())
    }

    /// Its process, as seen here.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its network namespace, for helpers that are not in the container.
    ///
    /// # Errors
    /// When its process has ended.
    pub fn netns(&self) -> io::Result<NetNs> {
        NetNs::of_process(self.pid)
    }
}

/// Runs a program to its end as the only process of a container that has no network, with these flags of `podman run`.
///
/// # Errors
/// `NotFound` without podman; what podman says.
pub fn run_once(name: &str, flags: &[&str], program: &Path, arguments: &[&str]) -> io::Result<Output> {
    let leftovers = Leftovers::new(&format!("{name}-{}", std::process::id()));
    let image = leftovers.image();
    import(&image)?;
    let mut command = run(&leftovers.name, Network::None, "")?;
    command.args(flags).arg(format!("--volume={}:/program:ro", program.display()));
    command.arg(&image).arg("/program").args(arguments).stdin(Stdio::null()).output()
}

/// `podman run`, without image and arguments.
fn run(name: &str, network: Network, role: &str) -> io::Result<Command> {
    let mut command = podman();
    command.args([
        "run",
        "--interactive",
        "--rm",
        "--pull=never",
        "--log-driver=none",
        "--no-hosts",
        LIFETIME,
    ]);
    command.arg(format!("--name={name}")).arg(format!("--env={ROLE_VARIABLE}={role}"));
    command.arg(match network {
        Network::None => "--network=none",
        Network::Host => "--network=host",
    });
    // Only with a capability that not every host gives may the limits be those that podman prefers.
    for (limit, resource, most) in
        [("nofile", Resource::Nofile, u64::MAX), ("nproc", Resource::Nproc, PROCESSES)]
    {
        let hard = getrlimit(resource).maximum.unwrap_or(1 << 20).min(most);
        command.arg(format!("--ulimit={limit}={hard}:{hard}"));
    }
    for folder in ["/usr", "/lib", "/lib64"].into_iter().filter(|folder| Path::new(folder).exists()) {
        command.arg(format!("--volume={folder}:{folder}:ro"));
    }
    let executable = std::env::current_exe()?;
    command.arg(format!("--volume={}:/helper:ro", executable.display()));
    Ok(command)
}

/// runc, because crun refuses hybrid cgroups; cgroupfs, because not every host runs systemd.
fn podman() -> Command {
    let mut command = Command::new("podman");
    command.args([
        "--runtime=runc",
        "--cgroup-manager=cgroupfs",
        "--events-backend=none",
        "--log-level=error",
    ]);
    command
}

/// An image of an empty archive: two blocks of zeroes.
fn import(image: &str) -> io::Result<()> {
    let mut command = podman();
    command.args(["import", "--quiet", "-", image]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.as_mut().map_err(|error| about(error, "podman"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&[0; 1024])?;
    }
    succeeded(child)
}

fn succeeded(child: &mut Child) -> io::Result<()> {
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said)?;
    }
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("podman import: {status}: {said}"))) }
}

fn output(arguments: &[&str]) -> io::Result<Output> {
    podman().args(arguments).stdin(Stdio::null()).output().map_err(|error| about(&error, "podman"))
}

impl Leftovers {
    fn new(name: &str) -> Self {
        let new = |mount: PathBuf| Some(mount.join(PARENT)).filter(|folder| !folder.exists());
        Self { name: name.to_owned(), cgroups: cgroup_mounts().into_iter().filter_map(new).collect() }
    }

    fn image(&self) -> String {
        format!("localhost/{}", self.name)
    }

    /// Its id and process.
    fn wait_until_it_runs(&self, helper: &mut Helper) -> io::Result<(String, u32)> {
        let end = Instant::now() + PATIENCE;
        loop {
            let said = output(&["inspect", "--format={{.Id}} {{.State.Pid}}", &self.name])?;
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            if let Some((id, pid)) = said.trim().split_once(' ')
                && let Ok(pid) = pid.parse()
                && pid != 0
            {
                return Ok((id.to_owned(), pid));
            }
            if let Some(status) = helper.ended()? {
                return Err(io::Error::other(format!("podman run: {status}")));
            }
            if Instant::now() > end {
                return Err(io::Error::new(
                    ErrorKind::TimedOut,
                    format!("container {} does not run", self.name),
                ));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        // What is gone already, or was never made, cannot be removed.
        let _ = output(&["rm", "--force", "--time=0", &self.name]);
        let _ = output(&["rmi", "--force", &self.image()]);
        for parent in &self.cgroups {
            let _ = fs::remove_dir(parent.join("conmon"));
            let _ = fs::remove_dir(parent);
        }
    }
}

/// Where the hierarchies are mounted (proc_pid_mountinfo(5)).
fn cgroup_mounts() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let point = |line: &str| {
        let (mount, source) = line.split_once(" - ")?;
        source.starts_with("cgroup").then(|| mount.split(' ').nth(4).map(PathBuf::from)).flatten()
    };
    mounts.lines().filter_map(point).collect()
}
