//! What there is to know of this host and this process.

use std::{env, fs, io, os::unix::fs::MetadataExt as _, path::Path};

use rustc_hash::FxHashSet;
use rustix::process::{Resource, geteuid, getrlimit};
use tcp_trace_core::{
    container,
    doctor::{Attempt, Capabilities, CgroupFacts, CgroupMode, Facts, Privileges},
    state::TcpState,
    survey::Runtime,
};

use crate::{
    bpf::{self, Trials},
    confine, host,
    private_mount::with_mount,
    survey::{
        holders,
        namespaces::{self, Namespaces},
        sock_diag::{Dump, States, dump, try_to_destroy},
    },
};

/// Examines it all, and tries what can be tried.
pub(super) fn facts() -> Facts {
    let Trials { has_object, btf, tracefs, ring_buffer, bpf_reaches_kernel, hooks } = bpf::try_all();
    let program = env::current_exe().unwrap_or_else(|_unknown| "tcp-trace".into());
    Facts {
        host: host::host(),
        kernel: host::kernel_version(),
        program: program.display().to_string(),
        has_object,
        // After the trials, which raise the limit of locked memory where they may.
        privileges: privileges(bpf_reaches_kernel),
        lockdown: lockdown(),
        perf_event_paranoid: sysctl("perf_event_paranoid"),
        unprivileged_bpf_disabled: sysctl("unprivileged_bpf_disabled"),
        btf,
        tracefs,
        ring_buffer,
        cgroup: cgroup(),
        runtimes: runtimes(Path::new("/")),
        container: container(),
        systemd: Path::new("/run/systemd/system").is_dir(),
        hooks,
        sock_diag: attempt(list()),
        destroy: attempt(try_to_destroy()),
        namespaces: visit_namespaces(),
        holders: holders::scan(Some(&FxHashSet::default())).1,
    }
}

fn attempt(result: io::Result<()>) -> Attempt {
    match result {
        Ok(()) => Attempt::Works,
        Err(error) => Attempt::Refused { errno: error.raw_os_error(), reason: reason(&error) },
    }
}

fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => "this kernel was built without CONFIG_INET_DIAG_DESTROY".to_owned(),
        _ => error.to_string(),
    }
}

fn list() -> io::Result<()> {
    let request = Dump { states: States::of(&[TcpState::Listen]), info: false, netns: 0 };
    dump(&request, &mut Vec::new()).map(|_complete| ())
}

fn privileges(bpf_reaches_kernel: bool) -> Privileges {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let bits = |key| Capabilities(field(key).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0));
    Privileges {
        uid: geteuid().as_raw(),
        effective: bits("CapEff:"),
        bounding: bits("CapBnd:"),
        first_user_namespace: host::is_in_first_user_namespace(),
        first_pid_namespace: host::sees_all_processes(),
        seccomp: field("Seccomp:").is_some_and(|mode| mode != "0"),
        bpf_reaches_kernel,
        memlock: getrlimit(Resource::Memlock).current,
        landlock: confine::landlock_abi(),
        filters: confine::has_filter() && Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
    }
}

fn sysctl(name: &str) -> Option<i64> {
    fs::read_to_string(Path::new("/proc/sys/kernel").join(name)).ok()?.trim().parse().ok()
}

/// The kernel's lockdown mode, as it stands in securityfs; that is mounted for the look where it is not.
fn lockdown() -> Result<String, String> {
    const FOLDER: &str = "/sys/kernel/security";
    let read = || match fs::read_to_string(Path::new(FOLDER).join("lockdown")) {
        // `none [integrity] confidentiality`
        Ok(text) => text.split(['[', ']']).nth(1).map(str::to_owned).ok_or_else(|| text.trim().to_owned()),
        // Without the module nothing is locked down.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok("none".to_owned()),
        Err(error) => Err(format!("{FOLDER}/lockdown: {error}")),
    };
    let mounted =
        fs::read_to_string("/proc/self/mountinfo").is_ok_and(|mounts| mounts.contains(" - securityfs "));
    if mounted {
        return read();
    }
    with_mount("securityfs", FOLDER, || Ok(read())).unwrap_or_else(|error| Err(error.to_string()))
}

fn cgroup() -> CgroupFacts {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let has =
        |kind: &str| mounts.lines().any(|line| line.split(" - ").nth(1).is_some_and(|s| s.starts_with(kind)));
    let mode = match (has("cgroup2 "), has("cgroup ")) {
        (true, false) => CgroupMode::Unified,
        (true, true) => CgroupMode::Hybrid,
        (false, true) => CgroupMode::Legacy,
        (false, false) => CgroupMode::None,
    };
    let mount = bpf::cgroup_mount_point();
    CgroupFacts {
        mode,
        // That of the whole hierarchy has the first inode number.
        is_root: mount.as_ref().is_some_and(|path| fs::metadata(path).is_ok_and(|data| data.ino() == 1)),
        cgroup2: mount.map(|path| path.display().to_string()),
    }
}

/// What each runtime leaves on a host that it is at work on.
const TRACES: [(&str, &[&str]); 6] = [
    ("Docker", &["run/docker.sock", "var/lib/docker/containers"]),
    ("containerd", &["run/containerd/io.containerd.runtime.v2.task", "run/k3s/containerd"]),
    ("podman", &["run/podman/podman.sock", "var/lib/containers/storage", "run/containers/storage"]),
    ("CRI-O", &["run/crio/crio.sock", "var/run/crio/crio.sock"]),
    ("Kubernetes", &["var/lib/kubelet/pods", "var/log/containers"]),
    ("LXC", &["var/lib/lxc", "var/lib/lxd", "var/snap/lxd"]),
];

fn runtimes(root: &Path) -> Vec<String> {
    let is_here = |traces: &[&str]| traces.iter().any(|trace| root.join(trace).exists());
    TRACES.into_iter().filter(|(_, traces)| is_here(traces)).map(|(name, _)| name.to_owned()).collect()
}

/// The container that this process is in, by the file that the runtime leaves there or by its cgroup. Neither is a proof:
/// whole machines are made of containers' images, and have those files.
fn container() -> Option<String> {
    if !host::has_namespace_of_its_own() {
        return None;
    }
    for (file, name) in [("/run/.containerenv", "podman"), ("/.dockerenv", "Docker")] {
        if Path::new(file).exists() {
            return Some(name.to_owned());
        }
    }
    if env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        return Some("Kubernetes".to_owned());
    }
    let cgroup = fs::read_to_string("/proc/self/cgroup").ok()?;
    let found = container::telling_path(&cgroup).and_then(container::identify)?.facts.runtime;
    (found != Runtime::Systemd).then(|| format!("{found:?}"))
}

fn visit_namespaces() -> (usize, Vec<String>) {
    let Namespaces { all, mut problems } = namespaces::find(None);
    match namespaces::for_each(&all, |_| {}) {
        Ok(more) => problems.extend(more),
        Err(error) => problems.push(format!("network namespaces cannot be visited: {error}")),
    }
    (all.len(), problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_examined_by_whoever_runs_this() {
        let rights = privileges(true);
        assert_eq!(rights.uid, geteuid().as_raw());
        assert!(rights.bounding.0 & rights.effective.0 == rights.effective.0, "no more than there can be");
        let cgroup = cgroup();
        assert_eq!(cgroup.cgroup2.is_none(), matches!(cgroup.mode, CgroupMode::Legacy | CgroupMode::None));
    }

    #[test]
    fn a_runtime_is_found_by_what_it_leaves() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        assert_eq!(runtimes(&root), [""; 0]);
    }
}
