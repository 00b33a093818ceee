//! The cgroups of a process, as the host names them.
//!
//! `/proc/PID/cgroup` shows paths as seen from the reader's cgroup namespace (`cgroup_path_ns`,
//! `kernel/cgroup/cgroup.c`), and a container has one of its own: there the cgroup of another pod reads
//! `/../../podUID/ID`, without the part that both have in common and that says what it is. What that part is, the
//! host's hierarchy tells, if it is mounted.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::Path,
    sync::OnceLock,
};

use tcp_trace_core::container::{seen_from, v2_path};

use super::{containers::every_cgroup, proc::Folder};

/// A path in each of a dozen hierarchies.
const LONGEST: usize = 128 * 1024;

/// The lines of `/proc/PID/cgroup`, those of the v2 hierarchy from the host's root on.
pub(super) fn of(process: &Folder) -> rustix::io::Result<String> {
    let text = process.text(c"cgroup", LONGEST)?;
    Ok(match namespace_root() {
        Some(root) => seen_from(&text, root),
        None => text,
    })
}

/// The cgroup that is the root of this process's cgroup namespace; `None` if that is the host's own, or it cannot be
/// told. It never changes: whoever moves a process leaves its namespace as it is.
fn namespace_root() -> Option<&'static str> {
    static ROOT: OnceLock<Option<String>> = OnceLock::new();
    let root = ROOT.get_or_init(|| {
        // `PROC_CGROUP_INIT_INO`, `include/linux/proc_ns.h`: since Linux 4.6.
        const FIRST: u64 = 0xeffffffb;
        let own = fs::metadata("/proc/self/ns/cgroup").ok()?;
        let is_another = std::os::unix::fs::MetadataExt::ino(&own) != FIRST;
        let found = is_another.then(find).flatten();
        if is_another && found.is_none() {
            log::debug!("this cgroup namespace is not the host's, and where its root is cannot be told");
        }
        found
    });
    root.as_deref()
}

/// Looks for the cgroup that this process is in, and takes off what it says of itself.
fn find() -> Option<String> {
    let mount = crate::bpf::cgroup_mount_point()?;
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let inside = v2_path(&text)?.to_owned();
    let own = std::process::id();
    let whole = every_cgroup(mount.clone())
        .into_iter()
        .find(|path| lists(&mount.join(path.trim_start_matches('/')), own))?;
    let root = whole.strip_suffix(inside.trim_end_matches('/'))?;
    Some(root.trim_end_matches('/').to_owned())
}

/// Whether a process is in this cgroup itself. Its numbers are those of the reader's pid namespace.
fn lists(cgroup: &Path, pid: u32) -> bool {
    let Ok(file) = File::open(cgroup.join("cgroup.procs")) else { return false };
    BufReader::new(file).lines().map_while(Result::ok).any(|line| line.parse() == Ok(pid))
}
